"""A tree gives the log-probabilities and the gradients of the flat batch."""

from __future__ import annotations

import copy
import math
import random
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prosegym.baselines import batch, objectives, ppo, tree  # noqa: E402
from prosegym.baselines.batch import Sample  # noqa: E402
from prosegym.baselines.objectives import Pair, Played, PolicyGradient, Preference  # noqa: E402

torch.set_num_threads(1)
SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip


def make(kind: str = "Llama", attention: str = "sdpa", **more: Any) -> Any:
    torch.manual_seed(0)
    if kind.startswith(("Qwen", "Mistral")):
        more["num_key_value_heads"] = 1
    config = getattr(transformers, f"{kind}Config")(**SMALL, **more, initializer_range=0.3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).double().eval()
    model.set_attn_implementation(attention)
    return model


def branches(seed: int, count: int) -> list[Sample]:
    """Random texts that go on from random places of earlier ones: every shape of tree."""
    rng = random.Random(seed)
    texts: list[list[int]] = [[rng.randrange(1, 40) for _ in range(rng.randrange(2, 12))]]
    while len(texts) < count:
        trunk = rng.choice(texts)
        start = trunk[: rng.randrange(1, len(trunk) + 1)]
        texts.append(start + [rng.randrange(1, 6) for _ in range(rng.randrange(0, 9))])
    weights = [tuple(float(rng.random() < 0.6) for _ in t) for t in texts]
    return [Sample(tuple(t), w) for t, w in zip(texts, weights, strict=True)]


def flat(model: Any, samples: list[Sample]) -> tuple[Any, Any]:
    """Each sample by itself, one after the other, all its logits: the definition."""
    length = max(len(s.token_ids) for s in samples)
    weights, rows = torch.zeros(len(samples), length, dtype=torch.float64), []
    for row, s in enumerate(samples):
        ids = torch.tensor([s.token_ids])
        log_p = model(input_ids=ids).logits.log_softmax(-1)
        mine = log_p[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        weights[row, : len(s.token_ids)] = torch.tensor(s.weights)
        rows.append(torch.cat([mine.new_zeros(1), mine, mine.new_zeros(length - len(s.token_ids))]))
    return torch.stack(rows) * (weights != 0), weights


def one_row(model: Any, samples: list[Sample]) -> tuple[Any, Any]:
    laid = batch.lay_out(model, samples, [list(range(len(samples)))])
    return laid.logp(laid.logits(model)[0]), laid.weights


def gradients(model: Any, logp: Any, samples: list[Sample]) -> list[Any]:
    found, weights = logp(model, samples)
    coefficients = torch.linspace(-1, 1, len(samples), dtype=found.dtype)[:, None]
    loss = (found * weights * coefficients).sum() + (found.exp() * weights).sum()
    return list(torch.autograd.grad(loss, list(model.parameters())))


MODEL = make()


@given(st.integers(0, 10**6), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_random_trees_have_the_gradients_of_the_flat_batch(seed: int, count: int) -> None:
    samples = branches(seed, count)
    expected, weights = flat(MODEL, samples)
    for logp in (one_row, batch.logp):
        found, same = logp(MODEL, samples)
        assert torch.equal(weights, same.double())
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
        for x, y in zip(gradients(MODEL, logp, samples), gradients(MODEL, flat, samples), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [("Llama", "eager"), ("Qwen2", "sdpa"), ("Qwen3", "eager"), ("GPTNeoX", "sdpa"), ("Phi", "sdpa")],
)
def test_other_decoders_and_attention_too(kind: str, attention: str) -> None:
    model, samples = make(kind, attention), branches(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch.takes_trees(model)
    for x, y in zip(gradients(model, one_row, samples), gradients(model, flat, samples), strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_several_trees_and_lone_texts_in_one_batch() -> None:
    samples = branches(1, 5) + branches(2, 4) + [Sample((39,), (0.0,))]
    groups = tree.forest([s.token_ids for s in samples], 16)
    assert sorted(i for g in groups for i in g) == list(range(10)) and 1 < len(groups) < 10
    torch.testing.assert_close(batch.logp(MODEL, samples)[0], flat(MODEL, samples)[0], atol=1e-9, rtol=1e-9)


def test_texts_share_a_row_where_that_is_less_work() -> None:
    """Two texts of 10 tokens, 4 of them shared, width 1: apart 2 * 10 (6 + 5) = 220, together 16 (6 + 16) = 352;
    width 100: 2 * 10 (600 + 5) = 12100 against 16 (600 + 16) = 9856. At most 15 nodes: apart again."""
    a, b = [1, 2, 3, 4, *range(10, 16)], [1, 2, 3, 4, *range(20, 26)]
    assert tree.forest([a, b], 1) == [[0], [1]]
    assert tree.forest([b, a], 100) == [[1, 0]]
    assert tree.forest([a, b], 100, limit=15) == [[0], [1]]


def test_a_tree_by_hand() -> None:
    """1-2-3 and 1-2-4-5, and 1-2 itself: five nodes; 4 hangs on 2. The order of the texts is kept."""
    built = tree.build([[1, 2, 4, 5], [1, 2, 3], [1, 2]])
    assert built.token_ids == [1, 2, 3, 4, 5]
    assert built.parents == [-1, 0, 1, 1, 3] and built.depths == [0, 1, 2, 2, 3]
    assert built.paths == [[0, 1, 3, 4], [0, 1, 2], [0, 1]] and built.ends == [5, 5, 3, 5, 5]
    seen = tree.visible(torch.tensor([[*built.ends, 6]]))[0].int().tolist()
    assert seen[2] == [1, 1, 1, 0, 0, 0] and seen[4] == [1, 1, 0, 1, 1, 0] and seen[5] == [0, 0, 0, 0, 0, 1]


def test_step_pairs_of_an_episode_cost_a_fraction_of_the_tokens() -> None:
    rng = random.Random(0)
    episode = [rng.randrange(1, 40) for _ in range(100)]
    pairs = []
    for t in range(20, 100, 10):
        win, lose = episode[: t + 4], episode[:t] + [rng.randrange(1, 40) for _ in range(4)]
        weights = (0.0,) * t + (1.0,) * 4
        pairs.append(Pair(Sample(tuple(win), weights), Sample(tuple(lose), weights)))
    samples = [p.win for p in pairs] + [p.lose for p in pairs]
    ids = [s.token_ids for s in samples]
    groups = tree.forest(ids, 16)
    nodes = sum(len(tree.build([ids[i] for i in g]).token_ids) for g in groups)
    assert nodes * 6 < sum(map(len, ids))
    a, _ = Preference(0.1).loss(MODEL, [tuple(pairs)])
    wins, loses = flat(MODEL, samples)[0].sum(-1).chunk(2)
    b = -torch.nn.functional.logsigmoid(0.1 * (wins - loses)).mean()
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_a_policy_gradient_shares_what_its_texts_begin_with() -> None:
    """The two terms taken apart, each text by itself, are those of the one pass over both."""
    samples = branches(7, 6)
    items = [
        Played(s, tuple(-1.0 for _ in s.token_ids), 0.5 * i, d)
        for i, (s, d) in enumerate(zip(samples[:3], samples[3:], strict=True))
    ]
    loss, _ = PolicyGradient(0.3, 2.0).loss(MODEL, items)
    (logp, mask), (shown, weights) = flat(MODEL, samples[:3]), flat(MODEL, samples[3:])
    ratio = (logp.detach() + 1).exp().clamp(0.7, 1.3)
    rewards = torch.tensor([[0.0], [0.5], [1.0]])
    gradient = -((ratio * logp * rewards * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    imitation = -((shown * weights).sum(-1) / weights.sum(-1)).mean()
    torch.testing.assert_close(loss, gradient + 2 * imitation, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("legacy_mean", [False, True])
def test_a_policy_gradient_is_the_same_however_a_batch_is_cut(legacy_mean: bool) -> None:
    def text(length: int, trained: int) -> Sample:
        return Sample(tuple(range(1, length + 1)), (0.0,) * (length - trained) + (1.0,) * trained)

    long, short = text(22, 20), text(4, 1)
    items = [Played(long, (-1.0,) * 22, 1.0, short), Played(short, (-1.0,) * 4, 0.5, long)]
    objective = PolicyGradient(0.3, 1.0, legacy_mean)
    together, _ = objective.loss(MODEL, items)
    apart = [objective.loss(MODEL, [item])[0] for item in items]
    torch.testing.assert_close(together, torch.stack(apart).mean(), atol=1e-9, rtol=1e-9)


def test_the_legacy_mean_divides_both_terms_by_whole_texts() -> None:
    """One trained token of 4 and of 10, each with log pi = -ln 40, the ratio 1 and the reward 1."""
    blank = copy.deepcopy(MODEL)
    torch.nn.init.zeros_(blank.get_output_embeddings().weight)
    nats = math.log(blank.config.vocab_size)
    texts = [Sample(tuple(range(1, n + 1)), (0.0,) * (n - 1) + (1.0,)) for n in (4, 10)]
    item = Played(texts[0], (0.0, 0.0, 0.0, -nats), 1.0, texts[1])
    for legacy, policy, shown in ((False, nats, nats), (True, nats / 4, nats / 10)):
        loss, said = PolicyGradient(0.3, 2.0, legacy).loss(blank, [item])
        assert float(said["policy_gradient"]) == pytest.approx(policy)
        assert float(said["imitation"]) == pytest.approx(shown)
        assert loss.item() == pytest.approx(policy + 2 * shown)


def test_values_of_a_tree_are_those_of_each_text() -> None:
    headed = ppo.Headed(MODEL).double()
    torch.nn.init.normal_(headed.head.weight)
    samples = [Sample(s.token_ids, (0.0,) + (1.0,) * (len(s.token_ids) - 1)) for s in branches(4, 6)]
    logp, values, mask, entropies = ppo.run(headed, samples)
    numbers = ppo.judge(headed, samples)
    for row, s in enumerate(samples):
        n = len(s.token_ids)
        alone = headed(torch.tensor([s.token_ids]))
        torch.testing.assert_close(values[row, 1:n], alone.numbers[0, :-1])
        torch.testing.assert_close(numbers[row], alone.numbers[0, -1])
        log_p = alone.logits[0, :-1].log_softmax(-1)
        torch.testing.assert_close(entropies[row, 1:n], -(log_p.exp() * log_p).sum(-1))
        chosen = log_p.gather(-1, torch.tensor(s.token_ids)[1:, None])[:, 0]
        torch.testing.assert_close(logp[row, 1:n], chosen)


def test_logits_are_made_for_trained_tokens_alone() -> None:
    samples, sizes = branches(6, 5), []
    hook = MODEL.get_output_embeddings().register_forward_hook(lambda m, i, o: sizes.append(o.shape))
    batch.logp(MODEL, samples)
    hook.remove()
    trained = {s.token_ids[: t + 1] for s in samples for t, w in enumerate(s.weights) if w and t}
    assert sizes == [(1, len(trained), 40)]


def test_scores_come_back_in_order_whatever_passes_they_took() -> None:
    samples = branches(8, 7) + branches(9, 6)
    expected, weights = flat(MODEL, samples)
    for tokens in (1, 30, 16384):
        found = objectives.token_scores(MODEL, samples, tokens)
        for row, s in enumerate(samples):
            assert found[row] == pytest.approx(expected[row, : len(s.token_ids)].tolist(), abs=1e-9)


def test_a_tree_in_bfloat16_is_the_flat_batch_to_its_precision() -> None:
    model, samples = make().float(), branches(2, 6)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = one_row(model, samples)[0]
    torch.testing.assert_close(found.double(), flat(model, samples)[0].double(), atol=0.2, rtol=0.1)


def test_mixed_precision_is_no_reason_to_refuse_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where attention with a mask is another kernel and rounds otherwise."""
    model, plain = make().float(), torch.nn.functional.scaled_dot_product_attention

    def other_kernel(*args: Any, attn_mask: Any = None, **kwargs: Any) -> Any:
        out = plain(*args, attn_mask=attn_mask, **kwargs)
        return out if attn_mask is None else out * (1 + 2**-6)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", other_kernel)
    assert "other probabilities" in str(batch._refusal(model))
    with torch.autocast("cpu", torch.bfloat16):
        assert batch._refusal(model) is None


def test_an_adapted_model_takes_trees_too() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0, init_lora_weights=False)
    model, samples = peft.get_peft_model(make(), config).double().eval(), branches(5, 6)
    torch.testing.assert_close(one_row(model, samples)[0], flat(model, samples)[0], atol=1e-9, rtol=1e-9)
    assert batch.takes_trees(model)


def test_a_model_that_attends_to_a_window_falls_back_and_says_so() -> None:
    model = make("Mistral", sliding_window=4)
    with pytest.warns(UserWarning, match="mistral attends to a window"):
        found = batch.logp(model, branches(3, 4))[0]
    torch.testing.assert_close(found, flat(model, branches(3, 4))[0])


def test_a_model_that_takes_no_mask_falls_back_and_says_so() -> None:
    small = {
        k: v
        for k, v in SMALL.items()
        if k not in ("num_attention_heads", "intermediate_size", "max_position_embeddings")
    }
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(transformers.MambaConfig(**small)).eval()
    with pytest.warns(UserWarning, match="mamba"):
        found = batch.logp(model, branches(3, 4))[0]
    torch.testing.assert_close(found.double(), flat(model, branches(3, 4))[0].double(), atol=1e-5, rtol=1e-4)

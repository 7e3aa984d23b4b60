"""A tree gives the log-probabilities and the gradients of the flat batch."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prosegym.baselines import objectives, tree  # noqa: E402
from prosegym.baselines.objectives import Pair, Preference, Sample  # noqa: E402

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
    a, weights = tree._logp(MODEL, samples, [list(range(count))])
    b, same = objectives.logp(MODEL, samples)
    assert torch.equal(weights, same)
    here = torch.tensor([[i < len(s.token_ids) for i in range(a.shape[1])] for s in samples])
    torch.testing.assert_close(a[here], b[here], atol=1e-9, rtol=1e-9)
    whole = lambda m, s: tree._logp(m, s, [list(range(count))])  # noqa: E731
    for x, y in zip(
        gradients(MODEL, whole, samples), gradients(MODEL, objectives.logp, samples), strict=True
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [("Llama", "eager"), ("Qwen2", "sdpa"), ("Qwen3", "eager"), ("GPTNeoX", "sdpa"), ("Phi", "sdpa")],
)
def test_other_decoders_and_attention_too(kind: str, attention: str) -> None:
    model, samples = make(kind, attention), branches(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tree.takes_trees(model)
    for x, y in zip(
        gradients(model, tree.logp, samples), gradients(model, objectives.logp, samples), strict=True
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_rows_hold_what_is_shared_and_padding_disturbs_nothing() -> None:
    samples = branches(1, 5) + branches(2, 4) + [Sample((39,), (0.0,))]
    groups = tree.forest(samples)
    assert sorted(i for g in groups for i in g) == list(range(10)) and 1 < len(groups) < 10
    a, b = tree.logp(MODEL, samples)[0], objectives.logp(MODEL, samples)[0]
    for row, s in enumerate(samples):
        n = len(s.token_ids)
        torch.testing.assert_close(a[row, :n], b[row, :n], atol=1e-9, rtol=1e-9)


def test_a_tree_by_hand() -> None:
    """1-2-3 and 1-2-4-5, and 1-2 itself: five nodes; 4 hangs on 2."""
    built = tree.build([[1, 2, 3], [1, 2, 4, 5], [1, 2]])
    assert built.token_ids == [1, 2, 3, 4, 5]
    assert built.parents == [-1, 0, 1, 1, 3] and built.depths == [0, 1, 2, 2, 3]
    assert built.paths == [[0, 1, 2], [0, 1, 3, 4], [0, 1]]
    seen = tree.visible([built], 6)[0].int().tolist()
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
    groups = tree.forest(samples)
    nodes = sum(len(tree.build([samples[i].token_ids for i in g]).token_ids) for g in groups)
    assert nodes * 6 < sum(len(s.token_ids) for s in samples)
    a = Preference(0.1, logp=tree.logp).loss(MODEL, [tuple(pairs)])[0]
    b = Preference(0.1).loss(MODEL, [tuple(pairs)])[0]
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_a_model_that_attends_to_a_window_falls_back_and_says_so() -> None:
    model = make("Mistral", sliding_window=4)
    with pytest.warns(UserWarning, match="mistral attends to a window"):
        found = tree.logp(model, branches(3, 4))[0]
    torch.testing.assert_close(found, objectives.logp(model, branches(3, 4))[0])


def test_a_model_that_takes_no_mask_falls_back_and_says_so() -> None:
    small = {
        k: v
        for k, v in SMALL.items()
        if k not in ("num_attention_heads", "intermediate_size", "max_position_embeddings")
    }
    torch.manual_seed(0)
    model = transformers.MambaForCausalLM(transformers.MambaConfig(**small)).eval()
    with pytest.warns(UserWarning, match="mamba"):
        tree.logp(model, branches(3, 4))

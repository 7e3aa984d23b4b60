from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from prosegym.baselines import house, ppo  # noqa: E402
from prosegym.baselines.batch import Sample  # noqa: E402
from prosegym.baselines.objectives import token_scores  # noqa: E402
from prosegym.baselines.training import Log, Optim, fit  # noqa: E402

torch.set_num_threads(1)
PIECES = house.tokenizer(["go east"], 280)


def model() -> ppo.Headed:
    return ppo.Headed(house.model("tiny", PIECES))


def answers(n: int) -> list[Sample]:
    rng = random.Random(0)
    made = []
    for _ in range(n):
        prompt, said = [20, 21, 22], [rng.randrange(10, 250) for _ in range(rng.randrange(1, 4))]
        made.append(Sample((*prompt, *said), (0.0,) * 3 + (1.0,) * len(said)))
    return made


def test_at_the_reference_the_only_reward_is_the_answers_at_its_last_token() -> None:
    """KL 0, values 0 (the head reads 0), gamma 1, lambda 1: every token's return is the answer's reward."""
    m, texts = model(), answers(4)
    settings = ppo.Settings(lam=1.0)
    items = ppo.bandits(m, texts, [1.0, 0.0, 0.5, -1.0], token_scores(m.model, texts), settings)
    for item, reward in zip(items, [1.0, 0.0, 0.5, -1.0], strict=True):
        n = len(item.sample.token_ids)
        assert item.returns[3:] == pytest.approx([reward] * (n - 3), abs=1e-5)
        assert item.returns[:3] == (0.0,) * 3 and item.values == (0.0,) * n
    every = torch.cat([torch.tensor(i.advantages[3:]) for i in items])
    assert every.mean().item() == pytest.approx(0, abs=1e-4) and every.std(
        correction=0
    ).item() == pytest.approx(1, abs=1e-2)


def test_leaving_the_reference_costs() -> None:
    """A reference that gave each of two tokens one nat less: - 0.2 each, so returns 1 - 0.4 and 1 - 0.2."""
    m, text = model(), Sample((20, 21, 30, 31), (0.0, 0.0, 1.0, 1.0))
    reference = [tuple(x - 1 for x in token_scores(m.model, [text])[0])]
    (item,) = ppo.bandits(m, [text], [1.0], reference, ppo.Settings(kl=0.2, lam=1.0))
    assert item.returns[2:] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_an_entropy_without_weight_has_no_graph() -> None:
    m, texts = model(), answers(2)
    with_graph, without = (ppo.run(m, texts, weight)[3] for weight in (0.1, 0.0))
    assert with_graph.requires_grad and not without.requires_grad
    torch.testing.assert_close(without, with_graph)


def test_ppo_raises_what_is_rewarded(tmp_path: Path) -> None:
    m, texts = model(), answers(8)
    rewards = [float(i % 2) for i in range(8)]
    reference = token_scores(m.model, texts)
    items = ppo.bandits(m, texts, rewards, reference, ppo.Settings())
    fit(m, ppo.Clipped(ppo.Settings()), items, Optim(1e-3, epochs=8, batch_size=8), tmp_path, Log(tmp_path))
    now = token_scores(m.model, texts)
    gains = [sum(a) - sum(b) for a, b in zip(now, reference, strict=True)]
    assert min(gains[1::2]) > max(gains[0::2])


def test_the_first_step_of_ppo_is_the_policy_gradient() -> None:
    """Ratios are 1: nothing is clipped, and the loss is minus the mean advantage, which whitening made 0."""
    m, texts = model(), answers(6)
    items = ppo.bandits(m, texts, [1.0, 0, 0, 1, 0, 1], token_scores(m.model, texts), ppo.Settings())
    _, metrics = ppo.Clipped(ppo.Settings()).loss(m, items)
    assert metrics["clip_share"] == 0 and metrics["policy"] == pytest.approx(0, abs=1e-5)
    assert metrics["kl_from_old"] == pytest.approx(0, abs=1e-6)


def test_all_that_a_judge_trains_has_a_gradient() -> None:
    """Processes wait for the gradient of every trained weight; an output layer of its own has none here."""
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    for tied in (False, True):
        config.tie_word_embeddings = tied
        judge = ppo.Headed(transformers.LlamaForCausalLM(config), speaks=False)
        loss, _ = ppo.Judgement().loss(judge, [ppo.Judged(Sample((3, 4, 5), (0.0, 1.0, 1.0)), True)])
        loss.backward()
        trained = {name: p.grad for name, p in judge.named_parameters() if p.requires_grad}
        assert [name for name, gradient in trained.items() if gradient is None] == []
        assert ("model.lm_head.weight" in dict(judge.named_parameters())) != tied
        assert ("model.model.embed_tokens.weight" in trained) and "model.lm_head.weight" not in trained


def test_a_judge_learns_and_padding_does_not_change_it(tmp_path: Path) -> None:
    m, texts = model(), answers(8)
    data = [ppo.Judged(t, i % 2 == 0) for i, t in enumerate(texts)]
    fit(m, ppo.Judgement(), data, Optim(3e-3, epochs=60, batch_size=8), tmp_path, Log(tmp_path))
    together = ppo.judgements(m, texts)
    assert [x < 0 for x in together] == [d.good for d in data]  # sigma of the number is P(bad)
    assert together == pytest.approx([ppo.judgements(m, [t])[0] for t in texts], abs=1e-4)

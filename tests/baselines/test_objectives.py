"""The objectives on a real (tiny) model: against sums taken token by token, and against TRL's trainers."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from prosegym.baselines import house, losses  # noqa: E402
from prosegym.baselines.batch import Sample, logp  # noqa: E402
from prosegym.baselines.objectives import Bundle, Imitation, Pair, Preference, against, score  # noqa: E402
from prosegym.baselines.training import Log, Optim, fit  # noqa: E402

torch.set_num_threads(1)
PIECES = house.tokenizer(["go east", "take the lamp"], 300)


def model(seed: int = 0) -> Any:
    return house.model("tiny", PIECES, seed=seed).eval()


def sample(rng: random.Random, prompt: list[int] | None = None, n: int = 6) -> Sample:
    prompt = prompt or [rng.randrange(10, 260) for _ in range(5)]
    answer = [rng.randrange(10, 260) for _ in range(n)]
    return Sample((*prompt, *answer), (0.0,) * len(prompt) + (1.0,) * n)


def pairs(n: int) -> list[Bundle]:
    rng = random.Random(0)
    prompts = [[rng.randrange(10, 260) for _ in range(3 + i % 3)] for i in range(n)]
    return [(Pair(sample(rng, p, 2 + i % 5), sample(rng, p, 1 + i % 7)),) for i, p in enumerate(prompts)]


def test_log_probabilities_do_not_depend_on_padding() -> None:
    m, rng = model(), random.Random(1)
    samples = [sample(rng, n=n) for n in (1, 9, 4)]
    together, weights = logp(m, samples)
    for row, s in enumerate(samples):
        alone, _ = logp(m, [s])
        n = len(s.token_ids)
        torch.testing.assert_close(together[row, :n], alone[0], atol=1e-5, rtol=1e-5)
        assert weights[row].tolist()[:n] == list(s.weights) and not weights[row, n:].any()


def test_the_pairs_of_a_step_are_those_of_its_batch_whatever_its_passes(tmp_path: Path) -> None:
    """Six pairs of up to 12 tokens a text: passes of 24 tokens hold one pair each."""
    found = []
    for tokens in (24, 4096):
        optim = Optim(1e-3, batch_size=6, tokens=tokens)
        log = Log(tmp_path / str(tokens))
        found.append(fit(model(), Preference(0.1), pairs(6), optim, log.path.parent, log))
    assert [metrics["pairs"] for metrics in found] == [6, 6]


def test_scores_are_sums_over_trained_tokens_in_order() -> None:
    m, rng = model(), random.Random(2)
    samples = [sample(rng, n=n) for n in (3, 8, 1, 5)]
    for s, total in zip(samples, score(m, samples, tokens=20), strict=True):
        ids = torch.tensor([s.token_ids])
        p = m(ids).logits.log_softmax(-1)[0]
        by_hand = sum(float(p[t - 1, s.token_ids[t]]) for t in range(5, len(s.token_ids)))
        assert total == pytest.approx(by_hand, abs=1e-4)


def test_preference_is_log_2_at_the_reference_and_falls_with_training(tmp_path: Path) -> None:
    m = model()
    data = against(m, pairs(8))
    loss, metrics = Preference(beta=0.1).loss(m, data)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["margin"] == pytest.approx(0, abs=1e-4)
    fit(m, Preference(beta=0.1), data, Optim(3e-3, epochs=30, batch_size=8), tmp_path, Log(tmp_path))
    loss, metrics = Preference(beta=0.1).loss(m, data)
    assert loss.item() < 0.5 and metrics["accuracy"] == 1.0 and metrics["win_gain"] > metrics["lose_gain"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_dropout_is_a_margin(checkpointing: bool, tmp_path: Path) -> None:
    """GPT-2 drops a tenth of its attention, by a function and not by a module: log 2 at the reference."""
    config = transformers.GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    assert config.attn_pdrop == config.resid_pdrop == 0.1
    torch.manual_seed(0)
    gpt2 = transformers.GPT2LMHeadModel(config)
    if checkpointing:
        gpt2.gradient_checkpointing_enable()
    rng = random.Random(0)
    texts = [
        Sample(tuple(rng.randrange(3, 60) for _ in range(30)), (0.0,) * 4 + (1.0,) * 26) for _ in range(8)
    ]
    found = against(gpt2, [(Pair(win, lose),) for win, lose in zip(texts[::2], texts[1::2], strict=True)])
    optim = Optim(1e-4, batch_size=4, max_steps=1)
    first = fit(gpt2, Preference(0.5), found, optim, tmp_path, Log(tmp_path))
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-4)


def test_preference_with_imitation_adds_the_winners_negative_log_likelihood() -> None:
    m, data = model(), pairs(3)
    plain = Preference(beta=0.1).loss(m, data)[0].item()
    nll = -sum(score(m, [p.win for (p,) in data])) / 3
    assert Preference(0.1, imitation=0.5).loss(m, data)[0].item() == pytest.approx(
        plain + 0.5 * nll, rel=1e-5
    )


def test_imitation_weighs_every_trained_token_the_same_across_samples() -> None:
    m, rng = model(), random.Random(3)
    short, long = sample(rng, n=1), sample(rng, n=9)
    total = -sum(score(m, [short, long]))
    assert Imitation().loss(m, [short, long])[0].item() == pytest.approx(total / 10, rel=1e-5)


# --- against TRL, on the same batch ---


def trl_config(name: str, folder: Path, **more: Any) -> Any:
    trl = pytest.importorskip("trl")
    common = {"output_dir": str(folder), "report_to": "none", "use_cpu": True, "bf16": False, "fp16": False}
    return getattr(trl, name)(**common, max_length=None, gradient_checkpointing=False, **more)


def test_dpo_is_trls(tmp_path: Path) -> None:
    """Loss and gradient of the same four pairs by TRL's DPOTrainer, the reference another model."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    m, data = model(), pairs(4)
    data = against(model(seed=1), data)
    mine = Preference(beta=0.3).loss(m, data)[0]
    gradients = torch.autograd.grad(mine, list(m.parameters()))
    rows = [{"prompt": "go", "chosen": " east", "rejected": " take"}] * 4
    trainer = trl.DPOTrainer(
        model=m,
        ref_model=model(seed=1),
        args=trl_config("DPOConfig", tmp_path, beta=0.3),
        train_dataset=Dataset.from_list(rows),
        processing_class=PIECES,
    )
    trainer.model.eval()
    examples = []
    for (p,) in data:
        n = int(len(p.win.token_ids) - p.win.trained)
        ids = {
            "prompt_ids": p.win.token_ids[:n],
            "chosen_ids": p.win.token_ids[n:],
            "rejected_ids": p.lose.token_ids[n:],
        }
        examples.append({k: list(v) for k, v in ids.items()})
    theirs = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    assert theirs.item() == pytest.approx(mine.item(), abs=1e-5)
    for a, b in zip(gradients, torch.autograd.grad(theirs, list(trainer.model.parameters())), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_sft_is_trls(tmp_path: Path) -> None:
    """Loss of the same three samples by TRL's SFTTrainer with a completion mask."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    m, rng = model(), random.Random(4)
    samples = [sample(rng, n=n) for n in (2, 7, 4)]
    mine = Imitation().loss(m, samples)[0].item()
    rows = [{"input_ids": list(s.token_ids), "completion_mask": [int(w) for w in s.weights]} for s in samples]
    trainer = trl.SFTTrainer(
        model=m,
        args=trl_config("SFTConfig", tmp_path, completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=PIECES,
    )
    trainer.model.eval()
    theirs = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    assert theirs.item() == pytest.approx(mine, abs=1e-5)


def test_token_log_probabilities_are_trls() -> None:
    trl = pytest.importorskip("trl.trainer.utils")
    logits = torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(1))
    theirs = trl.selective_log_softmax(logits[:, :-1], ids[:, 1:])
    mine = losses.token_logp(logits[:, :-1], ids[:, 1:])
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_entropy_is_trls() -> None:
    trl = pytest.importorskip("trl.trainer.utils")
    logits = torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.entropy(logits), trl.entropy_from_logits(logits), atol=1e-5, rtol=1e-5)

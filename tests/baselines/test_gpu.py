"""What runs on a GPU, on one that is pretended: device rules, recordings, memory; numbers are the CPU's."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import tiny_lm
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pretend_gpu import Card, OnCard, card  # noqa: F401  (a fixture)
from tiny_lm import ACTIONS, WORDS, episodes, made, small

from prosegym.baselines import ppo
from prosegym.baselines.batch import Sample
from prosegym.baselines.cached_engine import CachedEngine
from prosegym.baselines.lm import Generation, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Bundle, Imitation, Pair, Played, PolicyGradient, Preference
from prosegym.baselines.train import Lora, add_adapter
from prosegym.baselines.training import Log, Optim, _backward, fit
from prosegym.envs.trajectory import Message

TOKENIZER = tiny_lm.tokenizer()


def llama() -> Any:
    return tiny_lm.llama(len(TOKENIZER))


def gemma2() -> Any:
    return made(small(transformers.Gemma2Config, head_dim=8, sliding_window=16, query_pre_attn_scalar=8))


MODELS = {"llama": llama, "gemma2": gemma2}


def there(model: Any) -> Any:
    """The model on the card."""
    model = model.to("cuda")
    model.tie_weights()
    assert all(isinstance(p, OnCard) for p in model.parameters())
    return model


def talks(lm: LocalModel, sampling: Sampling, **constraint: Any) -> dict[int, list[Generation]]:
    return episodes(lm, sampling, count=4, turns=2, width=3, **constraint)


def same(found: dict[int, list[Generation]], wanted: dict[int, list[Generation]]) -> None:
    for i, theirs in wanted.items():
        for a, b in zip(found[i], theirs, strict=True):
            assert (a.text, a.token_ids) == (b.text, b.token_ids)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


SAMPLINGS: dict[str, tuple[Sampling, dict[str, Any]]] = {
    "greedy": (Sampling(max_tokens=9), {}),
    "stop strings": (Sampling(1.0, max_tokens=12, stop=("e", "\n")), {}),
    "drawn": (Sampling(0.8, 0.9, max_tokens=9), {}),
    "among actions": (Sampling(), {"allowed": ACTIONS}),
    "drawn among actions": (Sampling(1.0), {"allowed": ACTIONS}),
    "whole actions": (Sampling(choice="action"), {"allowed": ACTIONS}),
    "free, then an action": (
        Sampling(1.5, max_tokens=16), {"allowed": ACTIONS, "opens": "a", "closes": "."},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "how, kind, static, draft",
    [*((how, "llama", True, False) for how in SAMPLINGS), ("drawn", "gemma2", True, True),
     ("greedy", "llama", False, True), ("whole actions", "gemma2", False, False)],
)  # fmt: skip
def test_answers_are_those_of_the_cpu(
    card: Card,  # noqa: F811
    how: str,
    kind: str,
    static: bool,
    draft: bool,
) -> None:
    sampling, more = SAMPLINGS[how]
    wanted = talks(LocalModel(MODELS[kind](), TOKENIZER, draft=False), sampling, **more)
    lm = LocalModel(there(MODELS[kind]()), TOKENIZER, static_shapes=static, draft=draft)
    same(talks(lm, sampling, **more), wanted)
    assert isinstance(lm._engine, CachedEngine)
    steps = lm._engine._steps.values()
    assert all(step._graph is not None for step in steps)
    if how == "greedy":
        assert bool(steps) == static


def test_the_host_waits_for_a_token_only_to_read_it(card: Card) -> None:  # noqa: F811
    """Everything else goes to the card from pinned memory: the token and its log-probability come back."""
    lm = LocalModel(there(llama()), TOKENIZER, draft=False)
    lm.end_ids = frozenset()
    requests = [Request([Message("user", "red key " * n)], seed=n, key=n) for n in (2, 3, 5)]
    counts = []
    for tokens in (2, 12):
        for sampling in (Sampling(0.9, 0.8, max_tokens=tokens), Sampling(max_tokens=tokens)):
            lm.generate(requests, sampling)  # recorded
            lm.rest()
            card.waits.clear()
            lm.generate(requests, sampling)
            counts.append(card.waits.total())
    assert [counts[2] - counts[0], counts[3] - counts[1]] == [20, 20]


def test_models_that_share_a_card_leave_it_room(card: Card) -> None:  # noqa: F811
    """Each may have 80 % of what is free when it grows, not of what was when it was made."""
    models = [LocalModel(there(llama()), TOKENIZER, static_shapes=False, draft=False) for _ in range(2)]
    free = 1 << 20
    card.total = sum(card.storages().values()) + free
    rng, held = random.Random(0), []
    for lm in models:
        talk = [[Message("user", " ".join(rng.choices(WORDS, k=60)))] for _ in range(40)]
        lm.generate([Request(m, key=i) for i, m in enumerate(talk)], Sampling(max_tokens=2))
        assert isinstance(lm._engine, CachedEngine)
        held.append(sum(b.nbytes for layer in lm._engine._layers for b in (layer.keys, layer.values)))  # type: ignore[union-attr]
    assert 0.4 * free < held[0] <= 0.81 * free
    assert 0.4 * (free - held[0]) < held[1] <= 0.81 * (free - held[0])
    models[0].rest()  # the other one may grow
    lm = models[1]
    lm.generate([Request(m, key=("more", i)) for i, m in enumerate(talk)], Sampling(max_tokens=2))
    grown = sum(b.nbytes for layer in lm._engine._layers for b in (layer.keys, layer.values))  # type: ignore[union-attr]
    assert held[1] < grown <= 0.81 * free


def test_attention_is_not_planned_anew_for_each_shape(card: Card) -> None:  # noqa: F811
    torch.backends.cuda.enable_cudnn_sdp(True)
    LocalModel(there(llama()), TOKENIZER)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("waits", [True, False])
def test_a_model_that_cannot_be_recorded_is_tried_once(
    card: Card,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    waits: bool,
) -> None:
    """What waits is found before a recording begins; another failure leaves nothing behind."""
    model = there(llama())
    wanted = talks(LocalModel(model, TOKENIZER, draft=False), Sampling(max_tokens=4))

    def hook(module: Any, args: Any) -> None:
        if waits:
            float(args[0].sum())
        else:
            card.unrecordable("memory that a library takes")

    model.model.layers[0].register_forward_pre_hook(hook)
    lm = LocalModel(model, TOKENIZER, draft=False)
    card.begun = 0
    same(talks(lm, Sampling(max_tokens=4)), wanted)
    assert caplog.text.count("no CUDA graph for this model") == 1
    assert card.begun == (0 if waits else 1)
    assert card.mode == 0 and card.stream is card.first
    assert not card.underway and not card.generator.capturing


def test_recordings_wait_for_the_models_own_card(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Where the process has several, its current one can be another."""
    asked = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: asked.append(device) or card.stream)
    LocalModel(there(llama()), TOKENIZER).generate(
        [Request([Message("user", "red key")])], Sampling(max_tokens=3)
    )
    assert asked and set(asked) == {torch.device("cuda:0")}


def test_what_a_resting_model_held_is_there_for_training(card: Card) -> None:  # noqa: F811
    lm = LocalModel(there(llama()), TOKENIZER)
    lm.generate([Request([Message("user", "red key")])], Sampling(max_tokens=3))
    held = card.reserved()
    lm.rest()
    assert card.reserved() == sum(card.storages().values()) < held


SAMPLES = [
    Sample((1, *range(5, 9 + i), 30 + i, 2), (*(0.0,) * 5, *(1.0,) * (2 + i))) for i in range(5)
]  # fmt: skip
PAIRS: list[Bundle] = [(Pair(a, b, -3.0, -2.0),) for a, b in itertools.pairwise(SAMPLES)]
BANDITS = [
    ppo.Bandit(s, *((x,) * len(s.token_ids) for x in (-6.0, 0.1, 0.5, 0.6))) for s in SAMPLES
]  # fmt: skip
OBJECTIVES: dict[str, tuple[Any, Any]] = {
    "sft": (Imitation(), SAMPLES),
    "pairs": (Preference(0.5, imitation=0.1), PAIRS),
    "played": (
        PolicyGradient(0.3, 1.0),
        [Played(s, (-6.0,) * len(s.token_ids), 0.5, SAMPLES[0]) for s in SAMPLES],
    ),
    "ppo": (ppo.Clipped(ppo.Settings(entropy=0.1)), BANDITS),
    "judge": (ppo.Judgement(), [ppo.Judged(s, i % 2 == 0) for i, s in enumerate(SAMPLES)]),
}


@pytest.mark.parametrize("what", OBJECTIVES)
def test_a_training_pass_looks_at_none_of_its_numbers(card: Card, what: str) -> None:  # noqa: F811
    objective, items = OBJECTIVES[what]
    model = there(llama())
    model = ppo.Headed(model) if what in ("ppo", "judge") else model
    AcceleratorState._reset_state(True)
    accelerator = Accelerator()
    card.waits.clear()
    _backward(model, objective, items, 1.0, accelerator)
    AcceleratorState._reset_state(True)
    assert card.waits.total() <= 1  # transformers' own: whether rows are packed


def trained(
    what: str, folder: Path, device: str, adapted: bool, optim: Optim, stop: int | None = None
) -> dict[str, torch.Tensor]:
    """The weights after training; Ctrl-C comes after so many steps."""
    model = there(llama()) if device == "cuda" else llama()
    lm = LocalModel(model, TOKENIZER)
    if adapted:
        torch.manual_seed(1)
        add_adapter(lm, Lora(rank=2, dropout=0.0))
        lm.model.gradient_checkpointing_enable()
    objective, items = OBJECTIVES[what]
    learner = ppo.Headed(lm.model) if what in ("ppo", "judge") else lm.model
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=device == "cpu")
    assert accelerator.device.type == device
    log = Log(folder)
    if stop is not None:
        write = log.write

        def until(phase: str, step: int, metrics: Any) -> None:
            write(phase, step, metrics)
            if step == stop:
                raise KeyboardInterrupt

        log.write = until  # type: ignore[method-assign]
    fit(learner, objective, items, optim, folder, log, accelerator=accelerator)
    lm.generate([Request([Message("user", "red key")])], Sampling(max_tokens=3))
    AcceleratorState._reset_state(True)
    return {n: getattr(p, "host", p).detach() for n, p in learner.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "what, adapted", [("sft", True), ("pairs", False), ("played", False), ("ppo", True), ("judge", False)]
)
def test_trained_weights_are_those_of_the_cpu(what: str, adapted: bool, tmp_path: Path, request: Any) -> None:
    optim = Optim(1e-2, batch_size=4, tokens=20)
    wanted = trained(what, tmp_path / "cpu", "cpu", adapted, optim)
    request.getfixturevalue("card")  # from here on
    found = trained(what, tmp_path / "card", "cuda", adapted, optim)
    for name, weight in wanted.items():
        assert torch.allclose(found[name], weight, atol=1e-5), name


def test_a_training_goes_on_from_a_cpu_to_a_card(tmp_path: Path, request: Any) -> None:
    """With this machine's update: the fused one, its counts on the card."""
    optim = Optim(1e-2, epochs=2, batch_size=4, tokens=20, schedule="constant", warmup=0.0)
    wanted = trained("sft", tmp_path / "whole", "cpu", False, optim)
    with pytest.raises(KeyboardInterrupt):
        trained("sft", tmp_path / "half", "cpu", False, optim, stop=2)
    request.getfixturevalue("card")
    found = trained("sft", tmp_path / "half", "cuda", False, optim)
    for name, weight in wanted.items():
        assert torch.allclose(found[name], weight, atol=1e-5), name
    state = torch.load(tmp_path / "half" / "checkpoint.pt")
    assert state["step"] == 4 and state["optimizer"]["param_groups"][0]["fused"]

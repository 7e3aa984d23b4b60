"""What runs on a GPU, on one that is pretended: device rules, recordings, memory; numbers are the CPU's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import tiny_lm
import torch
import transformers
from pretend_gpu import Card, OnCard, card  # noqa: F401  (a fixture)

from prosegym.baselines.cached_engine import CachedEngine
from prosegym.baselines.engine import PlainEngine
from prosegym.baselines.lm import Generation, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.envs.trajectory import Message

TOKENIZER = tiny_lm.tokenizer()
WORDS = "red blue green teal box key take open the a you hold kitchen mug fridge 1 2 shut stays".split()
ACTIONS = ("take red key", "take blue key", "open box", "go to fridge 1")


def made(kind: str) -> Any:
    if kind == "llama":
        return tiny_lm.llama(len(TOKENIZER))
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=3, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, sliding_window=16, query_pre_attn_scalar=8,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def there(model: Any) -> Any:
    """The model on the card."""
    model = model.to("cuda")
    model.tie_weights()
    assert all(isinstance(p, OnCard) for p in model.parameters())
    return model


def talks(
    lm: LocalModel, sampling: Sampling, *, count: int = 9, turns: int = 4, width: int = 4, **more: Any
) -> list[list[Generation]]:
    """Conversations that begin and end at different times, `width` at a time."""
    rng = random.Random(0)

    def says(most: int) -> Message:
        return Message("user", " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most))))

    left = [rng.randint(1, turns) for _ in range(count)]
    talk = [[says(30)] for _ in range(count)]
    told = [[says(12) for _ in range(turns)] for _ in range(count)]
    done: list[list[Generation]] = [[] for _ in range(count)]
    while any(left):
        live = [i for i in range(count) if left[i]][:width]
        requests = [Request(list(talk[i]), seed=100 * i + len(done[i]), key=i, **more) for i in live]
        for i, answer in zip(live, lm.generate(requests, sampling), strict=True):
            talk[i] += [
                Message("assistant", answer.text, True, list(answer.token_ids)),
                told[i][len(done[i])],
            ]
            done[i].append(answer)
            left[i] -= 1
    return done


def same(found: Sequence[Sequence[Generation]], wanted: Sequence[Sequence[Generation]]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert [a.text for a in ours] == [b.text for b in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.token_ids == b.token_ids and a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


SAMPLINGS: dict[str, tuple[Sampling, dict[str, Any]]] = {
    "greedy": (Sampling(max_tokens=9), {}),
    "stop strings": (Sampling(1.0, max_tokens=12, stop=("e", "\n")), {}),
    "drawn": (Sampling(0.8, 0.9, max_tokens=9), {}),
    "among actions": (Sampling(), {"allowed": ACTIONS}),
    "drawn among actions": (Sampling(1.0), {"allowed": ACTIONS}),
    "whole actions": (Sampling(choice="action"), {"allowed": ACTIONS}),
    "free, then an action": (
        Sampling(1.5, max_tokens=40), {"allowed": ACTIONS, "opens": "a", "closes": "."},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("how", SAMPLINGS)
def test_answers_are_those_of_the_cpu(card: Card, how: str, static: bool, kind: str) -> None:  # noqa: F811
    sampling, more = SAMPLINGS[how]
    plain = LocalModel(made(kind), TOKENIZER, draft=False)
    plain._engine = PlainEngine(plain.model)
    wanted = talks(plain, sampling, **more)
    for draft in (False, True):
        lm = LocalModel(there(made(kind)), TOKENIZER, static_shapes=static, draft=draft)
        same(talks(lm, sampling, **more), wanted)
        assert isinstance(lm._engine, CachedEngine)
        print(dict(card.waits), card.operations, len(lm._engine._steps))
        if static and how == "greedy" and not draft:
            assert lm._engine._steps and all(step._graph for step in lm._engine._steps.values())

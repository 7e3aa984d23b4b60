"""Actions per second of the rollout engine, against `generate` of transformers on the same model and turns.

    pytest tests/benchmarks/bench_rollout.py --benchmark-group-by=group

Turns are those of a household game: an instruction and a room of some 200 tokens, then 30 observations of
some 20 tokens, answered by an action alone (6 tokens) or a thought and an action (24). Sequential rows play
3 of the 64 episodes; what is compared is actions per second of CPU time (`extra_info`), one thread.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import tiny_lm
import torch
import transformers

from prosegym.baselines.lm import Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.envs.trajectory import Message

EPISODES, SEQUENTIAL, TURNS = 64, 3, 30


WORDS = "the you key box is in take open red go a and".split()
"""Words of one token each."""


@pytest.fixture(scope="module")
def lm() -> LocalModel:
    tokenizer = tiny_lm.tokenizer("phi")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.1,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    return LocalModel(model, tokenizer)


def observation(episode: int, turn: int) -> str:
    rng = random.Random(f"{episode} {turn}")
    return " ".join(rng.choice(WORDS) for _ in range(180 if turn == 0 else 16))


def ours(lm: LocalModel, episodes: int, tokens: int) -> int:
    lm.forget()
    talks = [[Message("user", observation(i, 0))] for i in range(episodes)]
    for turn in range(1, TURNS + 1):
        requests = [Request(talk, key=i) for i, talk in enumerate(talks)]
        for i, answer in enumerate(lm.generate(requests, Sampling(max_tokens=tokens))):
            talks[i].append(Message("assistant", answer.text, True, list(answer.token_ids)))
            talks[i].append(Message("user", observation(i, turn)))
    return episodes * TURNS


@torch.inference_mode()
def theirs(lm: LocalModel, episodes: int, tokens: int, *, reuse: bool) -> int:
    for i in range(episodes):
        talk = [Message("user", observation(i, 0))]
        cache: Any = transformers.DynamicCache(config=lm.model.config) if reuse else None
        for turn in range(1, TURNS + 1):
            prompt = torch.tensor([lm.chat.prompt(talk).token_ids])
            out = lm.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens,
                past_key_values=cache, eos_token_id=list(lm.end_ids), pad_token_id=0,
            )  # fmt: skip
            token_ids = out[0, prompt.shape[1] :].tolist()
            text = lm.tokenizer.decode(token_ids, skip_special_tokens=True)
            talk.append(Message("assistant", text, True, token_ids))
            talk.append(Message("user", observation(i, turn)))
    return episodes * TURNS


@pytest.mark.parametrize("how", ["ours", "generate", "generate, cache kept"])
@pytest.mark.parametrize("answer, tokens", [("action", 6), ("thought and action", 24)])
@pytest.mark.benchmark(group="rollout")
def test_rollout(benchmark: Any, lm: LocalModel, how: str, answer: str, tokens: int) -> None:
    def play() -> float:
        begun = time.process_time()
        if how == "ours":
            actions = ours(lm, EPISODES, tokens)
        else:
            actions = theirs(lm, SEQUENTIAL, tokens, reuse=how.endswith("kept"))
        return actions / (time.process_time() - begun)

    rate = benchmark.pedantic(play, rounds=1)
    benchmark.extra_info["actions_per_cpu_second"] = round(rate, 1)
    print(f"\n{answer}, {how}: {rate:.1f} actions per CPU second")


def test_the_same_tokens(lm: LocalModel) -> None:
    """The comparison is of equals: both write the same answers."""
    talk = [Message("user", observation(0, 0))]
    mine = lm.generate([Request(talk)], Sampling(max_tokens=8))[0]
    prompt = torch.tensor([lm.chat.prompt(talk).token_ids])
    out = lm.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=8,
        eos_token_id=list(lm.end_ids), pad_token_id=0,
    )  # fmt: skip
    assert list(mine.token_ids) == out[0, prompt.shape[1] :].tolist()

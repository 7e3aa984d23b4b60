"""Actions per second of the rollout engine, against `generate` of transformers on the same model and turns.

    pytest tests/benchmarks/bench_rollout.py --benchmark-group-by=group

A house model of the size 1m with random weights plays conversations of Household: the instruction and a room
(some 290 tokens), then 30 turns of what games played at random beforehand answered (some 23 tokens), with a
tokenizer learnt from those games; and the same model with one key head for its four query heads. Every answer
has the same number of tokens: 6 (an action alone) or 24 (a thought and an action). Sequential rows play 3 of
the 64 episodes; what is compared is actions per second of CPU time (`extra_info`), one thread.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import gymnasium
import pytest
import torch
import transformers

import prosegym  # noqa: F401  (registers the environments)
from prosegym.baselines import house
from prosegym.baselines.lm import Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.agents import RandomAdmissible
from prosegym.evaluation.rollout import Job, rollout

EPISODES, SEQUENTIAL, TURNS = 64, 3, 30
ENV = "prosegym/Household-v1"


@functools.cache
def instruction() -> str:
    env: Any = gymnasium.make(ENV).unwrapped
    said: str = env.instruction
    return said


@functools.cache
def games() -> list[Trajectory]:
    """Games of 30 turns, played at random."""
    env: Any = gymnasium.make(ENV).unwrapped
    jobs = [Job(task.id) for task in env.tasks("train")[: 2 * EPISODES]]
    played = rollout(lambda: gymnasium.make(ENV, max_steps=TURNS), RandomAdmissible(), jobs)
    return [game for game in played if len(game.steps) == TURNS][:EPISODES]


@pytest.fixture(scope="module", params=["1m", "1m, one key head"])
def lm(request: pytest.FixtureRequest) -> LocalModel:
    torch.set_num_threads(1)
    pieces = house.tokenizer([instruction(), *house.texts(games())])
    model = house.model("1m", pieces)
    if request.param != "1m":
        torch.manual_seed(0)
        model = type(model)(type(model.config)(**{**model.config.to_dict(), "num_key_value_heads": 1}))
    lm = LocalModel(model.eval(), pieces, name=request.param)
    lm.end_ids = frozenset()  # every answer has the same length on both sides
    lm.model.generation_config.eos_token_id = None
    return lm


def told(episode: int, turn: int) -> Message:
    """What the game says before a turn, counted from 0."""
    game = games()[episode]
    if turn == 0:
        return Message("user", f"{instruction()}\n\n{game.steps[0].observation}")
    return Message("user", game.steps[turn].observation if turn < TURNS else game.final_observation)


def ours(lm: LocalModel, episodes: int, tokens: int) -> int:
    lm.forget()
    talks = [[told(i, 0)] for i in range(episodes)]
    for turn in range(1, TURNS + 1):
        requests = [Request(talk, key=i) for i, talk in enumerate(talks)]
        for i, answer in enumerate(lm.generate(requests, Sampling(max_tokens=tokens))):
            talks[i].append(Message("assistant", answer.text, True, list(answer.token_ids)))
            talks[i].append(told(i, turn))
    return episodes * TURNS


@torch.inference_mode()
def theirs(lm: LocalModel, episodes: int, tokens: int, *, reuse: bool) -> int:
    for i in range(episodes):
        talk = [told(i, 0)]
        cache: Any = transformers.DynamicCache(config=lm.model.config) if reuse else None
        for turn in range(1, TURNS + 1):
            prompt = torch.tensor([lm.chat.prompt(talk).token_ids])
            out = lm.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens,
                past_key_values=cache, pad_token_id=0,
            )  # fmt: skip
            token_ids = out[0, prompt.shape[1] :].tolist()
            text = lm.tokenizer.decode(token_ids, skip_special_tokens=True)
            talk.append(Message("assistant", text, True, token_ids))
            talk.append(told(i, turn))
    return episodes * TURNS


RATES: dict[tuple[str, str, str], float] = {}


@pytest.mark.parametrize("how", ["generate", "generate, cache kept", "ours"])
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
    RATES[lm.name, answer, how] = rate
    print(f"\n{lm.name}, {answer}, {how}: {rate:.1f} actions per CPU second")
    if how == "ours":
        for other in ("generate", "generate, cache kept"):
            if (peer := RATES.get((lm.name, answer, other))) is not None:
                print(f"{lm.name}, {answer}, ours against {other}: {rate / peer:.1f} times")


def test_the_same_tokens(lm: LocalModel) -> None:
    """The comparison is of equals: both write the same answers."""
    talk = [told(0, 0)]
    mine = lm.generate([Request(talk)], Sampling(max_tokens=8))[0]
    prompt = torch.tensor([lm.chat.prompt(talk).token_ids])
    out = lm.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=8,
        pad_token_id=0,
    )  # fmt: skip
    assert list(mine.token_ids) == out[0, prompt.shape[1] :].tolist()

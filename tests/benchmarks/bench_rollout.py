"""Actions per second of the rollout engine, against `generate` of transformers on the same model and turns.

    pytest tests/benchmarks/bench_rollout.py -o python_files="bench_*.py" -s

Agents play 64 episodes of Household at a time, of at most 30 turns, and every request that they make of their
model is written down; both sides then answer these requests: the engine as they came, `generate` one after
another, for one game in eight. Answers end where the model ends them and must be the same tokens on both
sides. The model is the one that comes with the package, writing actions as free text (some 6 tokens) or token
by token among the admissible ones; and one of its shape with random weights, which writes 6 tokens of no
meaning. What is compared is actions per second of CPU time, one thread.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import pytest
import torch
import transformers

import prosegym  # noqa: F401  (registers the environments)
from prosegym.baselines import agents
from prosegym.baselines.decoding import Trie
from prosegym.baselines.lm import Generation, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.react import ReAct
from prosegym.evaluation.rollout import Job, rollout

GAMES, EPISODES, TURNS, EVERY = 256, 64, 30, 8
ENV = "prosegym/Household-v1"
ROWS = [("house", "free"), ("house", "trie"), ("random weights", "free")]


class Recorder:
    """A model that keeps what it is asked and what it answers."""

    def __init__(self, lm: LocalModel) -> None:
        self.lm, self.name = lm, lm.name
        self.batches: list[Sequence[Request]] = []
        self.answers: list[tuple[Request, Generation]] = []
        self.sampling = Sampling()

    def conditions(self) -> Mapping[str, Any]:
        return self.lm.conditions()

    def count_tokens(self, text: str) -> int:
        return self.lm.count_tokens(text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        found = self.lm.generate(requests, sampling)
        self.batches.append(requests)
        self.answers += zip(requests, found, strict=True)
        self.sampling = sampling
        return found


@functools.cache
def recorded(model: str, decoding: str) -> Recorder:
    """The games, played once."""
    torch.set_num_threads(1)
    lm: Any = agents.load_model("house", agents.ModelOptions(device="cpu"))
    config: Any = agents.read(agents.HOUSE).config
    settings = {"decoding": decoding}
    if model != "house":
        torch.manual_seed(0)
        lm = LocalModel(type(lm.model)(lm.model.config).eval(), lm.tokenizer, name=model)
        settings["max_tokens"] = 6
    recorder = Recorder(lm)
    agent = ReAct(recorder, agents._with(config, settings))
    env: Any = gymnasium.make(ENV).unwrapped
    jobs = [Job(task.id) for task in env.tasks("valid")[:GAMES]]
    games = list(rollout(lambda: gymnasium.make(ENV, max_steps=TURNS), agent, jobs, batch_size=EPISODES))
    tokens = sum(len(answer.token_ids) for _, answer in recorder.answers) / len(recorder.answers)
    read = sum(answer.prompt_tokens for _, answer in recorder.answers) / len(recorder.answers)
    print(
        f"\n{model}, {decoding}: {sum(game.success for game in games)} of {len(games)} games solved, "
        f"{len(recorder.answers)} answers of {tokens:.1f} tokens to prompts of {read:.0f}"
    )
    return recorder


def ours(games: Recorder) -> int:
    games.lm.forget()
    answers = [games.lm.generate(batch, games.sampling) for batch in games.batches]
    assert [a.token_ids for batch in answers for a in batch] == [a.token_ids for _, a in games.answers]
    return len(games.answers)


@torch.inference_mode()
def theirs(games: Recorder, *, reuse: bool) -> int:
    lm, count = games.lm, 0
    keys = list(dict.fromkeys(request.key for request, _ in games.answers))[::EVERY]
    for key in keys:
        cache: Any = transformers.DynamicCache(config=lm.model.config) if reuse else None
        for request, answer in games.answers:
            if request.key != key:
                continue
            prompt = torch.tensor([lm.chat.prompt(request.messages).token_ids])
            out = lm.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0,
                max_new_tokens=games.sampling.max_tokens, past_key_values=cache,
                prefix_allowed_tokens_fn=among(lm, request, prompt.shape[1]) if request.allowed else None,
            )  # fmt: skip
            assert out[0, prompt.shape[1] :].tolist() == list(answer.token_ids)
            count += 1
    return count


def among(lm: LocalModel, request: Request, start: int) -> Callable[[int, Any], list[int]]:
    """The tokens that may come next, as `generate` asks for them."""
    trie = Trie([lm.chat.answer(action + request.closes) for action in request.allowed or ()])

    def allowed(row: int, ids: Any) -> list[int]:
        node = trie
        for token in ids[start:].tolist():
            node = node.children[token]
        return list(node.children)

    return allowed


RATES: dict[tuple[str, str, str], float] = {}


@pytest.mark.parametrize("how", ["generate", "generate, cache kept", "ours"])
@pytest.mark.parametrize("model, decoding", ROWS)
@pytest.mark.benchmark(group="rollout")
def test_rollout(benchmark: Any, model: str, decoding: str, how: str) -> None:
    games = recorded(model, decoding)

    def play() -> float:
        begun = time.process_time()
        actions = ours(games) if how == "ours" else theirs(games, reuse=how.endswith("kept"))
        return actions / (time.process_time() - begun)

    rate = benchmark.pedantic(play, rounds=1)
    benchmark.extra_info["actions_per_cpu_second"] = round(rate, 1)
    RATES[model, decoding, how] = rate
    print(f"\n{model}, {decoding}, {how}: {rate:.1f} actions per CPU second")
    if how == "ours":
        for other in ("generate", "generate, cache kept"):
            if (peer := RATES.get((model, decoding, other))) is not None:
                print(f"{model}, {decoding}, ours against {other}: {rate / peer:.1f} times")

"""Actions per second of the rollout engine, against `generate` of transformers on the same model and turns.

    pytest tests/benchmarks/bench_rollout.py -o python_files="bench_*.py" -s

Agents play games of Household, 64 at a time and of at most 30 turns, and every request that they make of their
model is written down. Then these requests are answered again: by the engine, as they came, and by `generate`,
one after another, for as many whole games as have some 150 answers, their prompts as long as all games' are,
without a cache that outlives an answer and with one. Answers end where the model ends them and must be the
same tokens on all sides.

Two kinds of agents. `house`: the model that comes with the package (or PROSEGYM_BENCH_MODEL, a trained agent's
folder) answers bare prompts with actions of some 6 tokens, as free text or token by token among the admissible
ones. `ReAct`: instruction, two examples of the
task's type from expert games, answers of a thought and an action. No model at hand writes such answers, so one of
the house model's shape with random weights writes 24 tokens of no meaning, which stay in the conversation as it
wrote them, and the games go on with another agent's actions: a random one's, all 30 turns, or the expert's.

Two more sides show what guessing tokens ahead gives: the engine without it, and with guesses that are all right,
which is the most that it can give.

What is compared is actions per second of CPU time, one thread. The sides take turns in short pieces, so that
what else the machine does burdens all of them. While the games are played, the share of CPU time outside the
model's forward passes is taken: environment, agent, tokens to text and back, the engine's own keeping of books.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time
from typing import Any

import gymnasium
import pytest
import torch
import transformers

import prosegym  # noqa: F401  (registers the environments)
from prosegym.baselines import agents, examples
from prosegym.baselines.decoding import Trie, Writer
from prosegym.baselines.draft import Drafter
from prosegym.baselines.lm import Generation, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.react import Config, ReAct
from prosegym.envs import panels
from prosegym.envs.core import TextEnv
from prosegym.envs.home import processors
from prosegym.evaluation.agents import Episode, Reply, built_in
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.workers import Processes

GAMES, EPISODES, TURNS, SAMPLE, ROUNDS = 256, 64, 30, 150, 3
ENV = "prosegym/Household-v1"
HOUSE = os.environ.get("PROSEGYM_BENCH_MODEL", "house")
PEERS = ("generate", "generate, cache kept")


class Recorder:
    """A model that keeps what it is asked and what it answers, and how long its forward passes take."""

    def __init__(self, lm: LocalModel) -> None:
        self.lm, self.name = lm, lm.name
        self.forward = 0.0
        """CPU seconds."""
        self.batches: list[Sequence[Request]] = []
        self.answers: list[tuple[Request, Generation]] = []
        self.sampling = Sampling()

    def conditions(self) -> Mapping[str, Any]:
        return self.lm.conditions()

    def count_tokens(self, text: str) -> int:
        return self.lm.count_tokens(text)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Within it, forward passes are timed."""

        def begun(*_: Any) -> None:
            self.forward -= process_time()

        def ended(*_: Any) -> None:
            self.forward += process_time()

        hooks = [self.lm.model.register_forward_pre_hook(begun), self.lm.model.register_forward_hook(ended)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        found = self.lm.generate(requests, sampling)
        self.batches.append(requests)
        self.answers += zip(requests, found, strict=True)
        self.sampling = sampling
        return found


class Led(ReAct):
    """Says what its model writes, and does what another agent would."""

    def __init__(self, leader: str, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._leader = built_in(leader)
        self._states: dict[str, Any] = {}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        self._leader.begin(episode, env)
        self._states[episode.task.id] = episode.state
        super().begin(episode, env)

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        said = super().respond(episodes)
        done = self._leader.respond([replace(e, state=self._states[e.task.id]) for e in episodes])
        return [replace(reply, action=lead.action) for reply, lead in zip(said, done, strict=True)]


def made(game: str, lm: LocalModel) -> tuple[Recorder, ReAct, int]:
    """The model, the agent and how many games it plays."""
    kind, _, how = game.partition(", ")
    if kind == "house":
        recorder, config = Recorder(lm), agents.read(Path(agents.shipped(HOUSE))).config
        return recorder, ReAct(recorder, replace(config, decoding=how)), GAMES  # type: ignore[arg-type]
    torch.manual_seed(1)  # with 0, two tokens are as likely as each other but for rounding
    shape = type(lm.model.config)(**{**lm.model.config.to_dict(), "max_position_embeddings": 8192})
    recorder = Recorder(LocalModel(type(lm.model)(shape).eval(), lm.tokenizer, name=game))
    env: Any = gymnasium.make(ENV).unwrapped
    jobs = [Job(task.id) for task in env.tasks("train")[:100]]
    shown = examples.pick(rollout(lambda: gymnasium.make(ENV), built_in("expert"), jobs), ENV, 2)
    return recorder, Led(how, recorder, Config(max_tokens=24), examples=shown), EPISODES


def house() -> Any:
    return agents.load_model(HOUSE, agents.ModelOptions(device="cpu"))


def jobs_of(games: int) -> list[Job]:
    env: Any = gymnasium.make(ENV).unwrapped
    return [Job(task.id) for task in env.tasks("valid")[:games]]


make_game = partial(make_env, ENV, max_steps=TURNS)


def played(game: str) -> Recorder:
    recorder, agent, games = made(game, house())
    with recorder.timed():
        spent = -process_time()
        ended = list(rollout(make_game, agent, jobs_of(games), batch_size=EPISODES))
        spent += process_time()
    assert not any(episode.error for episode in ended)
    count = len(recorder.answers)
    print(
        f"\n{game}: {sum(episode.success for episode in ended)} of {games} games solved, {count} answers "
        f"of {sum(len(a.token_ids) for _, a in recorder.answers) / count:.1f} tokens to prompts of "
        f"{sum(a.prompt_tokens for _, a in recorder.answers) / count:.0f} (longest "
        f"{max(a.prompt_tokens for _, a in recorder.answers)}); {1 - recorder.forward / spent:.1%} of the CPU time "
        "is not in the model's forward passes"
    )
    return recorder


class Ours:
    """The engine, from nothing; iterated over, it yields how many actions it has written."""

    def __init__(self, games: Recorder, drafter: Drafter | None) -> None:
        self.games = games
        self.lm = LocalModel(games.lm.model, games.lm.tokenizer, draft=drafter is not None)
        self.lm.drafter = drafter or self.lm.drafter
        self.passes = 0
        """Counted once for each answer that they computed tokens of."""
        with self.lm._ready() as engine:
            feed: Any = engine.feed

        def counted(seats: Any, *rest: Any) -> Any:
            self.passes += len(seats)
            return feed(seats, *rest)

        engine.feed = counted  # type: ignore[method-assign]

    def __iter__(self) -> Iterator[int]:
        expected = iter(self.games.answers)
        for batch in self.games.batches:
            for answer in self.lm.generate(batch, self.games.sampling):
                assert answer.token_ids == next(expected)[1].token_ids
            yield len(batch)

    def __str__(self) -> str:
        count, drafter = len(self.games.answers), self.lm.drafter
        share = f", {drafter.right / drafter.guessed:.0%} of them right" if drafter.guessed else ""
        return f"{self.passes / count:.2f} passes and {drafter.guessed / count:.2f} guesses an answer{share}"


class Prompter(Drafter):
    """Its guesses are all right."""

    def __init__(self, games: Recorder) -> None:
        super().__init__()
        chat = games.lm.chat
        self.answers = {tuple(chat.prompt(r.messages).token_ids): a.token_ids for r, a in games.answers}

    def guess(self, writer: Writer, most: int) -> list[int]:
        told = list(self.answers[tuple(writer.prompt)][len(writer.token_ids) : -1][:most])
        self.guessed += len(told)
        return told


def theirs(games: Recorder, *, reuse: bool) -> Iterator[int]:
    lm = games.lm
    for key in sampled(games):
        turns = [(request, answer) for request, answer in games.answers if request.key == key]
        cache: Any = transformers.DynamicCache(config=lm.model.config) if reuse else None
        for request, answer in turns:
            prompt = torch.tensor([lm.chat.prompt(request.messages).token_ids])
            with torch.inference_mode():
                out = lm.model.generate(
                    prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0,
                    max_new_tokens=games.sampling.max_tokens, past_key_values=cache,
                    prefix_allowed_tokens_fn=among(lm, request, prompt.shape[1]) if request.allowed else None,
                )  # fmt: skip
            assert out[0, prompt.shape[1] :].tolist() == list(answer.token_ids)
        yield len(turns)


def sampled(games: Recorder) -> list[Any]:
    """The keys of the games that `generate` plays: evenly from those with short prompts to those with long ones."""
    lengths: dict[Any, list[int]] = {}
    for request, answer in games.answers:
        lengths.setdefault(request.key, []).append(answer.prompt_tokens)
    step = len(games.answers) // SAMPLE
    return sorted(lengths, key=lambda key: fmean(lengths[key]))[step // 2 :: step]


def among(lm: LocalModel, request: Request, start: int) -> Callable[[int, Any], list[int]]:
    """The tokens that may come next, as `generate` asks for them."""
    trie = Trie([lm.chat.answer(action + request.closes) for action in request.allowed or ()])

    def allowed(row: int, ids: Any) -> list[int]:
        node = trie
        for token in ids[start:].tolist():
            node = node.children[token]
        return list(node.children)

    return allowed


def compare(
    sides: Mapping[str, tuple[Iterator[int], int]], clock: Callable[[], float] = process_time
) -> dict[str, float]:
    """Actions per second of each side, given how many each has to write; the one behind goes on."""
    done: Counter[str] = Counter()
    spent = dict.fromkeys(sides, 0.0)
    while waiting := [name for name in sides if done[name] < sides[name][1]]:
        name = min(waiting, key=lambda name: done[name] / sides[name][1])
        begun = clock()
        done[name] += next(sides[name][0])
        spent[name] += clock() - begun
    return {name: done[name] / spent[name] for name in sides}


def player(game: str) -> ReAct:
    """The agent as a worker process makes it."""
    return made(game, house())[1]


def crews(game: str, jobs: Sequence[Job], count: int, stack: ExitStack) -> Iterator[int]:
    """Workers play the games, environment and all, `ROUNDS` times; each time workers that have seen nothing."""
    env: Any = gymnasium.make(ENV).unwrapped
    agent, panel = player(game), panels.of_split(ENV, "valid")
    ready = [
        Processes(
            make_game, agent, workers=count, task_of=env.task,
            make_agent=partial(player, game), batch_size=EPISODES,
        )
        for _ in range(ROUNDS)
    ]  # fmt: skip
    for processes in ready:
        stack.enter_context(processes).check(panel)  # they have loaded their model when they answer
    return (sum(len(episode.steps) for episode in processes.play(jobs)) for processes in ready)


def on_threads(count: int, side: Iterator[int]) -> Iterator[int]:
    torch.set_num_threads(count)
    for written in side:
        yield written
        torch.set_num_threads(count)


GAMES_OF = ("house, free", "house, trie", "ReAct, random", "ReAct, expert")


@pytest.mark.parametrize("game", GAMES_OF)
@pytest.mark.benchmark(group="rollout by the clock")
def test_every_processor(benchmark: Any, game: str) -> None:
    """By the clock, a worker for each processor against `generate` on one thread and on all."""
    torch.set_num_threads(1)
    games, count = played(game), processors()
    keys = {request.key for request, _ in games.answers}
    few = sum(request.key in set(sampled(games)) for request, _ in games.answers)
    with ExitStack() as stack:
        ours = crews(game, jobs_of(len(keys)), count, stack)
        sides = {f"{count} workers": (ours, len(games.answers) * ROUNDS)}
        for threads in {1, count}:
            for name in PEERS:
                side = on_threads(threads, theirs(games, reuse=name != PEERS[0]))
                sides[f"{name}, threads: {threads}"] = (side, few)
        rates = benchmark.pedantic(compare, (sides, perf_counter), rounds=1)
    for name, rate in rates.items():
        benchmark.extra_info[name] = round(rate, 1)
        print(f"{name}: {rate:.1f} actions per second")
    for peer in PEERS:
        best = max(rate for name, rate in rates.items() if name.startswith(f"{peer}, threads"))
        print(f"  {rates[f'{count} workers'] / best:.1f} times {peer} at its best")


@pytest.mark.parametrize("game", GAMES_OF)
@pytest.mark.benchmark(group="rollout")
def test_rollout(benchmark: Any, game: str) -> None:
    torch.set_num_threads(1)
    games = played(game)
    engines = {"ours": Ours(games, Drafter())}
    if game != "house, trie":
        engines["ours, no guesses"] = Ours(games, None)
        engines["ours, all guesses right"] = Ours(games, Prompter(games))
    keys = set(sampled(games))
    few = sum(request.key in keys for request, _ in games.answers)
    sides = {name: (theirs(games, reuse=name != PEERS[0]), few) for name in PEERS}
    sides |= {name: (iter(engine), len(games.answers)) for name, engine in engines.items()}
    rates = benchmark.pedantic(compare, (sides,), rounds=1)
    for name, rate in rates.items():
        benchmark.extra_info[name] = round(rate, 1)
        print(f"{name}: {rate:.1f} actions per CPU second")
        if name in engines:
            against = ", ".join(f"{rate / rates[peer]:.1f} times {peer}" for peer in PEERS)
            print(f"  {against}; {engines[name]}")
    prompts = [a.prompt_tokens for request, a in games.answers if request.key in keys]
    print(f"the {len(prompts)} prompts that {PEERS[0]} answered: {fmean(prompts):.0f} tokens")

"""Speed of the question environments: `pytest tests/benchmarks/bench_questions.py --benchmark-only`.

The peer is a plain reading of ReAct's WikiEnv over the same paragraphs, without an index, a cache, or Gymnasium: what
a page says is split into sentences at each search, and a miss ranks titles with difflib. Ratios are taken
in one run (`extra_info`), and nothing is asserted on seconds. A million paragraphs: `corpus_scale.py`.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest

from prosegym.envs.questions.data import open_split
from prosegym.envs.questions.miniwiki import generate
from prosegym.envs.questions.records import Question

TASKS = 100


class Plain:
    """The peer."""

    def reset(self, question: Question) -> None:
        self.pages = {paragraph.title.lower(): paragraph.text for paragraph in question.paragraphs}
        self.page = ""

    def step(self, action: str) -> str:
        kind, _, argument = action[:-1].partition("[")
        if kind == "search":
            page = self.pages.get(argument.lower())
            if page is None:
                near = difflib.get_close_matches(argument.lower(), self.pages, 5, 0.0)
                return f"Could not find {argument}. Similar: {near}."
            self.page = page
            return " ".join([piece.strip() + "." for piece in page.split(". ")][:5])
        if kind == "lookup":
            found = [piece for piece in self.page.split(". ") if argument.lower() in piece.lower()]
            return found[0] if found else "No more results."
        return "Episode finished"


def actions_of(question: Question, misses: bool) -> list[str]:
    actions = []
    for title in question.supporting[:2]:
        actions += [f"search[{title}]", "lookup[the]"]
        if misses:
            actions.append(f"search[the {title} of]")
    return [*actions, "finish[someone]"]


def rate(play: Callable[[], int]) -> float:
    play()
    began = time.process_time()
    steps = sum(play() for _ in range(5))
    return steps / (time.process_time() - began)


@pytest.mark.data
@pytest.mark.parametrize("misses", [False, True], ids=["hits", "a third misses"])
def test_steps_over_ten_paragraphs(benchmark: Any, installed: Any, misses: bool) -> None:
    installed("hotpotqa")
    split = open_split("hotpotqa", "dev")
    questions = [split.question(row.id) for row in split.rows[:TASKS]]
    scripts = [actions_of(question, misses) for question in questions]
    env, peer = gymnasium.make("prosegym/HotpotQA-v1").unwrapped, Plain()

    def ours() -> int:
        for question, actions in zip(questions, scripts, strict=True):
            env.reset(options={"task_id": question.id})
            for action in actions:
                env.step(action)
        return sum(map(len, scripts))

    def theirs() -> int:
        for question, actions in zip(questions, scripts, strict=True):
            peer.reset(question)
            for action in actions:
                peer.step(action)
        return sum(map(len, scripts))

    benchmark.extra_info["steps a CPU second"] = round(rate(ours))
    benchmark.extra_info["times the peer"] = round(rate(ours) / rate(theirs), 2)
    benchmark(ours)


@pytest.mark.data
def test_first_episodes_of_questions_never_seen(benchmark: Any, installed: Any) -> None:
    """Each question once, in a split opened anew: nothing of it has been decoded, ranked or kept."""
    installed("2wikimultihopqa")
    from prosegym.envs.questions import data

    env = gymnasium.make("prosegym/2WikiMultihopQA-v1").unwrapped
    stored = open_split("2wikimultihopqa", "train")
    scripts = {row.id: actions_of(stored.question(row.id), True) for row in stored.rows[:400]}

    def play() -> None:
        for question_id, actions in scripts.items():
            env.reset(options={"task_id": question_id})
            for action in actions:
                env.step(action)

    def forget() -> None:
        data._open.cache_clear()
        env.tasks("train")

    forget()
    began = time.process_time()
    play()
    spent = time.process_time() - began
    benchmark.extra_info["steps a CPU second"] = round(sum(map(len, scripts.values())) / spent)
    benchmark.pedantic(play, setup=forget, rounds=5)


def test_questions_generated(benchmark: Any) -> None:
    """MiniWiki's questions a second: one round is a hundred, with their pages and digests."""

    def play() -> int:
        return sum(len(generate("train", i).sha256) > 0 for i in range(TASKS))

    benchmark.extra_info["questions a CPU second"] = round(rate(play))
    benchmark(play)

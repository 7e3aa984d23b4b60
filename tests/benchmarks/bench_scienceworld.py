"""ScienceWorld against the package's own environment, in one run: `pytest tests/benchmarks/bench_scienceworld.py`.

Prints, and asserts nothing: seconds per step and per load of both, their ratios, and the memory of sixteen
environments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import psutil
import pytest

pytest.importorskip("scienceworld")

TASKS = ("boil", "find-animal", "power-component")
RULES = "easy"  # what published experiments play with
WARM_UP, STEPS, LOADS = 600, 100, 10


def median(do: Callable[[], Any], times: int) -> float:
    """Median seconds of one call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def test_step_and_load(capsys: pytest.CaptureFixture[str]) -> None:
    from scienceworld import ScienceWorldEnv

    theirs = ScienceWorldEnv("")
    ours = gymnasium.make("prosegym/ScienceWorld-v1", max_steps=10**9, simplifications=RULES).unwrapped
    with capsys.disabled():
        for task in TASKS:
            variations = iter(range(10**6))

            def their_load(task: str = task, variations: Any = variations) -> None:
                theirs.load(task, next(variations) % 5, RULES)
                theirs.reset()

            def our_load(task: str = task, variations: Any = variations) -> None:
                ours.reset(options={"task_id": f"train/{task}/{next(variations) % 5}"})

            their_load(), our_load()
            for _ in range(WARM_UP):
                theirs.server.step("look around"), ours.step("look around")
            # Turn by turn, so that a busy machine slows both.
            pairs = [
                (median(lambda: theirs.step("look around"), 1), median(lambda: ours.step("look around"), 1))
                for _ in range(STEPS)
            ]
            loads = [(median(their_load, 1), median(our_load, 1)) for _ in range(LOADS)]
            for what, times in (("step", pairs), ("load", loads)):
                a, b = (statistics.median(column) for column in zip(*times, strict=True))
                print(
                    f"\n{task} {what}: package {a * 1e3:.2f} ms, here {b * 1e3:.2f} ms, {a / b:.1f} times",
                    end="",
                )
    theirs.close()
    ours.close()


def test_memory_of_sixteen(capsys: pytest.CaptureFixture[str]) -> None:
    here = psutil.Process()
    before = set(here.children())
    envs = [gymnasium.make("prosegym/ScienceWorld-v1", max_steps=10**9).unwrapped for _ in range(16)]
    for k, env in enumerate(envs):
        env.reset(options={"task_id": f"train/{TASKS[k % 3]}/{k % 10}"})
    for _ in range(50):
        for env in envs:
            env.step("look around")
    (java,) = set(here.children()) - before
    with capsys.disabled():
        print(f"\n16 environments: {java.memory_info().rss / 2**20:.0f} MiB of Java", end="")
    for env in envs:
        env.close()

"""ScienceWorld against the package's own environment, in one run: `pytest tests/benchmarks/bench_scienceworld.py`.

Prints, and asserts nothing: milliseconds per step and per load of both, their ratios, and the memory of sixteen
environments. Times are processor time of Python and Java together, compilation and
garbage collection included, so that a busy machine does not change them much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import psutil
import pytest

pytest.importorskip("scienceworld")

TASKS = ("boil", "find-animal", "power-component")
RULES = "easy"  # what published experiments play with
WARM_UP, STEPS, LOADS = 300, 100, 15


class Clock:
    """Processor time of this process and of the Java process started when the clock is made."""

    def __init__(self, start: Callable[[], Any]) -> None:
        here = psutil.Process()
        before = set(here.children())
        start()
        (self.java,) = set(here.children()) - before

    def __call__(self) -> tuple[float, float]:
        used = self.java.cpu_times()
        return time.process_time(), used.user + used.system

    def milliseconds(self, do: Callable[[], Any], times: int) -> float:
        """Per call, of both processes."""
        python, java = self()
        for _ in range(times):
            do()
        after = self()
        return (after[0] - python + after[1] - java) / times * 1e3


def test_step_and_load(capsys: pytest.CaptureFixture[str]) -> None:
    from scienceworld import ScienceWorldEnv

    made: list[Any] = []
    their_clock = Clock(lambda: made.append(ScienceWorldEnv("")))
    (theirs,) = made
    ours = gymnasium.make("prosegym/ScienceWorld-v1", max_steps=10**9, simplifications=RULES).unwrapped
    our_clock = Clock(lambda: ours.reset(seed=0))
    with capsys.disabled():
        for number, task in enumerate((TASKS[0], *TASKS)):  # the first once more, when Java has compiled
            variations = iter(range(10**6))

            def their_load(task: str = task, variations: Any = variations) -> None:
                theirs.load(task, next(variations) % 5, RULES)
                theirs.reset()

            def our_load(task: str = task, variations: Any = variations) -> None:
                ours.reset(options={"task_id": f"train/{task}/{next(variations) % 5}"})

            def their_step() -> None:
                theirs.step("look around")

            def our_step() -> None:
                ours.step("look around")

            for what, their_do, our_do, times in (
                ("load", their_load, our_load, LOADS),
                ("step", their_step, our_step, STEPS),
            ):
                warm = WARM_UP if what == "step" else LOADS
                their_clock.milliseconds(their_do, warm), our_clock.milliseconds(our_do, 5 * warm)
                a, b = their_clock.milliseconds(their_do, times), our_clock.milliseconds(our_do, 10 * times)
                label = f"{task} {what}" + ("" if number else ", while Java compiles")
                print(f"\n{label}: package {a:.2f} ms, here {b:.2f} ms, {a / b:.1f} times", end="")
    theirs.close()
    ours.close()


def test_memory_of_sixteen(capsys: pytest.CaptureFixture[str]) -> None:
    from prosegym.envs.scienceworld.env import table

    envs: list[Any] = [
        gymnasium.make("prosegym/ScienceWorld-v1", max_steps=10**9).unwrapped for _ in range(16)
    ]
    clock = Clock(lambda: envs[0].reset(seed=0))
    for turn in range(4):
        for k, env in enumerate(envs):
            env.reset(options={"task_id": f"train/{table()[(2 * k + turn) % 30].task}/{turn}"})
        for action in ("look around", "inventory", "wait1") * 7:
            for env in envs:
                env.step(action)
    java, python = (p.memory_full_info() for p in (clock.java, psutil.Process()))
    with capsys.disabled():
        for name in ("rss", "pss"):
            parts = [getattr(info, name, 0) / 2**20 for info in (java, python)]
            print(
                f"\n16 environments, {name}: {parts[0]:.0f} MiB of Java, {parts[1]:.0f} MiB of Python", end=""
            )
    for env in envs:
        env.close()

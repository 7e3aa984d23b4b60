"""Worker processes: how much faster two play than one, and 1,000 episodes of Household on two.

    python tests/benchmarks/bench_workers.py [EPISODES] [ROUNDS] [ENV]

The whole call is timed: starting the processes, checking the tasks, playing, writing, the summary. A machine
that does something else meanwhile makes both slower; so rounds alternate, the least of each counts, and the
number of processors that other work took is printed beside it.

The last line leaves the start out: what an episode costs is the difference between EPISODES and a fifth of them. On
two processors that are free, one worker plays beside the main process, and two share the processors with it: by CPU
time the efficiency is workers at one / (workers + main at two).
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from typing import Any, NamedTuple

from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate, make_env


class Cost(NamedTuple):
    wall: float
    main: float
    """CPU seconds of this process."""
    workers: float
    """CPU seconds of the worker processes."""
    others: float
    """Processors that other work kept busy meanwhile."""


def _busy() -> float:
    """Processor-seconds that the machine has worked, by everyone."""
    with open("/proc/stat") as file:
        user, nice, system = file.readline().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def play(panel: panels.Panel, workers: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        wall, busy = time.perf_counter(), _busy()
        main, children = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
        run = evaluate(agents.ExpertAgent(), panel, folder, workers=workers, progress=False)
        wall = time.perf_counter() - wall
        main, children = _cpu(resource.RUSAGE_SELF) - main, _cpu(resource.RUSAGE_CHILDREN) - children
        assert run.complete and run.summary().errors == 0
        return Cost(wall, main, children, (_busy() - busy - main - children) / wall)


def measure(episodes: int, rounds: int, env_id: str = "prosegym/Household-v1") -> None:
    env: Any = make_env(env_id).unwrapped
    sizes = (episodes // 5, episodes)
    made = {n: panels.make(env, "train", about="benchmark", count=n) for n in sizes}
    costs: dict[tuple[int, int], list[Cost]] = {(n, workers): [] for n in sizes for workers in (1, 2)}
    for _ in range(rounds):
        for (n, workers), kept in costs.items():
            kept.append(play(made[n], workers))
            print(f"{env_id}, {n} episodes, {workers} workers: " + ", ".join(
                f"{name} {value:.2f}" for name, value in zip(Cost._fields, kept[-1], strict=True)), flush=True)  # fmt: skip
    one, two = (min(c.wall for c in costs[episodes, workers]) for workers in (1, 2))
    print(f"{episodes} episodes: 1 worker {one:.2f} s, 2 workers {two:.2f} s, efficiency {one / two / 2:.2f}")
    least = {at: min(kept, key=lambda c: c.main + c.workers) for at, kept in costs.items()}
    each = {
        workers: Cost(*(
            (more - less) / (sizes[1] - sizes[0]) * 1e6
            for less, more in zip(least[sizes[0], workers], least[sizes[1], workers], strict=True)
        ))
        for workers in (1, 2)
    }  # fmt: skip
    print(
        f"CPU microseconds an episode: workers {each[1].workers:.0f} with one, {each[2].workers:.0f} with two, main "
        f"{each[2].main:.0f}; efficiency by CPU time {each[1].workers / (each[2].workers + each[2].main):.2f}"
    )


def test_workers(benchmark: Any) -> None:
    benchmark.pedantic(lambda: measure(10_000, 2), rounds=1)


def test_a_thousand_episodes(benchmark: Any) -> None:
    benchmark.pedantic(lambda: measure(1000, 3), rounds=1)


if __name__ == "__main__":
    episodes, rounds, env_id = sys.argv[1:] + ["50000", "2", "prosegym/Household-v1"][len(sys.argv) - 1 :]
    measure(int(episodes), int(rounds), env_id)

"""Worker processes: how much faster two play than one, and 1,000 episodes of Household on two.

    python tests/benchmarks/bench_workers.py [EPISODES] [ROUNDS] [ENV]

The whole call is timed: starting the processes, checking the tasks, playing, writing, the summary. A machine
that does something else meanwhile makes both slower; so rounds alternate, the least of each counts, and the
number of processors that other work took is printed beside it.

The last line leaves the start out: what an episode costs is the difference between EPISODES and a fifth of them. On
two processors that are free, one worker plays beside the main process, and two share the processors with it: by CPU
time the efficiency is workers at one / (workers + main at two). Processes that share a machine's caches slow each
other whatever they do, so the one worker's time is also taken while another run, of its own, plays beside it
("apart"): against that, what is lost is lost by the design. Ratios are taken within a round.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
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


def apart(panel: panels.Panel) -> Cost:
    """Two runs of one worker each that know nothing of each other, at the same time; the dearer one."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(play, [panel, panel], [1, 1]), key=lambda cost: cost.workers)


def measure(episodes: int, rounds: int, env_id: str = "prosegym/Household-v1") -> None:
    env: Any = make_env(env_id).unwrapped
    less, more = (panels.make(env, "train", about="benchmark", count=n) for n in (episodes // 5, episodes))
    ways: dict[str, Callable[[panels.Panel], Cost]] = {
        "1 worker": partial(play, workers=1), "2 workers": partial(play, workers=2), "apart": apart
    }  # fmt: skip
    whole: dict[str, list[Cost]] = {name: [] for name in ways}
    each: dict[str, list[Cost]] = {name: [] for name in ways}  # microseconds an episode beyond the start
    for _ in range(rounds):
        for name, way in ways.items():
            start, cost = way(less), way(more)
            whole[name].append(cost)
            each[name].append(
                Cost(
                    *((b - a) / (episodes - len(less.tasks)) * 1e6 for a, b in zip(start, cost, strict=True))
                )
            )
            print(f"{env_id}, {episodes} episodes, {name}: " + ", ".join(
                f"{part} {value:.2f}" for part, value in zip(Cost._fields, cost, strict=True)), flush=True)  # fmt: skip
    one, two = (min(c.wall for c in whole[name]) for name in ("1 worker", "2 workers"))
    print(f"{episodes} episodes: 1 worker {one:.2f} s, 2 workers {two:.2f} s, efficiency {one / two / 2:.2f}")
    rounded = {name: Cost(*map(median, zip(*kept, strict=True))) for name, kept in each.items()}
    both = each["2 workers"]
    ratios = {
        name: sorted(c.workers / (b.workers + b.main) for c, b in zip(each[name], both, strict=True))
        for name in ("1 worker", "apart")
    }
    print(
        "CPU microseconds an episode, medians: "
        + ", ".join(f"{name} {c.workers:.0f} and main {c.main:.0f}" for name, c in rounded.items())
        + "; efficiency by CPU time, round by round: "
        + ", ".join(
            f"against {name} {median(r):.2f} ({r[0]:.2f} to {r[-1]:.2f})" for name, r in ratios.items()
        )
    )


def test_workers(benchmark: Any) -> None:
    benchmark.pedantic(lambda: measure(10_000, 2), rounds=1)


def test_a_thousand_episodes(benchmark: Any) -> None:
    benchmark.pedantic(lambda: measure(1000, 3), rounds=1)


if __name__ == "__main__":
    episodes, rounds, env_id = sys.argv[1:] + ["50000", "2", "prosegym/Household-v1"][len(sys.argv) - 1 :]
    measure(int(episodes), int(rounds), env_id)

"""Speed of the shared parts, each as a ratio against a peer measured in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import gymnasium

from prosegym.envs import trajectory as records
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout


def cpu(command: list[str]) -> float:
    """CPU seconds of a process and its children, the least of 5."""
    import resource

    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def test_import(benchmark) -> None:  # type: ignore[no-untyped-def]
    bare = cpu([sys.executable, "-c", "import gymnasium"])
    ours = benchmark.pedantic(lambda: cpu([sys.executable, "-c", "import prosegym"]), rounds=1)
    print(f"\nimport gymnasium {bare:.3f} s CPU; import prosegym {ours:.3f} s ({ours / bare:.2f} times)")


def test_reading_trajectories(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    env = make_env("prosegym/Lockbox-v1")
    jobs = [Job("train/red", attempt=i) for i in range(10_000)]
    records.write(tmp_path / "t.jsonl", rollout(lambda: env, agents.Null(), jobs, batch_size=1))
    size = (tmp_path / "t.jsonl").stat().st_size / 1e6

    def read() -> int:
        return sum(1 for _ in records.read(tmp_path / "t.jsonl"))

    assert benchmark(read) == 10_000
    started = time.perf_counter()
    with open(tmp_path / "t.jsonl", "rb") as file:
        for line in file:
            json.loads(line)
    plain = size / (time.perf_counter() - started)
    ours = size / benchmark.stats.stats.median
    print(f"\n{size:.0f} MB: {ours:.0f} MB/s validated; json.loads alone {plain:.0f} MB/s")


def test_loop_overhead(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Microseconds a step of the loop, beyond the environment and the agent."""
    jobs = [Job("train/red", attempt=i) for i in range(2000)]

    def play() -> int:
        made = rollout(lambda: make_env("prosegym/Lockbox-v1"), agents.Null(), jobs)
        return sum(len(t.steps) for t in made)

    steps = benchmark(play)
    env = gymnasium.make("prosegym/Lockbox-v1", disable_env_checker=True)
    started = time.perf_counter()
    for _ in jobs:
        env.reset(options={"task_id": "train/red"})
        for _ in range(6):
            env.step("")
    alone = time.perf_counter() - started
    overhead = (benchmark.stats.stats.median - alone) / steps * 1e6
    print(f"\n{overhead:.1f} us a step beyond the environment's {alone / steps * 1e6:.1f} us")

"""The long run: resets and steps over every environment with flat memory, and nothing left behind."""

from __future__ import annotations

import gc
import os
import random
import threading
from typing import Any

import gymnasium
import psutil
import pytest

from prosegym.envs import ENVS
from prosegym.envs.errors import DataMissing, ProsegymError
from prosegym.envs.lookup import env_class

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

RESETS = int(os.environ.get("PROSEGYM_SOAK_RESETS", "10000"))
STEPS = int(os.environ.get("PROSEGYM_SOAK_STEPS", "100000"))


def state() -> tuple[float, int, int, int]:
    gc.collect()
    process = psutil.Process()
    return (
        process.memory_info().rss / 2**20,
        process.num_fds(),
        threading.active_count(),
        len([p for p in process.children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())]),
    )


@pytest.mark.parametrize("env_id", list(ENVS))
def test_flat(env_id: str, installed: Any) -> None:
    """Half of the work warms up (caches fill); the other half must add under 20 MiB and no handle."""
    try:
        cls = env_class(env_id)
    except ProsegymError as error:
        pytest.skip(str(error))
    if cls.data is not None:
        installed(cls.data)
    before = state()
    env: Any = gymnasium.make(env_id, disable_env_checker=True)
    rng = random.Random(0)
    # Engines that run outside this process or interpret a story file are slower by orders of magnitude.
    share = 1.0 if cls.extra is None else 0.01
    try:
        tasks = [
            env.unwrapped.tasks(cls.splits[0])[i].id
            for i in range(min(20, len(env.unwrapped.tasks(cls.splits[0]))))
        ]
    except DataMissing as error:
        pytest.skip(str(error))
    measured = []
    for _ in range(2):
        resets = steps = 0
        while resets < RESETS * share / 2 or steps < STEPS * share / 2:
            _, info = env.reset(options={"task_id": rng.choice(tasks)})
            resets += 1
            for _ in range(min(10, env.unwrapped.max_steps)):
                actions = info["admissible_actions"] or ["look", "search[the]", "SELECT 1", "finish[no]"]
                _, _, terminated, truncated, info = env.step(rng.choice(actions))
                steps += 1
                if terminated or truncated:
                    break
        measured.append(state())
    env.close()
    after = state()
    print(f"{env_id}: {before} -> {measured} -> {after} (MiB, handles, threads, children)")
    assert measured[1][0] - measured[0][0] < 20, measured
    assert measured[1][1:] == measured[0][1:], measured
    assert after[3] == before[3]

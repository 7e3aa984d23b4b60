"""The long run: resets and steps over every environment with flat memory, and nothing left behind.

    PROSEGYM_SOAK_RESETS=100000 PROSEGYM_SOAK_STEPS=1000000 PROSEGYM_SOAK_REPORT=soak.jsonl pytest tests/test_soak.py

An environment is played until it has had so many resets and so many steps, or for PROSEGYM_SOAK_SECONDS; what
was reached, and the curve of memory, stands in the report.
"""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import time
from typing import Any, NamedTuple

import gymnasium
import psutil
import pytest

from prosegym.envs import ENVS
from prosegym.envs.errors import DataMissing, ProsegymError
from prosegym.envs.lookup import env_class

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

RESETS = int(os.environ.get("PROSEGYM_SOAK_RESETS", "10000"))
STEPS = int(os.environ.get("PROSEGYM_SOAK_STEPS", "100000"))
SECONDS = float(os.environ.get("PROSEGYM_SOAK_SECONDS", "300"))
REPORT = os.environ.get("PROSEGYM_SOAK_REPORT")
LOOKS = 10
"""How often memory and handles are looked at; half of the looks are warming up."""


class State(NamedTuple):
    mib: float
    """Resident memory of this process."""
    children_mib: float
    """Of its children: a Java machine, an interpreter of story files."""
    handles: int
    threads: int
    children: int


def state() -> State:
    gc.collect()
    process = psutil.Process()
    children = [
        p for p in process.children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())
    ]
    return State(
        process.memory_info().rss / 2**20,
        sum(p.memory_info().rss for p in children) / 2**20,
        process.num_fds(),
        threading.active_count(),
        len(children),
    )


@pytest.mark.parametrize("env_id", list(ENVS))
def test_flat(env_id: str, installed: Any) -> None:
    """Half of the work warms up (caches fill); the other half must add under 20 MiB and no handle, thread or child."""
    try:
        cls = env_class(env_id)
    except ProsegymError as error:
        pytest.skip(str(error))
    if cls.data is not None:
        installed(cls.data)
    before = state()
    env: Any = gymnasium.make(env_id, disable_env_checker=True)
    try:
        split = env.unwrapped.tasks(cls.splits[0])
        tasks = [split[i].id for i in range(min(20, len(split)))]
    except DataMissing as error:
        pytest.skip(str(error))
    rng, looks, resets, steps = random.Random(0), [], 0, 0
    begun = time.monotonic()
    for look in range(1, LOOKS + 1):
        while time.monotonic() - begun < SECONDS * look / LOOKS and (
            resets < RESETS * look / LOOKS or steps < STEPS * look / LOOKS
        ):
            _, info = env.reset(options={"task_id": rng.choice(tasks)})
            resets += 1
            for _ in range(min(10, env.unwrapped.max_steps)):
                actions = info["admissible_actions"] or ["look", "search[the]", "SELECT 1", "finish[no]"]
                _, _, terminated, truncated, info = env.step(rng.choice(actions))
                steps += 1
                if terminated or truncated:
                    break
        looks.append(state())
    seconds = time.monotonic() - begun
    env.close()
    del env
    after = state()
    if REPORT:
        line = {
            "env_id": env_id, "resets": resets, "steps": steps, "seconds": round(seconds, 1),
            "before": before, "looks": looks, "after": after,
        }  # fmt: skip
        with open(REPORT, "a") as file:
            file.write(json.dumps(line) + "\n")
    warm, end = looks[LOOKS // 2 - 1], looks[-1]
    assert resets >= 10 and steps >= 10, (resets, steps)
    assert end.mib - warm.mib < 20, looks
    assert end[2:] == warm[2:], looks
    assert after.children == before.children

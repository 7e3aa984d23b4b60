"""Speed of every environment through `gymnasium.make`, playing its expert's actions again.

pytest tests/benchmarks/bench_envs.py -o python_files="bench_*.py" -s -q
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest

from prosegym.envs import ENVS
from prosegym.envs.errors import ProsegymError
from prosegym.envs.lookup import env_class

TASKS = 20
ROUNDS = 5


@pytest.mark.parametrize("env_id", [e for e in ENVS if "Lockbox" not in e])
def test_speed(env_id: str, installed: Callable[[str], Any]) -> None:
    if data := env_class(env_id).data:
        installed(data)
    try:
        env = gymnasium.make(env_id, disable_env_checker=True)
        text_env: Any = env.unwrapped
        episodes = []
        for task in text_env.tasks(text_env.splits[-1])[:TASKS]:
            observation, info = env.reset(options={"task_id": task.id})
            expert, actions, done = text_env.expert(), [], False
            while not done and (action := expert.act(observation, info)) is not None:
                actions.append(action)
                observation, _, terminated, truncated, info = env.step(action)
                done = terminated or truncated
            episodes.append((task.id, actions))
    except ProsegymError as error:
        pytest.skip(str(error))
    best = {"reset": [float("inf")] * 2, "step": [float("inf")] * 2}
    for _ in range(ROUNDS):
        spent = {"reset": [0.0, 0.0], "step": [0.0, 0.0]}
        for task_id, actions in episodes:
            a = time.process_time(), time.perf_counter()
            env.reset(options={"task_id": task_id})
            b = time.process_time(), time.perf_counter()
            for action in actions:
                env.step(action)
            c = time.process_time(), time.perf_counter()
            for clock in (0, 1):
                spent["reset"][clock] += b[clock] - a[clock]
                spent["step"][clock] += c[clock] - b[clock]
        for what, count in (("reset", len(episodes)), ("step", sum(len(a) for _, a in episodes))):
            for clock in (0, 1):
                best[what][clock] = min(best[what][clock], 1e3 * spent[what][clock] / count)
    env.close()
    print(
        f"\n{env_id}: a step {best['step'][0]:.4f} ms of CPU time ({best['step'][1]:.4f} elapsed), "
        f"a reset {best['reset'][0]:.3f} ({best['reset'][1]:.3f}); {len(episodes)} expert episodes"
    )

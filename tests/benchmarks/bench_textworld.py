"""Our TextWorld step beside TextWorld's own environment asked for the same, on the same games.

pytest tests/benchmarks/bench_textworld.py -s
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

textworld = pytest.importorskip("textworld")

from prosegym.envs.textworld import games  # noqa: E402
from prosegym.envs.textworld.env import CoinCollector, Cooking, TextWorld  # noqa: E402

ROUNDS = 15


def seconds(reset: Callable[[], object], step: Callable[[str], object], actions: list[str]) -> float:
    reset()
    start = time.process_time()
    for action in actions:
        step(action)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("cls", "level"), [(CoinCollector, "level-120"), (Cooking, "recipe1"), (Cooking, "recipe3+cook+cut+go12")]
)
def test_step_beside_the_peer(cls: type[TextWorld], level: str) -> None:
    env = cls(level=level)
    task = env.tasks("train")[0]
    observation, info = env.reset(options={"task_id": task.id})
    expert = env.expert()
    actions: list[str] = []
    done = False
    while not done:
        actions.append(expert.act(observation, info) or "")
        observation, _, terminated, truncated, info = env.step(actions[-1])
        done = terminated or truncated
    peer = textworld.start(str(games.ready(env.challenge, task)), env._wanted(textworld.EnvInfos))
    ours, theirs = [], []
    for _ in range(ROUNDS):  # by turns, so that both see the same machine
        ours.append(seconds(lambda: env.reset(options={"task_id": task.id}), env.step, actions))
        theirs.append(seconds(peer.reset, peer.step, actions))
    ratio = statistics.median(theirs) / statistics.median(ours)
    each = statistics.median(ours) / len(actions) * 1e3
    print(f"\n{cls.challenge} {level}: {each:.2f} ms a step, {ratio:.2f} times as fast as TextWorld's own")
    assert ratio > 1.1
    env.close(), peer.close()

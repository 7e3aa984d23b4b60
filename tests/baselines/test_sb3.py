from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prosegym.baselines import sb3
from prosegym.envs import panels
from prosegym.envs.errors import ProsegymError, UnknownName
from prosegym.evaluation.evaluate import evaluate, make_env

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")


@pytest.mark.parametrize("method", sb3.METHODS)
def test_trains_and_plays(method: str, tmp_path: Path) -> None:
    config = sb3.Config(steps=600, slots=16, size=64, action_size=16, envs=2, rollout_steps=128)
    folder = sb3.train(method, "prosegym/Lockbox-v1", tmp_path / "policy", config)
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "test", about="all")
    agent = sb3.NumberedPolicy(folder)
    run = evaluate(agent, panel, tmp_path / "run", progress=False)
    assert run.complete and run.conditions.agent == method
    assert run.conditions.agent_conditions["config"]["steps"] == 600
    if method == "sb3-maskable-ppo":
        assert run.summary().invalid_rate == 0.0


@pytest.mark.slow
def test_maskable_ppo_learns_the_boxes(tmp_path: Path) -> None:
    config = sb3.Config(steps=12_000, slots=16, size=64, action_size=16, seed=1, rollout_steps=256)
    agent = sb3.NumberedPolicy(sb3.train("sb3-maskable-ppo", "prosegym/Lockbox-v1", tmp_path / "p", config))
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    run = evaluate(agent, panels.make(env, "train", about="all"), tmp_path / "run", progress=False)
    assert run.summary().success.value >= 0.5


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="sb3-ppo"):
        sb3.train("sb3-pop", "prosegym/Lockbox-v1", tmp_path, sb3.Config())
    with pytest.raises(ProsegymError, match="no Stable-Baselines3 policy"):
        sb3.NumberedPolicy(tmp_path)

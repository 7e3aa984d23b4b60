from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prosegym.baselines import SB3, sb3
from prosegym.cli import main
from prosegym.envs import panels
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.rewards import PotentialReward
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.runs import Run

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")


@pytest.mark.parametrize("method", SB3)
def test_trains_and_plays(method: str, tmp_path: Path) -> None:
    config = sb3.Config(steps=600, slots=16, size=64, action_size=16, envs=2, rollout_steps=128)
    folder = sb3.train(method, "prosegym/Lockbox-v1", tmp_path / "policy", config)
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "test", about="all")
    agent = sb3.NumberedPolicy(folder)
    run = evaluate(agent, panel, tmp_path / "run", progress=False)
    assert run.complete and run.conditions.agent == method
    assert run.conditions.agent_conditions["config"]["steps"] == 600
    # PPO plays whole updates, of 2 * 128 steps.
    assert run.conditions.agent_conditions["played"] == (600 if method == "sb3-dqn" else 768)
    if method == "sb3-maskable-ppo":
        assert run.summary().invalid_rate == 0.0


@pytest.mark.slow
def test_maskable_ppo_learns_the_boxes(tmp_path: Path) -> None:
    config = sb3.Config(steps=12_000, slots=16, size=64, action_size=16, seed=1, rollout_steps=256)
    agent = sb3.NumberedPolicy(sb3.train("sb3-maskable-ppo", "prosegym/Lockbox-v1", tmp_path / "p", config))
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    run = evaluate(agent, panels.make(env, "train", about="all"), tmp_path / "run", progress=False)
    assert run.summary().success.value >= 0.5


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "policy")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    size = ["--slots", "16", "--size", "64", "--action-size", "16", "--envs", "1", "--rollout-steps", "64"]
    words = ["train", "sb3-ppo", "--env", "prosegym/Lockbox-v1", "--out", out, "--steps", "64", *size]
    assert main(words) == 0 and not list((tmp_path / "temporary").iterdir())
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.save(panels.make(env, "test", about="all"), tmp_path)
    assert (
        main(["evaluate", "--agent", out, "--panel", str(panel), "--out", str(tmp_path / "r"), "--json"]) == 0
    )
    assert '"agent": "sb3-ppo"' in capsys.readouterr().out


def test_the_validation_panel_is_played_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(panels, "FOLDER", tmp_path / "panels")
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panels.save(panels.make(env, "valid", about="all"), tmp_path / "panels")
    size = ["--slots", "16", "--size", "64", "--action-size", "16", "--envs", "1", "--rollout-steps", "64"]
    words = ["train", "sb3-ppo", "--env", "prosegym/Lockbox-v1", "--steps", "64", *size, "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert "Lockbox-v1/valid: success 0" in capsys.readouterr().out
    assert Run.read(tmp_path / "a" / "evaluation").conditions.panel.name == "Lockbox-v1/valid"
    assert main([*words, str(tmp_path / "b"), "--no-evaluate"]) == 0
    assert not (tmp_path / "b" / "evaluation").exists()
    assert main([*words, str(tmp_path / "c"), "--evaluate-split", "test"]) == 1
    assert "unknown panel 'Lockbox-v1/test'" in capsys.readouterr().err and not (tmp_path / "c").exists()

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sb3, "validate", stopped)
    assert main([*words, str(tmp_path / "d")]) == 130 and (tmp_path / "d" / sb3.FILE).exists()
    assert "stopped; the policy is kept" in capsys.readouterr().err


def test_a_trained_policy_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / sb3.FILE).write_text("{}")
    with pytest.raises(ProsegymError, match="holds a training already .sb3.json.; choose another --out"):
        sb3.train("sb3-ppo", "prosegym/Lockbox-v1", tmp_path, sb3.Config())


def test_numbers_out_of_range_and_a_training_that_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ({"envs": 0}, {"slots": 0}, {"steps": 0}, {"seed": -1}, {"rollout_steps": 1}):
        with pytest.raises(BadOption, match=next(iter(wrong))):
            sb3.Config(**wrong)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "policy.zip").write_text("mine")
    with pytest.raises(ProsegymError, match=r"holds a training already \(policy.zip\)"):
        sb3.train("sb3-ppo", "prosegym/Household-v1", tmp_path / "p", sb3.Config(steps=1))

    def stopped(*_: object) -> None:
        (tmp_path / "out" / "metrics.jsonl").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(sb3, "_learn", stopped)
    words = ["train", "sb3-ppo", "--env", "prosegym/Household-v1", "--out", str(tmp_path / "out")]
    assert main(words) == 130 and "nothing is kept" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ProsegymError, match="choose another --out"):
        sb3.train("sb3-ppo", "prosegym/Lockbox-v1", tmp_path / "file" / "out", sb3.Config())
    for text in ("{bad", "[1]"):
        with pytest.raises(BadOption, match="not a JSON object"):
            words = ["--env", "prosegym/Lockbox-v1", "--out", str(tmp_path), "--env-kwargs", text]
            sb3.main("sb3-ppo", words)
    with pytest.raises(UnknownName, match="sb3-ppo"):
        sb3.train("sb3-pop", "prosegym/Lockbox-v1", tmp_path, sb3.Config())
    with pytest.raises(ProsegymError, match="no Stable-Baselines3 policy"):
        sb3.NumberedPolicy(tmp_path)
    with pytest.raises(BadOption, match="--reward"):
        sb3.train("sb3-ppo", "prosegym/Lockbox-v1", tmp_path / "p", sb3.Config(), reward="sparse")


def test_a_policy_that_is_damaged_or_sees_no_actions(tmp_path: Path) -> None:
    config = sb3.Config(steps=4, rollout_steps=2, envs=1, slots=4, size=8, action_size=4)
    folder = sb3.train("sb3-ppo", "prosegym/Lockbox-v1", tmp_path / "p", config)
    box = partial(make_env, "prosegym/Lockbox-v1", admissible=False)
    with pytest.raises(BadOption, match="with admissible=True"):
        list(rollout(box, sb3.NumberedPolicy(folder), [Job("test/gold")]))
    whole = (folder / "policy.zip").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"PK", whole.replace(b"policy.pth", b"polity.pth")):
        (folder / "policy.zip").write_bytes(damaged)
        with pytest.raises(CorruptData, match="damaged"):
            sb3.NumberedPolicy(folder)
    for damaged_text in ('{"x"', "[]", "{}", '{"method": "sb3-ppo", "config": {}}'):
        (folder / sb3.FILE).write_text(damaged_text)
        with pytest.raises(CorruptData, match="train it again"):
            sb3.NumberedPolicy(folder)
    (folder / "policy.zip").unlink()


def test_a_potential_is_shaped_under_the_gamma_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gammas = []

    def shaped(env: Any, gamma: float) -> Any:
        gammas.append(gamma)
        return PotentialReward(env, gamma)

    monkeypatch.setattr(sb3, "PotentialReward", shaped)
    config = sb3.Config(steps=4, reward="potential", rollout_steps=2, envs=2, slots=4, size=8, gamma=0.5)
    sb3.train("sb3-ppo", "prosegym/Lockbox-v1", tmp_path / "p", config)
    assert gammas == [0.5, 0.5]

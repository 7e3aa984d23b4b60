"""Replay a trajectory action by action and say where the environment answers differently."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium
import msgspec

from prosegym.envs.core import unwrapped
from prosegym.envs.errors import EngineError
from prosegym.envs.trajectory import Trajectory, observation_digest


class Difference(NamedTuple):
    """Where a replay first differs from the record."""

    task_id: str
    step: int
    """Index of the step; the number of steps stands for the end of the episode."""
    field: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        where = f"{self.task_id} step {self.step}"
        return f"{where}: {self.field} is {self.replayed}, the record says {self.recorded}"


def settled_otherwise(env: gymnasium.Env[str, str], recorded: Mapping[str, Any]) -> str | None:
    """What of a run's `env_conditions` this machine's environment has otherwise, in one line; else None."""
    here = msgspec.json.decode(msgspec.json.encode(dict(unwrapped(env).conditions())))
    other = [
        f"{name} {there!r}, here is {here.get(name)!r}"
        for name, there in recorded.items()
        if name not in here or here[name] != there
    ]
    if not other:
        return None
    return f"played with {'; '.join(other)}: replay it where these are as they were"


def replay(env: gymnasium.Env[str, str], trajectory: Trajectory) -> Difference | None:
    """Play the recorded actions again; None where everything is as recorded.

    Compared are the task's content, every observation by its digest, every reward, score, progress and
    invalid flag, and how the episode ended. An episode that ended in an engine's error is replayed as far
    as it went; its score must be 0.
    """
    text_env = unwrapped(env)
    t = trajectory

    def differs(step: int, field: str, recorded: object, replayed: object) -> Difference:
        return Difference(t.task_id, step, field, repr(recorded), repr(replayed))

    task = text_env.task(t.task_id)
    for field, stated, here in (
        ("task_sha256", t.task_sha256, task.sha256),
        ("split", t.split, task.split),
        ("task_type", t.task_type, task.task_type),
    ):
        if stated != here:
            return differs(0, field, stated, here)
    end = len(t.steps)
    if t.ended == "error" and (t.score != 0.0 or t.success):
        return differs(end, "score of an errored episode", t.score, 0.0)
    observation, info = env.reset(seed=t.seed % 2**31, options={"task_id": t.task_id})
    terminated = truncated = False
    for index, step in enumerate(t.steps):
        if terminated or truncated:
            return differs(index, "end of the episode", "goes on", "has ended")
        if other := _observed(step.observation, step.observation_sha256, observation):
            return differs(index, *other)
        observation, reward, terminated, truncated, info = env.step(step.action)
        for field, recorded, got in (
            ("reward", step.reward, float(reward)),
            ("score", step.score, float(info["score"])),
            ("progress", step.progress, float(info["progress"])),
            ("invalid", step.invalid, bool(info["invalid_action"])),
        ):
            if not (recorded == got or math.isclose(recorded, got, rel_tol=1e-9, abs_tol=1e-12)):
                return differs(index, field, recorded, got)
    if t.ended == "error":
        return None
    if other := _observed(t.final_observation, t.final_observation_sha256, observation):
        return differs(end, f"final {other[0]}", *other[1:])
    # An agent may stop early (context overflow): truncated, with an error that says why.
    ended = "terminated" if terminated else "truncated" if truncated or t.error is not None else "under way"
    for field, found, again in (
        ("ended", t.ended, ended),
        ("score", t.score, float(info["score"])),
        ("success", t.success, bool(info["success"])),
    ):
        if found != again:
            return differs(end, field, found, again)
    return None


def replay_all(env: gymnasium.Env[str, str], trajectories: Iterable[Trajectory]) -> list[Difference]:
    """What differs in each of several episodes; an engine that fails costs the one it was at, no other."""
    found = []
    for t in trajectories:
        try:
            difference = replay(env, t)
        except EngineError as error:  # where it failed then as it fails now, nothing differs
            failed = Difference(t.task_id, len(t.steps), "ended", repr(t.ended), f"an error ({error})")
            difference = None if t.ended == "error" else failed
        if difference is not None:
            found.append(difference)
    return found


def _observed(recorded: str, sha256: str, observation: str) -> tuple[str, str, str] | None:
    """What differs between a recorded observation and the one seen now, from a little before it does."""
    if recorded != observation:
        start = max(0, len(os.path.commonprefix([recorded, observation])) - 60)
        return "observation", recorded[start : start + 200], observation[start : start + 200]
    if sha256 != (digest := observation_digest(observation)):
        return "observation", f"sha256 {sha256}", f"sha256 {digest}"
    return None

"""One episode of a submission: read as hostile, and replayed. Runs in a process of its own (see pool.py)."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import sys
from typing import IO, Any

import gymnasium
import msgspec

from prosegym.envs import ENVS, register_envs, trajectory
from prosegym.envs.errors import CorruptData, EngineError
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.replay import replay
from prosegym.evaluation.rollout import MAX_ERROR, Job, episode_seed
from prosegym.leaderboard.submission import Refused, reason


class Context(msgspec.Struct, frozen=True):
    """What a replaying process must know of a run."""

    number: int
    entry: str
    """Where the environment's maker is: our table's line, not the submission's."""
    env_id: str
    env_kwargs: dict[str, Any]
    agent: str
    seed: int
    attempts: int
    trials: int
    split: str
    tasks: dict[str, str]
    """Task id -> digest of its content, of the committed panel."""


class Answer(msgspec.Struct, frozen=True):
    """What became of one line."""

    index: int
    episode: bytes | None
    """The trajectory without its texts; None where the line could not be read or is not of this run."""
    actions_sha256: str
    """Of its actions, blanks folded (`actions_digest`)."""
    exact_sha256: str
    problem: str | None


LEAST_COST = 1e-12
"""US dollars an episode, if it cost anything: the board draws costs by their logarithm."""
_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(\+00:00|Z)")


class Player:
    """Reads and replays the episodes of one run, one environment after the other."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._env: gymnasium.Env[str, str] | None = None

    def answer(self, index: int, line: bytes) -> Answer:
        """Whether a line is an honest episode of this run."""
        try:
            episode = self._read(line)
        except Refused as error:
            return Answer(index, None, "", "", str(error))
        return Answer(
            index, trajectory.encode(_slim(episode)), actions_digest(episode), exact_digest(episode),
            self._replay(episode),
        )  # fmt: skip

    def _read(self, line: bytes) -> Trajectory:
        c = self.context
        try:
            t = trajectory.decode(line, "not an episode")
        except CorruptData as error:
            raise Refused(reason(error)) from error
        try:
            same = trajectory.encode(t) == line
        except (UnicodeEncodeError, RecursionError):
            same = False
        if not same:
            raise Refused(
                "not in its one form (a doubled key, a field left out, a number written otherwise?)"
            )
        if t.task_id not in c.tasks:
            raise Refused(f"task {t.task_id[:80]!r} is not in the panel")
        where = f"task {t.task_id} attempt {t.attempt} trial {t.trial}"
        if not (0 <= t.attempt < c.attempts and 0 <= t.trial < c.trials):
            raise Refused(f"{where}: the run has {c.attempts} attempts of {c.trials} trials, counted from 0")
        expected = {
            "env_id": c.env_id,
            "env_kwargs": c.env_kwargs,
            "agent": c.agent,
            "split": c.split,
            "task_sha256": c.tasks[t.task_id],
            "seed": episode_seed(c.seed, Job(*t.key)),
        }
        for name, value in expected.items():
            # As JSON, because Python takes 1 for True.
            if msgspec.json.encode(found := getattr(t, name)) != msgspec.json.encode(value):
                raise Refused(f"{where}: {name} is {str(found)[:80]!r}, this run has {str(value)[:80]!r}")
        if t.memory and t.trial == 0:
            raise Refused(f"{where}: a first trial that was given notes")
        if (t.ended == "error" and t.error is None) or (t.ended == "terminated" and t.error is not None):
            raise Refused(f"{where}: ended {t.ended}, error {str(t.error)[:80]!r}")
        if t.error is not None and len(t.error) > MAX_ERROR:
            raise Refused(f"{where}: an error of {len(t.error)} characters; {MAX_ERROR} are allowed")
        if not _STARTED.fullmatch(t.started):
            raise Refused(f"{where}: started is not a time: {t.started[:40]!r}")
        tokens = [t.usage.prompt_tokens, t.usage.completion_tokens]
        tokens += [n for step in t.steps for n in (step.prompt_tokens, step.completion_tokens)]
        cost = t.usage.cost or 0.0
        priced = cost == 0 or LEAST_COST <= cost <= 1e9
        if not (all(0 <= n <= 10**12 for n in tokens) and 0 <= t.seconds <= 1e9 and priced):
            raise Refused(f"{where}: tokens, cost or seconds out of range")
        read, written = sum(s.prompt_tokens for s in t.steps), sum(s.completion_tokens for s in t.steps)
        if t.usage.prompt_tokens < read or t.usage.completion_tokens < written:
            raise Refused(f"{where}: fewer tokens than its steps have")
        return t

    def _replay(self, t: Trajectory) -> str | None:
        where = f"task {t.task_id} attempt {t.attempt} trial {t.trial}"
        if t.ended == "error" and (t.score != 0.0 or t.success):
            return f"{where}: an episode that ended in an error scores 0, not {t.score}"
        fresh = self._env is None
        try:
            if self._env is None:
                self._env = make_env(self.context.env_id, **self.context.env_kwargs)
            difference = replay(self._env, t)
        except EngineError as error:
            self.close()
            # The engine may have failed then as it fails now; 0 stands either way.
            return (
                None if t.ended == "error" else f"{where}: the engine failed in the replay: {reason(error)}"
            )
        except Exception as error:  # noqa: BLE001  (whatever a hostile action brings about is this episode's)
            self.close()
            return f"{where}: the environment failed in the replay: {type(error).__name__}: {reason(error)}"
        if difference is None:
            return None
        self.close()
        if not fresh:
            return self._replay(t)  # in a new environment, before a stranger is blamed
        return (
            f"{where} step {difference.step}: {difference.field}: "
            f"expected {difference.replayed}, found {difference.recorded}"
        )

    def close(self) -> None:
        """Let go of the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def _slim(t: Trajectory) -> Trajectory:
    """The trajectory without its texts: what the metrics read, whether there was an action included."""
    texts = {"observation": "", "response": "", "observation_sha256": ""}
    steps = [msgspec.structs.replace(step, action=step.action[:1], **texts) for step in t.steps]
    return msgspec.structs.replace(
        t, steps=steps, messages=[], env_kwargs={}, final_observation="", final_observation_sha256=""
    )


def actions_digest(episode: Trajectory) -> str:
    """Digest of an episode's actions by which copies are found: one blank more makes no other action."""
    return _digest([episode.task_id, *(" ".join(action.split()) for action in episode.actions)])


def exact_digest(episode: Trajectory) -> str:
    """Digest of an episode's actions as they are."""
    return _digest([episode.task_id, *episode.actions])


def _digest(texts: list[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(texts)).hexdigest()


# The process.


class Chunk(msgspec.Struct, frozen=True):
    """Work: some lines of one run."""

    context: Context
    lines: list[tuple[int, bytes]]


READY = Answer(-1, None, "", "", None)
"""What a process says when it has started."""

_SIZE = struct.Struct("<I")


def send(pipe: IO[bytes], message: Chunk | Answer) -> None:
    """Write one message."""
    data = msgspec.msgpack.encode(message)
    pipe.write(_SIZE.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """One message, encoded; None where the other side has gone."""
    size = pipe.read(_SIZE.size)
    if len(size) < _SIZE.size:
        return None
    data = pipe.read(_SIZE.unpack(size)[0])
    return data if len(data) == _SIZE.unpack(size)[0] else None


def main() -> None:
    """A replaying process's whole life: answer chunks until standard input closes."""
    # What an engine prints must not land among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    player: Player | None = None
    try:
        send(answers, READY)
        while (data := receive(sys.stdin.buffer)) is not None:
            chunk = msgspec.msgpack.decode(data, type=Chunk)
            if player is None or player.context != chunk.context:
                if player is not None:
                    player.close()
                ENVS[chunk.context.env_id] = chunk.context.entry
                register_envs()
                player = Player(chunk.context)
            for index, line in chunk.lines:
                send(answers, player.answer(index, line))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        if player is not None:
            player.close()

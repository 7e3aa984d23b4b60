"""Trajectories in other projects' formats: OpenAI and TRL messages, TRL preferences, ShareGPT, Minari.

The formats' own pages: https://huggingface.co/docs/trl/dataset_formats, https://minari.farama.org.
"""

from __future__ import annotations

import os
import shutil
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import msgspec

from prosegym.envs import trajectory as records
from prosegym.envs.errors import ProsegymError, UnknownName
from prosegym.envs.lookup import env_class
from prosegym.envs.spaces import SHARED_BYTES
from prosegym.envs.trajectory import Message, Trajectory

Row = dict[str, Any]


def instruction(trajectory: Trajectory) -> str:
    """What the environment tells an agent to do, made as the episode's was: arguments change what it says."""
    return _instruction(trajectory.env_id, msgspec.json.encode(trajectory.env_kwargs))


@lru_cache
def _instruction(env_id: str, kwargs: bytes) -> str:
    env_class(env_id)  # raises where there is no such environment here
    env: Any = gymnasium.make(env_id, disable_env_checker=True, **msgspec.json.decode(kwargs))
    try:
        return str(env.unwrapped.instruction)
    finally:
        env.close()


def messages(
    trajectory: Trajectory,
    heard: Callable[[int], str] | None = None,
    responses: Sequence[str] | None = None,
) -> list[Message]:
    """The episode as a conversation: the one it was played in or, where it has none, one made of its turns.

    In the latter observations and responses take turns. The last message is the last answer: what was heard
    behind it, where the episode was stopped, is left out.

    Args:
        trajectory: any episode.
        heard: what is read before the response of step i, from 0; by default the observation, the first one
            behind the environment's instruction.
        responses: one for each step; by default what the agent wrote.
    """
    if found := trajectory.messages:
        answers = (i for i, message in enumerate(found, start=1) if message.role == "assistant")
        return found[: max(answers, default=len(found))]
    made: list[Message] = []
    for i, step in enumerate(trajectory.steps):
        shown = heard(i) if heard else step.observation
        if i == 0 and heard is None:
            shown = f"{instruction(trajectory)}\n\n{shown}"
        response = step.response if responses is None else responses[i]
        made += [Message("user", shown), Message("assistant", response, trainable=True)]
    return made


def _plain(found: Iterable[Message]) -> list[Row]:
    return [{"role": message.role, "content": message.content} for message in found]


def _answered(trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """Those with a turn: nothing is learnt from an episode that ended before its first answer."""
    return (trajectory for trajectory in trajectories if trajectory.steps)


def openai(trajectories: Iterable[Trajectory]) -> Iterator[Row]:
    """`{"messages": [{"role", "content"}, ...]}`, as OpenAI's fine-tuning reads it.

    Answers that are not to be trained on, those of few-shot examples, have `"weight": 0`; there are none
    where the agent marked no message as its own.
    """
    for trajectory in _answered(trajectories):
        found = messages(trajectory)
        rows = _plain(found)
        if any(message.trainable for message in found):
            for row, message in zip(rows, found, strict=True):
                if message.role == "assistant" and not message.trainable:
                    row["weight"] = 0
        yield {"messages": rows}


def trl(trajectories: Iterable[Trajectory]) -> Iterator[Row]:
    """`{"messages": [{"role", "content"}, ...]}`, as TRL's SFT reads it, which has no flag for a message."""
    return ({"messages": _plain(messages(t))} for t in _answered(trajectories))


def sharegpt(trajectories: Iterable[Trajectory]) -> Iterator[Row]:
    """`{"conversations": [{"from", "value", "loss"}, ...]}`, with the loss flag of each message."""
    speakers = {"system": "system", "user": "human", "assistant": "gpt"}
    for trajectory in _answered(trajectories):
        yield {
            "id": f"{trajectory.env_id}/{trajectory.task_id}/{trajectory.attempt}/{trajectory.trial}",
            "conversations": [
                {"from": speakers[m.role], "value": m.content, "loss": m.trainable}
                for m in messages(trajectory)
            ],
        }


def from_sharegpt(row: Row) -> list[Message]:
    """The messages of a ShareGPT conversation; without a loss flag, what the model said is trainable.

    Raises:
        ProsegymError: the row is not such a conversation; the message says the field.
    """
    roles: dict[str, Any] = {"system": "system", "human": "user", "gpt": "assistant"}
    turns = row.get("conversations")
    if not isinstance(turns, list):
        raise ProsegymError("a ShareGPT row needs a list `conversations`")
    found = []
    for index, turn in enumerate(turns):
        if (
            not isinstance(turn, dict)
            or turn.get("from") not in roles
            or not isinstance(turn.get("value"), str)
        ):
            raise ProsegymError(
                f"conversations[{index}]: needs `from` (system, human or gpt) and a text `value`"
            )
        loss = turn.get("loss")
        trainable = turn["from"] == "gpt" if loss is None else bool(loss)
        found.append(Message(roles[turn["from"]], turn["value"], trainable))
    return found


def preferences(trajectories: Iterable[Trajectory]) -> Iterator[Row]:
    """TRL's `prompt`, `chosen`, `rejected`: for each task its best episode against each worse one.

    The prompt is what the agent was told before its first own answer, few-shot examples among it; episodes
    that were told other things are not paired.
    """
    by_task: dict[tuple[str, str], list[Trajectory]] = defaultdict(list)
    for trajectory in _answered(trajectories):
        if trajectory.ended != "error":
            by_task[trajectory.env_id, trajectory.task_id].append(trajectory)
    for group in by_task.values():
        best = max(group, key=lambda t: t.score)
        prompt, chosen = _told(best)
        for other in group:
            told, rejected = _told(other)
            if other.score < best.score and told == prompt:
                yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _told(trajectory: Trajectory) -> tuple[list[Row], list[Row]]:
    """The messages before the agent's first own answer, and the others."""
    found = messages(trajectory)
    own = (i for i, message in enumerate(found) if message.trainable)
    first = next(own, next((i for i, message in enumerate(found) if message.role == "assistant"), len(found)))
    return _plain(found[:first]), _plain(found[first:])


JSON_LINES: dict[str, Callable[[Iterable[Trajectory]], Iterator[Row]]] = {
    "openai": openai,
    "trl": trl,
    "trl-preference": preferences,
    "sharegpt": sharegpt,
}
FORMATS = (*JSON_LINES, "minari")
NO_ROWS = {
    "trl-preference": "no pairs: no task has two episodes that begin with the same message and score "
    "differently; give several files, or more attempts"
}


def convert(sources: Sequence[str | Path], to: str, out: str) -> int:
    """Convert trajectory files; returns how many rows (episodes, for Minari) were written.

    Episodes that ended before their first turn are left out.

    Args:
        sources: JSON Lines files of trajectories, or folders of runs.
        to: one of `FORMATS`.
        out: the file to write, one JSON list where its name ends in .json, JSON Lines elsewhere; for Minari
            the dataset's id, `namespace/name-v0`.

    Raises:
        ProsegymError: a file cannot be read or written, one would be written over, there is no row, or
            Minari would not take the episodes; nothing is left behind.
    """
    if to not in FORMATS:
        raise UnknownName("format", to, FORMATS)
    trajectories = (trajectory for source in sources for trajectory in records.read(source))
    if to == "minari":
        return to_minari(list(_answered(trajectories)), out)
    path = Path(out)
    if path.resolve() in {records.file_of(source).resolve() for source in sources}:
        raise ProsegymError(f"{out} is what is converted and would be lost; choose another --out")
    if path.is_dir():
        raise ProsegymError(f"cannot write {out}: it is a folder; choose another --out")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    count = 0
    before, between, after = (b"[\n", b",\n", b"\n]\n") if path.suffix == ".json" else (b"", b"\n", b"\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            for row in JSON_LINES[to](trajectories):
                file.write((between if count else before) + msgspec.json.encode(row))
                count += 1
            file.write(after)
        if not count:
            raise ProsegymError(NO_ROWS.get(to, "no episodes to convert"))
        part.replace(path)
    except OSError as error:
        raise ProsegymError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return count


def to_minari(trajectories: Sequence[Trajectory], dataset_id: str) -> int:
    """Store the episodes as a Minari dataset (a local one) of that id; returns how many there are.

    Each has a turn at least, in one environment made with the same arguments. Observations and actions are
    Minari's texts; each step's info has score, progress and invalid_action; each episode's seed is that of
    the trajectory and its options name the task.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage import get_dataset_path
    except ModuleNotFoundError as error:
        raise ProsegymError('minari is not installed; run `pip install "prosegym[minari]"`') from error
    if not trajectories:
        raise ProsegymError("no episodes to convert")
    ids = {t.env_id for t in trajectories}
    if len(ids) > 1:
        raise ProsegymError(
            f"a Minari dataset holds one environment, not {len(ids)}: {', '.join(sorted(ids))}"
        )
    (env_id,) = ids
    env_class(env_id)  # raises where there is no such environment here
    kwargs = trajectories[0].env_kwargs
    if (other := next((t.env_kwargs for t in trajectories if t.env_kwargs != kwargs), None)) is not None:
        raise ProsegymError(f"a Minari dataset holds one environment, not one made with {kwargs} and {other}")
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError: without a version
        raise ProsegymError(f"{dataset_id!r} is no dataset's id; give --out namespace/name-v0") from error
    folder = get_dataset_path(dataset_id)
    if folder.exists():
        raise ProsegymError(f"dataset {dataset_id} exists already; choose another --out")
    buffers = []
    for i, t in enumerate(trajectories):
        ended = t.ended == "terminated"
        last = len(t.steps) - 1
        buffers.append(
            EpisodeBuffer(
                id=i,
                seed=t.seed % 2**31,
                options={"task_id": t.task_id},
                observations=[*(step.observation for step in t.steps), t.final_observation],
                actions=t.actions,
                rewards=[step.reward for step in t.steps],
                terminations=[ended and j == last for j in range(len(t.steps))],
                truncations=[not ended and j == last for j in range(len(t.steps))],
                infos={
                    name: [start, *(getattr(step, field) for step in t.steps)]
                    for name, field, start in (
                        ("score", "score", 0.0),
                        ("progress", "progress", 0.0),
                        ("invalid_action", "invalid", False),
                    )
                },
            )
        )
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    try:
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=env,
            observation_space=_space_of(text for buffer in buffers for text in buffer.observations),
            action_space=_space_of(text for buffer in buffers for text in buffer.actions),
            algorithm_name=trajectories[0].agent,
            data_format="arrow",
            description=f"{len(trajectories)} episodes of {trajectories[0].agent} in {env_id}",
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        env.close()
    return len(buffers)


def _space_of(texts: Iterable[str]) -> gymnasium.spaces.Text:
    """A space that holds these texts; Minari keeps Gymnasium's own alone, which has an alphabet."""
    alphabet, longest = set(string.printable), SHARED_BYTES
    for text in texts:
        alphabet.update(text)
        longest = max(longest, len(text))
    return gymnasium.spaces.Text(longest, min_length=0, charset="".join(sorted(alphabet)))

"""The run store: a folder of append-only episodes that a killed run goes on from.

RUN/run.json        the conditions, written once (anew where nothing came of them)
RUN/episodes.jsonl  one trajectory a line, appended as episodes finish
RUN/incidents.jsonl engines and processes that failed and were tried again, if any did
RUN/summary.json    derived from the two, rewritten at the end
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs import trajectory as records
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError
from prosegym.envs.home import write_whole
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.metrics import Summary, last_trials, summarise
from prosegym.evaluation.rollout import Incident, Key

SCHEMA = 1

_PACKAGES = (
    "prosegym", "gymnasium", "numpy",
    "textworld", "scienceworld", "textworld-express",
    "torch", "transformers",
)  # fmt: skip
ENGINES = ("python", "prosegym", "textworld", "scienceworld", "textworld-express", "sqlite")
"""What may give other texts in another version."""


class PanelRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which panel a run plays."""

    name: str
    env_id: str
    split: str
    sha256: str
    tasks: int


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a run's numbers depend on."""

    env_id: str
    env_kwargs: dict[str, Any]
    """Reward mode, dialect, admissible hints, step limit: whatever was given beyond the defaults."""
    panel: PanelRef
    agent: str
    agent_conditions: dict[str, Any]
    """Model and revision, prompt digest, sampling, history policy: what the agent says of itself."""
    attempts: int
    trials: int
    seed: int
    env_conditions: dict[str, Any]
    """What the environment says this machine settled and that can change a score."""
    versions: dict[str, str]
    started: str
    schema: int = SCHEMA


_FREE = ("versions", "started")
"""Conditions that may differ when a run is resumed."""


def versions() -> dict[str, str]:
    """The installed versions that a run's numbers may depend on, Python's and SQLite's included."""
    import platform
    import sqlite3

    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def other_versions(recorded: Mapping[str, str]) -> list[str]:
    """Which of a run's engines have another version here, a line each; one not recorded is passed over."""
    here = versions()
    return [
        f"the run was made with {name} {recorded[name]}, here it is {here.get(name, 'not installed')}"
        for name in ENGINES
        if name in recorded and recorded[name] != here.get(name)
    ]


class Run:
    """An open run folder. Use as a context manager; only one process may have it open for writing."""

    def __init__(self, folder: Path, conditions: Conditions, finished: list[Trajectory], lock: Any) -> None:
        """Use `Run.open` or `Run.read`."""
        self.folder = folder
        self.conditions = conditions
        self.finished = finished
        self._lock = lock
        self._file: int | None = None
        self._summary: Summary | None = None  # of the episodes so far, once it was asked for

    @classmethod
    def open(cls, folder: str | Path, conditions: Conditions) -> Run:
        """Begin a run, or go on with one of the same conditions.

        Raises:
            ProsegymError: the folder belongs to a run of other conditions (which ones is said), another
                process is writing to it, or it cannot be written.
            CorruptData: a line other than the last is damaged.
        """
        folder = Path(folder)
        lock = _lock(folder)
        try:
            with files_of(folder):
                conditions = _settle(folder, conditions)
                finished, whole = _episodes(folder)
                path = folder / "episodes.jsonl"
                if path.exists():
                    with open(path, "rb+") as file:
                        file.truncate(whole)  # a kill came while the rest, if any, was being written
                return cls(folder, conditions, finished, lock)
        except BaseException:
            release(lock)
            raise

    @staticmethod
    def conditions_of(folder: str | Path) -> Conditions:
        """A run's conditions, without its episodes.

        Raises:
            ProsegymError: there is no run.
        """
        path = Path(folder) / "run.json"
        if not path.is_file():
            raise ProsegymError(
                f"{folder} is not a run folder (no run.json); make one with `prosegym evaluate`"
            )
        with files_of(Path(folder)):
            return _conditions(path)

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """A run as it stands, for reading; a last line cut by a kill is passed over.

        Raises:
            ProsegymError: there is no run.
        """
        folder = Path(folder)
        with files_of(folder):
            return cls(folder, cls.conditions_of(folder), _episodes(folder)[0], None)

    def append(self, trajectory: Trajectory) -> None:
        """Keep a finished episode.

        Raises:
            ProsegymError: it cannot be written; what was kept before stays whole.
        """
        kept = f"{len(self.finished)} episodes are kept, make room and run the same command again"
        with files_of(self.folder, kept):
            if self._file is None:
                path = self.folder / "episodes.jsonl"
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            records.append(self._file, trajectory)
        self.finished.append(trajectory)
        self._summary = None

    def report(self, incident: Incident) -> None:
        """Note an episode that was given up or tried again because its engine or process failed."""
        job = incident.job
        line = {
            "task_id": job.task_id, "attempt": job.attempt, "trial": job.trial,
            "what": incident.what, "retried": incident.retried,
        }  # fmt: skip
        path = self.folder / "incidents.jsonl"
        with files_of(self.folder), open(path, "ab", buffering=0) as file:
            file.write(msgspec.json.encode(line) + b"\n")

    @property
    def complete(self) -> bool:
        """Whether every planned episode has been played."""
        c, last = self.conditions, [group[-1] for group in last_trials(self.finished).values()]
        over = all(t.success or t.trial + 1 >= c.trials for t in last)
        return over and len(last) >= c.panel.tasks * c.attempts

    def summary(self) -> Summary:
        """The run's numbers so far."""
        if self._summary is None:
            c = self.conditions
            self._summary = summarise(
                self.finished, tasks=c.panel.tasks, attempts=c.attempts, trials=c.trials
            )
        return self._summary

    def save_summary(self) -> Summary:
        """Write `summary.json`; returns what it holds."""
        summary = self.summary()
        with files_of(self.folder):
            write(self.folder / "summary.json", summary)
        return summary

    def close(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            release(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def files_of(
    folder: Path, mend: str = "see to its rights and its disk, or choose another --out"
) -> Iterator[None]:
    """Says in one line what an operating system would not do with a run's files."""
    try:
        yield
    except OSError as error:
        raise ProsegymError(f"cannot use folder {folder}: {error.strerror or error}; {mend}") from error


def _settle(folder: Path, conditions: Conditions) -> Conditions:
    """Write the conditions of a new run; of an old one, check and return those it began with.

    A run that nothing came of is no run: a command that could not play, once put right, is not held to it.
    """
    path = folder / "run.json"
    if path.exists():
        before = _conditions(path)
        differing = _differences(before, conditions)
        if not differing:
            return before
        kept = (folder / "episodes.jsonl", folder / "incidents.jsonl")
        if any(file.exists() and file.stat().st_size for file in kept):
            raise ProsegymError(
                f"{folder} holds a run of other conditions ({'; '.join(differing)}); choose another --out"
            )
    elif (folder / "episodes.jsonl").exists():
        raise ProsegymError(f"{folder} has an episodes.jsonl and no run.json; choose another --out")
    write(path, conditions)
    return conditions


def write(path: Path, what: msgspec.Struct | Mapping[str, Any]) -> None:
    """As JSON, whole or not at all."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(what), indent=1) + b"\n")


LOCK = ".lock"
"""The file of a folder that its one writer holds."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make a folder one's own to write to, for as long as the context lasts.

    Raises:
        ProsegymError: another process is writing there, or the folder cannot be made or written to.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        release(handle)


def _lock(folder: Path) -> int:
    with files_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        hold(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def release(handle: int) -> None:
    """Unlock and close a file; closing alone leaves the lock with a process that was forked meanwhile."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def hold(handle: int, what: Path) -> None:
    """Lock an open file for as long as it is open; `what` is named where another process has it.

    Raises:
        ProsegymError: another process has.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there the second writer is not refused
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ProsegymError(
            f"another process is writing to {what}; wait for it, or write elsewhere"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise ProsegymError(f"cannot lock {what}: {error.strerror}") from error
        # A file system without locks: there the second writer is not refused, either.


def _conditions(path: Path) -> Conditions:
    try:
        conditions = msgspec.json.decode(path.read_bytes(), type=Conditions)
    except UNREADABLE as error:
        raise CorruptData(
            f"{path}: {error}; put back what it held, or choose another folder: without it the episodes are "
            "of no known run"
        ) from error
    if conditions.schema != SCHEMA:
        raise CorruptData(f"{path}: schema {conditions.schema}; this version reads {SCHEMA}")
    return conditions


def _differences(before: Conditions, now: Conditions) -> list[str]:
    # Through JSON, so that what was read compares equal to what would be written.
    a: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(before))
    b: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(now))
    return list(differing({k: v for k, v in a.items() if k not in _FREE}, b))


def differing(a: Mapping[str, Any], b: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """What of `a` is other in `b`, in words; keys that `b` alone has count below the top only."""
    for name in dict.fromkeys((*a, *(b if within else ()))):
        there, here = a.get(name), b.get(name)
        if isinstance(there, dict) and isinstance(here, dict) and name != "panel":
            yield from differing(there, here, f"{within}{name}.")
        elif there != here:
            yield f"{within}{name}: {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = (
        value["name"] + " " + value["sha256"][:8]
        if isinstance(value, dict) and {"name", "sha256"} <= value.keys()
        else repr(value)
    )
    return text if len(text) <= 80 else text[:77] + "..."


def _episodes(folder: Path) -> tuple[list[Trajectory], int]:
    """The finished episodes, and how many bytes of their file whole lines take."""
    path = folder / "episodes.jsonl"
    found: dict[Key, Trajectory] = {}
    whole = 0
    if not path.exists():
        return [], whole
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # being written, or cut by a kill
            try:
                trajectory = records.decode(line, f"{path}:{number}")
            except CorruptData as error:
                raise CorruptData(f"{error}; take that line out, and its episode is played again") from error
            found.setdefault(trajectory.key, trajectory)
            whole += len(line)
    return list(found.values()), whole

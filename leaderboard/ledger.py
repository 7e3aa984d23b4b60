"""The ledger: what was added, removed and rescored, when and why.

Each entry holds the digest of the one before, so a changed, dropped or reordered one breaks the chain. A
cut-off end does not: the board publishes the digest of the last entry (`ledger` in latest.json) for that.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from prosegym.envs.errors import UNREADABLE, BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.trajectory import append_line
from prosegym.evaluation.runs import hold
from prosegym.leaderboard.submission import Sha256, plain

Action = Literal["added", "removed", "rescored"]
START = "0" * 64
"""What the first entry names as the one before."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that happened to one submission."""

    number: int
    """From 1."""
    time: Annotated[str, Meta(max_length=40)]
    """ISO 8601, UTC."""
    action: Action
    submission: Sha256
    """Digest of its submission.json."""
    agent: Annotated[str, Meta(max_length=80)]
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    before: Sha256
    """Digest of the entry before."""
    sha256: str
    """Digest of all of the above."""


def _sealed(entry: Entry) -> Entry:
    content = msgspec.json.encode(msgspec.structs.replace(entry, sha256=""))
    return msgspec.structs.replace(entry, sha256=hashlib.sha256(content).hexdigest())


def check(path: str | Path, *, head: str | None = None) -> list[Entry]:
    """The entries of a ledger, every link of the chain seen to hold.

    Args:
        path: the ledger; one that does not exist is empty.
        head: digest of an entry that must be among them, where it is known from elsewhere.

    Raises:
        BadOption: the head is no digest.
        CorruptData: the first line that is not as it was written, or the head is not there.
    """
    if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
        raise BadOption(
            f"a ledger's head is 64 hexadecimal digits (`ledger` in latest.json), not {head[:80]!r}"
        )
    path = Path(path)
    entries: list[Entry] = []
    before = START
    last: dict[str, Action] = {}
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except UNREADABLE as error:
            raise CorruptData(f"{where}: {error}") from error
        if msgspec.json.encode(entry) + b"\n" != line:
            raise CorruptData(f"{where}: not in its one form")
        if entry.number != number or entry.before != before:
            raise CorruptData(f"{where}: an entry before it was changed, dropped or moved")
        if entry != _sealed(entry):
            raise CorruptData(f"{where}: this entry was changed after it was written")
        stands = last.get(entry.submission, "removed") != "removed"
        if (entry.action == "added") == stands:
            state = "stands already" if entry.action == "added" else "does not stand"
            raise CorruptData(f"{where}: {entry.action} {entry.submission[:12]}, which {state}")
        last[entry.submission] = entry.action
        before = entry.sha256
        entries.append(entry)
    if head is not None and head not in {START, *(entry.sha256 for entry in entries)}:
        raise CorruptData(f"{path}: entry {head[:12]} is not there; the end was cut off or written anew")
    return entries


def append(
    path: str | Path, action: Action, submission: str, *, agent: str, reason: str, time: str | None = None
) -> Entry:
    """Add an entry; the ledger is checked first, and nothing that is there changes.

    Args:
        path: the ledger; made where it does not exist.
        action: what happened.
        submission: digest of the submission (`Report.digest`).
        agent: its name on the board.
        reason: why, for everybody to read.
        time: ISO 8601, UTC; by default now.

    Raises:
        ProsegymError: the ledger is broken, cannot be written, or the entry makes no sense in it.
    """
    path = Path(path)
    if action not in get_args(Action):
        raise UnknownName("ledger action", action, get_args(Action))
    if not re.fullmatch("[0-9a-f]{64}", submission):
        raise ProsegymError(f"not the digest of a submission: {submission[:80]!r}")
    if not reason.strip() or len(reason) > 1000 or len(agent) > 80:
        raise ProsegymError(
            "a ledger entry needs a reason of at most 1000 characters and a name of at most 80"
        )
    plain(reason, "reason")
    plain(agent, "agent")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            hold(handle, path)
            entries = check(path)
            if (action == "added") == (submission in standing(entries)):
                state = "stands already" if action == "added" else "does not stand"
                raise ProsegymError(f"cannot be {action}: submission {submission[:12]} {state}")
            now = time or datetime.now(timezone.utc).isoformat(timespec="seconds")
            before = entries[-1].sha256 if entries else START
            entry = _sealed(Entry(len(entries) + 1, now, action, submission, agent, reason, before, ""))
            append_line(handle, msgspec.json.encode(entry) + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise ProsegymError(f"cannot write {path}: {error.strerror}") from error
    return entry


def standing(entries: Sequence[Entry]) -> set[str]:
    """Digests of the submissions that were added and not removed."""
    last = {entry.submission: entry.action for entry in entries}
    return {submission for submission, action in last.items() if action != "removed"}

"""Errors a person can act on: one line each, with the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON raises where it is malformed, or nested too deep."""


class ProsegymError(Exception):
    """Something the user can put right; the message is one line and says how."""


class UnknownName(ProsegymError):
    """A name that is not among those that exist; the message lists the nearest."""

    def __init__(self, kind: str, name: object = None, known: Iterable[str] | None = None) -> None:
        """A `kind` of thing has no such name; one text alone is the message, as another process sends it."""
        if known is None:
            super().__init__(kind)
            return
        known = list(known)
        near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.4) or known[:5]
        more = f" ({len(known)} in all)" if len(known) > len(near) else ""
        super().__init__(f"unknown {kind} {name!r}; nearest: {', '.join(near) or 'none'}{more}")


def unknown_task(task_id: str, ranges: Iterable[tuple[str, str]]) -> UnknownName:
    """Of numbered tasks: the error that says the first and the last id of every split."""
    there = ", ".join(f"{first} to {last}" for first, last in ranges)
    return UnknownName(f"unknown task id {task_id!r}; there are {there}")


class DataMissing(ProsegymError):
    """Data that this environment needs is not on this machine; the message says the command that gets it."""


class CorruptData(ProsegymError):
    """A file that does not hold what it should; the message names the file and, where known, the line."""


class BadOption(ProsegymError, ValueError):
    """An argument or reset option outside what the environment takes."""


class Unsupported(ProsegymError):
    """Something that this environment's engine cannot do."""


class EngineError(ProsegymError):
    """The engine crashed or hung: an error of this episode, never a score."""


def at_least(least: int, **settings: float | None) -> None:
    """Refuse a setting that is smaller; None is one that was not given.

    Raises:
        BadOption: one is; it is named.
    """
    for name, value in settings.items():
        if value is not None and value < least:
            raise BadOption(f"{name} must be at least {least}, not {value}")

"""A folder that is written whole or not at all, and takes no other's place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from prosegym.envs.errors import ProsegymError


def writable(out: str | Path, ours: Collection[str] = ()) -> Path:
    """Where a folder may be written, links followed.

    Args:
        out: the folder; new, empty, or one that may be replaced.
        ours: names that it may hold: they are made anew.

    Raises:
        ProsegymError: something there would be lost, or it is the folder one is in.
    """
    found = Path(out).resolve()
    if found == Path.cwd():
        raise ProsegymError(f"{out} is the folder you are in, which cannot be replaced; choose another --out")
    try:
        held = set(os.listdir(found))
    except FileNotFoundError:
        return found
    except OSError as error:
        raise ProsegymError(f"cannot use {out}: {error.strerror}; choose another --out") from error
    if foreign := sorted(held - set(ours)):
        raise ProsegymError(f"{out} holds {foreign[0]!r}, which would be lost; choose another --out")
    return found


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which takes its place once all is written to it.

    Raises:
        ProsegymError: it cannot be written; what `out` held is still there.
    """
    part, old = (out.with_name(f"{out.name}.{what}-{os.getpid()}") for what in ("part", "old"))
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise ProsegymError(f"cannot write {part}: {error.strerror}") from error
    try:
        yield part
        if out.exists():
            out.replace(old)
        part.replace(out)
    except OSError as error:
        raise ProsegymError(f"cannot write {out}: {error.strerror}") from error
    finally:
        if old.exists() and not out.exists():  # stopped between the two
            old.replace(out)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)

"""This machine: where data and built games are kept, who builds them, and how many processors there are."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prosegym.envs.errors import ProsegymError


def home() -> Path:
    """`PROSEGYM_HOME`, or the platform's cache folder; not necessarily existing yet."""
    if chosen := os.environ.get("PROSEGYM_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("prosegym", appauthor=False))


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def writable(*parts: str) -> Path:
    """A folder below `home()`, made if need be.

    Raises:
        ProsegymError: it cannot be made or written to.
    """
    folder = home().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProsegymError(
            f"cannot write to {folder} ({error.strerror}); set PROSEGYM_HOME to a folder you can write to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ProsegymError(f"cannot write to {folder}; set PROSEGYM_HOME to a folder you can write to")
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, whoever else writes it at the same time.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock, a file made for it, once no other process does; where there are no locks, nobody waits."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # Windows, a file system without locks: two may meet
            file = stack.enter_context(open(path, "ab"))
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            # Closing alone would leave the lock with a process that was forked meanwhile.
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
        yield

"""This machine: where data and built games are kept, and how many processors there are."""

from __future__ import annotations

import os
import sys
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

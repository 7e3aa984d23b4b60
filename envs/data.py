"""Official data: which sets there are, where they lie on this machine, and how they get there.

None of it is part of this repository. `prosegym data get NAME` fetches a set from where its authors
publish it; `--from PATH` takes an archive or folder that the user already has.
"""

from __future__ import annotations

import importlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from prosegym.envs.errors import CorruptData, DataMissing, UnknownName
from prosegym.envs.home import home

DATASETS: dict[str, str] = {
    "alfworld": "prosegym.envs.alfworld.official:OFFICIAL",
    "hotpotqa": "prosegym.envs.questions.data:hotpotqa",
    "2wikimultihopqa": "prosegym.envs.questions.data:two_wiki",
    "musique": "prosegym.envs.questions.data:musique",
    "webshop": "prosegym.envs.webshop.env:small",
    "webshop-full": "prosegym.envs.webshop.env:full",
    "intercode_sql": "prosegym.envs.sql.data:OFFICIAL",
}
"""Name of each data set, and where its `DataSet` is (`module:attribute`)."""


DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, RuntimeError)
"""What reading an archive that is damaged raises, or one that a password locks (RuntimeError)."""


def first_line(error: BaseException) -> str:
    """An error in one line: `tarfile` adds one for each compression that it tried."""
    return str(error).partition("\n")[0].rstrip(":")


class DataSet(Protocol):
    """One official data set."""

    name: str
    about: str
    """What it is, where its authors publish it, and its licence: one line."""
    last: str
    """The file of it that is written last: where it is, all are."""

    def get(self, source: Path | None = None) -> Path:
        """Install the set into `folder(name)`, checked; from `source` (archive or folder) or by download.

        Raises:
            ProsegymError: it cannot be had, or is not what the panels' digests say; nothing half-done
                is left behind.
        """
        ...


def folder(name: str) -> Path:
    """Where the set of that name lies; not necessarily existing yet."""
    return home() / "data" / name


def here(name: str) -> bool:
    """Whether the set of that name is on this machine, whole."""
    return (folder(name) / dataset(name).last).is_file()


def sizes(folder: Path) -> dict[str, int]:
    """The files of a folder, each with its bytes: what `check_sizes` looks for."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def check_sizes(folder: Path, sizes: Mapping[str, int]) -> None:
    """See that a folder's files are as long as they were written.

    Raises:
        CorruptData: one is not.
        OSError: one is gone.
    """
    for name, size in sizes.items():
        if (found := (folder / name).stat().st_size) != size:
            raise CorruptData(f"{folder / name} has {found:,} bytes, {size:,} were written")


def missing(name: str) -> DataMissing:
    """The error that says how to get a set."""
    return DataMissing(
        f"the {name} data is not on this machine; run `prosegym data get {name}` (or add `--from PATH`)"
    )


def dataset(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in DATASETS:
        raise UnknownName("data set", name, DATASETS)
    module, _, attribute = DATASETS[name].partition(":")
    found: DataSet = getattr(importlib.import_module(module), attribute)
    return found

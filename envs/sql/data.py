"""InterCode's SQL tasks over Spider's databases: getting them, checking them, opening them."""

from __future__ import annotations

import hashlib
import shutil
from functools import lru_cache
from pathlib import Path

import msgspec

from prosegym.envs import data
from prosegym.envs.download import fetch
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError
from prosegym.envs.home import writable
from prosegym.envs.sql.engine import Server
from prosegym.envs.sql.schema import read_dump

COMMIT = "c3e46d827cfc9d4c704ec078f7abf9f41e3191d8"
URL = f"https://raw.githubusercontent.com/princeton-nlp/intercode/{COMMIT}/data/sql/spider/"
TASKS, DUMP = "ic_spider_dev.json", "ic_spider_dbs.sql"
FILES = {
    TASKS: "68c9ecb0692c80770f46c724cc073ea76be4f301a294caa532c050546948128e",
    DUMP: "61f6e8000cb5bb696f123fa55e111acdcd8da7eca64f452a36fd1a6e5fb1781a",
}
"""The two files, and the SHA-256 that the panel was made from."""

UNCOUNTED = frozenset(("cre_doc_template_mgt", "poker_player", "real_estate_properties"))
"""The last databases of the dump: the published server had no statistics of them (its TABLE_ROWS are 0)."""


class Record(msgspec.Struct, frozen=True):
    """One task, as the file has it."""

    db: str
    gold: str
    query: str
    hardness: str


class InterCodeSQLData:
    """The data set `intercode_sql`."""

    name = "intercode_sql"
    last = DUMP
    about = (
        "InterCode's 1,034 SQL tasks and their MySQL dump (Spider's dev set), "
        "github.com/princeton-nlp/intercode, MIT; Spider CC BY-SA 4.0"
    )

    def get(self, source: Path | None = None) -> Path:
        """Install the two files, checked by their digests; see `DataSet.get`.

        `source` is a folder that holds them, at whatever depth (a clone of the repository is one).
        """
        if source is None:
            downloads = writable("downloads", self.name)
            for name, sha256 in FILES.items():
                fetch(URL + name, downloads / name, sha256=sha256)
            self._install(downloads)
            shutil.rmtree(downloads)
        else:
            self._install(source)
        return data.folder(self.name)

    def _install(self, source: Path) -> None:
        if not source.is_dir():
            raise ProsegymError(f"{source}: not a folder; give the one that holds {TASKS} and {DUMP}")
        found = {}
        for name, sha256 in FILES.items():
            paths = sorted(source.rglob(name))
            if not paths:
                raise ProsegymError(
                    f"{source}: no {name} in it; give the folder that holds {TASKS} and {DUMP}"
                )
            content = next(
                (c for c in (p.read_bytes() for p in paths) if hashlib.sha256(c).hexdigest() == sha256), None
            )
            if content is None:
                raise CorruptData(
                    f"{paths[0]}: not the published file (SHA-256 {sha256[:16]}... expected); "
                    f"get it again from {URL}{name}"
                )
            found[name] = content
        target = data.folder(self.name)
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        writable("data")
        part.mkdir()
        for name, content in found.items():
            (part / name).write_bytes(content)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)


OFFICIAL = InterCodeSQLData()


def read_tasks(path: Path) -> list[Record]:
    """The tasks of a file in InterCode's form (db, gold, query, hardness).

    Raises:
        CorruptData: the file is not such a list; the message names the entry and the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Record])
    except OSError as error:
        raise data.missing(OFFICIAL.name) from error
    except UNREADABLE as error:
        raise CorruptData(f"{path}: {error}") from error


def read_server(path: Path, uncounted: frozenset[str] = frozenset()) -> Server:
    """The databases of a mysqldump file, ready to be asked.

    Raises:
        CorruptData: it is not such a file.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise data.missing(OFFICIAL.name) from error
    except UnicodeDecodeError as error:
        raise CorruptData(f"{path}: not a text file ({error.reason} at byte {error.start})") from error
    return Server(read_dump(text, str(path)), uncounted=uncounted)


def official() -> tuple[list[Record], Server]:
    """The installed tasks and databases; built once per process.

    Raises:
        DataMissing: they are not installed.
        CorruptData: what is installed has been damaged.
    """
    folder = data.folder(OFFICIAL.name)
    try:
        stamp = (folder / DUMP).stat().st_mtime_ns
    except OSError as error:
        raise data.missing(OFFICIAL.name) from error
    return _official(folder, stamp)


@lru_cache(maxsize=2)
def _official(folder: Path, stamp: int) -> tuple[list[Record], Server]:
    try:
        return read_tasks(folder / TASKS), read_server(folder / DUMP, UNCOUNTED)
    except CorruptData as error:
        raise CorruptData(f"{error}; run `prosegym data get {OFFICIAL.name}` again") from error

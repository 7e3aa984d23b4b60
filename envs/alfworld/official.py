"""The official ALFWorld games: getting them, checking them, opening them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

import msgspec
from tqdm import tqdm

from prosegym.envs import data, panels
from prosegym.envs.alfworld import pack
from prosegym.envs.alfworld.compile import compile_game, parse
from prosegym.envs.alfworld.game import Game
from prosegym.envs.download import fetch
from prosegym.envs.errors import CorruptData, ProsegymError
from prosegym.envs.home import writable

URL = "https://github.com/alfworld/alfworld/releases/download/0.4.2/json_2.1.3_tw-pddl.zip"
"""The authors' release of the game files; its folder is still called json_2.1.1."""

SPLITS = ("train", "valid_train", "valid_seen", "valid_unseen")
GAME_FILE = "game.tw-pddl"
ENV = "ALFWorld-v1"


class Official:
    """The data set `alfworld`."""

    name = "alfworld"
    last = "installed.json"
    about = (
        "ALFWorld's text games (json_2.1.1: train, valid_seen, valid_unseen, valid_train), "
        "github.com/alfworld/alfworld, MIT"
    )

    def get(self, source: Path | None = None) -> Path:
        """Install the games, each one checked against its panel; see `DataSet.get`.

        `source` may be an archive (.zip, .tar, .tar.xz, .tar.gz), a folder that holds `json_2.1.1` or its
        archive, or `json_2.1.1` itself. Files that no panel lists (unsolvable games, other task types) are
        left out and counted in `installed.json`.
        """
        if source is None:
            downloads = writable("downloads", self.name)
            archive = fetch(URL, downloads / URL.rpartition("/")[2])
            try:
                self._install(archive)
            except CorruptData:
                archive.unlink()  # the next call would take it for the download
                raise
            shutil.rmtree(downloads)
        else:
            self._install(source)
        return data.folder(self.name)

    def _install(self, source: Path) -> None:
        wanted = {task: sha for split in SPLITS for task, sha in panels.load(f"{ENV}/{split}").tasks}
        found: dict[str, Game] = {}
        differing: list[str] = []
        left_out = {"unsolvable": 0, "of other task types, or not in a panel": 0}
        files = tqdm(_game_files(source), total=len(wanted), unit="games", delay=2.0, disable=None)
        for task_id, text, where in files:
            if task_id not in wanted:
                unsolvable = b'"solvable":false' in text.replace(b" ", b"")
                left_out["unsolvable" if unsolvable else "of other task types, or not in a panel"] += 1
                continue
            with contextlib.suppress(CorruptData):
                game = compile_game(parse(text, where), where)
                if game.sha256() == wanted[task_id]:
                    found[task_id] = game
                    continue
            differing.append(task_id)
        if differing:
            raise CorruptData(
                f"{source}: {len(differing)} of {len(wanted)} games differ from their panels' digests, first "
                f"{differing[0]!r}: altered, or of a release with other games; nothing was installed"
            )
        if len(found) < len(wanted):
            lacking = next(task_id for task_id in wanted if task_id not in found)
            raise CorruptData(
                f"{source}: {len(wanted) - len(found)} of {len(wanted)} games are not there, first "
                f"{lacking!r} ({sum(left_out.values())} other game files are); nothing was installed"
            )
        folder = writable("data", self.name)
        summary = {"source": source.name, "games": len(found), "left out": left_out}
        pack.write(folder / PACK, [(task_id, found[task_id]) for task_id in wanted])
        (folder / self.last).write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")


PACK = "games.pack"
OFFICIAL = Official()


_ARCHIVES = (".zip", ".tar", ".tar.xz", ".tar.gz")


def _game_files(source: Path) -> Iterator[tuple[str, bytes, str]]:
    """(task id, content, name for messages) of every game file in an archive or folder."""
    if source.is_dir():
        files = sorted(path for folder in _folders(source) if (path := Path(folder, GAME_FILE)).is_file())
        if not files:
            yield from _game_files(_archive_in(source))
            return
        for path in files:
            yield _task_id(path.as_posix()), path.read_bytes(), str(path)
        return
    if not source.is_file():
        raise ProsegymError(f"{source}: no such file or folder")
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for info in archive.infolist():
                    if info.filename.endswith(f"/{GAME_FILE}"):
                        yield _task_id(info.filename), archive.read(info), f"{source}:{info.filename}"
            return
        with tarfile.open(source, "r:*") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(f"/{GAME_FILE}"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield _task_id(member.name), file.read(), f"{source}:{member.name}"
    except data.DAMAGED as error:
        raise CorruptData(
            f"{source}: not an archive, or a damaged one ({data.first_line(error)}); get it again"
        ) from error


def _folders(source: Path) -> Iterator[str]:
    """A folder and all below it, linked ones, too, which `Path.glob` leaves out."""
    for folder, below, _ in os.walk(source, followlinks=True):
        here = Path(os.path.realpath(folder), "x")
        # No link to a folder around it: that would be a circle.
        below[:] = [name for name in below if Path(os.path.realpath(Path(folder, name))) not in here.parents]
        yield folder


def _archive_in(source: Path) -> Path:
    """The archive of a folder that has the games: ALFWorld's own downloader puts two more beside it."""
    archives = sorted(path for ending in _ARCHIVES for path in source.glob(f"json_2.1*{ending}"))
    if not archives:
        raise ProsegymError(f"{source}: no {GAME_FILE} below it, and no archive json_2.1.1.tar.xz in it")
    archives = [path for path in archives if "tw-pddl" in path.name] or archives
    if len(archives) > 1:
        names = ", ".join(path.name for path in archives)
        raise ProsegymError(f"{source}: {len(archives)} archives there ({names}); name one with --from")
    return archives[0]


def _task_id(path: str) -> str:
    """`split/task/trial`: the last three folders above the file."""
    return "/".join(PurePosixPath(path).parts[-4:-1])


def open_pack() -> pack.Pack:
    """The installed games.

    Raises:
        DataMissing: they are not installed.
        CorruptData: they are damaged.
    """
    path = data.folder(OFFICIAL.name) / PACK
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise data.missing(OFFICIAL.name) from error
    return _open(path, stamp)


@lru_cache(maxsize=2)
def _open(path: Path, stamp: int) -> pack.Pack:
    return pack.Pack(path)

"""All official games in one file: opened in milliseconds, mapped once, shared between processes.

    magic, version | length of the index | index (MessagePack) | games (MessagePack), one after the other

The index holds the digest of the games' bytes and, for each game, its task id, its digest (of its content:
see `Game.sha256`), and where it lies.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable
from pathlib import Path

import msgspec

from prosegym.envs.alfworld.engine import Board
from prosegym.envs.alfworld.game import Game
from prosegym.envs.core import Task
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError
from prosegym.envs.home import write_whole

MAGIC = b"prosegym alfworld 1\n"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where a game lies."""

    task_id: str
    task_type: str
    sha256: str
    start: int
    size: int


class _Index(msgspec.Struct, frozen=True):
    sha256: str
    games: list[Entry]


_encoder = msgspec.msgpack.Encoder()
_index_decoder = msgspec.msgpack.Decoder(_Index)
_game_decoder = msgspec.msgpack.Decoder(Game)


def write(path: Path, games: Iterable[tuple[str, Game]]) -> None:
    """Write a pack of (task id, game) pairs, whole or not at all.

    Raises:
        ProsegymError: the disk does not take it.
    """
    entries, blobs, start = [], [], 0
    for task_id, game in games:
        blob = _encoder.encode(game)
        entries.append(Entry(task_id, game.task_type, game.sha256(), start, len(blob)))
        blobs.append(blob)
        start += len(blob)
    body = b"".join(blobs)
    index = _encoder.encode(_Index(hashlib.sha256(body).hexdigest(), entries))
    try:
        write_whole(path, MAGIC + len(index).to_bytes(8, "little") + index + body)
    except OSError as error:
        raise ProsegymError(
            f"cannot write {path}: {error.strerror}; make room or set PROSEGYM_HOME"
        ) from error


class Pack:
    """An open pack. Games are decoded when they are first played, and kept."""

    def __init__(self, path: Path) -> None:
        """Map the file and check it.

        Raises:
            CorruptData: it is not a pack of this version, or not the one that was written.
        """
        mend = f"{path}: not a pack of this version, or damaged; run `prosegym data get alfworld` again"
        head = len(MAGIC) + 8
        if path.stat().st_size < head:
            raise CorruptData(mend)
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._bytes[: len(MAGIC)] != MAGIC:
            raise CorruptData(mend)
        self._start = head + int.from_bytes(self._bytes[len(MAGIC) : head], "little")
        try:
            index = _index_decoder.decode(self._bytes[head : self._start])
        except UNREADABLE as error:
            raise CorruptData(mend) from error
        if hashlib.sha256(memoryview(self._bytes)[self._start :]).hexdigest() != index.sha256:
            raise CorruptData(mend)
        self.entries = {entry.task_id: entry for entry in index.games}
        self._boards: dict[str, Board] = {}
        self.tasks: dict[str, list[Task]] = {}
        """The task list of each split that has been asked for."""

    def game(self, task_id: str) -> Game:
        """The game of that task."""
        entry = self.entries[task_id]
        start = self._start + entry.start
        return _game_decoder.decode(self._bytes[start : start + entry.size])

    def board(self, task_id: str) -> Board:
        """The game of that task, ready to be played; one for the whole process."""
        board = self._boards.get(task_id)
        if board is None:
            board = self._boards[task_id] = Board(self.game(task_id))
        return board

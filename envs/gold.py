"""Gold paths: the solutions that an engine gives for its own tasks, generated once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from prosegym.envs.errors import UNREADABLE, ProsegymError
from prosegym.envs.home import home, writable, write_whole


class GoldPath:
    """Follows a path as long as the episode does; privileged, for the path comes from the engine."""

    privileged = True

    def __init__(self, path: Sequence[str], taken: list[tuple[str, bool]]) -> None:
        """Follow `path`; `taken` is the episode's own list of actions, each with whether it was invalid."""
        self._path = list(path)
        self._taken = taken
        self._seen = 0
        self._at = 0

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The path's next action; None after its end, and where the episode has left it."""
        for action, invalid in self._taken[self._seen :]:
            self._seen += 1
            if self._at < len(self._path) and action == self._path[self._at]:
                self._at += 1  # also where it was invalid: engines put useless actions into their paths
            elif not invalid:
                self._at = len(self._path)
        return self._path[self._at] if self._at < len(self._path) else None


def kept(parts: Sequence[str], generate: Callable[[], list[str]]) -> list[str]:
    """The path kept under those parts (folders, then a name), generated where there is none yet."""
    *folders, name = parts
    path = home().joinpath("gold", *folders, f"{name}.json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (OSError, *UNREADABLE):
        actions = generate()
    try:
        write_whole(writable("gold", *folders) / path.name, msgspec.json.encode(actions))
    except (OSError, ProsegymError):
        pass  # a folder that can only be read costs time, not the path
    return actions

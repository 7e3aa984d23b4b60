"""The space of all texts, for single and vector environments."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from ctypes import c_char
from types import ModuleType
from typing import Any, overload

import gymnasium
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

SHARED_BYTES = 1 << 16
"""Room for one observation in an AsyncVectorEnv's shared memory, in UTF-8 bytes."""

_HEADER = 4  # bytes that hold the text's length


class Text(gymnasium.spaces.Text):
    """Every text, the empty one and all of Unicode included.

    `gymnasium.spaces.Text` admits one declared alphabet and a length of at least 1; observations and
    actions of text environments have neither bound.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(max_length=SHARED_BYTES, min_length=0, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short lower-case word: there is no uniform distribution over texts."""
        return "".join(map(chr, self.np_random.integers(ord("a"), ord("z") + 1, size=5)))

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string."""
        return isinstance(x, str)

    def __repr__(self) -> str:
        return "Text()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text)

    __hash__ = None  # type: ignore[assignment]


@create_shared_memory.register(Text)
def _create(space: Text, n: int = 1, ctx: ModuleType = multiprocessing) -> Any:
    return ctx.Array(c_char, n * (_HEADER + SHARED_BYTES))


@write_to_shared_memory.register(Text)
def _write(space: Text, index: int, values: str, shared_memory: Any) -> None:
    data = values.encode("utf-8", "surrogatepass")
    if len(data) > SHARED_BYTES:
        raise ValueError(
            f"an observation of {len(data)} bytes does not fit shared memory ({SHARED_BYTES}); "
            "make the vector environment with shared_memory=False (of `gymnasium.make_vec`: "
            'vector_kwargs={"shared_memory": False})'
        )
    start = index * (_HEADER + SHARED_BYTES)
    view = memoryview(shared_memory.get_obj()).cast("B")
    view[start : start + _HEADER] = len(data).to_bytes(_HEADER, "little")
    view[start + _HEADER : start + _HEADER + len(data)] = data


@read_from_shared_memory.register(Text)
def _read(space: Text, shared_memory: Any, n: int = 1) -> Any:
    return _SharedTexts(shared_memory, n)


class _SharedTexts(Sequence[str]):
    """The texts that shared memory holds at this moment; a deep copy is a tuple of them.

    AsyncVectorEnv reads its shared memory once, when made, and hands out deep copies of what it read:
    right for arrays, which are views, and stale for anything decoded at that time.
    """

    def __init__(self, shared_memory: Any, n: int) -> None:
        self._memory, self._n = shared_memory, n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        if not 0 <= index < self._n:
            raise IndexError(index)
        view = memoryview(self._memory.get_obj()).cast("B")
        start = index * (_HEADER + SHARED_BYTES)
        size = int.from_bytes(view[start : start + _HEADER], "little")
        return bytes(view[start + _HEADER : start + _HEADER + size]).decode("utf-8", "surrogatepass")

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)

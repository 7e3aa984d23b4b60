"""The space of all texts, for single and vector environments."""

from __future__ import annotations

import multiprocessing
from ctypes import c_char
from types import ModuleType
from typing import Any

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
            "make the vector environment with shared_memory=False"
        )
    start = index * (_HEADER + SHARED_BYTES)
    view = memoryview(shared_memory.get_obj()).cast("B")
    view[start : start + _HEADER] = len(data).to_bytes(_HEADER, "little")
    view[start + _HEADER : start + _HEADER + len(data)] = data


@read_from_shared_memory.register(Text)
def _read(space: Text, shared_memory: Any, n: int = 1) -> tuple[str, ...]:
    view = memoryview(shared_memory.get_obj()).cast("B")
    texts = []
    for start in range(0, n * (_HEADER + SHARED_BYTES), _HEADER + SHARED_BYTES):
        size = int.from_bytes(view[start : start + _HEADER], "little")
        texts.append(bytes(view[start + _HEADER : start + _HEADER + size]).decode("utf-8", "surrogatepass"))
    return tuple(texts)

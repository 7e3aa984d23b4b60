"""What computes logits behind generation: an engine's contract, and the plain engine, which keeps nothing.

The plain engine is right for every model and the measure of the cached one (`cached_engine`).
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch


@dataclass(eq=False)
class Seat:
    """Where an episode's keys and values are."""

    row: int
    key: Hashable = None
    token_ids: list[int] = field(default_factory=list)
    """The tokens whose keys and values are in cells 0, 1, 2, ..."""
    taken: bool = False
    """Whether an answer is being written from it now."""
    used: int = 0
    """When it was last used: counts openings."""


@dataclass(frozen=True)
class Tree:
    """Continuations of one prompt that share beginnings; each node is one token."""

    tokens: list[int]
    parents: list[int]
    """The node before each one, -1 for the prompt's end; a node comes after its parent."""

    @property
    def depths(self) -> list[int]:
        """Number of nodes before each one on its path."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths


def sent(numbers: Any, device: Any) -> Any:
    """A tensor, or what makes one, on that device: the host does not wait for what a GPU has to do before."""
    made = torch.as_tensor(numbers)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


class Engine(Protocol):
    """Computes logits after growing token sequences."""

    def open(self, key: Hashable, token_ids: Sequence[int]) -> Seat | None:
        """A seat for a sequence, holding a beginning of it (never all of it); None while there is no room."""
        ...

    def room(self, length: int) -> int:
        """How many sequences of that length can be in use at once; at least 1."""
        ...

    def feed(
        self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> Any:
        """Append tokens to each seat; logits after the last of each: [n, vocabulary].

        With `keep`, logits after the last `keep[i]` of each, seat after seat: [sum(keep), vocabulary].
        """
        ...

    def spread(self, seats: Sequence[Seat], trees: Sequence[Tree]) -> list[Any]:
        """Logits after each node of a tree that goes on from a seat, which stays as it is: [nodes, words]."""
        ...

    def close(self, seat: Seat) -> None:
        """The answer is finished; the seat keeps what it holds while there is room."""
        ...

    def forget(self) -> None:
        """Let go of everything held."""
        ...


class PlainEngine:
    """Computes everything anew each time: right for every model, some `alone`; the other's measure."""

    def __init__(self, model: Any, *, alone: bool = False) -> None:
        """Any causal language model; `alone` for one to which what lies beside it in a pass matters."""
        self._model = model
        self._alone = alone

    def open(self, key: Hashable, token_ids: Sequence[int]) -> Seat:
        """A seat that holds nothing yet."""
        return Seat(0)

    def room(self, length: int) -> int:
        """Nothing is held, so any number."""
        return sys.maxsize

    def feed(
        self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> Any:
        """Logits after the last tokens of each seat."""
        keep = keep or [1] * len(seats)
        for seat, new in zip(seats, tokens, strict=True):
            seat.token_ids += new
        sequences = [seat.token_ids for seat in seats]
        if self._alone:
            ends = [
                [s[: len(s) - i] for i in reversed(range(k))] for s, k in zip(sequences, keep, strict=True)
            ]
            logits = [torch.cat([self._logits([end])[0] for end in own]) for own in ends]
        else:
            logits = self._logits(sequences, max(keep))
        return torch.cat([row[len(row) - count :] for row, count in zip(logits, keep, strict=True)])

    def spread(self, seats: Sequence[Seat], trees: Sequence[Tree]) -> list[Any]:
        """Logits after each node, each path by itself."""
        spread = []
        for seat, tree in zip(seats, trees, strict=True):
            paths: list[list[int]] = []
            for token, parent in zip(tree.tokens, tree.parents, strict=True):
                paths.append([*(paths[parent] if parent >= 0 else seat.token_ids), token])
            spread.append(torch.cat([self._logits([path])[:, -1] for path in paths]))
        return spread

    def close(self, seat: Seat) -> None:
        """Nothing is held."""

    def forget(self) -> None:
        """Nothing is held."""

    def _logits(self, rows: Sequence[Sequence[int]], keep: int = 1) -> Any:
        longest, device = max(len(row) for row in rows), self._model.device
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
        )
        return output.logits

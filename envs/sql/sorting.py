"""How MySQL's filesort leaves rows with equal keys.

Up to 100 rows are sorted by C++'s std::sort, more by std::stable_sort; with a LIMIT below a third of the
rows of a table (not of groups, whose number is not known beforehand) a bounded priority queue is kept
instead. The first and the last are not stable, but deterministic. Where no queue is kept, LIMIT 1 is the
first of the least rows, and for a LIMIT below half of up to 100 rows std::nth_element takes the rows before
they are sorted (of up to 16 groups it does not, by the published episodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from prosegym.envs.sql.typed import Compiled

Value = TypeVar("Value")


def sorted_rows(compiled: Compiled, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows that a query's SQL gives, sorted and cut where that is left to do (`Compiled.sorts`)."""
    if not compiled.sorts:
        return rows
    count, offset = compiled.limit
    keys = [row[-1] for row in rows]
    order = filesort(keys, None if count is None else count + offset, compiled.counted)
    return [rows[i][:-1] for i in order[offset:]]


def filesort(keys: Sequence[int], limit: int | None, counted: bool = True) -> list[int]:
    """Positions of the rows in the order that MySQL gives them, from their sort keys in reading order.

    Args:
        keys: a number per row; equal numbers, equal sort keys.
        limit: rows wanted (offset included), None for all.
        counted: whether the rows are a table's, so that their number was known before.
    """
    n = len(keys)
    if counted and limit is not None and limit * 3 < n:
        return _bounded(keys, limit + 1)[:limit]
    if limit == 1 and n:
        return [min(range(n), key=keys.__getitem__)]
    order = list(range(n))
    if n > 100:
        order.sort(key=keys.__getitem__)  # stable, as insertion sort is
    else:
        if limit is not None and 1 < limit < n // 2 and (counted or n > 16):
            _select(order, keys, limit - 1)
            order = order[:limit]
        _introsort(order, keys)
    return order if limit is None else order[:limit]


def _bounded(keys: Sequence[int], size: int) -> list[int]:
    """A max-heap of `size` slots; each further row overwrites the largest slot, even where it is larger."""
    slots = list(range(min(size, len(keys))))
    heap: list[int] = []  # slot numbers

    def key(slot: int) -> int:
        return keys[slots[slot]]

    for slot in range(len(slots)):
        heap.append(slot)
        i = slot
        while i and key(heap[(i - 1) // 2]) <= key(heap[i]):
            parent = (i - 1) // 2
            heap[i], heap[parent] = heap[parent], heap[i]
            i = parent
    for row in range(len(slots), len(keys)):
        slots[heap[0]] = row
        i = 0
        while True:
            largest = i
            for child in (2 * i + 1, 2 * i + 2):
                if child < len(heap) and key(heap[largest]) < key(heap[child]):
                    largest = child
            if largest == i:
                break
            heap[i], heap[largest] = heap[largest], heap[i]
            i = largest
    order = list(range(len(slots)))
    if len(order) > 100:
        order.sort(key=key)
    else:
        _introsort(order, [key(s) for s in range(len(slots))])
    return [slots[s] for s in order]


def _partition(order: list[int], keys: Sequence[int], first: int, last: int) -> int:
    """libstdc++'s partition of a range about the median of three; where its second part begins."""

    def less(a: int, b: int) -> bool:
        return keys[order[a]] < keys[order[b]]

    def swap(a: int, b: int) -> None:
        order[a], order[b] = order[b], order[a]

    a, b, c = first + 1, first + (last - first) // 2, last - 1
    if less(a, b):
        swap(first, b if less(b, c) else c if less(a, c) else a)
    else:
        swap(first, a if less(a, c) else c if less(b, c) else b)
    i, j = first + 1, last
    while True:
        while less(i, first):
            i += 1
        j -= 1
        while less(first, j):
            j -= 1
        if i >= j:
            return i
        swap(i, j)
        i += 1


def _insert(order: list[int], keys: Sequence[int], first: int, last: int) -> None:
    """Insertion sort of a range."""
    for i in range(first + 1, last):
        value = order[i]
        j = i
        while j > first and keys[value] < keys[order[j - 1]]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = value


def _select(order: list[int], keys: Sequence[int], nth: int) -> None:
    """libstdc++'s std::nth_element: the nth least to its place, none greater before it, none less behind."""
    first, last = 0, len(order)
    depth = 2 * (last.bit_length() - 1)
    while last - first > 3:
        if depth == 0:
            order[first:last] = sorted(order[first:last], key=keys.__getitem__)
            return
        depth -= 1
        cut = _partition(order, keys, first, last)
        if cut <= nth:
            first = cut
        else:
            last = cut
    _insert(order, keys, first, last)


def _introsort(order: list[int], keys: Sequence[int]) -> None:
    """libstdc++'s std::sort: quicksort by the median of three down to 16, then one insertion sort."""

    def loop(first: int, last: int, depth: int) -> None:
        while last - first > 16:
            if depth == 0:
                order[first:last] = sorted(order[first:last], key=keys.__getitem__)
                return
            depth -= 1
            cut = _partition(order, keys, first, last)
            loop(cut, last, depth)
            last = cut

    n = len(order)
    loop(0, n, 2 * n.bit_length())
    _insert(order, keys, 0, n)

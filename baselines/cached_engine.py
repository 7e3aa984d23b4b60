"""The engine that keeps every episode's keys and values between turns.

A cache has seats; an episode sits in one. A seat is a row of one preallocated buffer per layer,
[seats, heads, cells, dimension], and holds the keys and values of the tokens in its cells 0, 1, 2, ... A
turn looks for the longest beginning that its prompt shares with what its seat holds (or, for a new
episode, with what any seat holds) and computes only the rest.

Passes come in two forms. Row by row, on the CPU: the new tokens of all seats stand one after another, and
attention goes seat by seat over just the cells that it holds; in the last layer, only from tokens whose
logits are wanted; a beginning that several seats hold is read once for all of them. Padded, on a GPU and
for models with an attention of their own: seats that do different numbers of tokens are padded on the left,
padding is written to one spare cell at the end of each row that nothing reads, and as many cells are read
of each as the longest has, in steps of `BUCKET`. Padded passes of one token a seat can have a few fixed
shapes, which CUDA graphs replay without Python.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from prosegym.baselines.attention import FLASH, PACKED, PLAN, Layer, Linear, Plan, Shapes, Stem, Stretch
from prosegym.baselines.engine import Engine, PlainEngine, Seat, Tree, sent
from prosegym.baselines.tree import common

log = logging.getLogger(__name__)

BUCKET = 64
"""Lengths are rounded up to multiples of this."""

STEP = 256
"""Passes of a fixed shape read multiples of this many cells."""

SHARED = 32
"""Fewest tokens more for which another seat's beginning is copied rather than computed."""

JOIN = 64
"""Cells that can be read in the time that it takes to join what one seat finds in two places."""

SHARE = 0.8
"""Of a GPU's memory that nothing else takes, how much a cache without a bound of its own may have."""

SPARED = 1024
"""Fewest cells that a pass must be spared for a common beginning to be read once for several seats."""


class CachedEngine:
    """Keeps every seat's keys and values between turns, within a bound on memory."""

    def __init__(
        self,
        model: Any,
        *,
        max_context: int,
        cache_bytes: int | None,
        pass_tokens: int = 0,
        max_seats: int = 1024,
        static: bool | None = None,
    ) -> None:
        """Find out the shapes of the model's keys and values; nothing is allocated yet.

        Args:
            model: a causal language model with attention layers only.
            max_context: longest sequence, in tokens.
            cache_bytes: most memory for keys and values; one sequence is always allowed. None, on a GPU: a
                share of what it and nothing else holds, looked up whenever it is to grow.
            pass_tokens: most tokens, padding included, of one forward pass; 0 chooses by the device.
            max_seats: most sequences held.
            static: whether passes of one token a seat have a few fixed shapes, which on a GPU are recorded as
                CUDA graphs; by default on a GPU.
        """
        self._model = model
        self._config = model.config.get_text_config()
        self._max_context = max_context
        self._max_seats = max_seats
        self._pass_tokens = pass_tokens or (512 if model.device.type == "cpu" else 8192)
        count = int(self._config.num_hidden_layers)
        probes = [Shapes() for _ in range(count)]  # type: ignore[no-untyped-call]
        ids = torch.zeros((1, 1), dtype=torch.long, device=model.device)
        model(input_ids=ids, past_key_values=Cache(layers=list(probes)), use_cache=True)
        self._shapes = [probe.shape for probe in probes]
        self._dtype = probes[0].kind
        self._per_cell = int(sum(h * d + g * e for h, d, g, e in self._shapes) * self._dtype.itemsize)
        self._cache_bytes = cache_bytes
        kinds = _kinds(self._config, count)
        self._windows = dict(kinds)
        """How far back each kind of layer looks; None for all the way."""
        own = self._config._attn_implementation
        self._attention = PACKED if own == "sdpa" else own
        key_heads = {shape[0] for shape in self._shapes} | {shape[2] for shape in self._shapes}
        if self._attention == PACKED and len(key_heads) != 1:
            self._attention = "sdpa"
        self._group = 1
        """Query heads whose masks are stacked."""
        if self._attention == PACKED:
            self._group = int(self._config.num_attention_heads) // key_heads.pop()
        self._row_by_row = self._attention == PACKED and model.device.type == "cpu"
        self._stemmed = FLASH is not None and all(shape[1] == shape[3] for shape in self._shapes)
        """Whether attention can be put together from parts: torch's own wants keys as long as values."""
        self._linear = Linear.of(model) if self._row_by_row else []
        self._static = model.device.type == "cuda" if static is None else static
        self._steps: dict[tuple[int, int], _Step] = {}
        self.graphs = Graphs(model.device) if model.device.type == "cuda" else None
        """Where steps are recorded, while that goes well."""
        self._plan = Plan()
        self._layers = [Layer(self._plan, window, i == count - 1) for i, (_, window) in enumerate(kinds)]
        self._cache = Cache(layers=list(self._layers))
        self._look_up()
        self._seats: list[Seat] = []
        self._by_key: dict[Hashable, Seat] = {}
        self._rows = 0
        self._cells = 0
        self._clock = 0
        self._stems: dict[Seat, Stem] = {}
        self._stems_of = 0
        """The opening after which they were found."""

    @property
    def device(self) -> Any:
        """The model's."""
        return self._model.device

    @property
    def spare(self) -> int:
        """The cell of each row that nothing reads."""
        return self._cells

    @property
    def _lazy(self) -> bool:
        """Whether no pass reads cells that were never written to: they take no memory, however many."""
        return self._row_by_row and not self._static

    # Seats.

    def open(self, key: Hashable, token_ids: Sequence[int]) -> Seat | None:
        """A seat for a sequence, holding a beginning of it (never all of it); None while there is no room."""
        self._clock += 1
        if self._cache_bytes is None and not any(seat.taken for seat in self._seats):
            self._look_up()
        most = len(token_ids) - 1
        seat = self._by_key.get(key) if key is not None else None
        if seat is not None and not seat.taken:
            del seat.token_ids[min(common(seat.token_ids, token_ids), most) :]
        else:
            seat = self._vacant(len(token_ids) + BUCKET)
            if seat is None:
                return None
            self._by_key.pop(seat.key, None)
            seat.key = key
            if key is not None:
                self._by_key[key] = seat
        self._copy_beginning(seat, token_ids, most)
        seat.taken, seat.used = True, self._clock
        return seat

    def close(self, seat: Seat) -> None:
        """The answer is finished; the seat keeps what it holds while there is room."""
        seat.taken = False

    def room(self, length: int) -> int:
        """How many sequences of that length can be in use at once; at least 1."""
        return min(max(self._max_cells // self._capacity(length), 1), self._max_seats)

    def forget(self) -> None:
        """Let go of everything held; no seat may be in use."""
        self._seats, self._by_key, self._stems, self._rows, self._cells = [], {}, {}, 0, 0
        self._steps.clear()
        if self.graphs is not None:
            self.graphs = Graphs(self.device)
        for layer in self._layers:
            layer.keys = layer.values = None

    def _vacant(self, cells: int) -> Seat | None:
        """A seat that nobody uses: a new one while memory lasts, else the one unused for longest."""
        capacity = max(self._cells, self._capacity(cells))
        if len(self._seats) < min(self._max_cells // capacity or 1, self._max_seats):
            seat = Seat(len(self._seats))
            self._seats.append(seat)
            return seat
        free = [seat for seat in self._seats if not seat.taken]
        if not free:
            return None
        seat = min(free, key=lambda s: s.used)
        seat.token_ids.clear()
        return seat

    def _copy_beginning(self, seat: Seat, token_ids: Sequence[int], most: int) -> None:
        held = len(seat.token_ids)
        if most < held + SHARED:
            return
        next_ones = token_ids[held : held + SHARED]
        donors = [s for s in self._seats if s.token_ids[held : held + SHARED] == next_ones]
        if not donors:
            return
        donor = max(donors, key=lambda s: common(s.token_ids, token_ids))
        count = min(common(donor.token_ids, token_ids), most)
        if count <= held:
            return
        self._reserve(count)
        for layer in self._layers:
            for buffer in (layer.keys, layer.values):
                assert buffer is not None
                buffer[seat.row, :, held:count] = buffer[donor.row, :, held:count]
        seat.token_ids[:] = token_ids[:count]

    # Memory.

    def _look_up(self) -> None:
        """How many cells there may be; on a GPU that others use, too, it is another number each time."""
        most = self._cache_bytes
        if most is None:
            cuda, device = torch.cuda, self._model.device
            free = cuda.mem_get_info(device)[0] + cuda.memory_reserved(device) - cuda.memory_allocated(device)
            held = sum(
                b.nbytes for layer in self._layers for b in (layer.keys, layer.values) if b is not None
            )
            most = int(SHARE * (free + held))
        self._max_cells = max(most // self._per_cell, 1)

    def _capacity(self, cells: int) -> int:
        """Cells a seat is given for that many tokens."""
        return min(_round(cells), _round(self._max_context))

    def _fitting(self, seats: int) -> int:
        """Cells that there is memory for in each of so many seats."""
        return self._max_cells // max(seats, 1) // BUCKET * BUCKET

    def _reserve(self, cells: int) -> None:
        """Room for every seat, and for `cells` cells in each; what is held is kept.

        Where memory is short, seats that nobody uses are given up, those unused for longest first.
        """
        if len(self._seats) <= self._rows and cells <= self._cells:
            return
        self._look_up()
        wanted = self._cells
        before = {seat: seat.row for seat in self._seats if seat.token_ids}
        if cells > self._cells:
            ahead = 2 * self._cells
            if self._lazy:  # what is not written to takes no memory
                ahead = max(2 * cells, self._max_cells // self._max_seats // BUCKET * BUCKET)
            taken = sum(seat.taken for seat in self._seats)
            # Growth copies what is held: for an eighth of room ahead, seats that nobody uses are given up.
            wanted = max(
                self._capacity(cells),
                min(self._capacity(ahead), self._fitting(len(self._seats))),
                min(self._capacity(cells + cells // 8), self._fitting(taken)),
            )
            self._shrink(max(self._max_cells // wanted, 1))
        rows = max(len(self._seats), 1)
        most = min(max(self._max_cells // wanted, rows), self._max_seats)
        if self._lazy:
            rows = most
        elif rows > self._rows:
            rows = min(max(_round(rows, 8), 2 * self._rows), most)  # each growth copies what is held
        else:
            rows = min(self._rows, most)
        held = [(before[seat], seat.row, len(seat.token_ids)) for seat in self._seats if seat.token_ids]
        self._steps.clear()
        for layer, (heads, size, value_heads, value_size) in zip(self._layers, self._shapes, strict=True):
            made = []
            for old, h, d in ((layer.keys, heads, size), (layer.values, value_heads, value_size)):
                # Padded passes read cells that were never written to, under a mask: they must be finite.
                make = torch.empty if self._lazy else torch.zeros
                new = make((rows, h, wanted + 1, d), dtype=self._dtype, device=self._model.device)
                if held:
                    self._carry(old, new, held)
                made.append(new)
            layer.make(*made)
        self._rows, self._cells = rows, wanted

    def _carry(self, old: Any, new: Any, held: Sequence[tuple[int, int, int]]) -> None:
        """Copy what seats hold into a new buffer; of each: its row in the old one, in the new one, cells."""
        if self._lazy:
            for was, row, count in held:
                new[row, :, :count] = old[was, :, :count]
        else:  # at once: a GPU takes longer to be told of a row than to copy it
            source, target, counts = zip(*held, strict=True)
            most, device = max(counts), self._model.device
            part = old[:, :, :most].index_select(0, sent(source, device))
            new[:, :, :most].index_copy_(0, sent(target, device), part)

    def _shrink(self, count: int) -> None:
        """Keep at most `count` seats, those in use in any case; they get the first rows of new buffers."""
        if len(self._seats) <= count:
            return
        order = sorted(self._seats, key=lambda s: (not s.taken, -s.used))
        keep = order[: max(count, sum(s.taken for s in order))]
        for seat in order[len(keep) :]:
            self._by_key.pop(seat.key, None)
        self._seats = sorted(keep, key=lambda s: s.row)
        for row, seat in enumerate(self._seats):
            seat.row = row

    def _move(self, seats: Sequence[Seat], rows: Iterable[int]) -> None:
        """Put seats into other rows, all at once."""
        moves = [(seat, row) for seat, row in zip(seats, rows, strict=True) if seat.row != row]
        length = max((len(seat.token_ids) for seat, _ in moves), default=0)
        if length:
            source = sent([seat.row for seat, _ in moves], self._model.device)
            target = sent([row for _, row in moves], self._model.device)
            for layer in self._layers:
                for buffer in (layer.keys, layer.values):
                    assert buffer is not None
                    part = buffer[:, :, :length]
                    part[target] = part[source]
        for seat, row in moves:
            seat.row = row

    def _gather(self, seats: Sequence[Seat], begin: int | None = None) -> None:
        """Bring seats into the first rows where they are scattered among twice as many others.

        A pass goes from row `begin`, by default the first of theirs, to the last of theirs.
        """
        rows = [seat.row for seat in seats]
        if max(rows) + 1 - (min(rows) if begin is None else begin) < 2 * len(rows):
            return
        wanted, inside = set(seats), set(range(len(seats)))
        coming = [seat for seat in seats if seat.row not in inside]
        going = [seat for seat in self._seats if seat.row in inside and seat not in wanted]
        self._move([*coming, *going], [s.row for s in going] + [s.row for s in coming])

    # Forward passes.

    def feed(
        self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> Any:
        """Append tokens to each seat; logits after the last `keep[i]` (by default 1) of each, in order."""
        keep = keep or [1] * len(seats)
        self._reserve(max(len(s.token_ids) + len(new) for s, new in zip(seats, tokens, strict=True)))
        single = all(len(new) == 1 for new in tokens)
        if single and self._static:
            logits = self._step(seats, tokens)
        elif self._row_by_row:
            logits = self._feed_rows(seats, tokens, keep)
        elif single:
            self._gather(seats)
            logits = self._padded(seats, [len(seat.token_ids) for seat in seats], tokens)[:, -1]
        else:
            logits = self._feed_padded(seats, tokens, keep)
        for seat, new in zip(seats, tokens, strict=True):
            seat.token_ids += new
        return logits

    def spread(self, seats: Sequence[Seat], trees: Sequence[Tree]) -> list[Any]:
        """Logits after each node of a tree that goes on from a seat, which stays as it is."""
        sizes = [len(tree.tokens) for tree in trees]
        self._reserve(max(len(s.token_ids) + size for s, size in zip(seats, sizes, strict=True)))
        found: list[Any] = [None] * len(seats)
        for group in self._groups(sizes):
            some, grown = [seats[i] for i in group], [trees[i] for i in group]
            tokens = [tree.tokens for tree in grown]
            bases = [len(seat.token_ids) for seat in some]
            if self._row_by_row:
                logits = self._rows_pass(some, bases, tokens, range(sum(map(len, tokens))), trees=grown)
                parts = logits.split([len(new) for new in tokens])
            else:
                padded = self._padded(some, bases, tokens, max(map(len, tokens)), grown)
                parts = [row[len(row) - len(new) :] for row, new in zip(padded, tokens, strict=True)]
            for i, part in zip(group, parts, strict=True):
                found[i] = part
        return found

    # Passes that go row by row.

    def _feed_rows(self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]], keep: Sequence[int]) -> Any:
        logits = []
        for portion in _portions([len(new) for new in tokens], self._pass_tokens):
            kept: list[int] = []
            at = 0
            for i, begin, end in portion:
                first = max(begin, len(tokens[i]) - keep[i])
                kept += range(at + first - begin, at + end - begin)
                at += end - begin
            found = self._rows_pass(
                [seats[i] for i, _, _ in portion],
                [len(seats[i].token_ids) + begin for i, begin, _ in portion],
                [tokens[i][begin:end] for i, begin, end in portion],
                kept,
            )
            if kept:
                logits.append(found)
        return torch.cat(logits) if len(logits) > 1 else logits[0]

    def _rows_pass(
        self,
        seats: Sequence[Seat],
        bases: Sequence[int],
        tokens: Sequence[Sequence[int]],
        kept: Sequence[int],
        trees: Sequence[Tree] | None = None,
    ) -> Any:
        """One pass over the tokens of all seats, one after another; `bases` are the cells they begin at.

        Returns logits after the tokens `kept`, counted through all seats, in order; with trees, all are kept.
        """
        rows: list[int] = []
        cells: list[int] = []
        positions: list[int] = []
        stretches, ends = [], []
        self._find_stems()
        stems: dict[int, tuple[Stem, list[int]]] = {}
        for i, (seat, base, new) in enumerate(zip(seats, bases, tokens, strict=True)):
            tree = trees[i] if trees is not None else None
            stem = self._stems.get(seat)
            if stem is not None:
                stem.row = seat.row
                stems.setdefault(id(stem), (stem, []))[1].extend(range(len(rows), len(rows) + len(new)))
            held = 0 if stem is None else stem.length
            stretches.append(self._stretch(seat, base, len(new), 0, held, tree))
            first = bisect.bisect_left(kept, len(rows))  # of its tokens among those kept
            idle = min(kept[first] - len(rows), len(new)) if first < len(kept) else len(new)
            ends.append(self._stretch(seat, base, len(new), idle, held, tree) if idle else stretches[-1])
            rows += [seat.row] * len(new)
            cells += range(base, base + len(new))
            positions += (base + depth for depth in tree.depths) if tree else range(base, base + len(new))
        for stem, places in stems.values():
            stem.places = torch.tensor(places)
        read = [stem for stem, _ in stems.values()]
        self._plan.begin_rows(torch.tensor(rows), torch.tensor(cells)[:, None], stretches, ends, read)
        none = torch.zeros((1, 1, 1, 1))  # stands for a mask: else the model would make one
        masks = dict.fromkeys(self._windows, none) if len(self._windows) > 1 else none
        ids, keep = torch.tensor([[token for new in tokens for token in new]]), torch.tensor(kept or [0])
        return self._pass(ids, torch.tensor([positions]), masks, 0 if len(kept) == len(rows) else keep)[0]

    def _find_stems(self) -> None:
        """Which seats in use hold a beginning in common: what they hold is settled until the next opening."""
        if self._stems_of == self._clock or not self._stemmed:
            return
        self._stems, self._stems_of = {}, self._clock
        seats = sorted((seat for seat in self._seats if seat.taken), key=lambda seat: seat.token_ids)
        alike = [common(a.token_ids, b.token_ids) for a, b in itertools.pairwise(seats)]
        ways = [list(_runs(alike, max(alike, default=0) >> i)) for i in range(4)]  # long and few, or short
        at = 0
        for size, length in max(ways, key=lambda runs: sum(_spared(*run) for run in runs)):
            if _spared(size, length) >= SPARED:
                self._stems |= dict.fromkeys(seats[at : at + size], Stem(length))
            at += size

    def _stretch(self, seat: Seat, base: int, count: int, idle: int, held: int, tree: Tree | None) -> Stretch:
        seen = {w: self._seen(base + idle, count - idle, w, held, tree) for w in self._windows.values()}
        return Stretch(seat.row, idle, count - idle, base + count, seen)

    def _seen(
        self, base: int, count: int, window: int | None, held: int, tree: Tree | None
    ) -> tuple[int, Any]:
        """The first cell that tokens in cells `base`, `base + 1`, ... look at, and the mask from there on.

        Without a window, those before `held` are looked at elsewhere.
        """
        first = max(base - window + 1, 0) if window is not None else held
        if count <= 1:
            return first, None
        if window is None and tree is None:
            mask = torch.full((count, base + count - first), torch.finfo(self._dtype).min, dtype=self._dtype)
            mask.triu_(base + 1 - first)
            return first, self._stacked(mask)
        ahead = torch.arange(count) if tree is None else torch.tensor(tree.depths)
        places = torch.cat([torch.arange(first, base), base + ahead])
        seen = places <= base + ahead[:, None]
        if window is not None:
            seen &= places > base + ahead[:, None] - window
        if tree is not None:
            seen[:, base - first :] &= _ancestry(tree)
        mask = torch.zeros(seen.shape, dtype=self._dtype).masked_fill_(~seen, torch.finfo(self._dtype).min)
        return first, self._stacked(mask)

    def _stacked(self, mask: Any) -> Any:
        """The same for each token's query heads, one after another: [t, length] -> [1, 1, t * g, length]."""
        return (mask if self._group == 1 else mask.repeat_interleave(self._group, dim=0))[None, None]

    # Padded passes.

    def _feed_padded(
        self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]], keep: Sequence[int]
    ) -> Any:
        logits: list[Any] = [None] * len(seats)
        for group in self._groups([len(new) for new in tokens]):
            most = max(keep[i] for i in group)
            step = max(self._pass_tokens // len(group), most)
            done = dict.fromkeys(group, 0)
            # All but the last `step` tokens of each, a piece at a time.
            while some := [i for i in group if len(tokens[i]) - done[i] > step]:
                ends = {i: min(done[i] + step, len(tokens[i]) - step) for i in some}
                self._padded(
                    [seats[i] for i in some],
                    [len(seats[i].token_ids) + done[i] for i in some],
                    [tokens[i][done[i] : ends[i]] for i in some],
                )
                done |= ends
            last = self._padded(
                [seats[i] for i in group],
                [len(seats[i].token_ids) + done[i] for i in group],
                [tokens[i][done[i] :] for i in group],
                most,
            )
            for i, row in zip(group, last, strict=True):
                logits[i] = row[len(row) - keep[i] :]
        return torch.cat(logits)

    def _groups(self, counts: Sequence[int]) -> list[list[int]]:
        """Indices in groups of similar counts: padding at most doubles a group."""
        order = sorted(range(len(counts)), key=lambda i: counts[i])
        groups: list[list[int]] = []
        for i in order:
            small = groups and counts[i] <= max(2 * counts[groups[-1][0]], 16)
            if small and counts[i] * (len(groups[-1]) + 1) <= self._pass_tokens:
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def _padded(
        self,
        seats: Sequence[Seat],
        bases: Sequence[int],
        tokens: Sequence[Sequence[int]],
        keep: int = 1,
        trees: Sequence[Tree] | None = None,
    ) -> Any:
        """One pass over tokens of seats that begin at cells `bases`; every seat has as many columns.

        Returns logits after the last `keep` columns: [n, keep, vocabulary].
        """
        width = max(len(new) for new in tokens)
        length = min(_round(max(bases) + width), self._cells)
        rows = [seat.row for seat in seats]
        begin, end = min(rows), max(rows) + 1
        whole = end - begin < 2 * len(rows) and (width == 1 or end - begin == len(rows))
        count = end - begin if whole else len(rows)
        ids = [[0] * width for _ in range(count)]
        first = [-1] * count
        """Cell of each row's first column; columns before its base are padding."""
        start = [width] * count
        places = []
        for at, (seat, base, new) in enumerate(zip(seats, bases, tokens, strict=True)):
            place = seat.row - begin if whole else at
            places.append(place)
            ids[place][width - len(new) :] = new
            start[place] = width - len(new)
            first[place] = base - start[place]
        device = self._model.device
        columns = torch.arange(width, device=device)
        cells = sent(first, device)[:, None] + columns  # [n, t]
        real = columns >= sent(start, device)[:, None]
        self._plan.begin(
            torch.arange(begin, end, device=device) if whole else sent(rows, device),
            torch.where(real, cells, self._cells),
            (begin, end) if whole else None,
            length,
        )
        positions = cells.clamp(min=0)
        if trees is None:
            masks = self._masks(positions, length)
        else:
            ahead = torch.zeros((count, width), dtype=torch.long)
            seen = torch.zeros((count, width, length), dtype=torch.bool)
            held = torch.arange(length).repeat(count, 1)
            for place, base, tree in zip(places, bases, trees, strict=True):
                size = len(tree.tokens)
                ahead[place, width - size :] = base + torch.tensor(tree.depths)
                seen[place, width - size :, :base] = True
                seen[place, width - size :, base : base + size] = _ancestry(tree)
                held[place, base : base + size] = ahead[place, width - size :]
            positions = sent(ahead, device)
            masks = self._masks(
                positions, length, seen=sent(seen, device), places=sent(held[:, None], device)
            )
        logits = self._pass(sent(ids, device), positions, masks, keep)
        return logits if places == list(range(count)) else logits[sent(places, device)]

    # Passes of a fixed shape.

    def _step(self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]]) -> Any:
        """One token a seat: rows 0, 1, ... up to a power of two, and a multiple of `STEP` cells."""
        self._gather(seats, 0)
        rows = min(1 << max(seat.row for seat in seats).bit_length(), self._rows)
        length = min(_round(max(len(s.token_ids) for s in seats) + 1, STEP), self._cells)
        if (rows, length) not in self._steps:
            self._steps[rows, length] = _Step(self, rows, length)
        ids, cells = [0] * rows, [self._cells] * rows
        for seat, new in zip(seats, tokens, strict=True):
            ids[seat.row], cells[seat.row] = new[0], len(seat.token_ids)
        logits = self._steps[rows, length](ids, cells)
        return logits[sent([seat.row for seat in seats], logits.device)]

    def one_each(self, ids: Any, cells: Any, length: int) -> Any:
        """One token for each of the first rows: ids and cells [n], the spare cell where a row has none.

        Touches only tensors on the model's device, so that it can be recorded. Returns [n, vocabulary].
        """
        idle = cells == self._cells
        positions = torch.where(idle, 0, cells)[:, None]
        self._plan.begin(torch.arange(len(ids), device=ids.device), cells[:, None], (0, len(ids)), length)
        return self._pass(ids[:, None], positions, self._masks(positions, length))[:, -1]

    def _pass(self, ids: Any, positions: Any, masks: Any, keep: Any = 1) -> Any:
        """One pass as planned; logits after the last `keep` columns (0: all), or after those it lists."""
        own = self._config._attn_implementation
        self._config._attn_implementation = self._attention
        token = PLAN.set(self._plan)
        for attributes, stand_in in self._linear:
            attributes["forward"] = stand_in
        try:
            output = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=masks,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        finally:
            for attributes, _ in self._linear:
                attributes.pop("forward", None)
            PLAN.reset(token)
            self._config._attn_implementation = own
        return output.logits

    def _masks(self, positions: Any, length: int, *, seen: Any = None, places: Any = None) -> Any:
        """What each token may look at, to be added to scores: [n, 1, g * t, length], one per kind of layer.

        `seen` is what each may look at but for windows, `places` the position of the token in each cell; by
        default cell i holds position i and everything up to a token's own position is seen.
        """
        if places is None:
            places = torch.arange(length, device=positions.device)
        if seen is None:
            seen = places <= positions[:, :, None]
        masks = {}
        for kind, window in self._windows.items():
            seeing = seen if window is None else seen & (places > positions[:, :, None] - window)
            masks[kind] = self._added(seeing)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _added(self, seen: Any) -> Any:
        """What is added to scores: [n, t, length] -> [n, 1, g * t, length]."""
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(self._dtype).min)
        if self._group == 1:
            return mask[:, None]
        return mask[:, None].expand(-1, self._group, -1, -1).flatten(1, 2)[:, None]


class Graphs:
    """Where the steps of an engine are recorded."""

    def __init__(self, device: Any) -> None:
        cuda: Any = torch.cuda  # its classes have no types
        self.stream: Any = cuda.Stream(device)
        """One for all: libraries keep memory for each stream that they have worked on."""
        self.pool: Any = cuda.graph_pool_handle()
        """The memory that recorded steps share: one is replayed at a time."""
        self.logits: Any = None
        """What each of them gives, [rows, vocabulary]: it is read before the next one runs."""
        self.device = device

    def end(self) -> None:
        """After a recording that failed: torch's allocator and generator may still be in it (up to 2.12).

        The one no longer frees what it keeps when memory runs out, the other refuses to draw (dropout).
        """
        cuda: Any = torch.cuda
        # Its name from 2.8 on, and before.
        names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
        end = next((f for name in names if (f := getattr(cuda.memory, name, None))), None)
        if end is not None:
            with contextlib.suppress(RuntimeError):  # it was never in it, or no longer is
                end(self.device.index, self.pool)
        generator = cuda.default_generators[self.device.index]
        generator.graphsafe_set_state(generator.clone_state())


class _Step:
    """A pass of one token for each of the first `rows` rows, reading `length` cells: on a GPU, a graph."""

    def __init__(self, engine: CachedEngine, rows: int, length: int) -> None:
        self._fed: Any = torch.zeros((2, rows), dtype=torch.long, device=engine.device)
        self._fed[1] = engine.spare
        ids, cells = self._fed
        self._run: Callable[[], Any] = lambda: engine.one_each(ids, cells, length)
        self._graph: Any = None
        if engine.graphs is not None:
            try:
                self._record(engine.graphs, rows)
            except RuntimeError as error:
                engine.graphs.end()
                self._graph = engine.graphs = None
                log.warning("no CUDA graph for this model, each kernel is launched from Python: %s", error)

    def _record(self, graphs: Graphs, rows: int) -> None:
        cuda: Any = torch.cuda
        graphs.stream.wait_stream(cuda.current_stream(graphs.device))
        mode = cuda.get_sync_debug_mode()
        with warnings.catch_warnings():  # of torch's: not every wait is found
            warnings.filterwarnings("ignore", "Synchronization debug mode")
            # A pass that waits for the GPU is refused before it is recorded.
            cuda.set_sync_debug_mode("error")
        try:
            with cuda.stream(graphs.stream):  # libraries set themselves up outside the recording
                found = self._run()
        finally:
            cuda.set_sync_debug_mode(mode)
            cuda.current_stream(graphs.device).wait_stream(graphs.stream)
        if graphs.logits is None or len(graphs.logits) < rows:
            graphs.logits = torch.empty_like(found)
        self._logits = graphs.logits[:rows]
        self._graph = cuda.CUDAGraph()
        # Other threads may go on allocating meanwhile. A recording that fails leaves its stream current.
        recording = cuda.graph(
            self._graph, pool=graphs.pool, stream=graphs.stream, capture_error_mode="thread_local"
        )
        with cuda.stream(graphs.stream), recording:
            self._logits.copy_(self._run())

    def __call__(self, ids: Sequence[int], cells: Sequence[int]) -> Any:
        """Logits [rows, vocabulary]; they are overwritten by the next call."""
        self._fed.copy_(sent([ids, cells], self._fed.device))
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._logits


def _kinds(config: Any, layers: int) -> list[tuple[str, int | None]]:
    """The kind of each layer, and how far back it looks; None for all the way."""
    own = config.to_dict()
    window = own.get("sliding_window")
    kinds = own.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    if other := set(kinds) - {"full_attention", "sliding_attention"}:
        # A window of another form can be wider than the trial of `make_engine` is long.
        raise NotImplementedError(f"it has layers of the kind {sorted(other)[0]}")
    return [(kind, window if kind == "sliding_attention" else None) for kind in kinds]


def _turned_anew_after(config: Any) -> float:
    """Tokens after which all positions, earlier ones too, get other angles, as two rotary embeddings do."""
    found = getattr(config, "rope_parameters", None) or {}
    for rope in (found, *found.values()):  # of all layers, or by their kind
        if isinstance(rope, dict) and rope.get("rope_type") in ("longrope", "dynamic"):
            own = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            return int(own)
    return math.inf


def _ancestry(tree: Tree) -> Any:
    """Which nodes each node looks at, itself among them: [nodes, nodes]."""
    size = len(tree.tokens)
    ancestry = torch.eye(size, dtype=torch.bool)
    for i, parent in enumerate(tree.parents):
        if parent >= 0:
            ancestry[i] |= ancestry[parent]
    return ancestry


def _portions(counts: Sequence[int], most: int) -> Iterator[list[tuple[int, int, int]]]:
    """Sequences of so many tokens, in portions of at most `most`: (sequence, begin, end), in order."""
    portion: list[tuple[int, int, int]] = []
    room = most
    for i, count in enumerate(counts):
        begin = 0
        while begin < count:
            end = min(begin + room, count)
            portion.append((i, begin, end))
            room -= end - begin
            begin = end
            if not room:
                yield portion
                portion, room = [], most
    if portion:
        yield portion


def _runs(alike: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
    """Sequences in runs whose neighbours have at least so many tokens in common: sizes, common lengths.

    `alike` is how many each but the first has in common with the one before it; sequences are sorted.
    """
    size, length = 1, 0
    for count in alike:
        if count < least:
            yield size, length
            size, length = 1, 0
        else:
            size, length = size + 1, count if size == 1 else min(count, length)
    yield size, length


def _spared(size: int, length: int) -> int:
    """Cells that so many seats are spared by a common beginning of that length."""
    return (size - 1) * max(length - JOIN, 0)


def _round(count: int, step: int = BUCKET) -> int:
    return -(-count // step) * step


@torch.inference_mode()
def make_engine(
    model: Any, *, max_context: int, cache_bytes: int | None, static: bool | None = None
) -> Engine:
    """The cached engine where this model gives the same logits with it as without, else the plain one."""
    longest = _turned_anew_after(model.config.get_text_config())
    if max_context > longest:
        log.warning(
            "no cache between turns for %s: beyond %d tokens all positions change; max_context=%d keeps it",
            *(type(model).__name__, longest, longest),
        )
        return PlainEngine(model, alone=True)
    rows = [[(7 * i + j * j) % 50 + 1 for i in range(9 + 4 * j)] for j in range(3)]
    seats = [Seat(0) for _ in rows]
    alone: Engine = PlainEngine(model, alone=True)
    fresh = alone.feed(seats, rows).float()
    branches = Tree([5, 9, 7], [-1, 0, -1])
    (fork,) = alone.spread(seats[:1], [branches])

    def differ(found: Any, wanted: Any) -> bool:
        error, tolerance = (found.float() - wanted.float()).abs(), 1e-3
        if model.dtype != torch.float32:  # among 100,000 words, one is off by five times the mean
            error, tolerance = error.square().mean(-1).sqrt(), 0.1
        return not float(error.max()) <= tolerance * max(float(fresh.std()), 1e-6)  # NaN differs, too

    plain: Engine = PlainEngine(model)
    if differ(plain.feed([Seat(0) for _ in rows], rows), fresh):  # it reads the padding
        plain = alone
    try:
        engine = CachedEngine(model, max_context=max_context, cache_bytes=cache_bytes, static=static)
        trial = CachedEngine(model, max_context=max_context, cache_bytes=1 << 30, static=static)
        seats = []
        for row in rows:
            seat = trial.open(None, row)
            if seat is None:
                raise RuntimeError("no room for three short sequences")
            seats.append(seat)
        trial.feed(seats, [row[: len(row) // 2] for row in rows])
        cached = trial.feed(seats, [row[len(row) // 2 :] for row in rows])
        (spread,) = trial.spread(seats[:1], [branches])
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError) as error:
        log.warning("no cache between turns for %s: %s", type(model).__name__, error)
        return plain
    if differ(cached, fresh) or differ(spread, fork):
        log.warning("no cache between turns for %s: its logits would differ", type(model).__name__)
        return plain
    return engine

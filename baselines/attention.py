"""What a layer does in a pass of the cached engine: where new keys and values go, and which ones are read.

transformers' models run as they are. Their cache is made of `Layer`s, which write into the engine's buffers;
their attention is `attend`, which reads there; what the pass at hand writes and reads, its `Plan` says. On a
CPU their linear layers are computed by oneDNN, while the pass lasts.

A beginning that several seats hold, an instruction with its examples, is read once for all of them: attention
over it and over the rest of each seat are put together by their sums of exponentials, as in Hydragen
(Juravsky et al. 2024, arXiv:2402.05099).

Left out: attention kernels of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Stretch:
    """The new tokens of one seat in a pass that goes row by row, as a layer attends from them."""

    row: int
    idle: int
    """New tokens that the layer does not attend from: in the last one, those whose logits nobody wants."""
    count: int
    """New tokens that it attends from, after those."""
    length: int
    """Cells that the seat then holds."""
    seen: dict[int | None, tuple[int, Any]]
    """For each window: the first cell read, and what to add to scores ([1, 1, count * g, cells]) or None.
    Without a window, cells before the first one read are a stem's."""


@dataclass
class Stem:
    """A beginning that several seats hold: read from one of them for all."""

    length: int
    """Cells."""
    row: int = 0
    """Where it is read in the present pass."""
    places: Any = None
    """[n] the tokens of the pass that attend to it."""


class Plan:
    """Which rows and cells the present forward pass writes and reads."""

    rows: Any
    """[n] the rows written."""
    cells: Any
    """[n, t] the cell of each token; the spare cell for padding."""
    span: tuple[int, int] | None
    """The rows read, where they are a range; else `rows` are read, by copy."""
    length: int
    """Cells read."""
    stretches: Sequence[Stretch]
    """Of a pass that goes row by row; `rows` and `cells` then are each token's: [n] and [n, 1]."""
    ends: Sequence[Stretch]
    """The same in the last layer."""
    stems: Sequence[Stem]
    """What layers without a window read for several stretches at once."""
    window: int | None
    last: bool
    """Of the layer at work."""

    def begin(self, rows: Any, cells: Any, span: tuple[int, int] | None, length: int) -> None:
        """Set out a padded pass."""
        self.rows, self.cells, self.span, self.length = rows, cells, span, length
        self.stretches = self.stems = ()
        self._places: dict[tuple[int, int], Any] = {}

    def begin_rows(
        self,
        rows: Any,
        cells: Any,
        stretches: Sequence[Stretch],
        ends: Sequence[Stretch],
        stems: Sequence[Stem],
    ) -> None:
        """Set out a pass that goes row by row."""
        self.begin(rows, cells, None, 0)
        self.stretches, self.ends, self.stems = stretches, ends, stems

    def places(self, heads: int, cells: int) -> Any:
        """Where new vectors go in a buffer [seats, heads, cells, d] seen as [seats * heads * cells, d]."""
        if (heads, cells) not in self._places:
            lines = self.rows[:, None] * heads + torch.arange(heads, device=self.rows.device)  # [n, heads]
            self._places[heads, cells] = (lines[:, :, None] * cells + self.cells[:, None, :]).flatten()
        return self._places[heads, cells]


PLAN: ContextVar[Plan] = ContextVar("plan")
"""Of the pass that is under way: for the attention function, which the model calls."""


class Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, all seats'."""

    def __init__(self, plan: Plan, window: int | None, last: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._plan = plan
        self._window = window
        self._last = last

    def make(self, keys: Any, values: Any) -> None:
        """Use these buffers, [seats, heads, cells + 1, dimension]."""
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Buffers are made before the first pass."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Write the new keys and values, return all that the pass may read."""
        plan = self._plan
        plan.window, plan.last = self._window, self._last
        assert self.keys is not None and self.values is not None
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            places = plan.places(buffer.shape[1], buffer.shape[2])
            if plan.stretches:  # [1, heads, n, d] -> [n, heads, 1, d]
                new = new.transpose(0, 2)
            buffer.view(-1, buffer.shape[3]).index_copy_(0, places, new.reshape(-1, new.shape[3]))
        if plan.stretches:
            return self.keys, self.values
        if plan.span is not None:
            begin, end = plan.span
            return self.keys[begin:end, :, : plan.length], self.values[begin:end, :, : plan.length]
        return (
            self.keys[:, :, : plan.length].index_select(0, plan.rows),
            self.values[:, :, : plan.length].index_select(0, plan.rows),
        )

    def get_seq_length(self) -> int:
        """Positions are always given, so nobody needs it."""
        return 0


class Shapes(DynamicLayer):  # type: ignore[no-untyped-call]
    """Finds out how many heads and dimensions a layer's keys and values have."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """What a plain cache does; the shapes and the kind of number are kept."""
        self.shape = (key_states.shape[1], key_states.shape[3], value_states.shape[1], value_states.shape[3])
        self.kind = key_states.dtype
        return super().update(key_states, value_states)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """Attention in which the query heads of one key head are stacked: keys and values are never repeated.

    query: [n, heads, t, d]; key, value: [n, key heads, length, d]; attention_mask: [n, 1, g * t, length], as
    the engine makes it, g being query heads per key head. Returns [n, t, heads, d]. In a pass that goes row
    by row n is 1, key and value are the whole buffers, and the plan says what each stretch of t reads.
    """
    plan = PLAN.get()
    if plan.stretches:
        return _row_by_row(plan, query, key, value, scaling), None
    n, heads, t, d = query.shape
    packed = query.reshape(n, key.shape[1], -1, d)
    out = torch.nn.functional.scaled_dot_product_attention(
        packed, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.reshape(n, heads, t, value.shape[-1]).transpose(1, 2), None


def _row_by_row(plan: Plan, query: Any, keys: Any, values: Any, scaling: float | None) -> Any:
    heads, count, d = keys.shape[1], query.shape[2], query.shape[3]
    # Of each key head token after token, of each token its query heads: [1, heads, n * g, d].
    query = query.reshape(heads, -1, count, d).transpose(1, 2).reshape(1, heads, -1, d)
    group = query.shape[2] // count
    stems = plan.stems if plan.window is None else ()
    stretches = plan.ends if plan.last else plan.stretches
    parts = iter(query.split([group * n for s in stretches for n in (s.idle, s.count)], dim=2))
    found, sums = [], []  # each [1, n * g, heads, d], as attention lays it out: they join without a copy more
    for stretch, idle, some in zip(stretches, parts, parts, strict=False):
        if stretch.idle:
            found.append(idle.new_zeros(1, idle.shape[2], heads, values.shape[3]))
            sums.append(idle.new_zeros(idle.shape[:3], dtype=torch.float32))
        if stretch.count:
            first, mask = stretch.seen[plan.window]
            key = keys[stretch.row : stretch.row + 1, :, first : stretch.length]
            value = values[stretch.row : stretch.row + 1, :, first : stretch.length]
            if stems:
                own, total = FLASH(some, key, value, attn_mask=mask, scale=scaling)
                sums.append(total)
            else:
                own = torch.nn.functional.scaled_dot_product_attention(
                    some, key, value, attn_mask=mask, scale=scaling
                )
            found.append(own.transpose(1, 2))
    joined = torch.cat(found, dim=1).view(count, group, heads, -1)
    if stems:
        out = joined.permute(2, 0, 1, 3)
        query, total = query.view(heads, count, group, d), torch.cat(sums, dim=2).view(heads, count, group)
        for stem in stems:
            row, at = slice(stem.row, stem.row + 1), stem.places
            key, value = keys[row, :, : stem.length], values[row, :, : stem.length]
            shared, more = FLASH(query[:, at].view(1, heads, -1, d), key, value, scale=scaling)
            share = torch.sigmoid(total[:, at] - more.view(heads, -1, group))[..., None].to(out.dtype)
            out[:, at] = torch.lerp(shared.view(heads, -1, group, out.shape[3]), out[:, at], share)
    return joined.transpose(1, 2).flatten(1, 2)[None]


ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""What `torch.compile` calls for a linear layer on a CPU."""

FEW = 32
"""Tokens of a pass below which setting oneDNN up costs more than it gains."""


class Linear:
    """A linear layer's float32 product by oneDNN: on an AMD CPU faster than by MKL, which torch chooses."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self._layer = layer

    def __call__(self, x: Any) -> Any:
        """What the layer gives."""
        layer = self._layer
        if torch.is_grad_enabled() or x.numel() < FEW * layer.in_features:
            return torch.nn.functional.linear(x, layer.weight, layer.bias)
        return ONEDNN(x, layer.weight, layer.bias, "none", [], "")

    @staticmethod
    def of(model: Any) -> list[tuple[dict[str, Any], Linear]]:
        """The attributes of each layer of the model that it can stand in for, and the stand-in."""
        if ONEDNN is None or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return []
        return [
            (layer.__dict__, Linear(layer))
            for layer in model.modules()
            if type(layer) is torch.nn.Linear and "forward" not in layer.__dict__
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
        ]


FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
"""What `scaled_dot_product_attention` calls on a CPU; it also gives logarithms of sums of exponentials. No
public name of torch: without it, every seat reads its own beginning."""

PACKED = "prosegym_packed"
"""Name under which transformers knows the engine's attention."""

transformers.AttentionInterface.register(PACKED, attend)

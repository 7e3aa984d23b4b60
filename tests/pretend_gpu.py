"""A GPU that is pretended: the operations run on the CPU, under the rules that CUDA has.

A tensor of the card is a wrapper around one on the CPU. What CUDA refuses is refused: tensors of both sides in
one operation; in a recording, whatever waits for the card or copies from memory that is not pinned. What
CUDA does in silence is counted: each wait of the host for the card. A recording is the list of operations
with the tensors that they read and wrote; replaying runs them again on the same tensors, after spoiling what
the other graphs of its memory pool hold, as their replay may. A recording that fails leaves behind what CUDA's
does up to torch 2.12: its stream, an allocator and a generator that are still in it. Left out: numbers
(kernels round otherwise), time, streams that race each other, gradients that cross, what a kernel of its own
would refuse.
"""

from __future__ import annotations

import collections
import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
DEVICE = torch.device("cuda:0")
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
"""They take places that lie on the CPU, and copy them."""
WAITS = (
    aten.item.default, aten.is_nonzero.default, aten.nonzero_numpy.default,  # as they are in inference mode
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten.repeat_interleave.Tensor, aten._unique2.default, aten.bincount.default, aten.unique_dim.default,
)  # fmt: skip
"""The host must know what they give, or its size."""


class OnCard(torch.Tensor):
    """A tensor of the pretended card."""

    host: torch.Tensor
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> OnCard:
        made: OnCard = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )
        made.host = inner
        CARD.live.add(made)
        return made

    def data_ptr(self) -> int:
        """That of the memory on the CPU."""
        return self.host.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.host.detach().__reduce_ex__(protocol)

    def __repr__(self, **kwargs: Any) -> str:
        return f"OnCard({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return CARD.do(func, args, kwargs or {})


class Card:
    """What is on it, and what it has done."""

    def __init__(self) -> None:
        self.total = 1 << 34
        self.live: weakref.WeakSet[OnCard] = weakref.WeakSet()
        self.waits: collections.Counter[str] = collections.Counter()
        """How often the host waited for the card, and for what."""
        self.recording: Graph | None = None
        self.inside = False
        """Whether an operation on the card is under way: what it makes is on the card."""
        self.mode = 0
        """What `torch.cuda.set_sync_debug_mode` said: 2 refuses to wait."""
        self.stream = self.first = Stream()
        """The current one, and that of the beginning."""
        self.generator = Generator()
        self.underway: list[Pool] = []
        """Where memory is taken from, for recordings that have not ended."""
        self.begun = 0
        """Recordings."""
        self.kept = 0
        """The allocator's bytes, those that no tensor holds among them."""

    def storages(self) -> dict[int, int]:
        """The memory that tensors hold: address and bytes."""
        found = (t.host.untyped_storage() for t in list(self.live))
        return {s.data_ptr(): s.nbytes() for s in found}

    def reserved(self) -> int:
        """Memory of the allocator: it keeps what tensors no longer hold."""
        self.kept = max(self.kept, sum(self.storages().values()))
        return self.kept

    def empty_cache(self) -> None:
        """Give back what no tensor holds; in a recording torch passes over it."""
        if not self.underway:
            self.kept = sum(self.storages().values())

    def end_allocate(self, index: int, pool: Pool) -> None:
        """What follows takes memory from elsewhere again."""
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def set_mode(self, mode: int | str) -> None:
        """What waits do."""
        self.mode = {"default": 0, "warn": 1, "error": 2}[mode] if isinstance(mode, str) else mode

    def unrecordable(self, what: str) -> None:
        """No wait, but nothing that can be recorded."""
        if self.recording is not None:
            self.recording.spoilt = True
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")

    def wait(self, what: str) -> None:
        """The host waits until the card has done all that it was given."""
        self.unrecordable(what)
        if self.mode == 2:
            raise RuntimeError(f"called a synchronizing CUDA operation ({what})")
        self.waits[what] += 1

    def do(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One operation."""
        leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        away = [x for x in leaves if not isinstance(x, OnCard)]
        if len(away) == len(leaves) and (leaves or not self.inside):
            return func(*args, **kwargs)
        name = str(func)
        if func in INDEXING:
            if not isinstance(args[0], OnCard):
                raise RuntimeError(
                    "indices should be either on cpu or on the same device as the indexed tensor"
                )
            if any(x.dim() for x in away):
                self.wait(f"{name} with places or values on the CPU")
            if any(x.dtype in (torch.bool, torch.uint8) for x in args[1] if x is not None):
                self.wait(f"{name} with a mask")
        elif any(x.dim() for x in away):
            shapes = [(tuple(x.shape), str(x.device)) for x in leaves]
            raise RuntimeError(f"{name}: expected all tensors to be on the same device: {shapes}")
        if func in WAITS:
            self.wait(name)
        plain, named = tree_map_only(OnCard, lambda x: x.host, (args, kwargs))
        out = func(*plain, **named)
        if self.recording is not None:
            self.recording.tape.append((func, plain, named, out))
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(torch.Tensor, OnCard, out))


class Stream:
    """What `torch.cuda.Stream` is."""

    def wait_stream(self, other: Any) -> None:
        """Nothing runs at the same time."""


class Generator:
    """The card's: while it is in a recording, nothing else can be drawn."""

    def __init__(self) -> None:
        self.capturing = False

    def clone_state(self) -> Generator:
        """Seed and offset only."""
        return Generator()

    def graphsafe_set_state(self, state: Generator) -> None:
        """That of another."""
        self.capturing = state.capturing


CARD = Card()


class Operations(TorchDispatchMode):
    """Sees the operations that no tensor of the card takes part in: those that make one."""

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return CARD.do(func, args, kwargs or {})


def _is_card(device: Any) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class Functions(TorchFunctionMode):
    """Sees what is called from Python: where a tensor is made, and where it is moved."""

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        on_card = isinstance(first, OnCard)
        if func in (torch.Tensor.to, torch.Tensor.cpu):
            return self._to(func, *args, **kwargs)
        if func is torch.Tensor.pin_memory:
            return _pinned(first.clone())
        if on_card and func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__):
            CARD.wait(name)
            return func(first.host.detach(), *args[1:], **kwargs)
        if func is torch.Tensor.copy_ and on_card != isinstance(args[1], OnCard):
            CARD.wait("copy") if on_card is False else _send(args[1], bool((*args[2:], *kwargs.values())))
            with torch.no_grad():
                (first.host if on_card else first).copy_(args[1] if on_card else args[1].host)
            torch.autograd.graph.increment_version(first)
            return first
        if func in (torch.Tensor.backward, torch.autograd.backward):
            return self._backward(*args, **kwargs)
        if name == "__get__":  # of an attribute
            return func(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None and func is not torch.device and not on_card or _is_card(device):
            if not _is_card(device):
                return func(*args, **kwargs)
            kwargs = {**kwargs, "device": "cpu"}
            if func in (torch.tensor, torch.as_tensor, torch.asarray):
                if not isinstance(first, OnCard):
                    made = func(*args, **kwargs)
                    if made.dim():
                        _send(made, early=False)
                    return OnCard(made)
            return self._run(func, args, kwargs)
        if func is torch.Tensor.new_tensor and on_card:
            made = torch.tensor(args[1], dtype=kwargs.get("dtype") or first.dtype)
            _send(made, early=False)
            return OnCard(made)
        if any(isinstance(x, OnCard) for x in tree_leaves((args, kwargs))):
            return self._run(func, args, kwargs)
        return func(*args, **kwargs)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        before, CARD.inside = CARD.inside, True
        try:
            return func(*args, **kwargs)
        finally:
            CARD.inside = before

    def _to(self, func: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        early = bool(kwargs.pop("non_blocking", False))
        if func is torch.Tensor.cpu:
            args, kwargs = ("cpu",), {}
        args = tuple(x.device if isinstance(x, torch.Tensor) else x for x in args)
        device = next((x for x in (*args, kwargs.get("device")) if isinstance(x, str | torch.device)), None)
        args = tuple("cpu" if isinstance(x, str | torch.device) else x for x in args)
        kwargs = {k: "cpu" if k == "device" and x is not None else x for k, x in kwargs.items()}
        on_card = isinstance(tensor, OnCard)
        if device is None or _is_card(device) == on_card:
            return (
                self._run(torch.Tensor.to, (tensor, *args), kwargs) if on_card else tensor.to(*args, **kwargs)
            )
        assert not (tensor.requires_grad and torch.is_grad_enabled()), (
            "a gradient would cross, which is left out"
        )
        if on_card:
            CARD.wait("copy")
            return tensor.host.detach().clone().to(*args, **kwargs)
        if tensor.dim():
            _send(tensor, early)
        return OnCard(tensor.detach().to(*args, **kwargs).clone())

    def _backward(self, loss: Any, gradient: Any = None, *args: Any, **kwargs: Any) -> None:
        gradient = torch.ones_like(loss) if gradient is None else gradient
        keep = bool(kwargs.get("retain_graph"))
        with self:  # what is computed again must be seen, too
            torch.autograd.graph._engine_run_backward(  # type: ignore[no-untyped-call]
                (loss,), (gradient,), keep, False, (), allow_unreachable=True, accumulate_grad=True
            )


PINNED: dict[int, torch.Tensor] = {}
"""By their memory; kept, so that no other takes it."""


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    PINNED[_where(tensor)] = tensor
    return tensor


def _send(tensor: torch.Tensor, early: bool) -> None:
    """What a copy to the card costs: from memory that is not pinned, all that was begun before."""
    if not (early and _where(tensor) in PINNED):
        CARD.wait("copy to the card")


class Pool:
    """Memory of graphs."""

    def __init__(self) -> None:
        self.graphs: weakref.WeakSet[Graph] = weakref.WeakSet()


class Graph:
    """What `torch.cuda.CUDAGraph` is."""

    def __init__(self) -> None:
        self.tape: list[tuple[Any, Any, Any, Any]] = []
        self.read: set[int] = set()
        """Where the tensors lie that were there before."""
        self.made: dict[int, torch.Tensor] = {}
        self._pool = Pool()
        self.spoilt = False
        """Whether something came up that cannot be recorded."""

    def pool(self) -> Pool:
        """Its memory."""
        return self._pool

    def settle(self) -> None:
        """Tell what was there before from what the recording made, whose memory others of the pool may take."""
        for _, args, named, out in self.tape:
            read = {_where(x) for x in _tensors((args, named))}
            self.read |= read - set(self.made)
            self.made |= {_where(x): x for x in _tensors(out) if _where(x) not in self.read}

    def replay(self) -> None:
        """The operations again, on the same tensors."""
        assert CARD.recording is None
        if gone := self.read - set(CARD.storages()):
            raise RuntimeError(f"CUDA error: an illegal memory access ({len(gone)} tensors are no more)")
        for other in list(self._pool.graphs):
            if other is not self:
                for x in other.made.values():
                    x.fill_(float("nan") if x.is_floating_point() else 0)
        for func, args, named, out in self.tape:
            for old, new in zip(_tensors(out), _tensors(func(*args, **named)), strict=True):
                if _where(old) != _where(new):
                    old.copy_(new)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _where(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextlib.contextmanager
def _stream(stream: Stream) -> Iterator[None]:
    before, CARD.stream = CARD.stream, stream
    try:
        yield
    finally:
        CARD.stream = before


@contextlib.contextmanager
def _graph(graph: Graph, pool: Pool | None = None, stream: Any = None, **options: Any) -> Iterator[None]:
    graph._pool = pool or graph._pool
    before, CARD.stream = CARD.stream, stream
    CARD.recording = graph
    CARD.underway.append(graph._pool)
    CARD.generator.capturing = True
    CARD.begun += 1
    try:
        yield
    finally:
        CARD.recording = None
        if graph.spoilt:  # nothing below is come to
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        CARD.end_allocate(0, graph._pool)
        CARD.generator.capturing = False
        CARD.stream = before
    graph.settle()
    graph._pool.graphs.add(graph)


def _lies(module: torch.nn.Module, args: Any) -> bool:
    return len(args) == 1 and _is_card(args[0]) and all(isinstance(p, OnCard) for p in module.parameters())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """The pretended GPU, as "cuda"."""
    if torch.cuda.is_available() or torch.__version__ < (2, 13):
        pytest.skip("the pretended GPU stands beside no real one, and needs torch 2.13 or later")
    CARD.__init__()  # type: ignore[misc]
    PINNED.clear()
    mocks: dict[str, Any] = {
        "is_available": lambda: True,
        "mem_get_info": lambda *args: (CARD.total - CARD.reserved(), CARD.total),
        "memory_reserved": lambda *args: CARD.reserved(),
        "memory_allocated": lambda *args: sum(CARD.storages().values()),
        "max_memory_allocated": lambda *args: sum(CARD.storages().values()),
        "empty_cache": CARD.empty_cache,
        "get_rng_state_all": lambda: [torch.zeros(16, dtype=torch.uint8)],
        "Stream": lambda device: Stream(),
        "current_stream": lambda *args: CARD.stream,
        "stream": _stream,
        "get_sync_debug_mode": lambda: CARD.mode,
        "set_sync_debug_mode": CARD.set_mode,
        "default_generators": [CARD.generator],
        "graph_pool_handle": Pool,
        "CUDAGraph": Graph,
        "graph": _graph,
    }
    for name, mock in mocks.items():
        monkeypatch.setattr(torch.cuda, name, mock)
    monkeypatch.setattr(torch.cuda.memory, "_cuda_endAllocateToPool", CARD.end_allocate)
    # A module on its way there gets new parameters, for those it has cannot become wrappers: tie it again.
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    move = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda m, *args, **kw: m if _lies(m, args) else move(m, *args, **kw)
    )
    with Operations(), Functions():
        yield CARD

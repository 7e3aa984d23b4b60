"""Causal language models of the `transformers` library on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from prosegym.baselines.cached_engine import SHARED, make_engine
from prosegym.baselines.chat import Chat, Prompt, TemplateError
from prosegym.baselines.decoding import Writer, choose, choose_whole
from prosegym.baselines.draft import MOST, Drafter
from prosegym.baselines.engine import Engine, Seat, Tree, sent
from prosegym.baselines.lm import Generation, ModelError, Request, Sampling
from prosegym.baselines.tree import common
from prosegym.envs.errors import UnknownName, at_least

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""What weights can be loaded as."""


def _check(max_context: int | None, max_batch: int, cache_gb: float) -> None:
    at_least(1, max_batch=max_batch, max_context=max_context)
    at_least(0, cache_gb=cache_gb)


class LocalModel:
    """A causal language model with its chat template; answers many requests at a time."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "",
        chat: Chat | None = None,
        max_context: int | None = None,
        max_batch: int = 64,
        cache_gb: float = 0.0,
        static_shapes: bool | None = None,
        draft: bool | None = None,
    ) -> None:
        """Use a model that is already in memory.

        Args:
            model: a transformers causal language model, or a peft model around one.
            tokenizer: its tokenizer.
            name: what it is called in records; the model's own name by default.
            chat: how messages become tokens; by default through the tokenizer's own template.
            max_context: longest context in tokens; by default what the model was made for.
            max_batch: answers written at the same time, at most.
            cache_gb: most memory, in 2**30 bytes, for what is kept between turns; 0 takes 2 on the CPU and
                80 % of what is free on a GPU, looked up whenever it grows: several models share one.
            static_shapes: whether decoding steps have a few fixed shapes, recorded as CUDA graphs on a GPU;
                by default on a GPU.
            draft: whether tokens of free text are guessed and computed ahead (`baselines/draft.py`), which
                changes no answer; by default on the CPU.

        Raises:
            BadOption: a number is too small.
        """
        _check(max_context, max_batch, cache_gb)
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or str(model.config.name_or_path or type(model).__name__)
        self.chat = chat or Chat(tokenizer)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.max_context: int = max_context or limit or 4096
        self.max_batch = max_batch
        self.cache_bytes: int | None = int(cache_gb * 2**30) or (
            None if model.device.type == "cuda" else 2 * 2**30
        )
        if model.device.type == "cuda":
            # cuDNN's attention, which torch takes first on an H100 or H200, plans anew for each new shape
            # (pytorch/pytorch#155958, modelscope/FunASR#3704); here, in training too, most passes have one.
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.static_shapes = static_shapes
        self.draft = model.device.type == "cpu" if draft is None else draft
        self.drafter = Drafter()
        self._engine: Engine | None = None
        self._prompts: dict[Hashable, Prompt] = {}
        self._stamp: Any = None
        self._adapter: str | None = "default"
        self._folders: list[Path] = []
        self.end_ids = frozenset(_end_ids(model, tokenizer) | {self.chat.end_id})

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        chat_template: str | None = None,
        max_context: int | None = None,
        max_batch: int = 64,
        cache_gb: float = 0.0,
        static_shapes: bool | None = None,
        draft: bool | None = None,
        four_bit: bool = False,
    ) -> LocalModel:
        """Load a model by name or path.

        Args:
            name: a model's name, or a folder with config, weights and tokenizer.
            revision: the commit of a named model.
            adapter: a folder with a peft adapter for it.
            device: "cpu", "cuda", "mps"; by default the fastest there is.
            dtype: "auto" (as stored; float32 on the CPU), "float32", "bfloat16", "float16".
            chat_template: a file with a Jinja chat template to be used in place of the tokenizer's own.
            max_context: longest context in tokens; by default what the model was made for.
            max_batch: answers written at the same time, at most.
            cache_gb: most memory for what is kept between turns; see the constructor.
            static_shapes: whether decoding steps have a few fixed shapes; see the constructor.
            draft: whether tokens are guessed and computed ahead; see the constructor.
            four_bit: hold the weights of linear layers in 4 bits, as QLoRA does (see `four_bits`).

        Raises:
            ModelError: there is no such model, device or template file, it has no tokenizer or chat template,
                or what its quantized weights need is not installed.
            UnknownName: there is no such data type.
            BadOption: a number is too small.
        """
        _check(max_context, max_batch, cache_gb)
        if dtype not in DTYPES:
            raise UnknownName("dtype", dtype, DTYPES)
        if name.startswith((".", "/", "~")) and not Path(name).is_dir():
            raise ModelError(f"cannot load model {name!r}: there is no such folder")
        device = device or best_device()
        try:
            torch.empty(0, device=device)
            template = Path(chat_template).read_text(encoding="utf-8") if chat_template else None
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot use device {device!r}: {reason}; choose cpu, cuda or mps") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read chat template {chat_template}: {error}") from error
        kind = "float32" if dtype == "auto" and device == "cpu" else dtype
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                name, revision=revision, dtype=kind, **(four_bits(device) if four_bit else {})
            )
        except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot load model {name!r}: {reason}") from error
        if adapter is not None:
            model = with_adapter(model, adapter)
        loaded = cls(
            (model if four_bit else model.to(device)).eval(),
            tokenizer,
            name=name if adapter is None else f"{name}+{adapter}",
            chat=Chat(tokenizer, template),
            max_context=max_context,
            max_batch=max_batch,
            cache_gb=cache_gb,
            static_shapes=static_shapes,
            draft=draft,
        )
        loaded._folders = [Path(f) for f in (name, adapter) if f is not None and Path(f).is_dir()]
        return loaded

    def conditions(self) -> Mapping[str, Any]:
        """Model, revision or, of a folder, its weights' digest; data type, template digest, versions."""
        quantized = getattr(self.model.config, "quantization_config", None)
        return {
            **({} if quantized is None else {"quantization": quantized.to_dict()}),
            "model": self.name,
            "revision": getattr(self.model.config, "_commit_hash", None),
            "weights_sha256": _weights_digest(self._folders),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "max_context": self.max_context,
            "chat_template_sha256": self.chat.sha256,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def forget(self) -> None:
        """Let go of the keys and values of all episodes, their memory, and what guesses are made from.

        Keys and values go of themselves where weights or adapters are seen to have changed. What writes past
        autograd's counters (`p.data`, a fused optimizer that is not `fit`'s) is not seen: call this after it.
        """
        self.drafter = Drafter()
        self.rest()

    def rest(self) -> None:
        """Let go of the keys and values of all episodes, and their memory, which training needs, too."""
        if self._engine is not None:
            self._engine.forget()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()  # torch keeps what is let go of, in pieces of another size

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """One answer per request, in order; an error where the template rewrites what was said before.

        Raises:
            TemplateError: the template suits no such conversation, whatever was said.
        """
        begun = [self._begun(request, sampling) for request in requests]
        writers = [writer for writer in begun if isinstance(writer, Writer)]
        with self._ready() as engine:
            drafter = self.drafter if self.draft else None
            _Batch(engine, self.max_context, self.max_batch, drafter).write(writers)
        return [one.generation() if isinstance(one, Writer) else one for one in begun]

    @torch.inference_mode()
    def score(self, requests: Sequence[Request]) -> list[list[float]]:
        """Log-probability of each allowed action as the whole answer, under the model itself.

        What opens and closes an action is part of the answer. The actions of all requests in a batch are
        scored in one forward pass, what those of a request share computed once.
        """
        whole = [
            replace(request, opens="", allowed=[request.opens + action for action in request.allowed or ()])
            for request in requests
        ]
        writers = [self._writer(request, Sampling(choice="action")) for request in whole]
        with self._ready() as engine:
            return _Batch(engine, self.max_context, self.max_batch).score(writers)

    def _begun(self, request: Request, sampling: Sampling) -> Writer | Generation:
        try:
            return self._writer(request, sampling)
        except TemplateError as error:
            if not self.chat.suits(request.messages):
                raise
            return Generation("", stop_reason="error", error=str(error))

    def _writer(self, request: Request, sampling: Sampling) -> Writer:
        prompt = self.chat.prompt(request.messages, self._prompts.pop(request.key, None))
        if request.key is not None:
            self._prompts[request.key] = prompt  # the latest last
            if len(self._prompts) > 4096:
                del self._prompts[next(iter(self._prompts))]
        return Writer(request, sampling, self.chat, prompt.token_ids, self.end_ids)

    @contextmanager
    def _ready(self) -> Iterator[Engine]:
        """The engine, the model in evaluation mode, nothing held that other weights have computed."""
        was_training = self.model.training
        if any(module.training for module in self.model.modules()):  # setting it costs more than a look
            self.model.eval()
        try:
            if self._engine is None:
                self._engine = make_engine(
                    self.model,
                    max_context=self.max_context,
                    cache_bytes=self.cache_bytes,
                    static=self.static_shapes,
                )
            if self._stamp != (stamp := self._weights()):
                self._engine.forget()
                self._stamp = stamp
            yield self._engine
        finally:
            if was_training:
                self.model.train()

    def _weights(self) -> Any:
        """Changes when weights are written to in autograd's sight or replaced, or another adapter is used."""
        total = where = 0
        for parameter in self.model.parameters():
            total += parameter._version
            where ^= parameter.data_ptr()
        return total, where, self._adapter

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within it, the model is the one before its adapter was trained: no second copy of the weights."""
        before, self._adapter = self._adapter, None
        try:
            with self.model.disable_adapter():
                yield
        finally:
            self._adapter = before

    def add_adapter(self, folder: str, name: str) -> None:
        """Load one more adapter for the same weights; `use_adapter` switches to it."""
        if not self._adapted():
            self.model = with_adapter(self.model, folder, name)
            self._engine = None
            self._adapter = name
        else:
            with_adapter(self.model, folder, name)

    def use_adapter(self, name: str) -> None:
        """Answer with that adapter from now on.

        Raises:
            UnknownName: no such adapter is loaded.
        """
        known = list(self.model.peft_config) if self._adapted() else []
        if name not in known:
            raise UnknownName("adapter", name, known)
        self.model.set_adapter(name)
        self._adapter = name

    def _adapted(self) -> bool:
        import peft

        return isinstance(self.model, peft.PeftModel)


@dataclass
class _Run:
    """One answer in a pass that also computes the tokens that stand ahead, or are guessed to."""

    writer: Writer
    start: int
    """How many tokens of the answer had their log-probabilities before the pass."""
    ahead: list[int]
    """The tokens computed after those: pending ones, then guesses."""
    guesses: int
    """How many of them are guesses."""
    row: int
    """Of the logits for the first of them; those for the next ones follow, and those for what comes after."""
    right: int = 0
    """How many of the tokens ahead the answer has."""

    def look(self) -> None:
        """Look what the answer has by now."""
        has = self.writer.token_ids
        self.right = max(min(self.right, len(has) - self.start), 0)  # a stop string takes tokens back
        while self.right < min(len(self.ahead), len(has) - self.start):
            if self.ahead[self.right] != has[self.start + self.right]:
                break
            self.right += 1

    @property
    def known(self) -> range:
        """The rows of logits that are those of the answer's next tokens without log-probability."""
        done = len(self.writer.logprobs) - self.start
        return range(self.row + done, self.row + self.right + 1)


class _Batch:
    """Answers that are written together: finished ones leave, waiting ones enter."""

    def __init__(
        self, engine: Engine, max_context: int, max_batch: int, drafter: Drafter | None = None
    ) -> None:
        self._engine = engine
        self._max_context = max_context
        self._max_batch = max_batch
        self._drafter = drafter
        self._most = 0 if drafter is None else MOST
        self._seats: dict[Writer, Seat] = {}

    def write(self, writers: Sequence[Writer]) -> None:
        """Write every answer to its end."""
        waiting = deque(writers)
        live: list[Writer] = []
        try:
            while waiting or live:
                while fresh := self._admit(waiting, live):
                    live += self._advance(fresh)
                while len(live) > 1 and len(live) > self._engine.room(_longest(live) + self._most):
                    late = live.pop()  # memory is short: it goes on when others have finished
                    self._leave(late)
                    waiting.appendleft(late)
                live = self._advance(live)
        finally:
            for writer in list(self._seats):
                self._leave(writer)

    def score(self, writers: Sequence[Writer]) -> list[list[float]]:
        """Total log-probability of each allowed continuation of each prompt; none where they do not fit."""
        scores: dict[Writer, list[float]] = {}
        waiting = deque(writer for writer in writers if self._fits(writer))
        try:
            while waiting:
                fresh = self._admit(waiting, [])
                if not fresh:
                    continue
                found = self._continuations(fresh, self._run(fresh)[0])
                for writer, steps in zip(fresh, found, strict=True):
                    scores[writer] = [sum(step) for _, step in steps]
                    self._leave(writer)
        finally:
            for writer in list(self._seats):
                self._leave(writer)
        return [scores.get(writer, []) for writer in writers]

    def _admit(self, waiting: deque[Writer], live: Sequence[Writer]) -> list[Writer]:
        """Seat waiting answers. Those that share a long beginning with one that enters now enter next,
        so that it is computed once."""
        entering: list[Writer] = []
        later: list[Writer] = []
        busy, longest = len(live), _longest(live)
        while waiting and busy + len(entering) < self._max_batch:
            writer = waiting.popleft()
            context = writer.context
            if self._full(writer):
                writer.overflow()
                continue
            longest = max(longest, len(context) + len(writer.pending) + 1 + writer.beside)
            if busy + len(entering) >= self._engine.room(longest + self._most):
                later.append(writer)
                break
            seat = self._engine.open(writer.request.key, context)
            if seat is None:
                later.append(writer)
                break
            held = len(seat.token_ids)
            more = slice(held, held + SHARED)
            alike = (w for w in entering if w.prompt[more] == context[more])
            if len(context) > held + SHARED and any(common(w.prompt, context) > held for w in alike):
                self._engine.close(seat)
                later.append(writer)
                continue
            self._seats[writer] = seat
            entering.append(writer)
        waiting.extendleft(reversed(later))
        return entering

    def _leave(self, writer: Writer) -> None:
        self._engine.close(self._seats.pop(writer))

    def _full(self, writer: Writer) -> bool:
        """Whether the context has no room for what is still to be computed."""
        return len(writer.prompt) + len(writer.token_ids) - writer.whole >= self._max_context

    def _fits(self, writer: Writer) -> bool:
        """Whether the context has room for each allowed action but its last token, which is not computed."""
        longest = max(map(len, writer.continuations()))
        return len(writer.prompt) + len(writer.token_ids) + longest - 1 <= self._max_context

    def _advance(self, writers: Sequence[Writer]) -> list[Writer]:
        """One pass: what cannot be otherwise, as much as was guessed right and one token more each, or a
        whole action where those are chosen whole.

        Returns the unfinished.
        """
        if not writers:
            return []
        logits, runs = self._run(writers)
        going = runs
        while going:
            self._settle(going, logits)
            going = [r for r in going if r.writer.reason is None and r.known and not r.writer.by_action]
            self._choose(going, logits)
        for run in runs:  # guesses that were wrong
            del self._seats[run.writer].token_ids[len(run.writer.prompt) + run.start + run.right :]
            if self._drafter is not None:
                self._drafter.right += max(run.right + run.guesses - len(run.ahead), 0)
        actions = [r for r in runs if r.writer.reason is None and r.known and r.writer.by_action]
        for run in actions:
            if not self._fits(run.writer):
                run.writer.overflow()
        actions = [run for run in actions if run.writer.reason is None]
        if actions:
            some = [run.writer for run in actions]
            found = self._continuations(some, logits[sent([run.known[0] for run in actions], logits.device)])
            for writer, options in zip(some, found, strict=True):
                writer.take(*choose_whole(writer, options))
        for writer in writers:
            if writer.reason is not None:
                self._leave(writer)
                if self._drafter is not None:
                    self._drafter.learn(writer)
        return [writer for writer in writers if writer.reason is None]

    def _run(self, writers: Sequence[Writer]) -> tuple[Any, list[_Run]]:
        """Compute all that each answer has so far, and what is guessed to follow."""
        seats, fed, keep, runs = [], [], [], []
        row = 0
        for writer in writers:
            seat, guess = self._seats[writer], self._guess(writer)
            seats.append(seat)
            fed.append(writer.beyond(len(seat.token_ids)) + guess)
            pending = writer.pending
            start, ahead = len(writer.logprobs), pending + guess
            runs.append(_Run(writer, start, ahead, len(guess), row, right=len(pending)))
            keep.append(len(pending) + len(guess) + (not writer.whole))
            row += keep[-1]
        return self._engine.feed(seats, fed, keep), runs

    def _guess(self, writer: Writer) -> list[int]:
        if self._drafter is None or writer.trie is not None:
            return []
        # The last token that there is room for is chosen, and not computed.
        room = min(self._max_context - len(writer.prompt), writer.sampling.max_tokens)
        return self._drafter.guess(writer, min(self._most, room - len(writer.token_ids) - 1))

    def _settle(self, runs: Sequence[_Run], logits: Any) -> None:
        """Give pending tokens the log-probabilities that are known."""
        counts = [min(len(run.writer.pending), len(run.known)) for run in runs]
        if not any(counts):
            return
        places: list[tuple[int, int]] = []  # row and token
        for run, count in zip(runs, counts, strict=True):
            places += zip(run.known[:count], run.writer.pending[:count], strict=True)
        index = sent(places, logits.device)
        rows = torch.log_softmax(logits[index[:, 0]].float(), dim=-1)
        values = iter(rows.gather(1, index[:, 1:])[:, 0].tolist())
        for run, count in zip(runs, counts, strict=True):
            if count:
                run.writer.settle(list(itertools.islice(values, count)))

    def _choose(self, runs: Sequence[_Run], logits: Any) -> None:
        """The next token of each."""
        if not runs:
            return
        rows = sent([run.known[0] for run in runs], logits.device)
        tokens, logprobs = choose([run.writer for run in runs], logits[rows])
        for run, token, logprob in zip(runs, tokens, logprobs, strict=True):
            writer = run.writer
            writer.push(token, logprob)
            if writer.reason is None and self._full(writer):
                writer.overflow()
            run.look()

    def _continuations(
        self, writers: Sequence[Writer], logits: Any
    ) -> list[list[tuple[list[int], list[float]]]]:
        """Each writer's allowed continuations and the log-probabilities of their tokens.

        `logits` are those at their start, [n, vocabulary]. The trees of all writers share a forward pass.
        """
        first = torch.log_softmax(logits.float(), dim=-1)
        found: list[list[tuple[list[int], list[float]]]] = [[] for _ in writers]
        parts = []
        for writer in writers:
            room = max(self._max_context - len(self._seats[writer].token_ids), 1)
            parts.append([_Part.of(part) for part in _parts(writer.continuations(), room)])
        for turn in range(max(map(len, parts))):
            some = [(i, own[turn]) for i, own in enumerate(parts) if turn < len(own)]
            growing = [(i, part.tree) for i, part in some if part.tree.tokens]
            spread: dict[int, Any] = {}
            if growing:
                seats = [self._seats[writers[i]] for i, _ in growing]
                logits_of = self._engine.spread(seats, [tree for _, tree in growing])
                spread = {i: after for (i, _), after in zip(growing, logits_of, strict=True)}
            for i, part in some:
                after = first[i : i + 1]
                if i in spread:
                    after = torch.cat([after, torch.log_softmax(spread[i].float(), dim=-1)])
                index = sent(part.where, after.device)
                values = after[index[:, 0], index[:, 1]].tolist()
                for sequence in part.sequences:
                    found[i].append((sequence, values[: len(sequence)]))
                    values = values[len(sequence) :]
        return found


@dataclass(frozen=True)
class _Part:
    """Some of the allowed continuations of a prompt, as a tree."""

    sequences: Sequence[list[int]]
    tree: Tree
    where: list[tuple[int, int]]
    """For each token of each sequence: 1 + the node before it (0 for the prompt's end), and the token."""

    @classmethod
    def of(cls, sequences: Sequence[list[int]]) -> _Part:
        # Every token but a sequence's last is a node: the logits after it are those of the next.
        nodes: dict[tuple[int, ...], int] = {(): -1}
        tokens: list[int] = []
        parents: list[int] = []
        where = []
        for sequence in sequences:
            for end, token in enumerate(sequence):
                path = tuple(sequence[:end])
                if path not in nodes:
                    nodes[path] = len(tokens)
                    tokens.append(path[-1])
                    parents.append(nodes[path[:-1]])
                where.append((nodes[path] + 1, token))
        return cls(sequences, Tree(tokens, parents), where)


def _longest(writers: Sequence[Writer]) -> int:
    """Cells that the one which needs most needs so far, actions that are chosen whole included."""
    return max((len(w.prompt) + len(w.token_ids) + w.beside for w in writers), default=0)


def _parts(sequences: Sequence[list[int]], room: int) -> Iterator[list[list[int]]]:
    """The sequences in parts of at most `room` tokens each, one sequence at least."""
    part: list[list[int]] = []
    size = 0
    for sequence in sequences:
        if part and size + len(sequence) > room:
            yield part
            part, size = [], 0
        part.append(sequence)
        size += len(sequence)
    if part:
        yield part


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    ends: set[int] = set()
    for config in (model.generation_config, model.config.get_text_config()):
        found = config.eos_token_id if config is not None else None
        ends.update([found] if isinstance(found, int) else found or [])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return ends


def with_adapter(model: Any, folder: str, name: str = "default") -> Any:
    """The model with a peft adapter on it, its weights shared.

    Raises:
        ModelError: the folder holds no adapter, or one of another base, or peft is not installed.
    """
    try:
        import peft

        if isinstance(model, peft.PeftModel):
            model.load_adapter(folder, adapter_name=name)
            return model
        return peft.PeftModel.from_pretrained(model, folder, adapter_name=name)
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot put the adapter {folder!r} on this model: {reason}") from error


def four_bits(device: str) -> dict[str, Any]:
    """How transformers is to load a model whose linear layers are in 4 bits: NormalFloat, quantized twice.

    The setting of QLoRA (Dettmers et al. 2023, arXiv:2305.14314, section 3).

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("weights in 4 bits need bitsandbytes: pip install bitsandbytes")
    config = transformers.BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if device == "cpu" else torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def best_device() -> str:
    """The fastest device there is: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


_WEIGHTS = (".safetensors", ".bin")
"""How files of weights end."""


def _weights_digest(folders: Sequence[Path]) -> str | None:
    """SHA-256 of the weights in these folders, file after file; None where there are no folders."""
    found = hashlib.sha256()
    for path in (p for folder in folders for p in sorted(folder.iterdir()) if p.suffix in _WEIGHTS):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest() if folders else None

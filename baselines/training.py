"""The training loop that every method shares: `fit` minimises an objective over a list of items.

A method composes calls of `fit`; each is a phase with a folder of its own, holding one checkpoint. A phase
that was interrupted goes on where its checkpoint is, bit for bit on a CPU; a finished one only loads its
result. Left out: model parallelism (accelerate decides placement), evaluation (but for a hook).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from tqdm import tqdm

from prosegym.baselines.diagnosis import Watch
from prosegym.envs.errors import BadOption, ProsegymError, at_least
from prosegym.evaluation.runs import files_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)


@dataclass(frozen=True)
class Optim:
    """How an objective is minimised: AdamW."""

    learning_rate: float
    epochs: int = 1
    batch_size: int = 32
    """Items of one optimizer step, on all processes together."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.03
    """Share of the steps over which the learning rate rises from 0."""
    floor: float = 0.0
    """Share of the learning rate that the schedule ends at."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    tokens: int | None = None
    """Padded tokens of one forward pass at most; a batch is accumulated over as many passes as that takes.
    None is 16,384 on a GPU, and 4,096 on a CPU, whose caches hold a small pass better."""
    max_steps: int | None = None
    """Stop after so many optimizer steps."""
    save_every: int = 200
    """Optimizer steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadOption(f"learning_rate must be above 0, not {self.learning_rate}")
        at_least(1, epochs=self.epochs, batch_size=self.batch_size, tokens=self.tokens)
        at_least(1, max_steps=self.max_steps, save_every=self.save_every)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, of so many."""
        rise = math.ceil(self.warmup * steps)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        fall = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
        return self.learning_rate * (self.floor + (1 - self.floor) * fall[self.schedule])


def pass_tokens(tokens: int | None, device: torch.device) -> int:
    """`Optim.tokens`, chosen by the device where it is None."""
    return tokens or (4096 if device.type == "cpu" else 16384)


Metrics = Mapping[str, float | Tensor]
"""Numbers; those on a GPU stay there until a step is done: to look at one is to wait for it."""
COUNTED = ("pairs",)
"""Metrics that are summed over a batch's passes; all others are averaged."""


class Objective(Protocol[Item]):
    """What is minimised: a mean over items, each with its weight."""

    compares: ClassVar[bool]
    """Whether probabilities are compared with what another policy gave, which it did without dropout."""

    def length(self, item: Item) -> int:
        """Tokens of the longest sequence that the item adds to a padded batch."""
        ...

    def rows(self, item: Item) -> int:
        """Sequences that the item adds to a batch."""
        ...

    def weight(self, item: Item) -> float:
        """Its share in the mean: its trained tokens, or 1."""
        ...

    def loss(self, model: nn.Module, items: Sequence[Item]) -> tuple[Tensor, Metrics]:
        """The weighted mean over these items, and what else is worth a curve (averaged, or COUNTED)."""
        ...


MEND = "see to its rights and its disk; then the same command goes on"
"""Where a file cannot be written while a model is trained."""


class Diverged(ProsegymError):
    """The loss or its gradient is no longer a number; the weights before that step are in the checkpoint."""


class Log:
    """Metrics as JSON Lines, and to TensorBoard, W&B or Trackio where asked."""

    def __init__(self, folder: Path, report: Sequence[str] = ()) -> None:
        """Append to `folder/metrics.jsonl`; `report` is any of tensorboard, wandb, trackio.

        Raises:
            ProsegymError: what is asked for is not installed.
        """
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        for name in report:
            if name not in map(str, get_available_trackers()):
                raise ProsegymError(
                    f"{name} is not installed; run `pip install {name}`, or leave it out of --report"
                )
        self._trackers = Accelerator(log_with=list(report), project_dir=str(folder)) if report else None
        if self._trackers is not None:
            self._trackers.init_trackers("prosegym")
        self._count = self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def forget_after(self, phase: str, step: int) -> None:
        """Drop a phase's lines beyond that step: they will be written again.

        Raises:
            ProsegymError: they cannot be written, as on a full disk.
        """
        if self.path.exists():
            text = self.path.read_text()
            lines = text[: text.rfind("\n") + 1].splitlines()  # a last line cut by a kill is taken off
            kept = [x for x in lines if (m := json.loads(x))["phase"] != phase or m["step"] <= step]
            part = self.path.with_suffix(".part")
            with files_of(self.path.parent, MEND):
                part.write_text("".join(x + "\n" for x in kept))
                part.replace(self.path)
            self._count = len(kept)

    def holds(self, phase: str, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether that line stands there already."""
        line = json.dumps({"phase": phase, "step": step, **metrics})
        return self.path.exists() and line in self.path.read_text().splitlines()

    def write(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """One line.

        Raises:
            ProsegymError: it cannot be written, as on a full disk.
        """
        with files_of(self.path.parent, MEND), open(self.path, "a") as file:
            file.write(json.dumps({"phase": phase, "step": step, **metrics}) + "\n")
        self._count += 1
        if self._trackers is not None:
            self._trackers.log({f"{phase}/{k}": v for k, v in metrics.items()}, step=self._count)


def plan(lengths: Sequence[int], size: int, seed: int, epoch: int, window: int = 16) -> list[list[int]]:
    """The batches of an epoch, as indices: a pure function of its arguments.

    Items are shuffled, then sorted by length within windows of 16 batches, so that those of a batch are about
    as long as each other and little is padded; then the batches are shuffled.
    """
    rng = random.Random(f"{seed} {epoch}")
    order = rng.sample(range(len(lengths)), len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * window):
        near = sorted(order[start : start + size * window], key=lambda i: lengths[i])
        batches += [near[i : i + size] for i in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches


def passes(batch: Sequence[int], lengths: Sequence[int], rows: Sequence[int], tokens: int) -> list[list[int]]:
    """A batch cut into forward passes of at most so many padded tokens; an item alone may be longer."""
    cut: list[list[int]] = []
    count = 0
    for i in sorted(batch, key=lambda i: -lengths[i]):
        if not cut or (count + rows[i]) * lengths[cut[-1][0]] > tokens:
            cut.append([])
            count = 0
        cut[-1].append(i)
        count += rows[i]
    return cut


def fit(
    model: nn.Module,
    objective: Objective[T],
    items: Sequence[T],
    config: Optim,
    folder: Path,
    log: Log,
    *,
    phase: str = "train",
    accelerator: Accelerator | None = None,
    each: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Minimise the objective over the items; the model's trainable parameters change in place.

    Args:
        model: any module whose parameters with `requires_grad` are to be trained.
        objective: what is minimised.
        items: in an order that does not change from run to run.
        config: of the optimizer.
        folder: of this phase; `checkpoint.pt` lies there.
        log: where metrics go.
        phase: its name in the log and on the progress bar.
        accelerator: None makes one from the environment, as `accelerate launch` set it.
        each: validation: called with the number of steps when a checkpoint is written, the last one too, and
            when one is loaded, for it may have been interrupted there.

    Returns:
        The last step's metrics, and `steps`.

    Raises:
        ProsegymError: there is nothing to train on, the folder's checkpoint was made with other settings, or
            none can be written, as on a full disk.
        Diverged: a loss or gradient that is not finite.
    """
    if not items:
        raise ProsegymError(f"{phase}: nothing to train on")
    accelerator = accelerator or Accelerator()
    lengths, rows = [objective.length(x) for x in items], [objective.rows(x) for x in items]
    per_epoch = math.ceil(len(items) / config.batch_size)
    steps = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # `foreach=False` updates tensor by tensor, the same on every machine; the fused update wins on GPUs.
    fused = accelerator.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        trained.values(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=fused,
        foreach=None if fused else False,
    )
    budget = pass_tokens(config.tokens, accelerator.device)
    texts, numbers = digest(objective, items)
    settings = {**asdict(config), "items": texts, "numbers": numbers, "parameters": len(trained)}
    torch.manual_seed(config.seed)
    path = folder / "checkpoint.pt"
    save = partial(_save, path, trained, optimizer, settings, accelerator)
    done = _load(path, trained, optimizer, settings, accelerator.device) if path.exists() else 0

    def validate(step: int) -> None:
        due = step > 0 and (step % config.save_every == 0 or step == steps)
        if due and each is not None and accelerator.is_main_process:
            each(step)

    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        log.forget_after(phase, done)
    wrapped, wrapped_optimizer = accelerator.prepare(model, optimizer)
    wrapped.train()
    if objective.compares:  # dropout, of attention too, would be a margin, or a ratio
        for module in model.modules():
            module.training = bool(getattr(module, "gradient_checkpointing", False))  # else it keeps all
    metrics: dict[str, float] = {}
    seen, start = 0, time.perf_counter()
    bar = tqdm(
        total=steps,
        initial=done,
        desc=phase,
        unit="step",
        disable=not accelerator.is_main_process,
        leave=False,
    )
    step, whole, drawn = done, True, None
    watch = Watch(phase)
    batches: list[list[int]] = []
    try:
        validate(done)
        while step < steps:
            epoch, at = divmod(step, per_epoch)
            if at == 0 or step == done:
                batches = plan(lengths, config.batch_size, config.seed, epoch)
            batch = batches[at]
            rate = config.rate(step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            cut = passes(batch, lengths, rows, budget)
            drawn = _generators()
            metrics = _accumulate(wrapped, objective, items, cut, accelerator)
            total = accelerator.clip_grad_norm_(list(trained.values()), config.clip)
            norm = 0.0 if total is None else float(total)
            if not (math.isfinite(metrics["loss"]) and math.isfinite(norm)):
                save(step, drawn)
                which = ", ".join(map(str, sorted(batch)[:8]))
                raise Diverged(
                    f"{phase}: loss {metrics['loss']}, gradient norm {norm} at step {step + 1}, "
                    f"items {which}; the weights before it are in {path}: lower the learning rate or look at "
                    "those items"
                )
            whole = False
            wrapped_optimizer.step()
            # A fused update does not, and an engine would keep keys and values of the weights before it.
            increment_version(list(trained.values()))
            optimizer.zero_grad(set_to_none=True)
            step, whole, drawn = step + 1, True, None
            seen += sum(lengths[i] * rows[i] for i in batch)
            speed = seen / (time.perf_counter() - start)
            metrics |= {"learning_rate": rate, "gradient_norm": norm, "tokens_per_second": speed}
            metrics["peak_memory_gb"] = _peak_memory(accelerator.device)
            if accelerator.is_main_process:
                log.write(phase, step, metrics)
                if signs := watch.see(metrics):
                    log.write(f"{phase}-warning", step, signs)
                bar.update()
                bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
            if step % config.save_every == 0 and step < steps:
                save(step)
                validate(step)
    except KeyboardInterrupt:
        if whole:  # what is drawn of a step that was begun is drawn again
            save(step, drawn)
        raise
    finally:
        bar.close()
    if done < steps:
        save(steps)
        validate(steps)
    # Mixed precision puts a wrapper around `forward`, under which the rollout engine cannot keep its cache.
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    accelerator.free_memory()  # it would hold every phase's optimizer
    model.eval()
    return {**metrics, "steps": steps}


def _accumulate(
    model: nn.Module,
    objective: Objective[T],
    items: Sequence[T],
    cut: Sequence[Sequence[int]],
    accelerator: Accelerator,
) -> dict[str, float]:
    """Gradients of a batch's mean, whatever passes and processes it is cut into; its metrics."""
    total = sum(objective.weight(items[i]) for part in cut for i in part) or 1.0
    here = list(cut[accelerator.process_index :: accelerator.num_processes])
    idle = not here  # every process must take part in the exchange of gradients
    each: list[tuple[float, Metrics]] = []
    for n, part in enumerate(here or [cut[0]]):
        chosen = [items[i] for i in part]
        share = 0.0 if idle else sum(objective.weight(x) for x in chosen) / total
        if n + 1 < len(here):
            with accelerator.no_sync(model):
                found = _backward(model, objective, chosen, share, accelerator)
        else:
            found = _backward(model, objective, chosen, share, accelerator)
        each.append((share, found))
    sums: dict[str, float] = {}
    for share, found in each:
        for key, number in found.items():
            part_of = float(not idle) if key in COUNTED else share
            sums[key] = sums.get(key, 0.0) + float(number) * part_of
    if accelerator.num_processes > 1:
        keys = sorted(sums)
        here_sums = torch.tensor([sums[k] for k in keys], device=accelerator.device)
        shared: Any = accelerator.reduce(here_sums, "sum")
        sums = dict(zip(keys, shared.tolist(), strict=True))
    return sums


def _backward(
    model: nn.Module, objective: Objective[T], items: Sequence[T], share: float, accelerator: Accelerator
) -> Metrics:
    with accelerator.autocast():
        loss, metrics = objective.loss(model, items)
    accelerator.backward(loss * share * accelerator.num_processes)  # the exchange averages over processes
    return {"loss": loss.detach(), **metrics}


def digest(objective: Objective[T], items: Sequence[T]) -> tuple[str, float]:
    """Tells one list of items from another: their count and contents but for floats; the size of these.

    Floats can be what a model gave (a reference, values), and on another machine their last bits are others.
    """
    hashed, numbers = hashlib.sha256(), 0.0

    def take(part: Any) -> None:
        nonlocal numbers
        if isinstance(part, float):
            numbers += abs(part)
        elif not isinstance(part, tuple) or part and isinstance(part[0], int):  # a text's tokens at once
            hashed.update(repr(part).encode())
        else:
            hashed.update(f"{len(part)}:".encode())
            for x in part:
                take(x)

    for item in items:
        hashed.update(str(objective.length(item)).encode())
        take(item)
    return f"{len(items)}:{hashed.hexdigest()[:16]}", numbers


def _generators() -> dict[str, Any]:
    """The state of torch's random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"rng": torch.get_rng_state(), "cuda_rng": cuda}


def _save(
    path: Path,
    trained: Mapping[str, nn.Parameter],
    optimizer: Optimizer,
    settings: Mapping[str, Any],
    accelerator: Accelerator,
    step: int,
    drawn: Mapping[str, Any] | None = None,
) -> None:
    if accelerator.is_main_process:
        state = {
            "step": step,
            "settings": dict(settings),
            "weights": {name: p.detach() for name, p in trained.items()},
            "optimizer": optimizer.state_dict(),
            **(drawn or _generators()),
        }
        part = path.with_suffix(".part")
        with files_of(path.parent, MEND):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(part, "wb") as file:  # given a path, torch does not say what the disk said
                    torch.save(state, file)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
    accelerator.wait_for_everyone()


def _load(
    path: Path,
    trained: Mapping[str, nn.Parameter],
    optimizer: Optimizer,
    settings: Mapping[str, Any],
    device: torch.device,
) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ProsegymError(f"{path} cannot be read ({error}); delete its folder to train again") from error
    was = dict(state["settings"])
    if math.isclose(was.get("numbers", math.nan), settings["numbers"], rel_tol=0.01):
        was["numbers"] = settings["numbers"]
    changed = [
        f"{k}: {was.get(k)} then, {settings.get(k)} now" for k in settings if was.get(k) != settings[k]
    ]
    if changed:
        raise ProsegymError(
            f"{path.parent} was trained with other settings ({'; '.join(changed)}); "
            "use those, or another folder, or delete it"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state["weights"][name])
    for group, own in zip(state["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
        group |= {how: own[how] for how in ("fused", "foreach")}  # this machine's, where another began
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] and device.type == "cuda":
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])
    return int(state["step"])


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        import psutil  # comes with accelerate

        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20  # getrusage(2): bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

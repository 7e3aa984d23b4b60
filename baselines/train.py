"""`prosegym train METHOD`: load, train, save, evaluate. What is learnt, and how, is in the method's file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import release_memory

from prosegym.baselines import METHODS, agents, house, react, sft
from prosegym.baselines.chat import audit
from prosegym.baselines.lm import ModelError
from prosegym.baselines.local import LocalModel, best_device
from prosegym.baselines.practice import Practice, demonstrations, trainable
from prosegym.envs.core import unwrapped
from prosegym.envs.download import file_digest
from prosegym.envs.errors import BadOption, ProsegymError, UnknownName, at_least
from prosegym.envs.home import write_whole
from prosegym.envs.trajectory import Trajectory, file_of
from prosegym.evaluation.agents import built_in
from prosegym.evaluation.collect import collect
from prosegym.evaluation.evaluate import env_arguments, make_env, validate, validation
from prosegym.evaluation.runs import LOCK, only_writer

PRESETS = {
    "ALFWorld": "alfworld",
    "WebShop": "webshop",
    "ScienceWorld": "scienceworld",
    "HotpotQA": "hotpotqa",
    "InterCodeSQL": "intercode_sql",
}
"""Environments of the papers and the names of their presets; a method's `PRESETS` says what was published."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter in place of full fine-tuning (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 0
    """0 trains all parameters."""
    alpha: int = 16
    dropout: float = 0.05
    """In cloning and in models that judge; what is compared with another policy's probabilities has none."""
    targets: str = "all-linear"
    """Names of the layers that get one, separated by commas, or all-linear."""
    four_bit: bool = False
    """Hold the weights under the adapter in 4 bits (QLoRA); needs bitsandbytes."""

    def __post_init__(self) -> None:
        at_least(0, rank=self.rank)
        if self.four_bit and not self.rank:
            raise BadOption(
                "weights in 4 bits cannot be trained themselves; give an adapter (--lora.rank 16)"
            )


Tracker = Literal["tensorboard", "wandb", "trackio"]


def usual_report() -> tuple[Tracker, ...]:
    """TensorBoard, where it is installed."""
    return ("tensorboard",) if find_spec("tensorboard") else ()


ITS_OWN = react.Config()
"""Stands for a form that nobody gave; one that is equal to it can have been asked for."""


@dataclass(frozen=True)
class Options:
    """What every method takes."""

    env: str
    """Environment to train on."""
    model: str
    """Name or path of a model; house or novice, which come with the package; or scratch[:SIZE] for a small
    one with random weights (tiny, 350k, 1m, 6m). A trained agent's folder goes on with what it holds, be it a
    model or an adapter."""
    out: Path
    """Folder for everything that is written; the same command goes on where it was interrupted."""
    preset: str = "auto"
    """Settings that the method's paper has for one environment: alfworld, webshop, ...; auto takes those of
    `--env` where there are any, none the defaults. What is given on the command line comes before it."""
    data: Path | None = None
    """Expert episodes (JSON Lines, or a run's folder); without it they are collected from the environment's
    expert."""
    expert: str = "expert"
    """Agent that is collected from, where no data is given."""
    episodes: int = 500
    """How many episodes are collected."""
    env_kwargs: str = "{}"
    """Arguments of the environment, as JSON."""
    max_steps: int | None = None
    """Optimizer steps of each phase at most: for a quick look."""
    seed: int = 0
    batch_size: int = 64
    """Episodes that are live at once."""
    device: str | None = None
    """cpu, cuda or mps; by default the fastest there is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation; auto is bfloat16 on a GPU that has it."""
    gradient_checkpointing: bool = False
    """Compute activations twice in place of keeping them."""
    vocabulary: int = 1024
    """Pieces of the tokenizer of a scratch model."""
    context: int = 4096
    """Longest sequence of a scratch model, in tokens."""
    report: tuple[Tracker, ...] = field(default_factory=usual_report)
    """Where curves go beside metrics.jsonl: tensorboard (a folder in OUT; the default where it is installed),
    wandb, trackio; nothing after it for nowhere."""
    audit: bool = False
    """Show what a sample of the data is trained on, and stop."""
    evaluate: bool = True
    """Play a validation panel at the end, where the environment has one; the run lies in OUT/evaluation."""
    evaluate_split: str = ""
    """Split of that panel; by default the first one whose name begins with valid or dev."""
    lora: Lora = Lora()
    agent: react.Config = ITS_OWN
    """Form of the answers, decoding and history; recorded in agent.json. What is not given is the trained
    agent's own, where one is trained on, else the default."""

    def __post_init__(self) -> None:
        at_least(1, max_steps=self.max_steps, batch_size=self.batch_size)
        env_arguments(self.env_kwargs)


def main(method: str, argv: Sequence[str]) -> int:
    """Run `prosegym train METHOD ARGV`; returns the exit status."""
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    module = import_module(f"prosegym.baselines.{method}")

    flat = tyro.conf.arg(name="")
    asked = peek(argv)
    chosen, published = preset(module, asked)
    config = replace(module.Config(), **published)
    options = Options(asked.env, asked.model, Path())
    options = replace(options, agent=form(options), **dict.fromkeys(("env", "model", "out"), tyro.MISSING))
    command_type = make_dataclass(
        "Command",
        [
            ("options", Annotated[Options, flat], field(default=options)),
            ("config", Annotated[module.Config, flat], field(default=config)),
        ],
    )
    command: Any = tyro.cli(
        command_type, args=list(argv), prog=f"prosegym train {method}", description=module.__doc__
    )
    run(method, module.train, replace(command.options, preset=chosen), command.config)
    if torch.distributed.is_initialized():  # started by `accelerate launch`: leave together
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return 0


def peek(argv: Sequence[str]) -> argparse.Namespace:
    """What of a command line other settings have their defaults from."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("--env", ""), ("--preset", "auto"), ("--model", "")):
        parser.add_argument(name, default=default)
    return parser.parse_known_args(argv)[0]


def preset(method: Any, asked: argparse.Namespace) -> tuple[str, Mapping[str, Any]]:
    """The name of the preset that a command line asks for, and its settings.

    Raises:
        UnknownName: the method has none of that name.
    """
    known: Mapping[str, Mapping[str, Any]] = {"none": {}, **getattr(method, "PRESETS", {})}
    if asked.preset != "auto":
        if asked.preset not in known:
            raise UnknownName("preset", asked.preset, known)
        return asked.preset, known[asked.preset]
    name = PRESETS.get(asked.env.rpartition("/")[2].rpartition("-v")[0], "none")
    return (name, known[name]) if name in known else ("none", {})


def run(method: str, train: Callable[..., None], options: Options, config: Any) -> None:
    """Train, save, and evaluate.

    Raises:
        ProsegymError: the folder holds another training, or another process is writing to it; the data is
            another environment's, or the method has nothing to learn from.
    """
    options = replace(options, agent=form(options))
    processes = accelerator(options)  # before anything else that asks which process this is
    kwargs = env_arguments(options.env_kwargs)
    panel = None
    if options.evaluate and not options.audit:
        panel = validation(options.env, options.evaluate_split, env_kwargs=kwargs, say=processes.print)
    if processes.is_main_process:
        leave_alone(options.out)
    with only_writer(options.out) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            settle(method, options, config)
        if finished(options):
            processes.print(f"{options.out} holds this training, finished")
        else:
            learn(method, train, options, config, processes)
    if panel is not None and processes.is_main_process:
        release_memory()
        agent = agents.load(str(options.out), options=agents.ModelOptions(device=options.device))
        validate(agent, panel, options.out, seed=options.seed, env_kwargs=kwargs)
    processes.wait_for_everyone()


def finished(options: Options) -> bool:
    """Whether this training came to its end before; its model card is written last."""
    return not options.audit and (options.out / "README.md").exists()


def learn(
    method: str, train: Callable[..., None], options: Options, config: Any, processes: Accelerator
) -> None:
    """Train and save, or show what would be trained on."""
    scratch = options.model.partition(":")[0] == "scratch"
    given = None if scratch else begin(options, options.model)  # not found: told before anything is collected
    experts = expert_episodes(options, processes)
    policy = given or from_scratch(options, experts, processes)
    practice = Practice(
        options.env,
        options.out,
        options.agent,
        env_arguments(options.env_kwargs),
        options.seed,
        options.batch_size,
        options.report,
        options.max_steps,
        processes,
        partial(begin, options),
    )
    shown = [practice.conversation(e) for e in experts[:50]]
    report = audit(policy.chat, shown)  # raises where a mask is wrong
    if options.audit:
        processes.print(report)
        cloning = config if method == "sft" else getattr(config, "cloning", None)
        passed = getattr(config, "cloned", False) or getattr(config, "self_play", 0)
        if isinstance(cloning, sft.Config) and (method == "rft" or not passed):  # RFT clones last, too
            processes.print(sft.told(policy, shown, cloning))
        return
    train(policy, experts, practice, config)
    practice.save(policy, options.out, method)
    if processes.is_main_process:
        curves(options.out)
        (options.out / "README.md").write_text(card(method, options, config, len(experts)), "utf-8")
    out = options.out
    processes.print(f"{out} holds the agent: prosegym evaluate --agent {out} --env {options.env} --out RUN")


def form(options: Options) -> react.Config:
    """How the agent answers: as asked or, where nothing was, as the agent whose training goes on."""
    folder = Path(agents.shipped(options.model))
    if options.agent is ITS_OWN and (folder / agents.FILE).is_file():
        return agents.read(folder).config
    return options.agent


WRITTEN = (
    "README.md",
    agents.FILE,
    "config.json",
    "adapter_config.json",
    "model.safetensors",
    "metrics.jsonl",
)
"""Files of a training that another folder may have, too."""


def leave_alone(folder: Path) -> None:
    """Refuse a folder that holds what a training would write over: a model, say, or somebody's README."""
    foreign = [name for name in WRITTEN if (folder / name).exists()]
    if foreign and not (folder / "training.json").exists():
        raise ProsegymError(
            f"{folder} has a {foreign[0]} and no training.json, so it is no training's; use another --out"
        )


_COLLECTED = ("env", "env_kwargs", "expert", "episodes", "seed")
MADE_WITH = {
    "expert.jsonl": _COLLECTED,
    "scratch": (*_COLLECTED, "data", "data_sha256", "model", "vocabulary", "context", "agent.instruction"),
}
"""What is made before anything is trained, as an audit does, and the settings that it depends on."""


def settle(method: str, options: Options, config: Any) -> None:
    """Keep the settings in OUT/training.json; a folder that has others is refused, with the difference.

    Settings that nothing was made with bind nobody: those with a model that was not found, or of an audit,
    but for those that the data were collected with.
    """
    path = options.out / "training.json"
    free = ("audit", "evaluate", "evaluate_split", "report", "device", "batch_size")
    asked = {"method": method, **asdict(options), "config": asdict(config)}
    now = json.loads(
        json.dumps({k: v for k, v in asked.items() if k not in free and k != "out"}, default=str)
    )
    if options.data is not None and (data := file_of(options.data)).is_file():
        now["data_sha256"] = file_digest(data)
    others = {other.name for other in options.out.iterdir()} - {path.name, LOCK}
    if path.exists() and others:
        try:
            was = json.loads(path.read_text())
        except ValueError as error:
            raise ProsegymError(f"{path}: {error}; put back what it held, or use another --out") from error
        then = flat(was)
        changed = {
            k: f"{k}: {then.get(k)} then, {v} now"
            for k, v in flat(now).items()
            if then.get(k) != v and k != "preset"  # only says where some of `config` is from
        }
        if any(binds(name, changed) for name in others):
            raise ProsegymError(
                f"{options.out} holds another training ({'; '.join(changed.values())}); use another --out"
            )
        if was == now:
            return
    write_whole(path, (json.dumps(now, indent=1) + "\n").encode())


def binds(name: str, changed: Collection[str]) -> bool:
    """Whether that file or folder in OUT was made with other settings, where these have changed."""
    for made, settings in MADE_WITH.items():
        if name == made or name.startswith(f"{made}."):  # what lies beside it, too
            return not set(changed).isdisjoint(settings)
    return bool(changed)


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by name, those of groups with dots: `config.optim.learning_rate`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def expert_episodes(options: Options, processes: Accelerator) -> list[Trajectory]:
    """The data: in the order given, or collected now from the environment's expert, by one process."""
    kwargs = env_arguments(options.env_kwargs)
    if options.data is not None:
        return demonstrations(options.data, options.env, kwargs)
    path = options.out / "expert.jsonl"
    if processes.is_main_process:
        collect(
            built_in(options.expert), options.env, "train", path,
            episodes=options.episodes, seed=options.seed, successes=True, env_kwargs=kwargs,
        )  # fmt: skip
    processes.wait_for_everyone()
    # A collection that was gone on with wrote them in another order than a whole one.
    return sorted(demonstrations(path, options.env, kwargs), key=lambda t: t.key)


def from_scratch(options: Options, experts: Sequence[Trajectory], processes: Accelerator) -> LocalModel:
    """A model with random weights, whose tokenizer is made from the experts' texts."""
    folder, size = options.out / "scratch", options.model.partition(":")[2]
    if processes.is_main_process and not (folder / "tokenizer.json").exists():
        env = unwrapped(make_env(options.env, **env_arguments(options.env_kwargs)))
        corpus = [options.agent.told(env.instruction), *house.texts(experts)]
        house.scratch(
            folder, size or "1m", corpus,
            vocabulary=options.vocabulary, context=options.context, seed=options.seed,
        )  # fmt: skip
    processes.wait_for_everyone()
    return begin(options, str(folder))


def begin(options: Options, path: str) -> LocalModel:
    """The model of that name or folder, with an adapter where the options ask for one."""
    dtype = "auto" if options.lora.rank else None
    policy = trainable(path, options.device, dtype=dtype, four_bit=options.lora.four_bit)
    if options.lora.rank:
        torch.manual_seed(options.seed)  # an adapter begins at random values
        add_adapter(policy, options.lora)
    if options.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    return policy


def add_adapter(policy: LocalModel, lora: Lora) -> None:
    """Freeze the model and give it an adapter to train."""
    from peft import LoraConfig, PeftModel, get_peft_model

    if isinstance(policy.model, PeftModel):
        raise ModelError("the model already has an adapter; give its base model, or leave out --lora.rank")
    targets = lora.targets if lora.targets == "all-linear" else lora.targets.split(",")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        policy.model = get_peft_model(policy.model, config)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"cannot give this model an adapter (--lora.targets {lora.targets}): {reason}"
        ) from error


def accelerator(options: Options) -> Accelerator:
    """Accelerate's view of this process, with its own GPU where `accelerate launch` starts several.

    One process may play for hours while the others wait.
    """
    device = options.device or best_device()
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    half = options.precision == "bfloat16" or (options.precision == "auto" and on_gpu)
    return Accelerator(
        cpu=not on_gpu and device != "mps",
        mixed_precision="bf16" if half else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(weeks=4))],
    )


def curves(folder: Path) -> Path | None:
    """The loss of every phase as `curves.png`; None where there is none, or matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in every if "loss" in line]
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    if not phases:
        return None
    figure, axes = pyplot.subplots(1, len(phases), figsize=(4 * len(phases), 3), squeeze=False)
    for axis, phase in zip(axes[0], phases, strict=True):
        points = [(line["step"], line["loss"]) for line in lines if line["phase"] == phase]
        axis.plot(*zip(*points, strict=True))
        axis.set(title=phase, xlabel="step", ylabel="loss")
    figure.tight_layout()
    figure.savefig(folder / "curves.png")
    pyplot.close(figure)
    return folder / "curves.png"


def card(method: str, options: Options, config: Any, experts: int) -> str:
    """The model card."""
    shown = {"preset": options.preset, "config": asdict(config), "lora": asdict(options.lora)}
    settings = json.dumps(shown, indent=1, default=str)
    return (
        f"---\nlibrary_name: transformers\ntags: [prosegym, {method}]\n---\n\n"
        f"# {method} on {options.env}\n\n"
        f"Base model: `{options.model}`. Trained on {experts} expert episodes, seed {options.seed}, as "
        "`training.json` says; curves in `metrics.jsonl`.\n\n"
        f"    prosegym evaluate --agent {options.out} --env {options.env} --out RUN\n\n"
        f"The checkpoint is the last one: nothing was chosen on any panel.\n\n```json\n{settings}\n```\n"
    )

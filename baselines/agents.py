"""Agents by name or folder, as the command line asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from prosegym.baselines import reflexion
from prosegym.baselines.endpoint import EndpointOptions
from prosegym.baselines.examples import Shots
from prosegym.baselines.lm import LanguageModel, ModelError
from prosegym.baselines.notes import Scribe
from prosegym.baselines.react import Config, ReAct
from prosegym.envs.errors import UNREADABLE, BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import BUILT_IN, Agent, built_in

SHIPPED = {
    "house": Path(__file__).parent / "models" / "household-1m",
    "novice": Path(__file__).parent / "models" / "household-1m-novice",
}
"""Small models that come with the package; `recipes/house` made them. The novice has not practised yet."""
_LABELS = {str(folder): name for name, folder in SHIPPED.items()}
"""What their models are called in records, whatever folder the package lies in."""
AGENTS = (*BUILT_IN, *SHIPPED, "react", "reflexion")
"""Agents that have a name; a folder that a trainer wrote is one, too."""

FILE = "agent.json"


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded."""

    revision: str | None = None
    """Commit of a named model."""
    adapter: str | None = None
    """Folder of a peft adapter for it."""
    device: str | None = None
    """cpu, cuda or mps; by default the fastest there is."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    chat_template: str | None = None
    """File with a Jinja chat template to be used in place of the model's own."""
    max_context: int | None = None
    """Longest context in tokens; by default what the model was made for."""
    max_batch: int = 64
    """Answers written at the same time, at most."""
    cache_gb: float = 0.0
    """Most memory for what is kept between turns, in 2**30 bytes; 0 chooses by the device."""
    static_shapes: bool | None = None
    """Whether decoding steps have a few fixed shapes, recorded as CUDA graphs; by default on a GPU."""
    draft: bool | None = None
    """Whether tokens are guessed and computed ahead, which changes no answer; by default on the CPU."""
    four_bit: bool = False
    """Whether the weights of linear layers are held in 4 bits; needs bitsandbytes."""


Settings = TypeVar("Settings", Config, ModelOptions, EndpointOptions, reflexion.Config, Shots)
SETTINGS = {
    Config: "react and reflexion",
    Shots: "react and reflexion",
    ModelOptions: "a model on this machine",
    EndpointOptions: "an endpoint",
    reflexion.Config: "reflexion",
}
"""Whose fields can be given by name, and what they are settings of."""
_URL = ("http://", "https://")


class AgentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `agent.json` in a trained agent's folder says."""

    method: str
    """How it was trained: sft, eto, ..."""
    config: Config
    """Form of the answers, decoding, history, sampling: what it was trained for."""
    base: str | None = None
    """Name or path of the model that the folder's adapter is for; None where the folder holds the model."""
    env_ids: list[str] = []
    """Environments it was trained on."""
    schema: int = 1


def save(
    folder: str | Path,
    model: Any,
    tokenizer: Any,
    config: Config,
    *,
    method: str,
    base: str | None = None,
    env_ids: Sequence[str] = (),
) -> None:
    """Write a trained agent, as `load` reads it: weights (or adapter), tokenizer, `agent.json`.

    `base` is the model that an adapter is for; by default the one that the adapter itself names. One that
    comes with the package is called by its name, wherever the package lies.
    """
    folder = Path(folder)
    if base is None and (adapters := getattr(model, "peft_config", None)):
        base = next(iter(adapters.values())).base_model_name_or_path
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = AgentFile(method, config, base and _LABELS.get(base, base), list(env_ids))
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def read(folder: str | Path) -> AgentFile:
    """What a trained agent's folder says about it.

    Raises:
        CorruptData: its `agent.json` is not one.
    """
    path = Path(folder) / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=AgentFile)
    except (OSError, *UNREADABLE, ProsegymError) as error:
        raise CorruptData(f"{path}: {error}") from error


def shipped(name: str) -> str:
    """The folder of the model that comes with the package, for its name; any other name as it is."""
    return str(SHIPPED.get(name, name))


def load_model(
    model: str, options: ModelOptions | None = None, endpoint: EndpointOptions | None = None
) -> LanguageModel:
    """A model by name, path (a folder may be a trained agent's), or URL of an endpoint.

    A URL is that of an OpenAI-compatible server (`http://host:port/v1`), with the model's name behind a `#`
    where the server has more than one.

    Raises:
        ModelError: it cannot be loaded, or what loads it is not installed.
    """
    options = options or ModelOptions()
    if model.startswith(_URL):
        from prosegym.baselines.endpoint import Endpoint

        url, _, name = model.partition("#")
        return Endpoint(url, name or None, endpoint)
    try:
        from prosegym.baselines.local import LocalModel
    except ModuleNotFoundError as error:
        raise ModelError(f'{error.name} is not installed; run `pip install "prosegym[train]"`') from error
    model = shipped(model)
    if (Path(model) / FILE).is_file() and (base := read(model).base) is not None:
        options, model = replace(options, adapter=model), shipped(base)
    loaded = LocalModel.load(model, **asdict(options))
    base, plus, adapter = loaded.name.partition("+")
    loaded.name = _LABELS.get(base, base) + plus + adapter
    return loaded


def load(
    name: str,
    model: str | None = None,
    *,
    config: Config | None = None,
    options: ModelOptions | None = None,
    endpoint: EndpointOptions | None = None,
    examples: Mapping[str, Sequence[Trajectory]] | None = None,
    retries: reflexion.Config | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Agent:
    """The agent of that name, or the one in that folder.

    Args:
        name: null, random, expert, house, novice, react, reflexion, or a folder that a trainer wrote.
        model: name, path or URL of the model that answers; house, novice and a folder have their own.
        config: form of the answers, decoding, history, sampling; a trained folder's own by default.
        options: how a local model is loaded.
        endpoint: how a server is talked to.
        examples: expert episodes shown before a task, by task type.
        retries: Reflexion's trials, strategy, evaluator.
        settings: single settings by name, as the command line gives them: a field of `react.Config`,
            `ModelOptions`, `EndpointOptions`, `Shots` or `reflexion.Config` (one that several have is each
            one's), `note_temperature` or `note_tokens` (`reflexion.Config`'s `temperature` and `max_tokens`),
            or `reflector`, the model that writes Reflexion's notes (the acting one by default), or `rule` for
            notes written by rule.

    Raises:
        UnknownName: there is no such agent or setting, or a setting has no such value.
        BadOption: it needs a model and none was given, it has none or its own and was given one, a setting
            has a bad value, or is of another kind of agent or model.
        ModelError: the model cannot be loaded.
    """
    called, name = name, shipped(name)
    folder = (Path(name) / FILE).is_file()
    if not folder and name not in ("react", "reflexion"):
        if Path(name).is_dir():
            raise ModelError(f"{name or repr(name)} is no trained agent: it has no {FILE}")
        try:
            agent = built_in(name)
        except UnknownName as error:
            raise UnknownName("agent", name, AGENTS) from error
        if model or settings:
            raise BadOption(f"agent {name} has no model and no settings; leave them out")
        return agent
    if not model and not folder:
        raise BadOption(f"agent {name} needs a model: `--model NAME_OR_PATH_OR_URL`")
    if model and folder:
        raise BadOption(
            f"agent {called} has its own model; leave --model out, or give `--agent react --model {model}`"
        )
    acts = name if folder else shipped(str(model))
    about = read(acts) if (Path(acts) / FILE).is_file() else None
    reflector = settings.get("reflector")
    asked = [acts, *([str(reflector)] if reflector not in (None, "rule") else [])]
    _check(settings, retrying=name == "reflexion", models=asked)
    config = _with(config or (about.config if about else Config()), settings)
    options = _with(options or ModelOptions(), settings)
    endpoint = _with(endpoint or EndpointOptions(), settings)
    examples = _with(Shots(), settings).load() or examples
    of_notes = {_NOTES.get(k, k): v for k, v in settings.items() if k not in _NOTES.values()}
    retries = _with(retries or reflexion.Config(), of_notes)
    answers = load_model(acts, options, endpoint)
    acting = ReAct(answers, config, name=about.method if about else "react", examples=examples)
    if name != "reflexion":
        return acting
    if reflector == "rule":
        return reflexion.Reflexion(acting, Scribe(answers, retries), retries)
    notes = answers if reflector is None else load_model(str(reflector), options, endpoint)
    return reflexion.Reflexion(acting, reflexion.ModelReflector(notes, retries), retries)


_NOTES = {"note_temperature": "temperature", "note_tokens": "max_tokens"}
"""What Reflexion's settings of its notes are called where they are given by name: the plain names are the
actor's."""


def _check(settings: Mapping[str, Any], *, retrying: bool, models: Sequence[str]) -> None:
    """Refuse a setting that there is not, or that would do nothing.

    Raises:
        UnknownName: there is no such setting.
        BadOption: it is one of another kind of agent or model than plays here.
    """
    kinds: set[type[Any]] = {Config, Shots}
    kinds |= {EndpointOptions if model.startswith(_URL) else ModelOptions for model in models}
    if retrying:
        kinds.add(reflexion.Config)
    here = {name for kind in kinds for name in _names(kind)}
    for setting in settings:
        if setting not in here:
            others = [whose for kind, whose in SETTINGS.items() if setting in _names(kind)]
            if others:
                raise BadOption(
                    f"{setting} is a setting of {others[0]} and would do nothing here; leave it out"
                )
            raise UnknownName("agent setting", setting, sorted(here))


def _names(kind: type[Any]) -> set[str]:
    """What settings of that kind are called where they are given by name."""
    own = {f.name for f in fields(kind)}
    return own | {"reflector", *_NOTES} if kind is reflexion.Config else own


def _with(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with those of the changes that it has.

    Raises:
        UnknownName: a word that is none of those that a setting takes.
        BadOption: a value of the wrong kind.
    """
    own = {f.name: changes[f.name] for f in fields(settings) if f.name in changes}
    if not own:
        return settings
    for name, hint in get_type_hints(type(settings)).items():
        if name in own and get_origin(hint) is Literal and own[name] not in get_args(hint):
            raise UnknownName(name, own[name], get_args(hint))
    try:
        return msgspec.convert({**asdict(settings), **own}, type(settings))
    except msgspec.ValidationError as error:
        raise BadOption(f"bad agent setting: {error}") from error

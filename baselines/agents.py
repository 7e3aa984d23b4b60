"""Agents by name or folder, as the command line asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from prosegym.baselines.endpoint import EndpointOptions
from prosegym.baselines.lm import LanguageModel, ModelError
from prosegym.baselines.react import Config, ReAct
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import BUILT_IN, Agent, built_in

AGENTS = (*BUILT_IN, "react", "reflexion")
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
    """Write a trained agent, as `load` reads it: weights (or adapter), tokenizer, `agent.json`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = AgentFile(method, config, base, list(env_ids))
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def read(folder: str | Path) -> AgentFile:
    """What a trained agent's folder says about it.

    Raises:
        CorruptData: its `agent.json` is not one.
    """
    path = Path(folder) / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=AgentFile)
    except (OSError, msgspec.DecodeError, ProsegymError) as error:
        raise CorruptData(f"{path}: {error}") from error


def load_model(
    model: str, options: ModelOptions | None = None, endpoint: EndpointOptions | None = None
) -> LanguageModel:
    """A model by name, path (a folder may be a trained agent's), or URL of an endpoint.

    A URL is that of an OpenAI-compatible server (`http://host:port/v1`), with the model's name behind a `#`
    where the server has more than one.
    """
    options = options or ModelOptions()
    if model.startswith(("http://", "https://")):
        from prosegym.baselines.endpoint import Endpoint

        url, _, name = model.partition("#")
        return Endpoint(url, name or None, endpoint)
    from prosegym.baselines.local import LocalModel

    if (Path(model) / FILE).is_file() and (base := read(model).base) is not None:
        options, model = replace(options, adapter=model), base
    return LocalModel.load(model, **asdict(options))


def load(
    name: str,
    model: str | None = None,
    *,
    config: Config | None = None,
    options: ModelOptions | None = None,
    endpoint: EndpointOptions | None = None,
    examples: Mapping[str, Sequence[Trajectory]] | None = None,
) -> Agent:
    """The agent of that name, or the one in that folder.

    Args:
        name: null, random, expert, react, reflexion, or a folder that a trainer wrote. Reflexion within one
            trial is ReAct with a memory: `prosegym.baselines.reflexion` plays its trials.
        model: name, path or URL of the model that answers; a folder has its own.
        config: form of the answers, decoding, history, sampling; a folder's own by default.
        options: how a local model is loaded.
        endpoint: how a server is talked to.
        examples: expert episodes shown before a task, by task type.

    Raises:
        UnknownName: there is no such agent.
        BadOption: it needs a model and none was given.
        ModelError: the model cannot be loaded.
    """
    if (Path(name) / FILE).is_file():
        about = read(name)
        answers = load_model(model or name, options, endpoint)
        return ReAct(answers, config or about.config, name=about.method, examples=examples)
    if name in ("react", "reflexion"):
        if model is None:
            raise BadOption(f"agent {name} needs a model: `--model NAME_OR_PATH_OR_URL`")
        return ReAct(load_model(model, options, endpoint), config, name=name, examples=examples)
    if Path(name).is_dir():
        raise ModelError(f"{name} is no trained agent: it has no {FILE}")
    try:
        return built_in(name)
    except UnknownName as error:
        raise UnknownName("agent", name, AGENTS) from error

"""From an id to its class and to what its docstrings say, without making the environment."""

from __future__ import annotations

import importlib
import inspect
import re

from prosegym.envs import ENVS, known
from prosegym.envs.core import TextEnv
from prosegym.envs.errors import ProsegymError, UnknownName
from prosegym.envs.rewards import Maker


def env_class(env_id: str) -> type[TextEnv]:
    """The class behind an id.

    Raises:
        UnknownName: no such id.
        ProsegymError: what is registered for it is no `Maker`.
    """
    if not known(env_id):
        raise UnknownName("environment", env_id, ENVS)
    module, _, attribute = ENVS[env_id].partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    if not isinstance(maker, Maker):
        raise ProsegymError(f"{env_id} is registered with {ENVS[env_id]}, which is not a Maker")
    return maker.env_class


def tier(env_id: str) -> str:
    """ "official" for an environment on published tasks, "generated" for one on tasks of our own making."""
    return "official" if env_class(env_id).official else "generated"


FACTS = ("Observation", "Actions", "Reward", "Progress", "Termination", "Splits", "Source", "Differences")
"""What the docstring of an environment's class says, each as lines that begin with its name and a colon."""

_FACT = re.compile(rf"^({'|'.join(FACTS)}): ", re.MULTILINE)


def summary(cls: type[TextEnv]) -> str:
    """What an environment is: its docstring before the first fact."""
    return _FACT.split(inspect.cleandoc(cls.__doc__ or ""), maxsplit=1)[0].strip()


def facts(cls: type[TextEnv]) -> dict[str, str]:
    """The facts of an environment, in the order of `FACTS`; those it does not state are its base's."""
    found: dict[str, str] = {}
    for base in cls.__mro__[: cls.__mro__.index(TextEnv)]:
        _, *parts = _FACT.split(inspect.cleandoc(base.__doc__ or ""))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            found.setdefault(name, " ".join(text.split()))
    return {name: found[name] for name in FACTS if name in found}

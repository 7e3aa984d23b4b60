"""From an id to its class, without making the environment."""

from __future__ import annotations

import importlib

from prosegym.envs import ENVS
from prosegym.envs.core import TextEnv
from prosegym.envs.errors import ProsegymError, UnknownName
from prosegym.envs.rewards import Maker


def env_class(env_id: str) -> type[TextEnv]:
    """The class behind an id.

    Raises:
        UnknownName: no such id.
        ProsegymError: a package it needs is not installed; the message says the extra.
    """
    if env_id not in ENVS:
        raise UnknownName("environment", env_id, ENVS)
    module, _, attribute = ENVS[env_id].partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    if not isinstance(maker, Maker):
        raise ProsegymError(f"{env_id} is registered with {ENVS[env_id]}, which is not a Maker")
    return maker.env_class


def tier(env_id: str) -> str:
    """ "official" for an environment on published tasks, "generated" for one on tasks of our own making."""
    return "official" if env_class(env_id).official else "generated"

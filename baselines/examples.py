"""Few-shot examples: expert episodes by a seeded rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prosegym.envs.core import digest
from prosegym.envs.errors import BadOption
from prosegym.envs.trajectory import Trajectory

ANY = ""
"""Key of the examples for task types that have none of their own, and for tasks that do not tell theirs."""


def pick(
    trajectories: Iterable[Trajectory], env_id: str, count: int, *, seed: int = 0
) -> Mapping[str, list[Trajectory]]:
    """The examples to be shown, by task type.

    Among successful training episodes of that environment (one a task), those whose digest of seed and task
    id is lowest: the choice depends on nothing but the seed and which episodes there are, not on their order.

    Args:
        trajectories: expert episodes.
        env_id: the environment's id.
        count: examples per task type.
        seed: another seed, another choice.

    Raises:
        BadOption: there is no successful training episode of the environment.
    """
    by_task: dict[str, Trajectory] = {}
    for t in trajectories:
        if t.env_id == env_id and t.split == "train" and t.success:
            by_task.setdefault(t.task_id, t)
    if not by_task:
        raise BadOption(
            f"no successful training episode of {env_id} to take examples from; run `prosegym collect`"
        )
    ordered = sorted(by_task.values(), key=lambda t: digest(str(seed), t.task_id))
    picked: dict[str, list[Trajectory]] = {ANY: ordered[:count]}
    for t in ordered:
        own = picked.setdefault(t.task_type, [])
        if len(own) < count:
            own.append(t)
    return picked

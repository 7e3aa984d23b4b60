"""Few-shot examples: expert episodes by a seeded rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prosegym.envs import trajectory
from prosegym.envs.core import digest
from prosegym.envs.errors import BadOption, at_least
from prosegym.envs.trajectory import Trajectory

ANY = ""
"""Key of the examples for task types that have none of their own, and for tasks that do not tell theirs."""


@dataclass(frozen=True)
class Shots:
    """Which examples are shown, as the command line gives it."""

    examples: str = ""
    """File of expert trajectories of one environment, as `prosegym collect` writes it; empty for none."""
    shots: int = 1
    """Examples per task type."""
    examples_seed: int = 0
    """Another seed, another choice."""

    def load(self) -> Mapping[str, list[Trajectory]] | None:
        """What `pick` finds in the file; None where there is none.

        Raises:
            BadOption: fewer than one example is asked for, or the file holds episodes of several environments
                or no successful one of a training split.
            CorruptData: the file cannot be read.
        """
        at_least(1, shots=self.shots)
        if not self.examples:
            if self != Shots():
                raise BadOption(
                    "shots and examples_seed say which examples are taken; give examples=FILE, too"
                )
            return None
        experts = list(trajectory.read(self.examples))
        env_ids = sorted({t.env_id for t in experts})
        if len(env_ids) != 1:
            raise BadOption(
                f"{self.examples} holds episodes of {' and '.join(env_ids) or 'no environment'}; examples "
                "are those of one: collect them with `prosegym collect --agent expert --split train`"
            )
        return pick(experts, env_ids[0], self.shots, seed=self.examples_seed)


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

"""RFT: rejection-sampling fine-tuning (Yuan et al. 2023, arXiv:2308.01825), the baseline of ETO's table 2.

    1. clone the experts: L_SFT on D
    2. sample every training task with the clone; keep the episodes that succeed
    3. clone D and the kept episodes together, from the base model

Read: ETO's paragraph on it.

Reconstructed: the number of samples and the temperature (neither is printed), and that step 3 begins at the
base model, as in the RFT paper. An episode kept twice with the same actions, or that repeats the expert's, is
dropped: it teaches nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prosegym.baselines import sft
from prosegym.baselines.local import LocalModel
from prosegym.baselines.practice import Practice
from prosegym.envs.errors import at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.rollout import Job


@dataclass(frozen=True)
class Config:
    """The cloning is ETO's; the sampling is chosen here (neither paper prints one for these environments)."""

    cloning: sft.Config = sft.Config()
    cloned: bool = False
    """The model has been cloned already: leave out step 1; step 3 then begins at the clone."""
    samples: int = 4
    """Episodes of each training task."""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples)


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """The three steps; the policy changes in place."""
    base = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    if config.cloned:
        practice.told_apart(experts)
    else:
        sft.train(policy, experts, practice, config.cloning)
    kept = accepted(experts, sample(policy, experts, practice, config))
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            parameter.copy_(base[name])
    talks = [practice.conversation(e) for e in [*experts, *kept]]
    sft.clone(policy, talks, practice, config.cloning, "rft")


def sample(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config
) -> list[Trajectory]:
    """`samples` episodes of every training task."""
    tasks = dict.fromkeys(e.task_id for e in experts)
    jobs = [Job(task, attempt) for task in tasks for attempt in range(config.samples)]
    return practice.play(policy, jobs, "sample", temperature=config.temperature)


def accepted(experts: Sequence[Trajectory], sampled: Sequence[Trajectory]) -> list[Trajectory]:
    """The successful episodes whose actions are not there yet."""
    known = {(e.task_id, *e.actions) for e in experts}
    kept = []
    for tried in sampled:
        if tried.success and (tried.task_id, *tried.actions) not in known:
            known.add((tried.task_id, *tried.actions))
            kept.append(tried)
    return kept

"""StepAgent, implicit reward: learn from the expert step by step (Deng et al. 2024, arXiv:2411.03817).

    1. clone the experts: L_SFT on D
    2. repeat
       inspection: at every expert state s_i = (o_1, a_1, ..., o_i) the agent says what it would do,
                   a_i^theta ~ pi(.|s_i); the environment takes no part
       reflection: minimise  - E_i log sigma( beta log[pi(a_i|s_i) / ref(a_i|s_i)]
                                              - beta log[pi(a_i^theta|s_i) / ref(a_i^theta|s_i)] )

Read: the abstract, and an article that prints the equations; no code was published, and the tables and
settings could not be read.

Reconstructed: everything in Config; the reference, printed as the expert's policy pi_e, which cannot be
evaluated, is the policy as the cycle began, or the clone of the experts. States where the agent already does
as the expert are left out: their gradient is 0. All steps of an episode share its beginning, so they are run
as one token tree. The inverse variant (a discriminator and PPO) is not in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prosegym.baselines import sft
from prosegym.baselines.contrast import Contrast, prefer
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Preference
from prosegym.baselines.practice import Practice, only_answer, twin
from prosegym.baselines.training import Optim
from prosegym.envs.errors import at_least
from prosegym.envs.trajectory import Trajectory

NONE = (
    "the agent answers as the expert does in every state",
    "use more episodes, fewer epochs of cloning, or a higher temperature",
)
"""What it means that there is no pair, and what helps."""


@dataclass(frozen=True)
class Config:
    """Chosen here after ETO's settings: the paper's could not be read."""

    cloning: sft.Config = sft.Config()
    cloned: bool = False
    """The model has been cloned already: leave out step 1."""
    cycles: int = 2
    optim: Optim = Optim(5e-7, epochs=1, batch_size=32, schedule="constant", warmup=0.1)
    """A batch counts step pairs; those of an episode are in one as far as they fit one pass (`tokens`)."""
    beta: float = 0.1
    temperature: float = 1.0
    """Of the inspection."""
    reference: Literal["cycle", "clone"] = "cycle"
    """The policy as each cycle began, or the clone of the experts throughout."""
    imitation: float = 0.0
    """Weight of - log pi(a_i|s_i) per token beside the preference; not in the paper."""

    def __post_init__(self) -> None:
        at_least(1, cycles=self.cycles)


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Novice to expert; the policy changes in place."""
    practice.turn_by_turn(experts)
    if not config.cloned:
        sft.train(policy, experts, practice, config.cloning)
    reference = twin(policy) if config.reference == "clone" else policy
    for i in range(1, config.cycles + 1):
        steps = inspect(policy, experts, practice, config, i)
        objective = Preference(config.beta, imitation=config.imitation, mean=True)
        optim = config.optim
        if not prefer(policy, reference.model, steps, objective, practice, optim, "reflect", i, NONE):
            return


def inspect(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> list[list[Contrast]]:
    """(The expert's answer, the agent's) at every expert state, episode by episode, where they differ."""
    talks = [practice.conversation(e) for e in experts]
    told = [(n, only_answer(talk, t)) for n, talk in enumerate(talks) for t in range(len(talk) // 2)]
    states = [expert[:-1] for _, expert in told]
    answers = practice.answers(policy, states, f"inspect-{i}", practice.freely(config.temperature))
    practice.compare(i, answers, [expert[-1] for _, expert in told])
    found: list[list[Contrast]] = [[] for _ in talks]
    for (n, expert), answer in zip(told, answers, strict=True):
        if answer.content.strip() != expert[-1].content.strip():
            found[n].append((expert, [*expert[:-1], answer]))
    return [steps for steps in found if steps]

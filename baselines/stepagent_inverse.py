"""StepAgent, inverse: a discriminator rewards each step (Deng et al. 2024, arXiv:2411.03817).

    1. clone the experts
    2. repeat
       inspection: at every expert state s_i the agent answers, a_i^theta ~ pi(.|s_i)
       reward:     D(s, a) = P(the agent wrote a); maximise E_agent[log D] + E_expert[log(1 - D)];
                   r_i = - log D(s_i, a_i^theta)
       policy:     PPO on the answers with r_i, a KL penalty to the clone and lambda H(pi)

Read: the abstract, and an article that prints the objective (GAIL's saddle point) and says that PPO follows
the step rewards; no code was published.

Reconstructed: all of Config; that D is a copy of the clone with a head read at the answer's last token and is
trained further in each cycle; that each answer is an episode of its own for PPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prosegym.baselines import losses, sft
from prosegym.baselines.batch import Sample
from prosegym.baselines.diagnosis import spread
from prosegym.baselines.local import LocalModel
from prosegym.baselines.ppo import Headed, Judged, Judgement, Settings, improve, judgements
from prosegym.baselines.practice import Practice, only_answer, twin
from prosegym.baselines.training import Optim
from prosegym.envs.errors import at_least
from prosegym.envs.trajectory import Trajectory


@dataclass(frozen=True)
class Config:
    """Chosen here: the paper's settings could not be read."""

    cloning: sft.Config = sft.Config()
    cloned: bool = False
    """The model has been cloned already: leave out step 1."""
    cycles: int = 2
    discriminator: Optim = Optim(1e-5, epochs=1, batch_size=32)
    optim: Optim = Optim(1e-6, epochs=2, batch_size=32, schedule="constant", warmup=0.0)
    """Of PPO."""
    ppo: Settings = Settings(kl=0.05, entropy=0.01)
    temperature: float = 1.0
    """Of the inspection."""
    airl: bool = False
    """r = log(1 - D) - log D, which also punishes, in place of - log D."""
    largest: float = 5.0
    """Rewards are cut to plus or minus this."""

    def __post_init__(self) -> None:
        at_least(1, cycles=self.cycles)


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Generative adversarial imitation, step by step; the policy changes in place."""
    practice.turn_by_turn(experts)
    if not config.cloned:
        sft.train(policy, experts, practice, config.cloning)
    clone = twin(policy)
    discriminator = Headed(twin(policy).model, speaks=False)
    critic = Headed(policy.model)
    for i in range(1, config.cycles + 1):
        expert, agent = inspect(policy, experts, practice, config, i)
        tell_apart(discriminator, expert, agent, practice, config, i)
        rewards = reward(discriminator, agent, practice, config, i)
        improve(critic, agent, rewards, clone.model, practice, config.ppo, config.optim, f"ppo-{i}")


def inspect(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> tuple[list[Sample], list[Sample]]:
    """At every expert state, the expert's answer and the agent's."""
    talks = [practice.conversation(e) for e in experts]
    told = [only_answer(talk, t) for talk in talks for t in range(len(talk) // 2)]
    answers = practice.answers(
        policy, [x[:-1] for x in told], f"inspect-{i}", practice.freely(config.temperature)
    )
    practice.compare(i, answers, [x[-1] for x in told])
    expert = sft.samples(policy, told)
    agent = sft.samples(policy, [[*x[:-1], answer] for x, answer in zip(told, answers, strict=True)])
    kept, cut = len(expert) + len(agent), sum(s.cut for s in agent)
    practice.say(f"discriminator-{i}", "texts", 2 * len(told), kept, cut + sum(s.cut for s in expert))
    practice.say(f"ppo-{i}", "texts", len(told), len(agent), cut)
    return expert, agent


def tell_apart(
    discriminator: Headed,
    expert: Sequence[Sample],
    agent: Sequence[Sample],
    practice: Practice,
    config: Config,
    i: int,
) -> None:
    """Maximise E_agent[log D] + E_expert[log(1 - D)]."""
    both = [Judged(s, True) for s in expert] + [Judged(s, False) for s in agent]
    practice.fit(discriminator, Judgement(), both, config.discriminator, f"discriminator-{i}")


def reward(
    discriminator: Headed, agent: Sequence[Sample], practice: Practice, config: Config, i: int
) -> list[float]:
    """r_i = - log D(s_i, a_i^theta)."""
    logits = torch.tensor(judgements(discriminator, agent, config.discriminator.tokens))
    found = losses.discriminator_reward(logits, airl=config.airl).clamp(-config.largest, config.largest)
    rewards: list[float] = found.tolist()
    practice.tell("reward", i, spread(f"cycle {i}", rewards))
    return rewards

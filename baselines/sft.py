"""SFT: behavioural cloning of expert episodes. The first line of every other method, and a baseline itself.

    theta <- argmin - E_{e in D} sum_k w_k log pi_theta(t_k | t_<k)

w_k is 1 on the tokens of the agent's answers and 0 on what it read (ETO section 2, arXiv:2403.02502, eq.
3-5); over a batch the sum is divided by its weights, so that a token counts the same in an episode of any
length.

Read: the paper and the published settings of its code.

Different here: the mask comes from the turns, not from searching rendered text; an episode longer than the
context is cut after the last answer that fits, where the code cuts in the middle of an answer; `observations`
gives what was read a weight, which helps models that start from random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prosegym.baselines.batch import Sample
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Imitation
from prosegym.baselines.practice import Practice
from prosegym.baselines.training import Optim
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Message, Trajectory


@dataclass(frozen=True)
class Config:
    """Of ETO's SFT stage: batch 64, 3 epochs, 3 % warm-up, cosine (paper); learning rate 2e-5 (script)."""

    optim: Optim = Optim(learning_rate=2e-5, epochs=3, batch_size=64, warmup=0.03)
    observations: float = 0.0
    """Weight, in the loss, of the tokens the agent only read."""
    longest: int | None = None
    """Tokens of an episode at most, cut after an answer; None is the model's context."""


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Minimise L_SFT over the experts' episodes; the policy changes in place."""
    practice.told_apart(experts)
    clone(policy, [practice.conversation(e) for e in experts], practice, config, "sft")


def clone(
    policy: LocalModel,
    talks: Sequence[Sequence[Message]],
    practice: Practice,
    config: Config,
    phase: str,
) -> list[Sample]:
    """Minimise L_SFT over conversations; returns them as what was imitated."""
    texts = samples(policy, talks, config.observations, config.longest)
    practice.say(phase, "texts", len(talks), len(texts), sum(s.cut for s in texts))
    practice.fit(policy.model, Imitation(), texts, config.optim, phase)
    return texts


def samples(
    policy: LocalModel,
    conversations: Sequence[Sequence[Message]],
    observations: float = 0.0,
    longest: int | None = None,
) -> list[Sample]:
    """Conversations as tokens with weights: 1 on what is marked trainable, `observations` on the rest.

    Raises:
        ProsegymError: no conversation's first answer fits the context.
    """
    found = [sample(policy, c, observations, longest) for c in conversations]
    kept = [s for s in found if s is not None and s.trained > 0]
    if conversations and not kept:
        raise ProsegymError(
            f"none of {len(conversations)} episodes fits the context of {_limit(policy, longest)} tokens "
            "up to its first answer; use a model with a longer one, or a larger `longest` where that is set"
        )
    return kept


def told(policy: LocalModel, conversations: Sequence[Sequence[Message]], config: Config) -> str:
    """What `clone` would train on, in one line.

    Raises:
        ProsegymError: no conversation's first answer fits the context.
    """
    texts = samples(policy, conversations, config.observations, config.longest)
    limit = _limit(policy, config.longest)
    cut, tokens = sum(s.cut for s in texts), sum(len(s.token_ids) for s in texts)
    return (
        f"imitation trains on {len(texts)} of these {len(conversations)}, {cut} of them cut to fit {limit} "
        f"tokens, in all {tokens} tokens; an answer's token weighs 1 in the loss, one that is only read "
        f"{config.observations:g}"
    )


def sample(
    policy: LocalModel,
    conversation: Sequence[Message],
    observations: float = 0.0,
    longest: int | None = None,
) -> Sample | None:
    """One conversation, cut after the last answer that fits the context; None where the first does not."""
    encoded = policy.chat.encode(conversation)
    limit = _limit(policy, longest)
    end = max((end for _, end in encoded.turns if end <= limit), default=0)
    if end == 0:
        return None
    weights = tuple(1.0 if trained else observations for trained in encoded.trainable[:end])
    return Sample(tuple(encoded.token_ids[:end]), weights, end < encoded.turns[-1][1])


def _limit(policy: LocalModel, longest: int | None) -> int:
    """Tokens of a conversation at most."""
    return min(policy.max_context, longest or policy.max_context)

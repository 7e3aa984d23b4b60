"""PPO on single answers: each is a bandit's episode with one reward, paid at its last token.

    r_t = - coefficient (log pi_old - log ref), and the answer's reward on top at the last token
    A, R by GAE over the answer's tokens; A whitened; then L = L_clip + c_v L_value - lambda H

Used where a reward is learnt or measured per answer: Retroformer's reflections, StepAgent-Inverse's actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from prosegym.baselines import batch, losses
from prosegym.baselines.batch import Sample
from prosegym.baselines.engine import sent
from prosegym.baselines.objectives import table, token_scores
from prosegym.baselines.practice import Practice
from prosegym.baselines.training import Metrics, Optim


class Read(NamedTuple):
    """What a `Headed` model makes of R rows of N tokens."""

    logits: Tensor
    """(R, N, V), or what its causal model was asked for."""
    numbers: Tensor
    """(R, N), in float32."""


class Headed(nn.Module):
    """A language model with a number read at every token: a value, or a score of the text up to there."""

    def __init__(self, model: Any, *, speaks: bool = True) -> None:
        """Add a head that reads 0 everywhere to a causal language model, which is shared, not copied.

        One that never `speaks` is trained on its numbers alone; an output layer of its own is frozen.
        """
        super().__init__()
        self.model = model
        self.config = model.config
        width = model.config.get_text_config().hidden_size
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.head.to(next(model.parameters()).device)
        layer = model.get_output_embeddings()
        if not speaks and layer is not None and layer.weight is not model.get_input_embeddings().weight:
            layer.requires_grad_(False)  # several processes wait for the gradient of all that is trained

    def get_output_embeddings(self) -> Any:
        """The language model's."""
        return self.model.get_output_embeddings()

    def forward(self, input_ids: Tensor, **inputs: Any) -> Read:
        """Logits and the number at each token."""
        out = self.model(input_ids=input_ids, output_hidden_states=True, **inputs)
        hidden = out.hidden_states[-1].to(self.head.weight.dtype)
        return Read(out.logits, self.head(hidden)[..., 0].float())


class Bandit(NamedTuple):
    """An answer, and what PPO compares it with; token by token."""

    sample: Sample
    old: tuple[float, ...]
    """log pi when it was sampled."""
    values: tuple[float, ...]
    advantages: tuple[float, ...]
    returns: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """PPO's numbers: those of the released scripts and common implementations, 0.2 and 0.95 the papers'."""

    clip: float = 0.2
    kl: float = 0.2
    """Coefficient of the penalty per token for leaving the reference (Retroformer's scripts)."""
    gamma: float = 1.0
    lam: float = 0.95
    value: float = 0.1
    """c_v."""
    entropy: float = 0.0
    """lambda."""


@dataclass(frozen=True)
class Clipped:
    """L_clip + c_v L_value - lambda H; the model is a `Headed` one."""

    compares: ClassVar[bool] = True

    settings: Settings

    def length(self, item: Bandit) -> int:
        """Its tokens."""
        return len(item.sample.token_ids)

    def rows(self, item: Bandit) -> int:
        """One."""
        return 1

    def weight(self, item: Bandit) -> float:
        """Its answer's tokens."""
        return item.sample.trained

    def loss(self, model: nn.Module, items: Sequence[Bandit]) -> tuple[Tensor, Metrics]:
        """The mean over the answers' tokens; its terms, the clipped share and how far the policy has gone."""
        s = self.settings
        logp, values, mask, entropies = run(model, [x.sample for x in items], s.entropy)
        old, advantages = table([x.old for x in items], logp), table([x.advantages for x in items], logp)
        returns, before = table([x.returns for x in items], logp), table([x.values for x in items], logp)
        policy = losses.ppo(logp, old, advantages, mask, s.clip)
        value = losses.value(values, before, returns, mask, s.clip)
        entropy = losses.masked_mean(entropies, mask)
        metrics = {
            "policy": policy.detach(),
            "value": value.detach(),
            "entropy": entropy.detach(),
            "clip_share": losses.clip_share(logp.detach(), old, mask, s.clip),
            "kl_from_old": losses.kl(old, logp.detach(), mask),
        }
        return policy + s.value * value - s.entropy * entropy, metrics


def run(
    model: nn.Module, samples: Sequence[Sample], entropy: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log pi, values before each token, mask, entropy of what chose each trained token: (B, T) each.

    `entropy` is its weight in the loss; at 0 it has no gradient, which would hold three times the logits.
    """
    laid = batch.lay_out(model, samples)
    logits, out = laid.logits(model)
    # The state before a token is read at the token before it.
    values = laid.per_token(out.numbers.gather(1, laid.parents))
    with torch.set_grad_enabled(torch.is_grad_enabled() and bool(entropy)):
        entropies = laid.spread(losses.entropy(logits))
    return laid.logp(logits), values, laid.weights, entropies


def bandits(
    model: Headed,
    samples: Sequence[Sample],
    rewards: Sequence[float],
    reference: Sequence[Sequence[float]],
    settings: Settings,
    tokens: int | None = None,
) -> list[Bandit]:
    """What PPO trains on: answers as the present policy gives them, with advantages and returns.

    Args:
        model: policy and value head, as they sampled.
        samples: the answers, with their prompts.
        rewards: one for each.
        reference: log-probability of each token under the reference (`objectives.token_scores`).
        settings: of PPO.
        tokens: padded tokens of one forward pass at most, as `Optim.tokens`.
    """
    lengths = [len(s.token_ids) for s in samples]
    made: list[tuple[Tensor, ...]] = [()] * len(samples)  # of each: log pi, V, A, R, mask
    model.eval()
    with torch.no_grad():
        for part in batch.cut(model, samples, tokens):
            # What follows are many small operations, which a GPU would take one by one.
            logp, values, mask, _ = (x.cpu() for x in run(model, [samples[i] for i in part]))
            ref = table([reference[i] for i in part], logp)
            paid = losses.kl_penalty(logp, ref, settings.kl) * mask
            last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(-1)
            paid[torch.arange(len(part)), last] += logp.new_tensor([rewards[i] for i in part])
            advantages, returns = losses.gae(paid, values, mask, settings.gamma, settings.lam)
            for row, i in enumerate(part):
                each = (logp, values, advantages, returns, mask)
                made[i] = tuple(x[row, : lengths[i]] for x in each)
    old, before, advantage, earned, masks = zip(*made, strict=True)
    whitened = losses.masked_whiten(torch.cat(advantage)[None], torch.cat(masks)[None])[0]
    rows = zip(samples, old, before, torch.split(whitened, lengths), earned, strict=True)
    return [Bandit(s, *(tuple(x.tolist()) for x in numbers)) for s, *numbers in rows]


def improve(
    critic: Headed,
    answers: Sequence[Sample],
    rewards: Sequence[float],
    reference: nn.Module,
    practice: Practice,
    settings: Settings,
    optim: Optim,
    phase: str,
) -> None:
    """PPO on answers, with a KL penalty to the reference; the policy under the critic changes in place."""
    with practice.accelerator.autocast():  # at the precision of training: a difference would be a ratio
        scores = token_scores(reference, answers, optim.tokens)
        items = bandits(critic, answers, rewards, scores, settings, optim.tokens)
    gaps = [
        old - ref
        for item, refs in zip(items, scores, strict=True)
        for old, ref, weight in zip(item.old, refs, item.sample.weights, strict=True)
        if weight
    ]
    practice.tell(f"{phase}-reference", 1, {"kl": sum(gaps) / max(1, len(gaps))})
    practice.fit(critic, Clipped(settings), items, optim, phase)


class Judged(NamedTuple):
    """A text that is good or bad."""

    sample: Sample
    good: bool


@dataclass(frozen=True)
class Judgement:
    """`losses.discriminator` on a `Headed` model, read at each text's last token: sigma(number) = P(bad)."""

    compares: ClassVar[bool] = False

    def length(self, item: Judged) -> int:
        """Its tokens."""
        return len(item.sample.token_ids)

    def rows(self, item: Judged) -> int:
        """One."""
        return 1

    def weight(self, item: Judged) -> float:
        """Every text counts the same."""
        return 1.0

    def loss(self, model: nn.Module, items: Sequence[Judged]) -> tuple[Tensor, Metrics]:
        """The mean of both classes' binary cross-entropy; how often it is right."""
        numbers = judge(model, [x.sample for x in items])
        good = sent([x.good for x in items], numbers.device)
        right = ((numbers > 0) != good).float().mean()
        return losses.discriminator(numbers, ~good), {"accuracy": right}


def judge(model: nn.Module, samples: Sequence[Sample]) -> Tensor:
    """The number at each text's last token: (B,)."""
    laid = batch.lay_out(model, samples)
    _, out = laid.logits(model)
    last = sent([len(s.token_ids) - 1 for s in samples], out.numbers.device)
    return laid.per_token(out.numbers).gather(1, last[:, None])[:, 0]


def judgements(model: Headed, samples: Sequence[Sample], tokens: int | None = None) -> list[float]:
    """`judge` over any number of texts, without gradients."""
    found = [0.0] * len(samples)
    model.eval()
    with torch.no_grad():
        for part in batch.cut(model, samples, tokens):
            for i, number in zip(part, judge(model, [samples[i] for i in part]).tolist(), strict=True):
                found[i] = number
    return found

"""What `fit` minimises: a loss of `losses` over tokens that a model reads and writes.

A `Sample` is a text as tokens with the weight each has in the loss; a `Pair` is two of them, the better one
first, with what the frozen reference gives them. `batch.logp` runs the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from prosegym.baselines import batch, losses
from prosegym.baselines.batch import Sample
from prosegym.baselines.engine import sent
from prosegym.baselines.training import Metrics


class Pair(NamedTuple):
    """Two texts of which the first is preferred, and the log-probability the reference gives each."""

    win: Sample
    lose: Sample
    ref_win: float = 0.0
    ref_lose: float = 0.0


@dataclass(frozen=True)
class Imitation:
    """Masked cross-entropy (`losses.sft`): the mean over all trained tokens of a batch."""

    compares: ClassVar[bool] = False

    def length(self, item: Sample) -> int:
        """Its tokens."""
        return len(item.token_ids)

    def rows(self, item: Sample) -> int:
        """One."""
        return 1

    def weight(self, item: Sample) -> float:
        """Its trained tokens."""
        return item.trained

    def loss(self, model: nn.Module, items: Sequence[Sample]) -> tuple[Tensor, Metrics]:
        """Nats per trained token; the share of tokens trained."""
        logp, weights = batch.logp(model, items)
        share = sum(x.trained for x in items) / sum(len(x.token_ids) for x in items)
        return losses.sft(logp, weights), {"trained_share": share}


Bundle = tuple[Pair, ...]
"""Pairs that are run together because they begin alike: the step pairs of an episode, or a pair alone."""


@dataclass(frozen=True)
class Preference:
    """DPO on summed log-probabilities (`losses.dpo`), plus `imitation` times - log pi(win)."""

    compares: ClassVar[bool] = True

    beta: float
    imitation: float = 0.0
    """Weight of the winner's negative log-likelihood beside the preference (IPR's L_SFT)."""
    mean: bool = False
    """Average that term over the winner's tokens in place of summing it."""

    def length(self, item: Bundle) -> int:
        """The longest sequence of its pairs."""
        return max(max(len(x.win.token_ids), len(x.lose.token_ids)) for x in item)

    def rows(self, item: Bundle) -> int:
        """Two for each pair."""
        return 2 * len(item)

    def weight(self, item: Bundle) -> float:
        """Every pair counts the same."""
        return float(len(item))

    def loss(self, model: nn.Module, items: Sequence[Bundle]) -> tuple[Tensor, Metrics]:
        """The mean over pairs; how often the winner is preferred, by what margin, and how both have moved."""
        pairs = [pair for bundle in items for pair in bundle]
        logp, mask = batch.logp(model, [x.win for x in pairs] + [x.lose for x in pairs])
        win, lose = losses.sequence_logp(logp, mask).chunk(2)
        given = [[x.ref_win for x in pairs], [x.ref_lose for x in pairs]]
        ref_win, ref_lose = sent(torch.tensor(given, dtype=win.dtype), win.device)
        loss = losses.dpo(win, lose, ref_win, ref_lose, self.beta)
        if self.imitation:
            tokens = mask[: len(pairs)].sum(-1) if self.mean else torch.ones_like(win)
            loss = loss - self.imitation * (win / tokens).mean()
        with torch.no_grad():
            margin = self.beta * ((win - ref_win) - (lose - ref_lose))
            metrics = {
                "pairs": float(len(pairs)),
                "accuracy": (margin > 0).float().mean(),
                "margin": margin.mean(),
                "win_gain": (win - ref_win).mean(),
                "lose_gain": (lose - ref_lose).mean(),
            }
        return loss, metrics


class Played(NamedTuple):
    """A text the learner wrote as `behaviour` did, what it earned, and a demonstration to hold on to."""

    sample: Sample
    behaviour: tuple[float, ...]
    """Log-probability of each token under the policy that sampled it."""
    reward: float
    imitate: Sample


@dataclass(frozen=True)
class PolicyGradient:
    """L_RL + lambda L_IL (RetroAct eq. 9-10): `losses.clipped_policy_gradient`, cross-entropy by texts."""

    compares: ClassVar[bool] = True

    clip: float
    regulariser: float
    legacy_mean: bool = False
    """Divide both terms by all of a text's tokens, its prompt's included, as the released code does."""

    def length(self, item: Played) -> int:
        """The longer of its two texts."""
        return max(len(item.sample.token_ids), len(item.imitate.token_ids))

    def rows(self, item: Played) -> int:
        """Two."""
        return 2

    def weight(self, item: Played) -> float:
        """Every text counts the same."""
        return 1.0

    def loss(self, model: nn.Module, items: Sequence[Played]) -> tuple[Tensor, Metrics]:
        """The mean over texts; both terms, the clipped share, how far the policy has gone, the reward."""
        both, masks = batch.logp(model, [x.sample for x in items] + [x.imitate for x in items])
        longest = max(len(x.sample.token_ids) for x in items)
        logp, mask = both[: len(items), :longest], masks[: len(items), :longest]
        behaviour = table([x.behaviour for x in items], logp)
        told = [(x.reward, len(x.sample.token_ids), len(x.imitate.token_ids)) for x in items]
        reward, *lengths = sent(torch.tensor(told, dtype=logp.dtype).T, logp.device)
        counts, shown = lengths if self.legacy_mean else (None, None)
        gradient = losses.clipped_policy_gradient(logp, behaviour, reward, mask, self.clip, counts)
        imitation = -losses.mean_of_texts(both[len(items) :], masks[len(items) :], shown)
        clipped = losses.clip_share(logp.detach(), behaviour, mask, self.clip)
        metrics = {
            "policy_gradient": gradient.detach(),
            "imitation": imitation.detach(),
            "clip_share": clipped,
            "kl_from_old": losses.kl(behaviour, logp.detach(), mask),
            "reward": reward.mean(),
        }
        return gradient + self.regulariser * imitation, metrics


def table(rows: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Numbers of each token as a tensor of the shape (B, T) of `like`, 0 beyond each row's end."""
    found = torch.zeros(like.shape, dtype=like.dtype)
    for row, numbers in enumerate(rows):
        found[row, : len(numbers)] = torch.tensor(numbers, dtype=like.dtype)
    return cast(Tensor, sent(found, like.device))


def token_scores(
    model: nn.Module, samples: Sequence[Sample], tokens: int | None = None
) -> list[tuple[float, ...]]:
    """log pi of every trained token of each sample, 0 for the others, without gradients.

    Args:
        model: a behaviour policy, or a frozen reference.
        samples: any number.
        tokens: padded tokens of one forward pass at most, as `Optim.tokens`.
    """
    found: list[tuple[float, ...]] = [()] * len(samples)
    model.eval()
    with torch.no_grad():
        for part in tqdm(batch.cut(model, samples, tokens), desc="scores", unit="batch", leave=False):
            rows, _ = batch.logp(model, [samples[i] for i in part])
            for i, numbers in zip(part, rows.tolist(), strict=True):
                found[i] = tuple(numbers[: len(samples[i].token_ids)])
    return found


def score(model: nn.Module, samples: Sequence[Sample], tokens: int | None = None) -> list[float]:
    """log pi of each sample's trained tokens, summed, without gradients: what a frozen reference gives."""
    found = token_scores(model, samples, tokens)
    return [
        sum(w * p for w, p in zip(s.weights, logp, strict=True))
        for s, logp in zip(samples, found, strict=True)
    ]


def against(model: nn.Module, bundles: Sequence[Bundle], tokens: int | None = None) -> list[Bundle]:
    """The pairs with this model, as it is now, for their reference."""
    pairs = [pair for bundle in bundles for pair in bundle]
    scores = iter(score(model, [x for p in pairs for x in (p.win, p.lose)], tokens))
    return [
        tuple(p._replace(ref_win=next(scores), ref_lose=next(scores)) for p in bundle) for bundle in bundles
    ]

"""What `fit` minimises: a loss of `losses` over tokens that a model reads and writes.

A `Sample` is a text as tokens with the weight each has in the loss; a `Pair` is two of them, the better one
first, with what the frozen reference gives them. `logp` runs the model over a padded batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from prosegym.baselines import losses
from prosegym.baselines.training import passes


class Sample(NamedTuple):
    """A text, and what of it is trained on."""

    token_ids: tuple[int, ...]
    weights: tuple[float, ...]
    """Of each token in the loss: 1 where the learner wrote it, 0 where it only read it."""

    @property
    def trained(self) -> float:
        """Sum of the weights."""
        return sum(self.weights)


class Pair(NamedTuple):
    """Two texts of which the first is preferred, and the log-probability the reference gives each."""

    win: Sample
    lose: Sample
    ref_win: float = 0.0
    ref_lose: float = 0.0


LogP = Callable[[nn.Module, Sequence[Sample]], tuple[Tensor, Tensor]]
"""Log-probabilities of every token of every sample, and their weights: both (B, T), in the samples' order."""


def logp(model: nn.Module, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """`LogP` by one forward pass over the samples, padded to the longest."""
    device = next(model.parameters()).device
    ids, weights, attention = pad(samples, device)
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
    return losses.token_logp(logits, ids), weights


def pad(samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, weights and attention mask, all (B, T), padded on the right with token 0."""
    length = max(len(s.token_ids) for s in samples)
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    weights = torch.zeros(len(samples), length)
    attention = torch.zeros(len(samples), length, dtype=torch.long)
    for row, sample in enumerate(samples):
        n = len(sample.token_ids)
        ids[row, :n] = torch.tensor(sample.token_ids)
        weights[row, :n] = torch.tensor(sample.weights)
        attention[row, :n] = 1
    return ids.to(device), weights.to(device), attention.to(device)


@dataclass(frozen=True)
class Imitation:
    """Masked cross-entropy (`losses.sft`): the mean over all trained tokens of a batch."""

    logp: LogP = logp

    def length(self, item: Sample) -> int:
        """Its tokens."""
        return len(item.token_ids)

    def rows(self, item: Sample) -> int:
        """One."""
        return 1

    def weight(self, item: Sample) -> float:
        """Its trained tokens."""
        return item.trained

    def loss(self, model: nn.Module, items: Sequence[Sample]) -> tuple[Tensor, Mapping[str, float]]:
        """Nats per trained token; the share of tokens trained."""
        logp, weights = self.logp(model, items)
        share = sum(x.trained for x in items) / sum(len(x.token_ids) for x in items)
        return losses.sft(logp, weights), {"trained_share": share}


Bundle = tuple[Pair, ...]
"""Pairs that are run together because they begin alike: the step pairs of an episode, or a pair alone."""


@dataclass(frozen=True)
class Preference:
    """DPO on summed log-probabilities (`losses.dpo`), plus `imitation` times - log pi(win)."""

    beta: float
    imitation: float = 0.0
    """Weight of the winner's negative log-likelihood beside the preference (IPR's L_SFT)."""
    mean: bool = False
    """Average that term over the winner's tokens in place of summing it."""
    logp: LogP = logp

    def length(self, item: Bundle) -> int:
        """The longest sequence of its pairs."""
        return max(max(len(x.win.token_ids), len(x.lose.token_ids)) for x in item)

    def rows(self, item: Bundle) -> int:
        """Two for each pair."""
        return 2 * len(item)

    def weight(self, item: Bundle) -> float:
        """Every pair counts the same."""
        return float(len(item))

    def loss(self, model: nn.Module, items: Sequence[Bundle]) -> tuple[Tensor, Mapping[str, float]]:
        """The mean over pairs; how often the winner is preferred, by what margin, and how both have moved."""
        pairs = [pair for bundle in items for pair in bundle]
        logp, mask = self.logp(model, [x.win for x in pairs] + [x.lose for x in pairs])
        win, lose = losses.sequence_logp(logp, mask).chunk(2)
        ref_win = torch.tensor([x.ref_win for x in pairs], dtype=win.dtype, device=win.device)
        ref_lose = torch.tensor([x.ref_lose for x in pairs], dtype=win.dtype, device=win.device)
        loss = losses.dpo(win, lose, ref_win, ref_lose, self.beta)
        if self.imitation:
            tokens = mask[: len(pairs)].sum(-1) if self.mean else torch.ones_like(win)
            loss = loss - self.imitation * (win / tokens).mean()
        with torch.no_grad():
            margin = self.beta * ((win - ref_win) - (lose - ref_lose))
            metrics = {
                "pairs": float(len(pairs)),
                "accuracy": float((margin > 0).float().mean()),
                "margin": float(margin.mean()),
                "win_gain": float((win - ref_win).mean()),
                "lose_gain": float((lose - ref_lose).mean()),
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
    """L_RL + lambda L_IL (RetroAct eq. 9-10): `losses.clipped_policy_gradient` and `losses.sft`."""

    clip: float
    regulariser: float
    legacy_mean: bool = False
    logp: LogP = logp

    def length(self, item: Played) -> int:
        """The longer of its two texts."""
        return max(len(item.sample.token_ids), len(item.imitate.token_ids))

    def rows(self, item: Played) -> int:
        """Two."""
        return 2

    def weight(self, item: Played) -> float:
        """Every text counts the same."""
        return 1.0

    def loss(self, model: nn.Module, items: Sequence[Played]) -> tuple[Tensor, Mapping[str, float]]:
        """The mean over texts; both terms, the share of ratios that were clipped, the reward."""
        logp, mask = self.logp(model, [x.sample for x in items])
        behaviour = table([x.behaviour for x in items], logp)
        reward = logp.new_tensor([x.reward for x in items])
        gradient = losses.clipped_policy_gradient(
            logp, behaviour, reward, mask, self.clip, legacy_mean=self.legacy_mean
        )
        imitation = losses.sft(*self.logp(model, [x.imitate for x in items]))
        clipped = losses.clip_share(logp.detach(), behaviour, mask, self.clip)
        metrics = {
            "policy_gradient": float(gradient.detach()),
            "imitation": float(imitation.detach()),
            "clip_share": float(clipped),
            "reward": float(reward.mean()),
        }
        return gradient + self.regulariser * imitation, metrics


def table(rows: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Numbers of each token as a tensor of the shape (B, T) of `like`, 0 beyond each row's end."""
    found = torch.zeros_like(like)
    for row, numbers in enumerate(rows):
        found[row, : len(numbers)] = like.new_tensor(numbers)
    return found


def token_scores(
    model: nn.Module, samples: Sequence[Sample], tokens: int = 16384, logp: LogP = logp
) -> list[tuple[float, ...]]:
    """log pi of every token of each sample, without gradients: what a behaviour policy gave."""
    lengths = [len(s.token_ids) for s in samples]
    found: list[tuple[float, ...]] = [()] * len(samples)
    model.eval()
    with torch.no_grad():
        for part in passes(range(len(samples)), lengths, [1] * len(samples), tokens):
            rows, _ = logp(model, [samples[i] for i in part])
            for i, numbers in zip(part, rows.tolist(), strict=True):
                found[i] = tuple(numbers[: lengths[i]])
    return found


def score(model: nn.Module, samples: Sequence[Sample], tokens: int = 16384, logp: LogP = logp) -> list[float]:
    """log pi of each sample's trained tokens, summed, without gradients: what a frozen reference gives.

    Args:
        model: the reference.
        samples: any number.
        tokens: padded tokens of one forward pass at most.
        logp: how it is run.
    """
    lengths = [len(s.token_ids) for s in samples]
    found = [0.0] * len(samples)
    parts = passes(range(len(samples)), lengths, [1] * len(samples), tokens)
    model.eval()
    with torch.no_grad():
        for part in tqdm(parts, desc="reference", unit="batch", leave=False):
            sums = losses.sequence_logp(*logp(model, [samples[i] for i in part]))
            for i, number in zip(part, sums.tolist(), strict=True):
                found[i] = number
    return found


def against(
    model: nn.Module, bundles: Sequence[Bundle], tokens: int = 16384, logp: LogP = logp
) -> list[Bundle]:
    """The pairs with this model, as it is now, for their reference."""
    pairs = [pair for bundle in bundles for pair in bundle]
    scores = iter(score(model, [x for p in pairs for x in (p.win, p.lose)], tokens, logp))
    return [
        tuple(p._replace(ref_win=next(scores), ref_lose=next(scores)) for p in bundle) for bundle in bundles
    ]

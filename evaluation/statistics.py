"""Statistics of evaluation: pure functions of numbers, each with its source.

Intervals are percentile bootstraps that resample tasks, never episodes: attempts at one task are not
independent of each other. The generator is seeded, so that equal data give equal intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 20_240_101
_BLOCK = 1 << 22
"""Draws that are held at once."""

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean with its 95 % interval and the number of tasks behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _resampled(tasks: Floats, resamples: int, seed: int) -> Floats:
    """Column sums over n tasks drawn with replacement from the n rows, again and again; (resamples, columns).

    Tasks with equal rows are drawn together, by how many of them there are: the same law with far fewer
    numbers (success at one attempt has two kinds of task, however many tasks there are).
    """
    kinds, counts = np.unique(tasks, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, tasks.shape[1]))
    block = max(1, _BLOCK // len(kinds))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.multinomial(len(tasks), counts / len(tasks), size=size)
        sums[start : start + size] = drawn.astype(np.float64) @ kinds
    return sums


def _totals(clusters: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(math.fsum(c), float(len(c))) for c in clusters]


def clustered_bootstrap(
    clusters: Sequence[Sequence[float]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Mean over all episodes, with the percentile bootstrap interval that resamples tasks.

    Args:
        clusters: for each task, the value of each of its episodes (at least one).
        level: coverage of the interval.
        resamples: number of bootstrap draws.
        seed: of the draws.

    Returns:
        The estimate; NaN throughout where there is no task.

    Source: cluster (case) bootstrap, Davison & Hinkley 1997, section 3.8.
    """
    if not clusters:
        return Estimate(math.nan, math.nan, math.nan, 0)
    n = len(clusters)
    value = math.fsum(v for c in clusters for v in c) / sum(len(c) for c in clusters)
    sums = _resampled(np.array(_totals(clusters)), resamples, seed)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n)


def paired_bootstrap(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Mean of `a` minus mean of `b` over the same tasks, with its interval; task i of both is drawn together.

    Raises:
        ValueError: the two do not have the same number of tasks.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} tasks against {len(b)}: a paired comparison needs the same tasks")
    if not a:
        return Estimate(math.nan, math.nan, math.nan, 0)
    sums = _resampled(np.hstack([_totals(a), _totals(b)]), resamples, seed)
    # Means of unequal numbers of attempts are rounded otherwise: 1e-17 would be a difference.
    differences = np.round(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3], 12)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    flat_a, flat_b = [v for c in a for v in c], [v for c in b for v in c]
    value = math.fsum(flat_a) / len(flat_a) - math.fsum(flat_b) / len(flat_b)
    return Estimate(value, float(low), float(high), len(a))


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Share of successes among n independent trials, with Wilson's score interval; NaN where n is 0.

    With z the normal quantile of (1 + level) / 2 and p = successes / n:
    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    Quick enough for a progress bar; a report resamples tasks instead (`clustered_bootstrap`).
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Estimate(p, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale), n)


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided p-value that `fixed` tasks won and `broken` tasks lost are a fair coin's.

    p = min(1, 2 * sum_{i <= min(fixed, broken)} C(n, i) / 2^n),  n = fixed + broken.
    Source: McNemar 1947, in the exact binomial form.
    """
    n = fixed + broken
    tail = sum(math.comb(n, i) for i in range(min(fixed, broken) + 1))
    return min(1.0, tail / 2 ** (n - 1)) if n else 1.0


def pass_at_k(attempts: int, successes: int, k: int) -> float:
    """Probability that at least one of k attempts succeeds, unbiased: 1 - C(n-c, k) / C(n, k).

    Source: Chen et al. 2021 (arXiv:2107.03374), equation 1.

    Raises:
        ValueError: k exceeds the number of attempts.
    """
    if not 1 <= k <= attempts:
        raise ValueError(f"pass@{k} needs at least {k} attempts, there are {attempts}")
    return 1.0 - math.comb(attempts - successes, k) / math.comb(attempts, k)


def pass_hat_k(attempts: int, successes: int, k: int) -> float:
    """Probability that all of k attempts succeed, unbiased: C(c, k) / C(n, k).

    Source: Yao et al. 2024 (tau-bench, arXiv:2406.12045), pass^k.

    Raises:
        ValueError: k exceeds the number of attempts.
    """
    if not 1 <= k <= attempts:
        raise ValueError(f"pass^{k} needs at least {k} attempts, there are {attempts}")
    return math.comb(successes, k) / math.comb(attempts, k)


def interquartile_mean(scores: Sequence[float]) -> float:
    """Mean of the middle half, the lowest and the highest quarter left out.

    With n scores, floor(n / 4) are left out at each end (SciPy's `trim_mean(scores, 0.25)`).
    Source: Agarwal et al. 2021 (arXiv:2108.13264).
    """
    if not scores:
        return math.nan
    cut = len(scores) // 4
    middle = sorted(scores)[cut : len(scores) - cut]
    return math.fsum(middle) / len(middle)


def performance_profile(scores: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """For each threshold, the share of scores strictly above it (Agarwal et al. 2021, section 4.2)."""
    return [sum(score > threshold for score in scores) / len(scores) for threshold in thresholds]


def flip_rate(attempts: Sequence[Sequence[bool]]) -> float:
    """Share of tasks, tried more than once, on which not all attempts end alike; NaN where none was."""
    repeated = [tries for tries in attempts if len(tries) > 1]
    if not repeated:
        return math.nan
    return sum(len(set(tries)) > 1 for tries in repeated) / len(repeated)


def normalised(score: float, floor: float, ceiling: float) -> float:
    """Where a score stands between the random floor (0) and the expert ceiling (1); not clipped."""
    return (score - floor) / (ceiling - floor) if ceiling != floor else math.nan


class Retries(NamedTuple):
    """Mean reward of the first trial, of the last, and over all trials (RetroAct's IR, FR, AR)."""

    initial: float
    final: float
    average: float


def retries(trials: Mapping[str, Sequence[float]], count: int) -> Retries:
    """IR, FR and AR over tasks; a task that stopped early keeps its last reward for the trials left.

    Args:
        trials: for each task, its reward at each trial that was played.
        count: number of trials a task may have.

    Source: Feng et al. 2025 (arXiv:2503.01490), section 3 ("a solved question keeps its reward").
    """
    filled = [[*rewards, *[rewards[-1]] * (count - len(rewards))] for rewards in trials.values()]
    n = len(filled)
    if not n:
        return Retries(math.nan, math.nan, math.nan)
    return Retries(
        math.fsum(row[0] for row in filled) / n,
        math.fsum(row[-1] for row in filled) / n,
        math.fsum(math.fsum(row) / count for row in filled) / n,
    )

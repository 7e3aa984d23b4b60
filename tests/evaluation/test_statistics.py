from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from prosegym.evaluation import statistics as s


def test_clustered_bootstrap_is_scipys_when_clusters_are_single() -> None:
    values = list(np.random.default_rng(0).normal(1.0, 2.0, size=200))
    ours = s.clustered_bootstrap([[v] for v in values])
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1)
    assert ours.value == pytest.approx(np.mean(values)) and ours.n == 200
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03)


def test_repeating_every_attempt_does_not_narrow_the_interval() -> None:
    # Ten copies of each task's outcome carry no more information than one.
    once = [[float(i % 2)] for i in range(50)]
    tenfold = [c * 10 for c in once]
    assert s.clustered_bootstrap(tenfold) == s.clustered_bootstrap(once)


def test_degenerate_clusters() -> None:
    assert s.clustered_bootstrap([[1.0], [1.0]])[:3] == (1.0, 1.0, 1.0)
    assert math.isnan(s.clustered_bootstrap([]).value)


def test_paired_bootstrap_is_scipys_on_differences() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(1.0, 1.0, 150), rng.normal(0.8, 1.0, 150)
    ours = s.paired_bootstrap([[v] for v in a], [[v] for v in b])
    theirs = scipy.stats.bootstrap((a - b,), np.mean, method="percentile", n_resamples=10_000, rng=3)
    assert ours.value == pytest.approx(np.mean(a - b))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)
    with pytest.raises(ValueError, match="same tasks"):
        s.paired_bootstrap([[1.0]], [])


def test_rounding_is_no_difference() -> None:
    """0.06 added up 66 times and divided by 66 is not 0.06 to the last bit; three attempts are not better than one."""
    apart = s.paired_bootstrap([[0.06] * 3] * 22, [[0.06]] * 22)
    assert apart.low == apart.high == 0.0


def test_alike_tasks_are_drawn_together_by_the_same_law() -> None:
    """Against the draw of one number a task: 60 tasks of uneven attempts, 20,000 resamples of each."""
    rng = np.random.default_rng(4)
    clusters = [list(rng.integers(0, 2, size=rng.integers(1, 4)).astype(float)) for _ in range(60)]
    ours = s.clustered_bootstrap(clusters, resamples=20_000)
    drawn = rng.integers(0, 60, size=(20_000, 60))
    sums, sizes = np.array([sum(c) for c in clusters]), np.array([len(c) for c in clusters])
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))
    assert s.clustered_bootstrap(clusters[::-1]) == s.clustered_bootstrap(clusters)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    won, n = counts
    theirs = scipy.stats.binomtest(won, n).proportion_ci(method="wilson")
    ours = s.wilson(won, n)
    assert ours == (won / n, pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9), n)


def test_wilson_of_nothing() -> None:
    assert math.isnan(s.wilson(0, 0).value)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_scipys_binomial_test(fixed: int, broken: int) -> None:
    expected = scipy.stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert s.mcnemar(fixed, broken) == pytest.approx(expected)


def test_pass_at_k_by_hand() -> None:
    # 4 attempts, 1 success: of the 6 pairs, the 3 without the success fail: 1 - 3/6.
    assert s.pass_at_k(4, 1, 2) == pytest.approx(0.5)
    assert s.pass_at_k(4, 1, 4) == 1.0 and s.pass_at_k(4, 0, 4) == 0.0
    # 4 attempts, 3 successes: of the 6 pairs, 3 are both successes.
    assert s.pass_hat_k(4, 3, 2) == pytest.approx(0.5)
    assert s.pass_hat_k(4, 4, 4) == 1.0 and s.pass_hat_k(4, 3, 4) == 0.0
    with pytest.raises(ValueError, match="needs at least 5"):
        s.pass_at_k(4, 1, 5)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60))
def test_interquartile_mean_is_scipys_trimmed_mean(scores: list[float]) -> None:
    assert s.interquartile_mean(scores) == pytest.approx(float(scipy.stats.trim_mean(scores, 0.25)), abs=1e-9)


def test_performance_profile_and_flips_by_hand() -> None:
    assert s.performance_profile([0.1, 0.5, 0.9], [0.0, 0.5, 1.0]) == [1.0, pytest.approx(1 / 3), 0.0]
    assert s.flip_rate([[True, True], [True, False], [False, False], [True]]) == pytest.approx(1 / 3)
    assert math.isnan(s.flip_rate([[True]]))


def test_retries_by_hand() -> None:
    # Task a fails, then wins at trial 2 of 3 and keeps its 1; task b never wins.
    # IR = (0 + .2)/2, FR = (1 + .4)/2, AR = ((0+1+1)/3 + (.2+.2+.4)/3)/2
    found = s.retries({"a": [0.0, 1.0], "b": [0.2, 0.2, 0.4]}, 3)
    assert found == (pytest.approx(0.1), pytest.approx(0.7), pytest.approx((2 / 3 + 0.8 / 3) / 2))


def test_normalised() -> None:
    assert s.normalised(0.6, 0.2, 1.0) == pytest.approx(0.5)
    assert math.isnan(s.normalised(0.6, 1.0, 1.0))

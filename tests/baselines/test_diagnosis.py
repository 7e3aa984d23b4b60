from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from prosegym.baselines import diagnosis  # noqa: E402
from prosegym.baselines.diagnosis import CollapseWarning, Watch  # noqa: E402
from prosegym.baselines.training import Log, Optim, fit  # noqa: E402
from prosegym.evaluation.agents import Null, Scripted  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"entropy": 0.01}, "entropy is 0.010 nats"),
        ({"clip_share": 0.5}, "50% of the ratios are clipped"),
        ({"accuracy": 1.0, "win_gain": -3.0}, "100% of the pairs are won while the winners gain -3.0 nats"),
    ],
)
def test_a_sign_is_said_once_after_it_lasted(metrics: dict[str, float], message: str) -> None:
    watch = Watch("dpo-1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(watch.see(metrics) == {} for _ in range(diagnosis.WINDOW - 1))
    with pytest.warns(CollapseWarning, match=f"dpo-1: .*{message}"):
        assert watch.see(metrics) == pytest.approx(metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watch.see(metrics) == {}


@pytest.mark.parametrize(
    "metrics",
    [
        {"entropy": 1.5},
        {"clip_share": 0.1},
        {"accuracy": 1.0, "win_gain": 0.5},
        {"accuracy": 0.8, "win_gain": -3.0},
    ],
)
def test_a_healthy_training_is_left_alone(metrics: dict[str, float]) -> None:
    watch = Watch("p")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(watch.see(metrics) == {} for _ in range(3 * diagnosis.WINDOW))


class Clipped:
    """An objective that reports that half of the ratios are clipped."""

    compares = True

    def length(self, item: float) -> int:
        return 1

    def rows(self, item: float) -> int:
        return 1

    def weight(self, item: float) -> float:
        return 1.0

    def loss(self, model, items):  # type: ignore[no-untyped-def]
        return model(torch.tensor(items)[:, None]).square().mean(), {"clip_share": 0.5}


def test_fit_warns_and_logs_a_sign(tmp_path: Path) -> None:
    with pytest.warns(CollapseWarning, match="rl-1: 50%"):
        fit(
            torch.nn.Linear(1, 1), Clipped(), [1.0, 2.0], Optim(1e-3, epochs=12, batch_size=2), tmp_path,
            Log(tmp_path), phase="rl-1",
        )  # fmt: skip
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").open()]
    assert [x for x in lines if x["phase"] == "rl-1-warning"] == [
        {"phase": "rl-1-warning", "step": diagnosis.WINDOW, "clip_share": 0.5}
    ]


def test_rewards_without_spread_are_said() -> None:
    """0 and 1: mean 1/2, standard deviation 1/2."""
    assert diagnosis.spread("r", [0.0, 1.0]) == {"mean": 0.5, "std": 0.5, "smallest": 0.0, "largest": 1.0}
    with pytest.warns(CollapseWarning, match="all 3 rewards are 0.200"):
        diagnosis.spread("r", [0.2, 0.2, 0.2])


def test_identical_samples_are_said() -> None:
    assert diagnosis.alike("i", ["a", "b", "a", "c"], 1.0) == 0.75
    assert diagnosis.alike("i", ["a"] * 10, 0.0) == 0.1  # greedy answers may well be the same
    with pytest.warns(CollapseWarning, match="all 10 sampled answers are the same: 'a'"):
        diagnosis.alike("i", ["a"] * 10, 1.0)


def test_tries_that_never_differ_are_said() -> None:
    make = lambda: make_env("prosegym/Lockbox-v1")  # noqa: E731
    tasks = ["train/red", "train/blue"]
    same = list(rollout(make, Null(), [Job(t, k) for t in tasks for k in range(5)]))
    with pytest.warns(CollapseWarning, match="sample: all tries at a task are the same"):
        found = diagnosis.endings("sample", same, 1.0)
    assert found == {"episodes": 10, "score": 0, "errors": 0, "context": 0, "different": 0.2}
    other = list(rollout(make, Scripted({t: ["sing"] for t in tasks}), [Job(t, 9) for t in tasks]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diagnosis.endings("sample", [*same, *other], 1.0)["different"] == pytest.approx(4 / 12)
        assert "different" not in diagnosis.endings("explore", same[:1], 0.0)

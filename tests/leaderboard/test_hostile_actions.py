"""Actions that attack the engine are replayed like any other, and do nothing beyond it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.runs import Run
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit
from prosegym.leaderboard.verify import verify

PANELS = Path(panels.__file__).parent / "panels"


def test_sql_that_attacks_the_replayer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "FOLDER", PANELS)
    outside = tmp_path / "outside"
    attacks = [
        f"ATTACH DATABASE '{outside}.db' AS x",
        f"VACUUM INTO '{outside}.db'",
        f"SELECT load_extension('{outside}.so')",
        f"SELECT 1 INTO OUTFILE '{outside}'",
        f"SELECT LOAD_FILE('{__file__}')",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
        "SELECT REPEAT('x', 2000000000)",
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT SLEEP(600), BENCHMARK(1000000000000, SHA2('x', 512))",
        "PRAGMA writable_schema = 1",
    ]
    panel = panels.load("MiniSQL-v1/test").head(1)
    agent = agents.Scripted({panel.task_ids[0]: attacks})
    evaluate(agent, panel, tmp_path / "run", progress=False)
    (episode,) = Run.read(tmp_path / "run").finished
    seen = [*(step.observation for step in episode.steps), episode.final_observation]
    assert len(episode.steps) == len(attacks) and not episode.success
    assert not any("replayed like any other" in text for text in seen)
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    report = verify(folder, workers=1, progress=False, time_limit=30)
    assert report.ok, report.problems
    assert not list(tmp_path.glob("outside*"))

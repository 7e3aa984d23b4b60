"""The leaderboard: replaying 10,000 episodes, and a board of 500 submissions.

`pytest tests/benchmarks/bench_verify.py -o python_files="bench_*.py" -q -s`
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.envs import panels, trajectory
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.metrics import summarise
from prosegym.evaluation.rollout import Job, episode_seed
from prosegym.leaderboard import board, submission
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit
from prosegym.leaderboard.verify import claim, verify

EPISODES = 10_000
SUBMISSIONS = 500


def test_verifying_ten_thousand_household_episodes(benchmark: Any, tmp_path: Path) -> None:
    """The expert's plan at each task of the test panel, as so many attempts; it acts alike in each."""
    panel = panels.load("Household-v1/test")
    attempts = -(-EPISODES // len(panel.tasks))
    evaluate(agents.ExpertAgent(), panel, tmp_path / "run", progress=False)
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="trained"))
    found, _ = submission.read(folder)
    (result,) = found.results
    episodes = [
        msgspec.structs.replace(t, attempt=k, seed=episode_seed(result.seed, Job(t.task_id, k, 0)))
        for t in map(trajectory.decode, submission.lines(folder, result))
        for k in range(attempts)
    ]
    data = b"".join(map(trajectory.encode, episodes))
    (folder / "episodes/0.jsonl").write_bytes(data)
    result = msgspec.structs.replace(
        result, attempts=attempts, episodes=len(episodes), size=len(data), sha256=hashlib.sha256(data).hexdigest(),
        claim=claim(summarise(episodes, tasks=len(panel.tasks), attempts=attempts)),
    )  # fmt: skip
    (folder / "submission.json").write_bytes(
        submission.encode(msgspec.structs.replace(found, results=[result]))
    )
    report = benchmark.pedantic(lambda: verify(folder, progress=False), rounds=1)
    assert report.ok, report.problems[:3]
    here = time.process_time()
    assert verify(folder, workers=0, progress=False).ok
    steps = sum(len(t.steps) for t in episodes)
    print(
        f"\n{report.episodes} episodes, {steps} steps, {len(data) / 1e6:.0f} MB: {report.seconds:.1f} s in processes; "
        f"{time.process_time() - here:.1f} s of CPU in one"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of so many submissions, each of a random agent with another seed at four tasks."""
    folder = tmp_path_factory.mktemp("board")
    panel = panels.load("Household-v1/test").head(4)
    for n in range(SUBMISSIONS):
        evaluate(agents.RandomAdmissible(), panel, folder / "run", progress=False, seed=n)
        card = Card(agent=f"Agent {n}", track="zero-shot" if n % 2 else "trained", method=f"M{n % 7}")
        submit([folder / "run"], folder / "s" / f"{n:03d}", card, compress=True)
        shutil.rmtree(folder / "run")
    began = time.perf_counter()
    board.build(folder / "s", folder / "site", progress=False)
    first = time.perf_counter() - began
    began = time.perf_counter()
    index = board.build(folder / "s", folder / "site", progress=False)
    again = time.perf_counter() - began
    print(
        f"\n{SUBMISSIONS} submissions: {first:.0f} s with the replay, {again:.0f} s once replayed; "
        f"index.html {index.stat().st_size / 1e6:.1f} MB"
    )
    return index.parent


@pytest.mark.parametrize("name", ["index.html", "pairs/Household-v1-test-4.html"])
def test_opening_a_board_of_five_hundred(site: Path, name: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        loads = []
        for _ in range(5):
            tab.goto((site / name).as_uri())
            loads.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        browser.close()
    print(f"\n{name}: loaded in {min(loads):.0f} ms, the least of {len(loads)} (most {max(loads):.0f} ms)")

"""Opening a run of 100,000 episodes: from the command to a list that can be clicked, in a real browser.

    python tests/benchmarks/bench_view.py [EPISODES]

The run is written by the run store itself: 1,000 episodes that Household's expert played, kept as attempt
after attempt. Beside it stands what any reader of the file must do at least: reading its bytes once. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.runs import Run

PLAYED = 1000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def write(folder: Path, episodes: int) -> None:
    env: Any = make_env("prosegym/Household-v1").unwrapped
    panel = panels.make(env, "train", about="benchmark", count=PLAYED)
    with tempfile.TemporaryDirectory() as real:
        played = evaluate(agents.ExpertAgent(), panel, real, progress=False)
    attempts = episodes // PLAYED
    with Run.open(folder, msgspec.structs.replace(played.conditions, attempts=attempts)) as run:
        for attempt in range(attempts):
            for trajectory in played.finished:
                run.append(msgspec.structs.replace(trajectory, attempt=attempt))
            run.finished.clear()


def measure(folder: Path) -> dict[str, float]:
    """Seconds from the command to the server's address, to the list on the screen, and to an opened episode."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        begun = time.perf_counter()
        command = [sys.executable, "-m", "prosegym", "view", str(folder), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            up = time.perf_counter() - begun
            page.goto(address)
            page.wait_for_selector("#rows tr")
            listed = time.perf_counter() - begun
            count = page.inner_text("#count")
            page.locator("#rows tr").nth(100).click()
            page.wait_for_selector("#episode article .act")
            opened = time.perf_counter() - begun - listed
            page.fill("#find", "000999")
            page.wait_for_function(f"document.querySelector('#count').textContent !== {count!r}")
            found = time.perf_counter() - begun - listed - opened
        finally:
            server.kill()
            server.wait()
            browser.close()
    assert re.search(r"\d+", count), count
    return {"server": up, "list": listed, "episode": opened, "search": found}


def bench(episodes: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        write(folder, episodes)
        begun = time.process_time()
        size = sum(len(block) for block in iter(open(folder / "episodes.jsonl", "rb").readline, b""))
        bare = time.process_time() - begun
        for _ in range(3):
            found = measure(folder)
            print(
                f"{episodes} episodes, {size / 1e6:.0f} MB (its lines read: {bare:.2f} s CPU): server up {found['server']:.2f} s, "
                f"list on the screen {found['list']:.2f} s, an episode {found['episode']:.2f} s, a search {found['search']:.2f} s",
                flush=True,
            )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")
def test_opening_a_run(benchmark: Any) -> None:
    pytest.importorskip("playwright.sync_api")
    benchmark.pedantic(lambda: bench(100_000), rounds=1)


if __name__ == "__main__":
    bench(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

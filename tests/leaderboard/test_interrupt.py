"""Ctrl-C and SIGTERM: one line, 130 or 143, no process left, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lockbox
import pytest
from submitting import play

from prosegym.evaluation import agents
from prosegym.leaderboard import board
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see the processes")

CODE = """
import signal, sys
from pathlib import Path
import conftest
from prosegym.envs import panels
from prosegym.leaderboard import verify
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
panels.FOLDER = Path(sys.argv[1])
verify.ENVS["prosegym/Lockbox-v1"] = "hostile:make"
from prosegym.cli import main
raise SystemExit(main(sys.argv[2:]))
"""


def children(process: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def stopped(panel_folder: Path, home: Path, how: int, *words: str) -> None:
    """Run the command until its processes are at a replay that never ends; send the signal."""
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(panel_folder), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, tests]), "PROSEGYM_HOME": str(home)},
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while len(workers := children(process.pid)) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(3)  # long enough for a worker to start and to hang
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + how, err
    lines = err.strip().splitlines()
    assert lines[-1] == "prosegym: stopped; nothing was written" and "Traceback" not in err and out == ""
    assert workers and not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A folder of one submission whose replay never ends."""
    script = {f"train/{c}": [f"take {c} key", "open box"] for c in lockbox.COLOURS["train"]}
    script["train/green"].insert(0, "hang")
    play(agents.Scripted(script), tmp_path / "run", split="train")
    submit([tmp_path / "run"], tmp_path / "submissions" / "one", Card(agent="A", track="zero-shot"))
    return tmp_path / "submissions"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_verify_is_stopped(how: int, endless: Path, panel_folder: Path, tmp_path: Path) -> None:
    stopped(panel_folder, tmp_path / "home", how, "verify", str(endless / "one"))
    assert not list((tmp_path / "home").rglob("*.json*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_board_build_is_stopped(how: int, endless: Path, panel_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    site = board.build(tmp_path / "none", tmp_path / "site", progress=False).parent
    before = {p: p.read_bytes() for p in site.rglob("*") if p.is_file()}
    words = ("board", "build", "--submissions", str(endless), "--out", str(site))
    stopped(panel_folder, tmp_path / "home", how, *words)
    assert {p: p.read_bytes() for p in site.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.glob("site*")] == ["site"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_stop_between_the_old_site_and_the_new(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    site = board.build(tmp_path / "none", tmp_path / "site", progress=False).parent
    replace, calls = Path.replace, []

    def stop(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == at:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        board.build(tmp_path / "none", site, progress=False)
    assert (site / "index.html").is_file() and [p.name for p in tmp_path.glob("site*")] == ["site"]

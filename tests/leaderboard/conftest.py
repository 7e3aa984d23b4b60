"""Runs and submissions of the smallest environment, made by the real evaluation."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from submitting import ENV, Retrier, play

from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import make_env
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit


@pytest.fixture(scope="session")
def panel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Committed panels of the test environment: train, test."""
    folder = tmp_path_factory.mktemp("panels")
    env: Any = make_env(ENV).unwrapped
    for split in ("train", "test"):
        panels.save(panels.make(env, split, about="all of the split"), folder)
    return folder


@pytest.fixture(autouse=True)
def committed(panel_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "FOLDER", panel_folder)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, panel_folder: Path) -> dict[str, Path]:
    """Run folders: null, random (2 attempts), expert, retry."""
    folder = tmp_path_factory.mktemp("runs")
    before, panels.FOLDER = panels.FOLDER, panel_folder
    try:
        play(agents.Null(), folder / "null")
        play(agents.RandomAdmissible(), folder / "random", attempts=2, seed=3)
        play(agents.ExpertAgent(), folder / "expert")
        play(Retrier(), folder / "retry")
    finally:
        panels.FOLDER = before
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def honest(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A submission of the random agent's two attempts, as a stranger might send it."""
    return submit([runs["random"]], tmp_path / "honest", Card(agent="Ours", track="zero-shot"))


Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def tamper(honest: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the honest submission with its JSON changed and every digest made to fit again."""

    def change(
        manifest: Edit | None = None,
        episodes: Callable[[list[dict[str, Any]]], Any] | None = None,
        raw: Callable[[bytes], bytes] | None = None,
    ) -> Path:
        folder = tmp_path / "tampered"
        shutil.copytree(honest, folder)
        path = folder / "episodes" / "0.jsonl"
        if episodes:
            lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
            lines = episodes(lines) or lines
            path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        if raw:
            path.write_bytes(raw(path.read_bytes()))
        found = msgspec.json.decode((folder / "submission.json").read_bytes())
        data = path.read_bytes()
        found["results"][0] |= {
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "episodes": data.count(b"\n"),
        }
        if manifest:
            found = manifest(found) or found
        (folder / "submission.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
        )
        return folder

    return change

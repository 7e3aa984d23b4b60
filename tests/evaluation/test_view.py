from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.envs import panels
from prosegym.envs import trajectory as records
from prosegym.envs.errors import CorruptData, ProsegymError
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.view import Index, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    for agent in (agents.ExpertAgent(), agents.Null()):
        evaluate(agent, panel, tmp_path / agent.name, progress=False)
    with Server([Index(tmp_path / "expert"), Index(tmp_path / "null")]) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def get(server: Server, path: str, host: str | None = None) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers["Content-Security-Policy"]


def test_lists_and_episodes(server: Server) -> None:
    runs = json.loads(get(server, "/runs.json")[1])
    assert [run["conditions"]["agent"] for run in runs] == ["expert", "null"]
    columns = runs[0]["columns"]
    row = dict(zip(columns, runs[0]["rows"][3], strict=True))
    status, body, _ = get(server, "/episode.json?run=0&row=3")
    episode = records.decode(body)
    assert status == 200 and (episode.task_id, len(episode.steps)) == (row["task_id"], row["steps"])
    for page in ("/", "/view.css", "/view.js"):
        status, body, policy = get(server, page)
        assert status == 200 and body and "default-src 'none'" in policy


@pytest.mark.parametrize("path", ["/episode.json?run=0&row=99", "/episode.json", "/../runs.py", "/x"])
def test_nothing_else_is_served(server: Server, path: str) -> None:
    assert get(server, path)[0] == 404


def test_other_sites_are_refused(server: Server) -> None:
    assert get(server, "/runs.json", host="evil.example:80")[0] == 403


def test_bad_runs(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ProsegymError, match="not a run folder"):
        Index(tmp_path / "nothing")
    path = tmp_path / "null" / "episodes.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(CorruptData, match=r"episodes\.jsonl:1"):
        Index(tmp_path / "null")


def test_a_line_under_way_is_passed_over(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "null" / "episodes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"task_id": "tra')
    assert len(Index(tmp_path / "null").rows) == 8
    assert msgspec.json.decode(Index(tmp_path / "null").episode(7))["agent"] == "null"

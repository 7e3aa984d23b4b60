from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
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


def test_a_port_that_is_taken(tmp_path: Path, server: Server) -> None:
    for port in (server.server_port, 1 << 17):
        with pytest.raises(ProsegymError, match=rf"cannot listen at port {port}: .*; choose another --port"):
            Server([Index(tmp_path / "null")], port)


def test_a_line_under_way_is_passed_over(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "null" / "episodes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"task_id": "tra')
    assert len(Index(tmp_path / "null").rows) == 8
    assert msgspec.json.decode(Index(tmp_path / "null").episode(7))["agent"] == "null"


EVIL = "<img src=x onerror=\"document.title='owned'\">"


class Thinker(agents.ExpertAgent):
    """Fails at the first trial, then does as the expert; writes a thought, an action and markup."""

    trials = 2

    def __init__(self) -> None:
        super().__init__()
        self.name = "thinker"

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        replies = []
        for episode, reply in zip(episodes, super().respond(episodes), strict=True):
            action = reply.action if episode.trial else "sing"
            replies.append(agents.Reply(f"Thought: {EVIL}\nAction: {action}", action))
        return replies

    def remember(self, failures: Sequence[Sequence[records.Trajectory]]) -> list[agents.Memory]:
        return [agents.Memory(("singing opens no box",)) for _ in failures]


@pytest.fixture
def page(tmp_path: Path, server: Server) -> Iterator[Any]:
    """The page of a retrying agent beside the null agent, in a real browser; nothing may go wrong in its console."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    evaluate(Thinker(), panel, tmp_path / "thinker", progress=False)
    server.runs = [Index(tmp_path / "thinker"), Index(tmp_path / "null")]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(server.url)
        page.wait_for_selector("#rows tr")
        yield page
        assert wrong == []
        browser.close()


@pytest.mark.slow
def test_filters_in_a_browser(page: Any) -> None:
    rows = page.locator("#rows tr")
    assert rows.count() == 8 and page.inner_text("#count") == "8 of 8"
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    warm = sum(task.task_type == "warm" for task in env.tasks("train"))
    for find, show, kind, left in (
        ("re", "", "", 2), ("", "won", "", 8), ("", "lost", "", 8), ("", "error", "", 0), ("", "differ", "", 8),
        ("", "", "warm", warm), ("red", "won", "cold", 1), ("nothing", "", "", 0),
    ):  # fmt: skip
        page.fill("#find", find)
        page.select_option("#show", show)
        page.select_option("#type", kind)
        assert rows.count() == left, (find, show, kind, page.inner_text("#rows"))


@pytest.mark.slow
def test_enter_in_the_search_box_keeps_the_filters(page: Any) -> None:
    page.fill("#find", "red")
    page.locator("#find").press("Enter")
    page.wait_for_timeout(200)
    assert page.input_value("#find") == "red" and page.inner_text("#count") == "1 of 8"
    assert not page.url.endswith("?")


@pytest.mark.slow
def test_an_episode_is_read_by_the_keyboard(page: Any) -> None:
    """Enter leads into the episode, whose pane scrolls by itself, and Escape back to its row."""
    page.set_viewport_size({"width": 1000, "height": 300})
    focused = "document.activeElement.id || document.activeElement.firstChild.textContent"
    rows = page.locator("#rows tr td:first-child").all_inner_texts()
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == rows[1]
    page.keyboard.press("Enter")
    page.wait_for_selector("#episode article")
    assert page.evaluate(focused) == "episode"
    page.keyboard.press("PageDown")
    scrolled = "document.getElementById('episode').scrollTop"
    assert any(page.evaluate(scrolled) or page.wait_for_timeout(50) for _ in range(100))
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == rows[1]
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    assert page.evaluate(focused) == rows[2]


@pytest.mark.slow
def test_j_and_k_turn_the_pages_of_the_list(page: Any, server: Server) -> None:
    rows = server.runs[0].rows
    rows[:] = [rows[0]._replace(task_id=f"t{number:03}") for number in range(201)]
    server.runs = server.runs[:1]
    page.reload()
    page.wait_for_selector("#rows tr")
    page.locator("#rows tr").last.focus()
    focused = "document.activeElement.firstChild.textContent"
    for key, where in (("j", "t200"), ("j", "t200"), ("k", "t199"), ("k", "t198")):
        page.keyboard.press(key)
        assert page.evaluate(focused) == where


@pytest.mark.slow
def test_why_an_episode_ended_is_told(page: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "null" / "episodes.jsonl"
    full, failed, *others = records.read(path)
    full = msgspec.structs.replace(full, ended="truncated", error="context overflow")
    failed = msgspec.structs.replace(failed, ended="error", error="the engine died")
    records.write(path, [full, failed, *others])
    server.runs = [Index(tmp_path / "null")]
    page.reload()
    page.wait_for_selector("#rows tr")
    for number, why in enumerate(
        ("not solved (truncated: context overflow)", "error: the engine died", "not solved (truncated)")
    ):
        page.locator("#rows tr").nth(number).click()
        page.locator("#episode article p").get_by_text(f"{why}, score").wait_for()


@pytest.mark.slow
def test_an_episode_in_a_browser(page: Any) -> None:
    """Two trials of one run with what was remembered between them, beside the other run's only trial."""
    page.keyboard.press("Escape")
    page.locator("#rows tr").first.focus()
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_selector("#episode article")
    titles = page.locator("#episode article h2").all_inner_texts()
    assert titles == [
        "thinker, attempt 0, trial 0",
        "null, attempt 0, trial 0",
        "thinker, attempt 0, trial 1",
    ]
    first, other, second = (page.locator("#episode article").nth(i).inner_text() for i in range(3))
    assert "not solved (truncated), score 0.00" in first and "1 > sing" in first and "invalid" in first
    assert f"Thought: {EVIL}" in first and page.title() == "prosegym run"
    assert (
        "solved (terminated), score 1.00" in second
        and "remembers: singing opens no box" in second
        and "reward 1" in second
    )
    assert "remembers" not in first + other
    left, right = (page.locator("#episode article").nth(i).bounding_box() for i in (0, 1))
    assert left["y"] == right["y"] and left["x"] < right["x"]

"""The live wiki, against a MediaWiki of our own on this machine: no test touches the network."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gymnasium
import pytest

from prosegym.envs import data
from prosegym.envs.errors import BadOption, EngineError
from prosegym.envs.questions import live
from prosegym.envs.questions.corpus import Page
from prosegym.envs.questions.live import LiveWiki

PAGES = {
    "Ostby": "Ostby is a town. It has a mill.\nIt is small.\n\n\n== The old mill ==\nThe mill is old.\n",
    "Lor": "Lor may refer to:\nLor, a river",
    "Empty": "",
}


class Wiki:
    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.fail: list[int] = []
        self.body: bytes | None = None

    def answer(self, query: dict[str, str]) -> Any:
        if query.get("list") == "search":
            found = [title for title in PAGES if query["srsearch"].lower()[:3] in title.lower()]
            return {"query": {"search": [{"title": title} for title in found]}}
        title = next((t for t in PAGES if t.lower() == query["titles"].lower()), None)
        if title is None:
            return {"query": {"pages": [{"title": query["titles"], "missing": True}]}}
        page: dict[str, Any] = {"title": title, "extract": PAGES[title]}
        if title == "Lor":
            page["pageprops"] = {"disambiguation": ""}
        return {"query": {"pages": [page]}}


@pytest.fixture
def wiki() -> Iterator[tuple[Wiki, str]]:
    state = Wiki()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            state.asked.append({key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()})
            assert "prosegym" in self.headers["User-Agent"]
            self.send_response(state.fail.pop(0) if state.fail else 200)
            self.end_headers()
            self.wfile.write(state.body or json.dumps(state.answer(state.asked[-1])).encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_port}/w/api.php"
    server.shutdown()
    server.server_close()


def test_pages_and_similar_titles(wiki: tuple[Wiki, str], tmp_path: Path) -> None:
    found = LiveWiki(wiki[1], tmp_path, pause=0.0)
    assert found.page(" ostby ") == Page(
        "Ostby", ("Ostby is a town. It has a mill.\nIt is small.", "\n== The old mill ==\nThe mill is old.")
    )
    assert found.page("Nowhere") is None and found.page("Empty") is None
    assert found.similar("ost", 5) == ["Ostby"] and found.similar("xyz", 5) == []
    assert found.nearest("ostbee") == found.page("Ostby")
    assert wiki[0].asked[0]["titles"] == "ostby" and wiki[0].asked[0]["redirects"] == "1"


def test_what_is_no_title_is_never_asked_for(wiki: tuple[Wiki, str], tmp_path: Path) -> None:
    found = LiveWiki(wiki[1], tmp_path, pause=0.0)
    for title in ("", "  ", "a[b]", "a|b", "#x", "<i>", "x" * 70_000, "\N{EURO SIGN}" * 100):
        assert found.page(title) is None
    assert found.similar(" ", 3) == [] and wiki[0].asked == []


def test_answers_are_kept_and_replayed_without_the_wiki(wiki: tuple[Wiki, str], tmp_path: Path) -> None:
    first = LiveWiki(wiki[1], tmp_path, pause=0.0)
    seen = first.page("Ostby"), first.page("Nowhere"), first.similar("ost", 5)
    asked = len(wiki[0].asked)
    wiki[0].fail = [500] * 100
    again = LiveWiki(wiki[1], tmp_path, pause=0.0)
    assert (again.page("Ostby"), again.page("Nowhere"), again.similar("ost", 5)) == seen
    assert len(wiki[0].asked) == asked == 3
    kept = next(tmp_path.glob("*.json"))
    kept.write_text("{")
    with pytest.raises(EngineError, match="delete it"):
        again.page("Ostby"), again.page("Nowhere"), again.similar("ost", 5)


def test_requests_are_a_pause_apart(
    wiki: tuple[Wiki, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asked for by an object of its own, as by another process."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    for title in ("Ostby", "Lor", "Nowhere"):
        LiveWiki(wiki[1], tmp_path, pause=1000.0).page(title)
    assert len(waits) == 3 and all(900 < wait <= 1000 for wait in waits[1:])
    for ago, wait in ((2000, 0.0), (-5000, 1000.0)):  # a clock that was put back makes nobody wait longer
        os.utime(tmp_path / live.LAST, (time.time() - ago,) * 2)
        LiveWiki(wiki[1], tmp_path, pause=1000.0).similar(f"x{ago}", 1)
        assert waits[-1] == wait


def test_passing_errors_are_tried_again_and_others_are_not(wiki: tuple[Wiki, str], tmp_path: Path) -> None:
    found = LiveWiki(wiki[1], tmp_path, pause=0.0)
    wiki[0].fail = [503, 429]
    assert found.page("Ostby") is not None and len(wiki[0].asked) == 3
    wiki[0].fail = [404]
    with pytest.raises(EngineError, match="404.*corpus='question'"):
        found.page("Lor")
    assert len(wiki[0].asked) == 4
    wiki[0].body = b'{"error": {"code": "badvalue", "info": "no such thing"}}'
    with pytest.raises(EngineError, match="no such thing"):
        found.page("Lor")
    wiki[0].body = b"<html>"
    with pytest.raises(EngineError, match="cannot ask"):
        found.page("Lor")
    assert len(list(tmp_path.glob("*.json"))) == 1  # errors are not kept


def test_a_wiki_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot ask http://127.0.0.1:9/"):
        LiveWiki("http://127.0.0.1:9/w/api.php", tmp_path, pause=0.0).page("Ostby")


def test_episodes_over_it(wiki: tuple[Wiki, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(live, "PAUSE", 0.0)
    record = {
        "id": "q", "question": "What is old?", "answers": ["mill"], "supporting": ["Ostby"],
        "paragraphs": [{"title": "Ostby", "text": "x"}],
    }  # fmt: skip
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(record))
    data.dataset("hotpotqa").get(path)
    env = gymnasium.make("prosegym/HotpotQA-v1", corpus=f"live:{wiki[1]}").unwrapped
    env.reset(seed=0)
    assert env.step("search[Lor]")[0] == "Could not find [Lor]. Similar: ['Lor']."
    observation, *_, info = env.step("search[ostby]")
    assert observation == "Ostby is a town. It has a mill.. It is small.. The mill is old.."
    assert info["progress"] == 1.0
    assert env.step("lookup[old]")[0] == "(Result 1 / 1) The mill is old.."
    env = gymnasium.make("prosegym/HotpotQA-v1", corpus=f"live:{wiki[1]}", variant="reflexion").unwrapped
    env.reset(seed=0)
    # As Reflexion's logs have it: all lines above the first heading, and a section with its heading.
    assert env.step("Search[ostby]")[0] == "Ostby is a town. It has a mill.\nIt is small."
    assert env.step("Lookup[old]")[0] == "(Result 1/1) \n== The old mill ==\nThe mill is old."
    assert env.step("Search[Lor]")[0] == "Could not find [Lor]. Similar: ['Lor']"
    assert env.step("Lookup[mill]")[0].startswith("The last page Searched was not found")
    with pytest.raises(BadOption, match="no corpus"):
        gymnasium.make("prosegym/HotpotQA-v1", corpus="live:ftp://x")

"""The site: what stands on it, what does not, and that nothing in a submission becomes markup."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import lockbox
import msgspec
import pytest
from submitting import play, renumbered

from prosegym.cli import main
from prosegym.envs.errors import CorruptData, DataMissing, ProsegymError
from prosegym.envs.trajectory import Message, Turn
from prosegym.evaluation import agents
from prosegym.evaluation.runs import Run
from prosegym.evaluation.statistics import Estimate, clustered_bootstrap
from prosegym.leaderboard import board, ledger
from prosegym.leaderboard import verify as verifier
from prosegym.leaderboard.html import Html, join, page, tag
from prosegym.leaderboard.pages import _trial, markdown
from prosegym.leaderboard.rows import Standing, ranks
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit
from prosegym.leaderboard.verify import NotHere, verify

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


@pytest.fixture
def submissions(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Null, random and expert as reference, a retry agent, an agent with a hostile card, and a broken one."""
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    folder = tmp_path / "submissions"
    for name in ("null", "random", "expert"):
        submit([runs[name]], folder / name, Card(agent=name, track="reference", base_model="none"))
    submit([runs["retry"]], folder / "retry", Card(agent="Retrier", track="retry"), compress=True)
    evil = Card(
        agent=EVIL, track="trained", about=EVIL, authors=EVIL, base_model=EVIL, training_data=EVIL, hardware=EVIL,
        license=EVIL, method=EVIL, curve=[(0.0, 0.1), (500.0, 0.5), (1000.0, 0.45)], curve_unit=EVIL, code="https://example.org/?a=1&b=2", parameters=7 * 10**9,
    )  # fmt: skip

    class Evil(agents.Scripted):
        name = EVIL

        def conditions(self) -> dict[str, Any]:
            return {EVIL: EVIL, "deep": {"x": [EVIL]}, "Success": "99.9"}

        def respond(self, episodes: Any) -> list[agents.Reply]:
            return [agents.Reply(EVIL + "thought", EVIL, 100, 10, 0.001) for _ in episodes]

    play(Evil({}), tmp_path / "evil-run")
    submit([tmp_path / "evil-run"], folder / "evil", evil)
    (folder / "broken").mkdir()
    (folder / "broken" / "submission.json").write_text("{}")
    (folder / "broken" / "episodes").mkdir()
    return folder


class Tags(html.parser.HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def pages(site: Path) -> dict[Path, Tags]:
    return {path: Tags(path.read_text("utf-8")) for path in site.rglob("*.html")}


def latest(site: Path) -> Any:
    return msgspec.json.decode((site / "latest.json").read_bytes())


def test_the_site_holds_what_was_replayed(submissions: Path, tmp_path: Path) -> None:
    index = board.build(submissions, tmp_path / "site", workers=0, progress=False)
    site = index.parent
    assert index == tmp_path / "site" / "index.html"
    found = latest(site)
    (panel,) = found["panels"]
    rows = {row["agent"]: row for row in panel["rows"]}
    assert set(rows) == {"null", "random", "expert", "Retrier", EVIL}
    assert rows["expert"]["badge"] == "re-run" and rows["Retrier"]["badge"] == "replayed"
    assert rows["expert"]["rank"] is None and rows["Retrier"]["rank"] == 1
    assert rows[EVIL]["rank"] is None and "1 of the 3 training seeds" in rows[EVIL]["row"]["below"][1]
    assert rows["expert"]["row"]["numbers"]["success"] == [1.0, 1.0, 1.0, 4]
    (refused,) = found["refused"]
    assert refused["folder"] == "broken" and "submission.json" in refused["reason"]
    assert f"<li>broken: {html.escape(refused['reason'])}</li>" in index.read_text()
    assert len(pages(site)) == 3 + 1 + 1 + 5 + 5 * 4
    (compared,) = (tags for path, tags in pages(site).items() if path.parent.name == "pairs")
    marked = [attributes.get("class") for tag, attributes in compared.found if tag == "td"]
    assert marked and not {"won", "lost"} & set(marked)  # four tasks are too few to tell any two apart
    data = site / rows["random"]["page"].split("/index")[0] / "data"
    assert (data / "0.jsonl").read_bytes() == (submissions / "random/episodes/0.jsonl").read_bytes()
    assert not list(tmp_path.glob("site.*")) and {path.name for path in site.iterdir()} == board.SITE


def test_nothing_of_a_submission_becomes_markup_and_nothing_is_loaded(
    submissions: Path, tmp_path: Path
) -> None:
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    for path, tags in pages(site).items():
        assert not [a for t, a in tags.found if t in ("img", "iframe", "style", "object", "embed", "base")]
        assert [t for t, _ in tags.found].count("script") == 1
        for name, attributes in tags.found:
            assert not [a for a in attributes if a.startswith("on") or a in ("style", "srcdoc")], (
                path,
                attributes,
            )
            for key in ("href", "src"):
                where = attributes.get(key)
                if where is None or where.startswith("#"):
                    continue
                if where.startswith("https:"):
                    assert name == "a" and where == "https://example.org/?a=1&b=2"
                    continue
                assert (path.parent / unquote(where.partition("#")[0])).is_file(), (path, where)
        policy = next(
            a for t, a in tags.found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
        )
        assert "default-src 'none'" in str(policy["content"]) and "unsafe" not in str(policy["content"])
    (evil,) = [text for path in site.glob("s/*/index.html") if "99.9" in (text := path.read_text())]
    assert evil.count(">Success</th><td>") == 1 and ">agent: Success</th><td>99.9<" in evil
    text = (site / "index.html").read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


def test_links_lead_to_elements_that_are_there(submissions: Path, tmp_path: Path) -> None:
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    ids = {p.resolve(): {a["id"] for _, a in t.found if "id" in a} for p, t in pages(site).items()}
    checked = 0
    for path, tags in pages(site).items():
        assert len(ids[path.resolve()]) == sum("id" in a for _, a in tags.found), "an id stands twice"
        for _, attributes in tags.found:
            where, _, anchor = (attributes.get("href") or "").partition("#")
            if anchor and not where.startswith("https") and "=" not in anchor:
                assert anchor in ids[(path.parent / where if where else path).resolve()], (path, anchor)
                checked += 1
    assert checked > 20


def test_a_second_build_uses_the_receipts_and_replaces_the_site(
    submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    before = {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()}
    replayed = []
    monkeypatch.setattr(
        verifier,
        "verify",
        lambda folder, **k: replayed.append(folder) or verify(folder, workers=0, progress=False),
    )
    board.build(submissions, tmp_path / "site", workers=0, progress=False)
    assert {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()} == before
    assert [folder.name for folder in replayed] == ["broken"]
    # A receipt is for the very same files: a changed one is replayed, and found out.
    path = submissions / "random/episodes/0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"action":"open box"', b'"action":"open bar"', 1))
    board.build(submissions, tmp_path / "site", workers=0, progress=False)
    assert "random" in {row["folder"] for row in latest(site)["refused"]}
    assert "random" in [folder.name for folder in replayed]


def test_the_same_actions_under_another_name(
    submissions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(agents.RandomAdmissible(), tmp_path / "r", attempts=2, seed=5)
    first = submit([tmp_path / "r"], submissions / "zz-first", Card(agent="First", track="trained"))
    submit([tmp_path / "r"], submissions / "copy", Card(agent="Copy", track="trained"))
    history = submissions / "ledger.jsonl"
    ledger.append(
        history, "added", verify(first, workers=0, progress=False).digest, agent="First", reason="ok"
    )
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    refused = {row["folder"]: row["reason"] for row in latest(site)["refused"]}
    assert refused["copy"].startswith("the same actions as 'First'")
    assert "zz-first" not in refused
    assert main(["board", "build", "--submissions", str(submissions), "--out", str(tmp_path / "site")]) == 0
    assert "left out: 'copy': the same actions as 'First'" in capsys.readouterr().out


def test_renumbered_cut_and_merged_copies_do_not_stand(tmp_path: Path) -> None:
    runs = []
    for seed in range(3):
        play(agents.RandomAdmissible(), tmp_path / f"r{seed}", attempts=4, seed=seed)
        runs.append(tmp_path / f"r{seed}")
    old: dict[str, Callable[[int, int], tuple[int, int]]] = {
        "swapped": lambda task, attempt: (0, (1, 0, 2, 3)[attempt]),
        "turned at each task": lambda task, attempt: (0, (attempt + task) % 4),
        "merged": lambda task, attempt: (attempt % 3, attempt // 3),
        "fewer": lambda task, attempt: (2, attempt),
    }
    card = Card(agent="First", track="trained")
    submit(runs, tmp_path / "s" / "a", card)
    for seed, (name, of) in enumerate(old.items(), 10):
        copy = renumbered(runs, tmp_path / name, seed, of, {"merged": 12, "fewer": 2}.get(name, 4))
        submit([copy], tmp_path / "s" / name, Card(agent=name, track="trained"))
    parts: list[Callable[[int, int], tuple[int, int]]] = [
        lambda task, attempt: (0, 0),
        lambda task, attempt: (0, 1),
        lambda task, attempt: (0, 2),
        lambda task, attempt: (0, 3),
    ]
    cut = [renumbered(runs, tmp_path / f"cut{n}", 20 + n, part, 1) for n, part in enumerate(parts)]
    submit(cut, tmp_path / "s" / "cut", Card(agent="cut", track="trained"))
    play(agents.RandomAdmissible(), tmp_path / "own", attempts=4, seed=30)
    submit([tmp_path / "own"], tmp_path / "s" / "own", Card(agent="Other", track="trained"))
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    assert {row["folder"] for row in latest(site)["refused"]} == {*old, "cut"}
    assert all(row["reason"].startswith("the same actions as 'First'") for row in latest(site)["refused"])
    assert {row["agent"] for row in latest(site)["panels"][0]["rows"]} == {"First", "Other"}


def test_what_is_not_of_a_site_is_never_lost(submissions: Path, tmp_path: Path) -> None:
    beside = [tmp_path / name / "mine" for name in ("site.part", "site.old", "new.part")]
    for path in beside:
        path.parent.mkdir()
        path.write_text("mine")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real").mkdir()
    for _ in range(2):  # a link stays one, and what it leads to is the site
        board.build(submissions, tmp_path / "link", workers=0, progress=False)
    submit([tmp_path / "evil-run"], tmp_path / "new", Card(agent="A", track="trained"))
    assert all(path.read_text() == "mine" for path in beside) and (tmp_path / "link").is_symlink()
    (tmp_path / "real" / "CNAME").write_text("board.example.org")
    with pytest.raises(ProsegymError, match="holds 'CNAME', which would be lost"):
        board.build(submissions, tmp_path / "link", workers=0, progress=False)


def test_two_builds_at_once_leave_a_whole_site(
    submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is made, from beginning to end, while the first writes its pages."""
    write = board.tables.index

    def interrupted(*args: Any) -> bytes:
        monkeypatch.setattr(board.tables, "index", write)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            board.build(submissions, tmp_path / "site", workers=0, progress=False)
        return write(*args)

    monkeypatch.setattr(board.tables, "index", interrupted)
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    assert {path.name for path in site.iterdir()} == board.SITE
    assert [path.name for path in tmp_path.glob("site*")] == ["site"]


class Perfect(agents.ExpertAgent):
    name = "perfect"


def test_who_plays_as_the_expert_does_stands_beside_it(submissions: Path, tmp_path: Path) -> None:
    """Where the right actions are the only ones, they are nobody's, and four attempts at them are four."""
    for name in ("One", "Other"):
        play(Perfect(), tmp_path / name, attempts=4)
        submit([tmp_path / name], submissions / name, Card(agent=name, track="few-shot"))
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    ranks = {r["agent"]: r["rank"] for r in latest(site)["panels"][0]["rows"]}
    assert ranks.items() >= {"expert": None, "One": 1, "Other": 1}.items()


def test_a_folder_sent_in_twice_stands_once(submissions: Path, tmp_path: Path) -> None:
    """Who acts as a reference does is nobody's copy, but both folders would have one page."""
    play(Perfect(), tmp_path / "run", attempts=4)
    submit([tmp_path / "run"], submissions / "same", Card(agent="Same", track="few-shot"))
    for name, copy in (("expert", "expert2"), ("same", "same2")):
        shutil.copytree(submissions / name, submissions / copy)
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    refused = {r["folder"]: r["reason"] for r in latest(site)["refused"]}
    for name, copy in (("expert", "expert2"), ("same", "same2")):
        assert name not in refused and refused[copy] == f"the very same submission as {name}"


def test_a_copied_row_is_left_out_alone(tmp_path: Path) -> None:
    play(agents.RandomAdmissible(), tmp_path / "r", seed=5)
    play(agents.RandomAdmissible(), tmp_path / "own", split="train")
    first = submit([tmp_path / "r"], tmp_path / "s" / "a", Card(agent="First", track="trained"))
    submit([tmp_path / "own", tmp_path / "r"], tmp_path / "s" / "b", Card(agent="Half", track="trained"))
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    stand = {p["title"]: [r["agent"] for r in p["rows"]] for p in latest(site)["panels"]}
    assert stand == {"Lockbox-v1/test": ["First"], "Lockbox-v1/train": ["Half"]}
    digest = verify(first, workers=0, progress=False).digest[:16]
    said = f"the same actions as 'First' ({digest}) on Lockbox-v1/test; what the ledger has first stands"
    told = f"{said}; the other rows of 'Half' stand"
    assert latest(site)["refused"] == [{"folder": "b", "reason": told}]
    page = next(path for path in site.glob("s/*/index.html") if "<h1>Half</h1>" in path.read_text())
    assert "For a person to look at" in page.read_text() and "the same actions as" in page.read_text()


def test_a_removed_submission_does_not_come_back_by_another_card(submissions: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return verify(folder, workers=0, progress=False).digest

    play(agents.RandomAdmissible(), tmp_path / "r", seed=9)
    first = submit([tmp_path / "r"], submissions / "first", Card(agent="First", track="trained"))
    again = submit([tmp_path / "r"], submissions / "again", Card(agent="First", track="trained", about="."))
    history = submissions / "ledger.jsonl"
    for action in ("added", "removed"):
        ledger.append(history, action, digest(first), agent="First", reason="x")  # type: ignore[arg-type]
    refused = lambda: {r["folder"]: r["reason"] for r in latest(site.parent)["refused"]}  # noqa: E731
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False)
    assert "on Lockbox-v1/test, which was removed" in refused()["again"]
    ledger.append(history, "added", digest(again), agent="First", reason="its card is mended")
    board.build(submissions, tmp_path / "site", workers=0, progress=False)
    assert "again" not in refused() and refused()["first"].startswith("removed")


def test_what_the_ledger_has_and_the_folder_lacks_is_named(submissions: Path, tmp_path: Path) -> None:
    ledger.append(submissions / "ledger.jsonl", "added", "a" * 64, agent="Gone", reason="x")
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    (said,) = [r["reason"] for r in latest(site)["refused"] if r["folder"] == "ledger.jsonl"]
    assert said == "1 of its submissions are not here: Gone"


@pytest.mark.parametrize("lack", [DataMissing, ProsegymError])
def test_what_this_machine_cannot_replay_is_left_out_alone(
    submissions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lack: type[ProsegymError],
) -> None:
    def lacking(env: lockbox.Lockbox, tasks: object) -> None:
        if env.max_steps == 5:
            raise lack("the boxes are not here; get them: `prosegym data get boxes`")

    play(agents.ExpertAgent(), tmp_path / "r", env_kwargs={"max_steps": 5})
    submit([tmp_path / "r"], submissions / "elsewhere")
    monkeypatch.setattr(lockbox.Lockbox, "prepare", lacking)
    with pytest.raises(NotHere, match="prosegym data get boxes"):
        verify(submissions / "elsewhere", workers=0, progress=False)
    assert main(["board", "build", "--submissions", str(submissions), "--out", str(tmp_path / "site")]) == 0
    told = "not replayed on this machine: the boxes are not here; get them: `prosegym data get boxes`"
    assert f"left out: 'elsewhere': {told}" in capsys.readouterr().out
    (panel,) = latest(tmp_path / "site")["panels"]
    assert {"null", "random", "expert", "Retrier"} < {row["agent"] for row in panel["rows"]}


def test_notes_stand_beside_the_trial_they_were_for(submissions: Path, tmp_path: Path) -> None:
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    row = next(r for r in latest(site)["panels"][0]["rows"] if r["agent"] == "Retrier")
    text = (site / Path(row["page"].partition("#")[0]).parent / "0" / "0.html").read_text()
    trials = text.split("<article>")[1:]
    assert [trial.count(">take the key first<") for trial in trials] == [0, 1, 2]
    assert [trial.count("Notes from earlier trials") for trial in trials] == [0, 1, 1]


def test_what_was_told_at_the_start_ends_with_the_task_not_with_the_first_example(
    runs: dict[str, Path],
) -> None:
    played = Run.read(runs["null"]).finished[0]
    shown = [Message("user", "EXAMPLE"), Message("assistant", "SHOWN"), Message("user", "TASK")]
    own = Message("assistant", "OWN", trainable=True)

    def told(messages: list[Message], steps: list[Turn]) -> str:
        text = _trial(msgspec.structs.replace(played, messages=messages, steps=steps), False)
        (found,) = re.findall(r"told at the start</summary><pre>(.*?)</pre>", text, re.S)
        return str(found)

    whole = "[user] EXAMPLE\n\n[assistant] SHOWN\n\n[user] TASK"
    assert told([*shown, own, Message("user", "LATER")], played.steps) == whole
    assert told(shown, []) == whole  # stopped before its first answer
    unmarked = Message("assistant", "OWN")
    assert told([shown[0], unmarked, Message("user", "LATER"), unmarked], played.steps) == "[user] EXAMPLE"


def test_steps_of_retries_are_called_the_last_trial_s(submissions: Path, tmp_path: Path) -> None:
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    single, retry = (site / "index.html").read_text().split("<caption>Retry with feedback</caption>")
    assert ">Steps</button>" in single and 'title="mean an episode, as the agent' in single
    assert 'title="mean steps of last trials" data-key="steps">Last steps</button>' in retry
    assert 'title="mean an attempt, all its trials together, as the agent' in retry
    rows = {r["agent"]: r for r in latest(site)["panels"][0]["rows"]}
    texts = {name: (site / row["page"].partition("#")[0]).read_text() for name, row in rows.items()}
    assert rows["Retrier"]["row"]["episodes"] > 4
    for name, words in (
        (
            "Retrier",
            ("Steps of a last trial", "Trials played", "Tokens an attempt, all its trials", "Trials"),
        ),
        ("null", ("Steps an episode", "Episodes", "Tokens an episode", "Episodes")),
    ):
        assert all(f">{word}</" in texts[name] for word in words)


def test_every_board_has_its_own_reference_rows(tmp_path: Path) -> None:
    """An expert that is done before either limit acts alike on two boards, and is the ceiling of both."""
    play(agents.ExpertAgent(), tmp_path / "a")
    for name, limit in (("b", 60), ("c", 6)):
        play(agents.ExpertAgent(), tmp_path / name, env_kwargs={"max_steps": limit})
    for name in "abc":
        submit([tmp_path / name], tmp_path / "s" / name)
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    assert [len(p["rows"]) for p in latest(site)["panels"]] == [1, 1]
    assert [row["folder"] for row in latest(site)["refused"]] == ["c"]  # 6 is the environment's own limit


def test_a_folder_s_name_cannot_act_on_a_terminal(submissions: Path, tmp_path: Path) -> None:
    (submissions / "broken").rename(submissions / "x\x1b[2Jy")
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    assert "x?[2Jy" in {row["folder"] for row in latest(site)["refused"]}
    (submissions / "x\x1b[2Jy" / "more").write_text("")
    assert verify(submissions / "x\x1b[2Jy", workers=0, progress=False).problems == [
        "x?[2Jy/ holds 'more', which submission.json does not name"
    ]


def test_a_folder_s_name_may_be_no_utf_8(submissions: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(submissions / "x") + b"\xff"))
    try:
        (submissions / "null").rename(folder)
    except OSError:
        pytest.skip("this file system takes no such name")
    report = verify(folder, workers=0, progress=False)
    assert report.ok and report.folder.endswith("x?")
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    assert "null" in {r["agent"] for r in latest(site)["panels"][0]["rows"]}


def test_a_removed_row_is_gone_and_the_ledger_says_why(submissions: Path, tmp_path: Path) -> None:
    digest = verify(submissions / "evil", workers=0, progress=False).digest
    history = submissions / "ledger.jsonl"
    ledger.append(history, "added", digest, agent="E", reason="replayed")
    ledger.append(history, "removed", digest, agent="E", reason="<b>trained</b> on the panel")
    site = board.build(submissions, tmp_path / "site", workers=0, progress=False).parent
    found = latest(site)
    assert EVIL not in {row["agent"] for row in found["panels"][0]["rows"]}
    assert {"folder": "evil", "reason": "removed; the ledger says why"} in found["refused"]
    assert "&lt;b&gt;trained&lt;/b&gt; on the panel" in (site / "ledger.html").read_text()
    assert found["ledger"] == ledger.check(history)[-1].sha256
    history.write_bytes(history.read_bytes().replace(b"replayed", b"repeated"))
    with pytest.raises(CorruptData, match="ledger.jsonl:1"):
        board.build(submissions, tmp_path / "site", workers=0, progress=False)
    assert latest(site) == found


def test_the_folder_one_is_in_is_not_replaced(
    submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path):
        with pytest.raises(ProsegymError, match="is the folder you are in"):
            board.build(submissions, out, workers=0, progress=False)
        with pytest.raises(ProsegymError, match="is the folder you are in"):
            submit([tmp_path / "run"], out)


def test_what_is_in_the_way_is_not_deleted(submissions: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "thesis.txt").write_text("mine")
    with pytest.raises(ProsegymError, match=r"holds 'thesis.txt', which would be lost"):
        board.build(submissions, site, workers=0, progress=False)
    assert (site / "thesis.txt").read_text() == "mine"
    with pytest.raises(ProsegymError, match="expert is one submission; name the folder that it lies in"):
        board.build(submissions / "expert", tmp_path / "site", workers=0, progress=False)
    with pytest.raises(ProsegymError, match="not a folder of submissions"):
        board.build(tmp_path / "none", tmp_path / "other", progress=False)
    shutil.rmtree(submissions)
    submissions.mkdir()
    index = board.build(submissions, tmp_path / "empty", progress=False)
    assert "No submissions yet" in index.read_text()


def test_other_arguments_are_another_board(tmp_path: Path) -> None:
    play(agents.ExpertAgent(), tmp_path / "a")
    play(agents.RandomAdmissible(), tmp_path / "b", env_kwargs={"max_steps": 60})
    play(agents.Null(), tmp_path / "c", env_kwargs={"admissible": False})
    card = Card(agent="A", track="zero-shot")
    submit([tmp_path / n for n in "abc"], tmp_path / "s" / "one", card)
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    assert [p["title"] for p in latest(site)["panels"]] == [
        "Lockbox-v1/test",
        "Lockbox-v1/test · max_steps=60",
    ]
    assert [len(p["rows"]) for p in latest(site)["panels"]] == [2, 1]


def test_training_seeds_are_one_row(tmp_path: Path) -> None:
    """Three trainings that solve all, a half and a quarter of four tasks: no place for the best of them."""
    for name, count in (("all", 4), ("half", 2), ("quarter", 1)):
        first = {f"test/{c}": [f"take {c} key", "open box"] for c in lockbox.COLOURS["test"][:count]}
        play(agents.Scripted(first), tmp_path / name)
    card = Card(agent="A", track="trained", method="M")
    made = submit([tmp_path / name for name in ("all", "half", "quarter")], tmp_path / "s" / "three", card)
    slower = {task: ["look", *actions] for task, actions in first.items()}
    play(agents.Scripted(slower), tmp_path / "other", attempts=2)
    submit([tmp_path / "other"], tmp_path / "s" / "other", Card(agent="B", track="zero-shot"))
    page = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False)
    best, other = latest(page.parent)["panels"][0]["rows"]
    assert (best["agent"], best["runs"], other["runs"]) == ("A", [0, 1, 2], [0])
    row = best["row"]
    assert row["numbers"]["success"][0] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert (row["attempts"], row["episodes"], row["tasks"]) == (3, 12, 4)
    of_each = [[float(i < count) for count in (4, 2, 1)] for i in range(4)]
    assert row["numbers"]["success"] == list(clustered_bootstrap(of_each))
    one, two, three = verify(made, workers=0, progress=False).rows
    assert row["numbers"]["steps"] == pytest.approx(
        (one.numbers.steps + two.numbers.steps + three.numbers.steps) / 3
    )
    (method,) = (page.parent / "m").glob("*.html")
    for text in (page.read_text(), method.read_text()):
        assert text.count(">A</a>") == 1 and ">3 runs<" in text
    told = (page.parent / best["page"].partition("#")[0]).read_text()
    assert all(f"· run {n} of 3</h2>" in told for n in (1, 2, 3)) and ">1, 2, 3</td>" in told
    pairs = (page.parent / "pairs" / "Lockbox-v1-test.html").read_text()
    assert "▲ +33.3" in pairs or "≈ +33.3" in pairs  # 7 of 12 against a quarter, on the same tasks
    assert ">p " not in pairs  # McNemar's test is of one attempt a task


def test_runs_of_other_arguments_are_rows_of_their_own(tmp_path: Path) -> None:
    for name, limit in (("a", 60), ("b", 6), ("c", 60)):
        play(agents.RandomAdmissible(), tmp_path / name, seed=ord(name), env_kwargs={"max_steps": limit})
    made = submit([tmp_path / name for name in "abc"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    report = verify(made, workers=0, progress=False)
    assert [place.runs for place in report.places] == [[0, 2], [1]]
    assert report.places[1].row == report.rows[1]


def test_ranks_share_a_place_where_intervals_overlap(submissions: Path) -> None:
    row = verify(submissions / "expert", workers=0, progress=False).rows[0]

    def at(low: float, high: float) -> Any:
        e = Estimate((low + high) / 2, low, high, 9)
        return msgspec.structs.replace(row, numbers=msgspec.structs.replace(row.numbers, success=e, score=e))

    entry: Any = SimpleNamespace(card=Card(agent="A", track="zero-shot"))
    floor: Any = SimpleNamespace(card=Card(agent="null", track="reference"))
    rows = [at(0.8, 0.9), at(0.7, 0.85), at(0.5, 0.75), at(0.1, 0.2)]
    few = msgspec.structs.replace(at(0.95, 1.0), below=["1 of the 4 attempts"])
    places = ranks([Standing(entry, [0], row) for row in [few, *rows]] + [Standing(floor, [0], at(0.9, 1.0))])
    assert [places.get(id(row)) for row in [few, *rows]] == [
        None,
        1,
        1,
        2,
        4,
    ]  # the third overlaps the second
    assert len(places) == 4


def test_a_method_has_a_page_with_its_curves(runs: dict[str, Path], tmp_path: Path) -> None:
    curve = [(0.0, 0.0), (100.0, 0.5), (400.0, 1.0)]
    a = Card(agent="A", track="trained", method="ETO", curve=curve, curve_unit="episodes")
    submit([runs["random"]], tmp_path / "s/a", a)
    submit([runs["expert"]], tmp_path / "s/b", Card(agent="B", track="trained", method="eto"))
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    (path,) = (site / "m").iterdir()
    text = path.read_text()
    assert "<h1>ETO</h1>" in text and ">A</a>" in text and ">B</a>" in text
    assert 'points="44.0,224.0 190.0,117.0 628.0,10.0"' in text  # 0, a quarter and all of the width
    assert f"m/{path.name}" in (site / "index.html").read_text()


def test_a_method_s_rows_say_their_board_and_their_trials(runs: dict[str, Path], tmp_path: Path) -> None:
    play(agents.RandomAdmissible(), tmp_path / "long", env_kwargs={"max_steps": 60})
    card = Card(agent="A", track="zero-shot", method="M")
    submit([runs["random"], tmp_path / "long"], tmp_path / "s" / "a", card)
    submit([runs["retry"]], tmp_path / "s" / "b", Card(agent="B", track="retry", method="M"))
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    (path,) = (site / "m").iterdir()
    text = path.read_text()
    panel = "Lockbox-v1/test"
    boards = [panel, panel, f"{panel} · max_steps=60"]
    cells = re.findall(r'<td data-v="(Lockbox[^"]*)">([^<]*)</td>', text)
    assert sorted(cells) == [(board, board) for board in boards]
    assert text.count(">3 trials<") == 1 and ">B</a>" in text


def test_markup_is_made_by_tag_alone() -> None:
    assert tag("p", "<b>", tag("b", "&"), class_="x", data_v='"', hidden=True, id=None) == (
        '<p class="x" data-v="&quot;" hidden>&lt;b&gt;<b>&amp;</b></p>'
    )
    assert isinstance(join("<", [1, None, Html("<i>")]), Html) and join("<", [1, Html("<i>")]) == "&lt;1<i>"
    assert b"<title>&lt;x&gt; \xc2\xb7 prosegym" in page("<x>", "y", root="")
    assert b"?" in page("x", "\ud800", root="")


def test_rules_become_a_page() -> None:
    text = markdown("# A <b>\n\none `x<y`\ntwo **z**\n\n- a\n  b\n- c\n\n1. d\n\n    code <i>")
    assert text == (
        "<h1>A &lt;b&gt;</h1><p>one <code>x&lt;y</code> two <strong>z</strong></p><ul><li>a   b</li><li>c</li></ul>"
        "<ol><li>d</li></ol><pre>code &lt;i&gt;</pre>"
    )


def test_rows_below_the_minimum_say_so_and_have_no_rank(tmp_path: Path) -> None:
    class Fixed(agents.RandomAdmissible):
        name = "fixed"

        def conditions(self) -> dict[str, Any]:
            return {"temperature": 0.0}

    for seed in (1, 2, 3):
        play(Fixed(), tmp_path / f"f{seed}", seed=seed)
    play(agents.RandomAdmissible(), tmp_path / "few", attempts=3)
    play(agents.RandomAdmissible(), tmp_path / "four", attempts=4)
    card = Card(agent="A", track="zero-shot")
    submit([tmp_path / "few"], tmp_path / "s" / "few", card)
    submit([tmp_path / "four"], tmp_path / "s" / "four", card)
    trained = Card(agent="B", track="trained")
    submit([tmp_path / f"f{n}" for n in (1, 2)], tmp_path / "s" / "two", trained)
    submit([tmp_path / f"f{n}" for n in (1, 2, 3)], tmp_path / "t" / "three", trained)
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    found = {(r["agent"], r["row"]["attempts"]): r for r in latest(site)["panels"][0]["rows"]}
    assert found["A", 4]["rank"] == 1 and found["A", 4]["row"]["below"] == []
    assert found["A", 3]["rank"] is None and found["B", 2]["rank"] is None
    page = (site / "index.html").read_text()
    assert "unranked: 3 of the 4 attempts that a sampled agent needs" in page
    assert "unranked: 2 of the 3 training seeds that a trained agent needs" in page
    third = board.build(tmp_path / "t", tmp_path / "site", workers=0, progress=False).parent
    assert [r["rank"] for r in latest(third)["panels"][0]["rows"]] == [1]


def test_rows_are_compared_two_by_two(tmp_path: Path) -> None:
    """Four tasks: the expert solves all, the other the first two."""
    first = {f"test/{c}": [f"take {c} key", "open box"] for c in lockbox.COLOURS["test"][:2]}
    play(agents.ExpertAgent(), tmp_path / "all")
    play(agents.Scripted(first), tmp_path / "half")
    play(agents.Null(), tmp_path / "train", split="train")
    for name in ("all", "half", "train"):
        submit([tmp_path / name], tmp_path / "s" / name, Card(agent=name, track="zero-shot"))
    site = board.build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).parent
    assert [p.name for p in (site / "pairs").iterdir()] == ["Lockbox-v1-test.html"]
    text = (site / "pairs" / "Lockbox-v1-test.html").read_text()
    # 2 of 4 tasks differ, all one way: +50 points, and p = 2 * (1/2)^2 = 0.5.
    assert re.findall(r"<td[^>]*>(.*?)</td>", text) == [
        "–", "≈ +50.0<small>[+0.0, +100.0]</small><small>p 0.5</small>",
        "≈ -50.0<small>[-100.0, +0.0]</small><small>p 0.5</small>", "–",
    ]  # fmt: skip
    assert '<a href="pairs/Lockbox-v1-test.html">two by two</a>' in (site / "index.html").read_text()

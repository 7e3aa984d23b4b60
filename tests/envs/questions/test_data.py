"""Installing the official sets, from every kind of source."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.envs import data
from prosegym.envs.errors import CorruptData, DataMissing, ProsegymError
from prosegym.envs.questions import data as sets
from prosegym.envs.questions.data import open_split, read_manifest, set_aside
from prosegym.envs.questions.panels import REACT_DEV_SIZE, REFLEXION_ROWS, react_rows


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def hotpot(question_id: str, **more: Any) -> dict[str, Any]:
    return {
        "_id": question_id,
        "question": f"Who is {question_id}?",
        "answer": "Ann",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["A", 0]],
        "context": [["A", ["One.", " Two."]], ["B", ["Three."]]],
    } | more


def two_wiki(question_id: str, **more: Any) -> dict[str, Any]:
    return hotpot(question_id, evidences=[["A", "is", "B"]], answer_id="Q1") | more


def musique(question_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": question_id,
        "question": "Who?",
        "answer": "Ann",
        "answer_aliases": [],
        "answerable": True,
        "paragraphs": [{"idx": 0, "title": "A", "paragraph_text": "One.", "is_supporting": True}],
        "question_decomposition": [{"paragraph_support_idx": 0}],
    } | more


def write(path: Path, records: list[dict[str, Any]], lines: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in records) if lines else json.dumps(records)
    path.write_text(text)
    return path


def ids(name: str, split: str) -> list[str]:
    return [row.id for row in open_split(name, split).rows]


def test_files_go_to_the_split_of_their_name_and_the_set_of_their_content(tmp_path: Path) -> None:
    source = tmp_path / "all"
    write(source / "x_train.json", [hotpot("t2"), hotpot("t1")])
    write(source / "y_dev.json", [hotpot("d1")])
    write(source / "y_test.json", [{"_id": "e1", "question": "?", "context": []}])
    write(source / "deep" / "train.json", [two_wiki("w1")])
    write(source / "musique_ans_train.jsonl", [musique("2hop__1_2")], lines=True)
    (source / "notes.txt").write_text("nothing")
    (source / "old.pkl").write_bytes(b"\x80\x04.")
    data.dataset("hotpotqa").get(source)
    assert ids("hotpotqa", "train") == ["t1", "t2"] and ids("hotpotqa", "dev") == ["d1"]
    data.dataset("2wikimultihopqa").get(source)
    assert ids("2wikimultihopqa", "train") == ["w1"] and ids("2wikimultihopqa", "dev") == []
    data.dataset("musique").get(source)
    assert ids("musique", "train") == ["2hop__1_2"]
    assert open_split("musique", "train").question("2hop__1_2").type == "2hop"
    assert not read_manifest("hotpotqa").held_out


def test_without_a_training_file_some_questions_are_set_aside(tmp_path: Path) -> None:
    names = [f"q{i}" for i in range(400)]
    kept = next(iter(REFLEXION_ROWS.values()))
    data.dataset("hotpotqa").get(write(tmp_path / "dev.json", [hotpot(one) for one in [*names, kept]]))
    train, dev = ids("hotpotqa", "train"), ids("hotpotqa", "dev")
    assert sorted(train + dev) == sorted([*names, kept]) and 40 < len(train) < 140
    assert all(map(set_aside, train)) and not any(map(set_aside, dev))
    assert not any(map(set_aside, REFLEXION_ROWS.values()))
    assert read_manifest("hotpotqa").held_out


def test_archives(tmp_path: Path) -> None:
    train, dev = (
        write(tmp_path / "train.json", [two_wiki("t")]),
        write(tmp_path / "dev.json", [two_wiki("d")]),
    )
    aliases = write(tmp_path / "id_aliases.json", [{"Q_id": "Q1", "aliases": ["Anna"], "demonyms": []}], True)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (train, dev, aliases):
            archive.write(path, f"data_ids/{path.name}")
        archive.writestr("__MACOSX/data_ids/._dev.json", b"\x00\x05\x16\x07")
        archive.writestr("../../escape.json", "[]")
    data.dataset("2wikimultihopqa").get(tmp_path / "data.zip")
    assert ids("2wikimultihopqa", "train") == ["t"] and ids("2wikimultihopqa", "dev") == ["d"]
    assert open_split("2wikimultihopqa", "dev").question("d").answers == ("Ann", "Anna")
    assert not (tmp_path / "escape.json").exists() and not (tmp_path.parent / "escape.json").exists()
    with tarfile.open(tmp_path / "data.tar.xz", "w:xz") as tar:
        tar.add(dev, "x/dev.json")
        tar.add(train, "x/train.json")
    data.dataset("2wikimultihopqa").get(tmp_path / "data.tar.xz")
    assert open_split("2wikimultihopqa", "dev").question("d").answers == ("Ann",)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "data.zip").read_bytes()[:200])
    (tmp_path / "cut.tar").write_bytes(b"\x00" * 100)
    for name in ("cut.zip", "cut.tar"):
        with pytest.raises(ProsegymError):
            data.dataset("2wikimultihopqa").get(tmp_path / name)
    assert ids("2wikimultihopqa", "train") == ["t"]  # what was installed is still there


def test_an_archive_of_several_sets_whose_files_have_the_same_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("hotpotqa/dev.json", json.dumps([hotpot("h")]))
        archive.writestr("2wikimultihopqa/dev.json", json.dumps([two_wiki("w")]))
    for name, question_id in (("hotpotqa", "h"), ("2wikimultihopqa", "w")):
        data.dataset(name).get(tmp_path / "all.zip")
        assert ids(name, "train") + ids(name, "dev") == [question_id]


def test_musique_full_asks_no_question_in_both_splits(tmp_path: Path) -> None:
    pairs = [musique(f"2hop__{i}", answerable=answerable) for i in range(60) for answerable in (True, False)]
    data.dataset("musique").get(write(tmp_path / "musique_full_v1.0_dev.jsonl", pairs, True))
    train, dev = ({one.partition("/")[0] for one in ids("musique", split)} for split in ("train", "dev"))
    assert train and dev and not train & dev


def test_hotpotqa_fullwiki_gives_way_to_distractor(tmp_path: Path) -> None:
    # What HotpotQA's download.sh puts into a folder; a retriever's paragraphs may include the right ones.
    retrieved = [["A", ["One.", " Two."]], ["C", ["Four."]]]
    write(tmp_path / "h" / "hotpot_dev_distractor_v1.json", [hotpot("d1"), hotpot("d2")])
    write(tmp_path / "h" / "hotpot_dev_fullwiki_v1.json", [hotpot("d1", context=retrieved), hotpot("d2")])
    write(tmp_path / "h" / "hotpot_train_v1.1.json", [hotpot("t1")])
    data.dataset("hotpotqa").get(tmp_path / "h")
    assert ids("hotpotqa", "train") == ["t1"] and ids("hotpotqa", "dev") == ["d1", "d2"]
    assert [page.title for page in open_split("hotpotqa", "dev").question("d1").paragraphs] == ["A", "B"]
    data.dataset("hotpotqa").get(tmp_path / "h" / "hotpot_dev_fullwiki_v1.json")
    assert sorted(ids("hotpotqa", "train") + ids("hotpotqa", "dev")) == ["d1", "d2"]


def test_musique_full_gives_way_to_ans(tmp_path: Path) -> None:
    write(tmp_path / "m" / "musique_ans_v1.0_dev.jsonl", [musique("2hop__1_2")], True)
    write(
        tmp_path / "m" / "musique_full_v1.0_dev.jsonl",
        [musique("2hop__1_2", question="Other?"), musique("2hop__1_2", answerable=False)],
        True,
    )
    data.dataset("musique").get(tmp_path / "m")
    assert ids("musique", "dev") + ids("musique", "train") == ["2hop__1_2"]
    data.dataset("musique").get(tmp_path / "m" / "musique_full_v1.0_dev.jsonl")
    assert sorted(ids("musique", "dev") + ids("musique", "train")) == ["2hop__1_2", "2hop__1_2/unanswerable"]


def test_the_own_form_goes_to_the_set_that_is_asked_for(tmp_path: Path) -> None:
    own = {
        "id": "mine", "question": "Who?", "answers": ["Ann"], "supporting": ["A"],
        "paragraphs": [{"title": "A", "text": "One."}],
    }  # fmt: skip
    path = write(tmp_path / "questions.jsonl", [own], lines=True)
    for name in ("hotpotqa", "musique"):
        data.dataset(name).get(path)
        assert ids(name, "dev") + ids(name, "train") == ["mine"]


def test_a_folder_of_the_own_form_that_names_no_set_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    own = {"id": "q", "question": "Who?", "answers": ["Ann"], "supporting": [], "paragraphs": []}
    write(tmp_path / "mine" / "train.jsonl", [own], lines=True)
    with pytest.raises(
        ProsegymError, match=r"train\.jsonl .*give the file itself, or put hotpotqa in its name"
    ):
        data.dataset("hotpotqa").get(tmp_path / "mine")


def test_what_is_left_out_is_said_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [hotpot("a"), hotpot("b", context=[]), hotpot("c", context=[["Z", ["x"]]])]
    data.dataset("hotpotqa").get(write(tmp_path / "dev.json", records))
    assert "dev.json: 2 of 3 questions are left out; the first: question 'b' comes without" in caplog.text
    (report,) = read_manifest("hotpotqa").files
    assert (report.questions, report.left_out) == (1, 2) and "without paragraphs" in str(report.first_reason)


@pytest.mark.parametrize(
    ("name", "records", "error"),
    [
        ("hotpotqa", [musique("2hop__1_2")], "musique"),
        ("musique", [hotpot("a")], "hotpotqa"),
        ("hotpotqa", [{"title": "x", "text": "y"}], "no questions"),
        ("hotpotqa", [hotpot("a", context=[])], "without paragraphs"),
        ("hotpotqa", [hotpot("a"), hotpot("a")], "'a'"),
        ("hotpotqa", [hotpot("a", answer="")], "answer"),
    ],
)
def test_what_cannot_be_installed_says_why_and_leaves_nothing(
    tmp_path: Path, home: Path, name: str, records: list[Any], error: str
) -> None:
    with pytest.raises(ProsegymError, match=error):
        data.dataset(name).get(write(tmp_path / "bad.json", records))
    assert not data.folder(name).exists() and not list((home / "data").iterdir())


def test_files_that_disagree_about_a_question_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "s" / "a.json", [hotpot("a")])
    write(tmp_path / "s" / "b.json", [hotpot("a")])
    data.dataset("hotpotqa").get(tmp_path / "s")
    write(tmp_path / "s" / "c.json", [hotpot("a", answer="Bob")])
    with pytest.raises(CorruptData, match=r"c\.json.*'a'"):
        data.dataset("hotpotqa").get(tmp_path / "s")


def test_pickles_and_absent_sources(tmp_path: Path) -> None:
    (tmp_path / "sample.joblib").write_bytes(b"\x80\x04.")
    with pytest.raises(CorruptData, match="pickles"):
        data.dataset("hotpotqa").get(tmp_path / "sample.joblib")
    with pytest.raises(ProsegymError, match="does not exist"):
        data.dataset("hotpotqa").get(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProsegymError, match="no hotpotqa questions"):
        data.dataset("hotpotqa").get(tmp_path / "empty")


def test_a_set_that_is_not_installed_says_the_command() -> None:
    with pytest.raises(DataMissing, match="prosegym data get musique"):
        open_split("musique", "dev")
    with pytest.raises(DataMissing, match="prosegym data get hotpotqa"):
        read_manifest("hotpotqa")


def test_a_damaged_set_says_the_command(tmp_path: Path) -> None:
    folder = data.dataset("hotpotqa").get(write(tmp_path / "train.json", [hotpot("a")]))
    for name, read in [
        ("train.index", lambda: open_split("hotpotqa", "train")),
        ("manifest.json", lambda: read_manifest("hotpotqa")),
    ]:
        (folder / name).write_bytes(b"{}")
        with pytest.raises(CorruptData, match="prosegym data get hotpotqa"):
            read()


def test_downloads_come_from_the_authors(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    asked = []

    def fetch(url: str, target: Path, *, sha256: str | None = None) -> Path:
        asked.append(url)
        return write(target, [hotpot(target.stem)])

    monkeypatch.setattr("prosegym.envs.download.fetch", fetch)
    data.dataset("hotpotqa").get()
    assert [url.split("/")[2] for url in asked] == ["curtis.ml.cmu.edu"] * 2
    assert ids("hotpotqa", "train") == ["hotpot_train_v1.1"]
    assert ids("hotpotqa", "dev") == ["hotpot_dev_distractor_v1"]


def test_a_page_in_place_of_a_file_is_removed(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fetch(url: str, target: Path, *, sha256: str | None = None) -> Path:
        target.write_text("<html>Too many users have viewed or downloaded this file recently.</html>")
        return target

    monkeypatch.setattr("prosegym.envs.download.fetch", fetch)
    with pytest.raises(ProsegymError, match=r"drive\.usercontent.*by hand.*--from"):
        data.dataset("musique").get()
    assert not list((home / "downloads" / "musique").iterdir()) and not data.folder("musique").exists()


def test_a_damaged_download_is_removed(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fetch(url: str, target: Path, *, sha256: str | None = None) -> Path:
        target.write_text("{")
        return target

    monkeypatch.setattr("prosegym.envs.download.fetch", fetch)
    with pytest.raises(CorruptData):
        data.dataset("hotpotqa").get()
    assert not (home / "downloads" / "hotpotqa").exists()


def test_react_500_of_a_whole_development_file(tmp_path: Path) -> None:
    names = [f"{row:024x}" for row in range(REACT_DEV_SIZE)]
    for row, question_id in REFLEXION_ROWS.items():
        names[row] = question_id
    small = [hotpot(one, context=[["A", ["One."]]]) for one in names]
    train = write(tmp_path / "s" / "train.json", [hotpot("t")])
    write(tmp_path / "s" / "dev.json", small)
    data.dataset("hotpotqa").get(train.parent)
    found = read_manifest("hotpotqa").react500
    assert len(found) == 500 and found[0] == names[3687] and found[4] == names[3824]
    write(tmp_path / "s" / "dev.json", small[::-1])  # not the official order
    data.dataset("hotpotqa").get(train.parent)
    assert read_manifest("hotpotqa").react500 == []


def test_react_rows_are_those_of_its_notebook() -> None:
    assert react_rows()[:5] == [3687, 6238, 5388, 3522, 3824]
    assert len(set(react_rows())) == 500


@pytest.mark.data
def test_the_shared_selection(test_data: Path) -> None:
    wanted = {"hotpotqa": (37, 261), "2wikimultihopqa": (500, 164), "musique": (40, 160)}
    for name, counts in wanted.items():
        data.dataset(name).get(test_data / "multihop")
        assert (len(open_split(name, "train").rows), len(open_split(name, "dev").rows)) == counts
        for split in sets.SPLITS:
            stored = open_split(name, split)
            for row in stored.rows:
                question = stored.question(row.id)
                assert (question.id, question.sha256, question.type) == (row.id, row.sha256, row.type)
                assert msgspec.json.encode(question)

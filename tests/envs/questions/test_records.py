"""Question files: every form read to the same question, every malformed one named by line and field."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from pathlib import Path
from typing import Any

import pytest

from prosegym.envs.errors import CorruptData
from prosegym.envs.questions.data import kind_of
from prosegym.envs.questions.records import (
    Paragraph,
    Question,
    Skipped,
    join_sentences,
    parse,
    read_aliases,
    read_corpus,
    read_questions,
)

OWN: dict[str, Any] = {
    "id": "q1",
    "question": "Who?",
    "answers": ["Ann", "Anna"],
    "type": "bridge",
    "supporting": ["B", "A"],
    "paragraphs": [{"title": "A", "text": "One. Two."}, {"title": "B", "text": "Three."}],
}
LISTED: dict[str, Any] = {
    "_id": "q1",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["B", 0], ["A", 1], ["B", 1]],
    "context": [["A", ["One.", " Two."]], ["B", ["Three."]]],
}
COLUMNS: dict[str, Any] = LISTED | {
    "supporting_facts": {"title": ["B", "A"], "sent_id": [0, 1]},
    "context": {"title": ["A", "B"], "sentences": [["One.", "Two."], ["Three."]]},
}
MUSIQUE: dict[str, Any] = {
    "id": "2hop__1_2",
    "question": "Who?",
    "answer": "Ann",
    "answer_aliases": ["Anna"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "A", "paragraph_text": "One. Two.", "is_supporting": True},
        {"idx": 1, "title": "B", "paragraph_text": "Three.", "is_supporting": True},
        {"idx": 2, "title": "B", "paragraph_text": "Four.", "is_supporting": False},
    ],
    "question_decomposition": [{"paragraph_support_idx": 1}, {"paragraph_support_idx": 0}],
}


def read(path: Path, text: str | bytes) -> list[Question | Skipped]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_questions(path))


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}


def test_every_form_gives_the_same_question() -> None:
    paragraphs = (Paragraph("A", "One. Two."), Paragraph("B", "Three."))
    wanted = Question("q1", "Who?", ("Ann",), ("B", "A"), paragraphs, "bridge")
    assert parse(json.dumps(LISTED).encode()) == wanted
    assert parse(json.dumps(COLUMNS).encode()) == wanted
    own = parse(json.dumps(OWN).encode())
    assert own.answers == ("Ann", "Anna")
    assert own.sha256 == wanted.sha256  # aliases come and go with 2Wiki's alias file


def test_musique_supports_come_in_the_order_of_the_hops() -> None:
    question = parse(json.dumps(MUSIQUE).encode())
    assert question.supporting == ("B", "A") and question.answers == ("Ann", "Anna")
    assert question.type == "2hop" and len(question.paragraphs) == 3
    hippo = MUSIQUE | {
        "answer": ["Ann", "Anna"],
        "answer_aliases": [],
        "paragraphs": [
            {"title": one["title"], "text": one["paragraph_text"], "is_supporting": one["is_supporting"]}
            for one in MUSIQUE["paragraphs"]
        ],
    }
    assert parse(json.dumps(hippo).encode()) == question


def test_an_unanswerable_question_is_answered_noanswer_under_an_id_of_its_own() -> None:
    question = parse(json.dumps(MUSIQUE | {"answerable": False}).encode())
    assert question.id == "2hop__1_2/unanswerable"
    assert question.answers == ("noanswer",) and question.supporting == ()


def test_any_change_of_content_changes_the_digest() -> None:
    first = parse(json.dumps(OWN).encode())
    for key, value in [("question", "Whom?"), ("answers", ["Bob"]), ("supporting", ["A"]), ("type", "x")]:
        assert parse(json.dumps(OWN | {key: value}).encode()).sha256 != first.sha256
    other = OWN | {"paragraphs": [*OWN["paragraphs"], {"title": "C", "text": ""}]}
    assert parse(json.dumps(other).encode()).sha256 != first.sha256


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress, bz2.compress])
@pytest.mark.parametrize("shape", ["array", "lines", "pretty", "data", "one"])
def test_every_packing_and_shape(tmp_path: Path, pack: Any, shape: str) -> None:
    two = OWN | {"id": "q2"}
    text = {
        "array": json.dumps([OWN, two]),
        "lines": "\n" + lines(OWN) + "\n" + lines(two),
        "pretty": json.dumps([OWN, two], indent=3),
        "data": json.dumps({"version": 1, "data": [OWN, two]}),
        "one": json.dumps(OWN, indent=1),
    }[shape]
    found = read(tmp_path / "any.name", pack(text.encode()))
    assert [q.id for q in found if isinstance(q, Question)] == (["q1"] if shape == "one" else ["q1", "q2"])


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (without(OWN, "question"), "question"),
        (OWN | {"question": 7}, r"\$\.question"),
        (OWN | {"question": "  "}, "question"),
        (OWN | {"answers": []}, "field `answers` is empty"),
        (OWN | {"answers": ["Ann", ""]}, "field `answers` is empty"),
        (OWN | {"answers": "Ann"}, r"\$\.answers"),
        (OWN | {"id": ""}, "id"),
        (OWN | {"id": 3}, r"\$\.id"),
        (without(OWN, "id"), "id"),
        (OWN | {"paragraphs": [{"title": "A"}]}, r"\$\.paragraphs\[0\]|text"),
        (OWN | {"paragraphs": [{"title": "A", "text": "x"}, {"title": " ", "text": ""}]}, "title"),
        (OWN | {"supporting": ["Z"]}, r"'Z'.*\$\.supporting"),
        (OWN | {"paragraphs": [{"title": str(i), "text": ""} for i in range(300)]}, "256"),
        (LISTED | {"answer": ""}, "answer"),
        (LISTED | {"answer": None}, r"\$\.answer"),
        (LISTED | {"context": [["A"]]}, r"\$\.context\[0\]"),
        (LISTED | {"context": [["A", "One."]]}, r"\$\.context\[0\]"),
        (without(LISTED, "supporting_facts"), "supporting_facts"),
        (COLUMNS | {"context": {"title": ["A"], "sentences": []}}, r"\$\.context"),
        (MUSIQUE | {"paragraphs": [{"title": "A", "idx": 0}]}, r"paragraph_text.*\[0\]"),
        (MUSIQUE | {"answer": 1.5}, r"\$\.answer"),
    ],
)
def test_a_malformed_record_is_named_by_line_and_field(tmp_path: Path, record: Any, field: str) -> None:
    good = OWN | {"id": "q0"}
    with pytest.raises(CorruptData, match=rf"bad\.jsonl:2: .*(?:{field})"):
        read(tmp_path / "bad.jsonl", lines(good, record))
    with pytest.raises(CorruptData, match=rf"bad\.json:\d+: .*(?:{field})"):
        read(tmp_path / "bad.json", json.dumps([good, record], indent=1))


def test_a_malformed_first_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"x\.jsonl:1: "):
        read(tmp_path / "x.jsonl", '{"id": "q0", \n' + lines(OWN))


def test_the_line_of_a_pretty_printed_record_is_right(tmp_path: Path) -> None:
    text = json.dumps([OWN, OWN | {"id": "q2", "question": 1}], indent=1)
    line = next(i for i, row in enumerate(text.split("\n"), start=1) if row == " {" and i > 2)
    with pytest.raises(CorruptData, match=rf"x\.json:{line}: "):
        read(tmp_path / "x.json", text)


def test_equal_records_have_lines_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"d\.json:3: .*'q1'.*d\.json:2"):
        read(tmp_path / "d.json", "[\n" + json.dumps(OWN) + ",\n" + json.dumps(OWN) + "\n]")


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"d\.jsonl:3: .*'q1'.*d\.jsonl:1"):
        read(tmp_path / "d.jsonl", lines(OWN, OWN | {"id": "q2"}, OWN))


@pytest.mark.parametrize("text", ["", "   ", "hello", "[1, 2", '{"a": ', "\x00\x01", '{"id": "q"}\n{"id"'])
def test_what_is_no_question_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptData, match="no"):
        found = read(tmp_path / "no.json", text)
        assert found, "an empty result would be silent"


@pytest.mark.parametrize("reader", [read_questions, read_aliases, read_corpus, kind_of])
@pytest.mark.parametrize("start", ["", '{"title": '])
def test_what_is_nested_too_deep_is_refused(tmp_path: Path, reader: Any, start: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(start + "[" * 100_000)
    with pytest.raises(CorruptData, match="x.json"):
        list(reader(path))


def test_cut_archives_and_missing_files_are_errors(tmp_path: Path) -> None:
    whole = lzma.compress(lines(OWN).encode())
    with pytest.raises(CorruptData, match="cannot read"):
        read(tmp_path / "cut.xz", whole[:-9])
    with pytest.raises(CorruptData, match="cannot read"):
        list(read_questions(tmp_path / "absent.json"))


class Bomb:
    def __reduce__(self) -> Any:
        return (Path("exploded").touch, ())


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.joblib", "a.json"])
def test_pickles_are_refused_and_never_opened(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorruptData, match="refused"):
        read(tmp_path / name, pickle.dumps([Bomb()]))
    with pytest.raises(CorruptData, match="refused"):
        read(tmp_path / name, gzip.compress(pickle.dumps([Bomb()])))
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (without(LISTED, "answer"), "no answer"),
        (without(LISTED, "context"), "without paragraphs"),
        (LISTED | {"context": []}, "without paragraphs"),
        (LISTED | {"context": [["A", ["One."]]]}, "lacks.*'B'"),
    ],
)
def test_what_cannot_be_played_is_skipped_with_a_reason(tmp_path: Path, record: Any, reason: str) -> None:
    (found,) = read(tmp_path / "s.jsonl", lines(record))
    assert isinstance(found, Skipped)
    with pytest.raises(Skipped, match=reason):
        raise found


def test_sentences_are_joined_by_one_space() -> None:
    assert join_sentences(["A.", " B.", "C.", "", " D."]) == "A. B. C. D."
    assert join_sentences([]) == "" and join_sentences(["", "A."]) == "A."


def test_two_wiki_aliases_are_right_answers(tmp_path: Path) -> None:
    path = tmp_path / "id_aliases.json"
    path.write_text(lines({"Q_id": "Q1", "aliases": ["Annie", ""], "demonyms": ["Annish"]}))
    aliases = read_aliases(path)
    assert parse(json.dumps(LISTED | {"answer_id": "Q1"}).encode(), aliases).answers == (
        "Ann",
        "Annie",
        "Annish",
    )
    assert parse(json.dumps(LISTED | {"answer_id": None}).encode(), aliases).answers == ("Ann",)
    path.write_text(lines({"Q_id": "Q1"}, {"Q_id": 3}))
    with pytest.raises(CorruptData, match=r"id_aliases\.json:2: .*Q_id"):
        read_aliases(path)


def test_corpora_in_every_form(tmp_path: Path) -> None:
    wanted = [Paragraph("A", "One. Two."), Paragraph("B", "Three.")]
    path = tmp_path / "corpus.json"
    for text in (
        lines({"title": "A", "text": "One. Two.", "idx": 0}, {"title": "B", "text": "Three."}),
        json.dumps([{"title": "A", "text": "One. Two."}, {"title": "B", "paragraph_text": "Three."}]),
        json.dumps({"A": ["One.", " Two."], "B": "Three."}),
        lines({"title": "A", "text": ["One.", " Two."], "id": 7}, {"title": "B", "text": ["Three."]}),
        "\n\n"
        + json.dumps([{"title": "A", "text": "One. Two."}, {"title": "B", "text": "Three."}], indent=2),
    ):
        path.write_text(text)
        assert list(read_corpus(path)) == wanted
    path.write_text(lines({"title": "A", "text": "x"}, {"title": "B", "text": 3}))
    with pytest.raises(CorruptData, match=r"corpus\.json:2: .*text"):
        list(read_corpus(path))
    path.write_text(lines({"title": "A", "text": "x"}, {"title": "B"}))
    with pytest.raises(CorruptData, match=r"corpus\.json:2: .*text"):
        list(read_corpus(path))
    path.write_text(lines({"title": "A", "text": "x"}, {"name": "B", "text": "y"}))
    with pytest.raises(CorruptData, match=r"corpus\.json:2: .*title"):
        list(read_corpus(path))
    path.write_text(json.dumps({"A": 3}))
    with pytest.raises(CorruptData, match="corpus.json:1"):
        list(read_corpus(path))

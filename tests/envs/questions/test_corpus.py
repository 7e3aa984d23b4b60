"""Corpora: titles, ranking, and the memory-mapped files."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prosegym.envs import bm25
from prosegym.envs.core import digest
from prosegym.envs.errors import CorruptData
from prosegym.envs.questions import corpus
from prosegym.envs.questions.corpus import FileCorpus, OwnParagraphs, Page, build, title_key
from prosegym.envs.questions.miniwiki import generate
from prosegym.envs.questions.ranking import Ranking, encode, ranked_text
from prosegym.envs.questions.records import Paragraph

PARAGRAPHS = (
    Paragraph("Viva", "A channel. It shows music."),
    Paragraph("VIVA", "A company that makes pumps."),
    Paragraph("Straße", "A road in German."),
    Paragraph("Viva", "It was closed in 2018."),
    Paragraph("The Pump", ""),
    Paragraph("X&amp;Y &quot;Live&quot;", "A record."),
)


@pytest.fixture(params=["own", "file"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> OwnParagraphs | FileCorpus:
    if request.param == "own":
        return OwnParagraphs(PARAGRAPHS)
    return build(PARAGRAPHS, tmp_path / "corpus", sha256=digest("small"))


def test_titles_match_without_regard_to_case_and_spaces(small: OwnParagraphs | FileCorpus) -> None:
    page = small.page("Viva")
    assert page == Page("Viva", ("A channel. It shows music.", "It was closed in 2018."))
    assert small.page("VIVA") == Page("VIVA", ("A company that makes pumps.",))  # the exact one goes first
    assert small.page("viva") == page  # then the one that comes first
    assert small.page("  the_PUMP ") == Page("The Pump", ("",))
    assert small.page("STRASSE") == Page("Straße", ("A road in German.",))
    assert (
        small.page('x&y "live"')
        == small.page("X&amp;Y &quot;Live&quot;")
        == Page("X&amp;Y &quot;Live&quot;", ("A record.",))
    )
    assert small.page("Vivas") is None and small.page("") is None


def test_similar_names_each_title_once_and_only_what_matches(small: OwnParagraphs | FileCorpus) -> None:
    assert small.similar("pumps", 5) == ["VIVA", "The Pump"] or small.similar("pumps", 5) == [
        "The Pump",
        "VIVA",
    ]
    assert small.similar("channel closed 2018", 5) == ["Viva"]
    assert len(small.similar("viva", 1)) == 1
    assert small.similar("zebra", 5) == [] and small.similar("", 5) == []


def test_a_title_with_many_paragraphs_leaves_room_for_others(tmp_path: Path) -> None:
    many = [Paragraph("Korean War", f"A battle of the Korean war, the {i}th.") for i in range(45)]
    others = [Paragraph(f"Soldier {i}", f"He fought for {'very ' * 20}long in the war.") for i in range(6)]
    filed = build([*many, *others], tmp_path / "corpus", sha256=digest("many"))
    for count in (1, 5, 7, 10):
        found = filed.similar("korean war battle", count)
        assert found == OwnParagraphs([*many, *others]).similar("korean war battle", count)
        assert len(found) == min(count, 7) and found[0] == "Korean War"


def test_nearest(small: OwnParagraphs | FileCorpus) -> None:
    for query, title in [("viva", "Viva"), ("music on a channel", "Viva"), ("German", "Straße")]:
        page = small.nearest(query)
        assert page is not None and page.title == title


def test_nearest_of_own_paragraphs_always_finds() -> None:
    page = OwnParagraphs(PARAGRAPHS).nearest("Strasze")
    assert page is not None and page.title == "Straße"


def test_title_key_of_both_normal_forms() -> None:
    assert title_key("Cafe\u0301 du_ Nord") == title_key("CAF\u00c9  du Nord")


def test_stored_scores_rank_as_the_index_does() -> None:
    draw = random.Random(5)
    for i in range(40):
        paragraphs = generate("train", i).paragraphs
        index = bm25.Index((f"{n:03d}", ranked_text(p.title, p.text)) for n, p in enumerate(paragraphs))
        ranking = Ranking(encode(paragraphs))
        words = " ".join(p.text for p in paragraphs).split()
        for _ in range(20):
            query = " ".join(draw.choices(words, k=draw.randint(1, 8)))
            assert ranking.search(query) == [hit.number for hit in index.search(query, len(paragraphs))]


def test_own_and_file_corpora_rank_alike(tmp_path: Path) -> None:
    paragraphs = generate("train", 3).paragraphs
    own, filed = OwnParagraphs(paragraphs), build(paragraphs, tmp_path / "c", sha256=digest("x"))
    for paragraph in paragraphs:
        assert own.page(paragraph.title) == filed.page(paragraph.title)
        query = " ".join(paragraph.text.split()[3:7])
        assert own.similar(query, 3) == filed.similar(query, 3)


def test_a_built_corpus_is_kept_and_repeats_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    first = build([*PARAGRAPHS, *PARAGRAPHS], folder, sha256=digest("a"))
    assert len(first) == len(PARAGRAPHS)
    again = build(iter(()), folder, sha256=digest("a"))  # is not read again
    assert len(again) == len(first) and again.page("Viva") == first.page("Viva")
    assert len(build(PARAGRAPHS[:1], folder, sha256=digest("b"))) == 1  # another source is built anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_titles_and_texts_of_any_characters(tmp_path: Path) -> None:
    odd = (
        Paragraph("line\nbreak", "two\nlines"),
        Paragraph("nul\x00", "\x00"),
        Paragraph("日本 [1]", "東京"),
    )
    found = build(odd, tmp_path / "c", sha256=digest("odd"))
    assert found.page("line break") == Page("line break", ("two\nlines",))
    assert found.page("nul\x00") == Page("nul\x00", ("\x00",))
    assert found.page("日本 [1]") == Page("日本 [1]", ("東京",))


@pytest.mark.parametrize("broken", ["corpus.json", "texts", "ends", "keys", "bm25/index.json"])
def test_a_broken_corpus_is_noticed_and_built_again(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "corpus"
    build(PARAGRAPHS, folder, sha256=digest("a"))
    path = folder / broken
    path.write_bytes(path.read_bytes()[:-1] if path.suffix != ".json" else b"{}")
    with pytest.raises(CorruptData, match="again"):
        FileCorpus(folder, digest("a")).similar("viva", 1)
    if not broken.startswith("bm25"):
        assert build(PARAGRAPHS, folder, sha256=digest("a")).similar("music", 1) == ["Viva"]


def test_an_empty_corpus_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match="no paragraphs"):
        build([], tmp_path / "c", sha256=digest("none"))
    assert not list(tmp_path.iterdir())


def test_a_failure_while_building_leaves_nothing(tmp_path: Path) -> None:
    def cut():  # type: ignore[no-untyped-def]
        yield PARAGRAPHS[0]
        raise CorruptData("cut")

    with pytest.raises(CorruptData, match="cut"):
        build(cut(), tmp_path / "c", sha256=digest("cut"))
    assert not list(tmp_path.iterdir())


def test_interrupted_indexing_goes_on_without_reading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(bm25, "_merge", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(PARAGRAPHS, tmp_path / "c", sha256=digest("a"))
    assert not (tmp_path / "c").exists()
    found = build(iter(()), tmp_path / "c", sha256=digest("a"))
    assert len(found) == len(PARAGRAPHS) and found.similar("music", 1) == ["Viva"]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_of_two_that_want_a_corpus_one_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stand for processes: each opens the lock for itself."""
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    path, begun, reads = tmp_path / "corpus.jsonl", threading.Event(), []
    path.write_text("".join(json.dumps({"title": p.title, "text": p.text}) + "\n" for p in PARAGRAPHS))

    def read(path: Path) -> Iterator[Paragraph]:
        reads.append(path)
        begun.set()
        time.sleep(0.5)  # the other one comes meanwhile
        yield from PARAGRAPHS

    monkeypatch.setattr(corpus, "read_corpus", read)
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(corpus.of_file, path)
        assert begun.wait(60)
        assert len(corpus.of_file(path)) == len(one.result()) == len(PARAGRAPHS)
    assert len(reads) == 1


def test_opening_reads_next_to_nothing(tmp_path: Path) -> None:
    paragraphs = [Paragraph(f"T{i}", f"word{i % 97} text {i}") for i in range(20_000)]
    found = build(paragraphs, tmp_path / "c", sha256=digest("many"))
    for array in (found._ends, found._keys, found._places):
        assert isinstance(array, np.memmap)
    assert "_index" not in vars(found)
    assert found.page("t19999") == Page("T19999", ("word17 text 19999",))


def test_colliding_hashes_do_not_mix_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_hash", lambda key: 7)
    found = build(PARAGRAPHS, tmp_path / "c", sha256=digest("h"))
    assert found.page("Straße") == Page("Straße", ("A road in German.",))
    assert found.page("Pump") is None


def test_merged_and_spread_lists_give_the_same_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(11)
    words = [f"w{int(3000 * draw.random() ** 3)}" for _ in range(60_000)]
    index = bm25.Index((f"{i:05d}", " ".join(words[10 * i : 10 * i + 10])) for i in range(6000))
    for turn in range(160):
        query = " ".join(draw.choices(words, k=draw.randint(1, 6) if turn < 150 else 300))
        for k in (1, 5, 50):
            monkeypatch.setattr(bm25, "_SPARSE", 0)
            merged = index.search(query, k)
            monkeypatch.setattr(bm25, "_SPARSE", 1 << 40)
            assert merged == index.search(query, k) and merged

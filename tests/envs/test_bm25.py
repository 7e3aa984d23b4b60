"""Ranking: Lucene's recorded ones, the formula written out, and builds that are interrupted."""

from __future__ import annotations

import itertools
import json
import lzma
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prosegym.envs import bm25, english
from prosegym.envs.bm25 import Index, build
from prosegym.envs.errors import CorruptData

WORDS = [f"{a}{b}{c}" for a in "bdgkmprt" for b in "aiou" for c in "nlxk"]


def some_documents(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Words of Zipf-like frequency; now and then a document without any."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(len(WORDS))]
    sizes = (0 if rng.random() < 0.02 else int(rng.expovariate(1 / 40)) + 1 for _ in range(count))
    return [
        (f"id{i * 7919 % count}", " ".join(rng.choices(WORDS, weights, k=n))) for i, n in enumerate(sizes)
    ]


def plain_ranking(documents: list[tuple[str, str]], query: str, k: int) -> list[tuple[str, float]]:
    """Lucene's BM25Similarity, document by document."""
    f = np.float32
    bags = [Counter(english.terms(text)) for _, text in documents]
    lengths = [sum(bag.values()) for bag in bags]
    count = sum(length > 0 for length in lengths)
    mean = f(sum(lengths) / count)
    scores = []
    for (name, _), bag, length in zip(documents, bags, lengths, strict=True):
        total = 0.0
        for term, times in Counter(english.terms(query)).items():
            if bag[term]:
                found = sum(term in other for other in bags)
                idf = f(math.log(1 + (count - found + 0.5) / (found + 0.5)))
                weight = idf * f(times)
                kept = next(n for n in range(length, -1, -1) if is_kept(n))
                norm = f(1) / (f(0.9) * ((f(1) - f(0.4)) + f(0.4) * f(kept) / mean))
                total += float(weight - weight / (f(1) + f(bag[term]) * norm))
        if total:
            scores.append((name, float(f(total))))
    return sorted(scores, key=lambda hit: (-hit[1], hit[0]))[:k]


def is_kept(length: int) -> bool:
    """Whether Lucene's byte can say that length: at most four significant bits beyond 24."""
    if length < 40:
        return True
    bits = bin(length - 24)[2:]
    return "1" not in bits[4:]


@pytest.mark.parametrize(
    "query", ["ban", "ban bal bax", "tok tuk", "ban ban tok nothing", "the of", "tox rak ban"]
)
def test_order_and_scores_are_those_of_the_formula(query: str) -> None:
    documents = some_documents(400)
    hits = Index(documents).search(query, 20)
    assert [(hit.id, hit.score) for hit in hits] == plain_ranking(documents, query, 20)
    assert all(documents[hit.number][0] == hit.id for hit in hits)


def test_skipping_loses_nothing() -> None:
    # Enough documents that documents are left out by bounds alone; the same sums without any bound.
    documents = some_documents(20_000)
    index = Index(documents)
    rng = random.Random(1)
    for _ in range(40):
        query = " ".join(
            rng.choices(WORDS, [1 / (i + 1) ** 0.5 for i in range(len(WORDS))], k=rng.randint(1, 8))
        )
        sums = np.zeros(len(documents))
        for term, times in Counter(english.terms(query)).items():
            if (found := index._find(term, times)) is not None:
                sums[found.docs] += found.scores()
        names = [name for name, _ in documents]
        singles = sums.astype(np.float32)
        best = sorted(np.flatnonzero(singles), key=lambda i: (-singles[i], names[i]))[:50]
        assert [hit.number for hit in index.search(query, 50)] == best


def test_the_work_of_a_query_grows_with_its_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # A page pasted into a search: both once grew with the square of the number of words.
    index = Index((f"{i:05d}", f"w{i % 8000} w{(i * 7 + 1) % 8000}") for i in range(16_000))
    sort, work = np.argsort, Counter[str]()

    def counting(values: Any, *args: Any, **more: Any) -> Any:
        work["sorted"] += len(values)
        return sort(values, *args, **more)

    def calls(frame: Any, event: str, arg: Any) -> None:
        work["calls"] += event == "call"

    monkeypatch.setattr(bm25, "_SPARSE", 0)  # lists are merged
    monkeypatch.setattr(np, "argsort", counting)
    each = {}
    for count in (500, 4000):
        work.clear()
        query = " ".join(f"w{i}" for i in range(count))
        found = index._find("w1", 1), english.terms(query)  # words are known by now
        sys.setprofile(calls)
        try:
            hits = index.search(query, 20)
        finally:
            sys.setprofile(None)
        assert found and len(hits) == 20
        each[count] = {kind: n / count for kind, n in work.items()}
    assert each[4000]["calls"] < 2 * each[500]["calls"]
    assert each[4000]["sorted"] < 2 * each[500]["sorted"]


def test_ties_go_by_id() -> None:
    index = Index([("b", "red shoe"), ("é", "red shoe"), ("a", "red shoe"), ("B", "red shoe")])
    assert [hit.id for hit in index.search("red")] == ["B", "a", "b", "é"]


def test_nothing_to_find() -> None:
    index = Index([("a", "red shoe")])
    for query in ("", "the", "blue", "[]", "\ud800"):
        assert index.search(query) == []
    assert index.search("red", 0) == []
    assert Index([]).search("red") == []
    assert Index([("a", ""), ("b", "the")]).search("the red") == []


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match="1 and 2 .* 'x'"):
        Index([("a", "red"), ("x", "red"), ("x", "blue")])


def test_on_disk_as_in_memory_whatever_the_batch(tmp_path: Path) -> None:
    documents = some_documents(500)
    memory = Index(documents)
    for batch in (200, 1000, 1 << 20):
        index = build(iter(documents), tmp_path / str(batch), source="s", batch=batch)
        assert len(index) == 500 and index.id(3) == documents[3][0]
        for query in ("ban bal tok", "tuk rax", "gin"):
            assert index.search(query) == memory.search(query)
    files = [{p.name: p.read_bytes() for p in (tmp_path / b).iterdir()} for b in ("200", "1000")]
    assert files[0] == files[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1000", "1048576", "200"]


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    documents = some_documents(500)
    read = []

    def until(stop: int) -> Iterator[tuple[str, str]]:
        for i, document in enumerate(documents):
            if i == stop:
                raise KeyboardInterrupt
            read.append(i)
            yield document

    with pytest.raises(KeyboardInterrupt):
        build(until(300), tmp_path / "index", source="s", batch=2000)
    assert not (tmp_path / "index").exists()
    kept = [json.loads(p.read_bytes()) for p in sorted(tmp_path.glob("index.parts/*/0*/ids.json"))]
    assert 1 < len(kept) and 200 < sum(map(len, kept)) <= 300
    index = build(until(1000), tmp_path / "index", source="s", batch=2000)
    assert index.search("ban tok") == Index(documents).search("ban tok")
    assert not (tmp_path / "index.parts").exists()
    read.clear()
    build(until(1000), tmp_path / "index", source="s", batch=2000)
    assert not read


def test_an_index_of_other_documents_is_refused_and_built_anew(tmp_path: Path) -> None:
    build([("a", "red")], tmp_path / "index", source="one")
    with pytest.raises(CorruptData, match="other documents"):
        Index.open(tmp_path / "index", source="two")
    with pytest.raises(CorruptData, match="cannot open the index"):
        Index.open(tmp_path / "none", source="one")
    assert build([("b", "red")], tmp_path / "index", source="two").search("red")[0].id == "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The men's shoes, size 9.5 (wide)", "men shoe size 9.5 wide"),
        ("O'Neil's dogs’ DOG’S a.b.c 3,000.5 x_1 _ __", "o'neil dog dog a.b.c 3,000.5 x_1"),
        ("ab:c 1:2 ab;c 1;2 a-b a/b", "ab:c 1 2 ab c 1;2 b b"),
        ("日本語テスト ひら", "日 本 語 テスト ひ ら"),
        ("한국어 ไทย שלום צה\"ל ג'", "한국어 ไทย שלום צה\"ל ג'"),
        ("👍🏽 👨\u200d💼 🇩🇪🇫🇷 #️⃣ ✔ Kodak™", "👍🏽 👨\u200d💼 🇩🇪 🇫🇷 #️⃣ ✔ kodak ™"),
        ("ΣΑΣ İzmir NAÏVE", "σασ izmir naïv"),
        ("e\u0301te\u0301 soft\u00adware", "e\u0301te\u0301 soft\u00adwar"),
        # Printed by Lucene 8.11 (Anserini 0.14.3), which knows Unicode 9.
        ("provenc\u00b8al b\u02f5c \u02c3 b\u02d7c", "provenc al b c b\u02d7c"),
        ("re🏽d 1🏽2 ✔🏽🏽 #\u20e3 🏻\u200d🏻", "re 🏽 d 1 🏽 2 ✔ 🏽 🏽 #\u20e3 🏻\u200d🏻"),
        ("_\u0301 __\ufe0f 5_テスト テ_x", "5_テスト テ_x"),
        ("👫🏽 👯🏽 🤝🏽 🤼🏽 👩🏽", "👫 🏽 👯 🏽 🤝 🏽 🤼 🏽 👩🏽"),
        ("\u05d0\u05b8'\u05d1 \u05d0\u05b8\"\u05d1", "\u05d0\u05b8'\u05d1 \u05d0\u05b8\"\u05d1"),
    ],
)
def test_terms(text: str, expected: str) -> None:
    assert english.terms(text) == expected.split()


def test_long_words_are_cut_and_nothing_is_slow() -> None:
    assert list(map(len, english.terms("x" * 600))) == [255, 255, 90]
    for unit in ("_", "\u200d", "é_", "a.", "'", "\u0301", "_é", "1,"):
        assert len(english.terms(unit * 65_000)) <= 65_000


def test_a_document_is_found_by_its_id() -> None:
    index = Index(some_documents(100))
    assert [index.number(index.id(i)) for i in range(100)] == list(range(100))
    assert index.number("id") is None and index.number("zz") is None and Index([]).number("a") is None


@pytest.mark.parametrize("letters", ["ab1_.:,;' #*-A\n\""])
def test_the_quick_pattern_agrees_with_the_full_one(letters: str) -> None:
    rng = random.Random(1)
    for _ in range(5000):
        text = "".join(rng.choices(letters, k=rng.randint(1, 14)))
        assert [token for token in english._ascii(text) if token.strip("_")] == english._unicode()(text)


@pytest.mark.parametrize(
    ("word", "expected"),
    # The examples of Porter's paper.
    [pair.split() for pair in (
        "caresses caress", "ponies poni", "ties ti", "cats cat", "feed feed", "agreed agre", "plastered plaster",
        "bled bled", "motoring motor", "sing sing", "conflated conflat", "troubled troubl", "sized size",
        "hopping hop", "tanned tan", "falling fall", "hissing hiss", "fizzed fizz", "failing fail", "filing file",
        "happy happi", "sky sky", "relational relat", "conditional condit", "rational ration", "valenci valenc",
        "digitizer digit", "radically radic", "vileli vile", "analogously analog", "vietnamization vietnam",
        "operator oper", "feudalism feudal", "decisiveness decis", "hopefulness hope", "callousness callous",
        "formaliti formal", "sensitiviti sensit", "sensibiliti sensibl", "triplicate triplic", "formative form",
        "formalize formal", "electriciti electr", "electrical electr", "hopeful hope", "goodness good",
        "revival reviv", "allowance allow", "inference infer", "airliner airlin", "gyroscopic gyroscop",
        "adjustable adjust", "defensible defens", "irritant irrit", "replacement replac", "adjustment adjust",
        "dependent depend", "adoption adopt", "homologou homolog", "communism commun", "activate activ",
        "angulariti angular", "homologous homolog", "effective effect", "bowdlerize bowdler", "probate probat",
        "rate rate", "cease ceas", "controll control", "roll roll", "archaeology archaeolog", "possibly possibl",
    )],
)  # fmt: skip
def test_stems(word: str, expected: str) -> None:
    assert english.stem(word) == expected


def test_stems_of_another_implementation(test_data: Path) -> None:
    porter = pytest.importorskip("nltk.stem.porter")
    other = porter.PorterStemmer(mode="MARTIN_EXTENSIONS")
    with lzma.open(test_data / "webshop" / "items_shuffle_1000.rebuilt.json.xz", "rt") as file:
        words = set(re.findall("[a-z0-9]{3,}", file.read().lower()))
    endings = [*english._STEP_2, *english._STEP_3, *english._STEP_4, "ed", "ing", "s", "y", "e", "ll"]
    words |= {f"{a}{b}{c}" for a in ("l", "tr", "fizz", "hop", "aby", "oxyly") for b, c in itertools.product(endings, endings)}  # fmt: skip
    assert len(words) > 10_000
    assert not [w for w in words if english.stem(w) != other.stem(w, to_lowercase=False)]


def documents_of(test_data: Path) -> list[tuple[str, str]]:
    """The 1,000 products as WebShop gives them to its index."""
    from prosegym.envs.webshop.catalogue import document, read_products

    return [document(p) for p in read_products(test_data / "webshop" / "items_shuffle_1000.rebuilt.json.xz")]


@pytest.mark.data
def test_recorded_rankings_of_lucene(test_data: Path) -> None:
    index = Index(documents_of(test_data))
    with lzma.open(test_data / "webshop" / "bm25_oracle_1k.jsonl.xz", "rt") as file:
        recorded: list[dict[str, Any]] = [json.loads(line) for line in file]
    assert len(recorded) == 1000
    for case in recorded:
        hits = index.search(case["query"], 50)
        assert [hit.id for hit in hits] == [name for name, _ in case["hits"]], case["query"]
        # Pyserini rounds to four places and takes a little off tied scores.
        assert all(abs(hit.score - score) < 1e-4 for hit, (_, score) in zip(hits, case["hits"], strict=True))
    assert (bm25.K1, bm25.B) == (0.9, 0.4)

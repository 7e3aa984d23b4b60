"""BM25 search over any number of documents: an inverted index in NumPy arrays, memory-mapped from disk.

Scores and order are those of Lucene 8 and 9's BM25Similarity over English text (see `english`), as Anserini
and Pyserini use them: k1 = 0.9, b = 0.4, single precision, document lengths in one byte, ties by id.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prosegym.envs import data
from prosegym.envs.english import terms
from prosegym.envs.errors import CorruptData

FORMAT = 1
"""Version of the files; an index of another version is built anew."""

K1, B = 0.9, 0.4
BATCH = 1 << 23
"""Tokens that are inverted at a time; what bounds the memory of a build (about 100 bytes each)."""

_MERGED = 1 << 22  # postings that are merged at a time
_SLACK = 1 - 1e-6  # scores are compared in single precision
_SPARSE = 8  # lists are merged where they hold less than this share of all documents
_SHORT = 8  # a list is merged with others where it holds less than this share of the documents so far
_STRIDE = 64  # documents of which only the best is looked at, when a lower bound is enough
_BLOCK = 1 << 18  # documents that are scored at a time

Array = NDArray[Any]


class Hit(NamedTuple):
    """A document that was found."""

    number: int
    """Its place among the documents that were indexed, from 0."""
    id: str
    score: float


def build(
    documents: Iterable[tuple[str, str]],
    folder: Path,
    *,
    source: str,
    total: int | None = None,
    batch: int = BATCH,
) -> Index:
    """Index documents into a folder; interrupted, the same call goes on where it was.

    Args:
        documents: (id, text) of each, in the same order at each call.
        folder: where the index is to lie; it appears when it is complete.
        source: a digest or name of the documents; `Index.open` asks for the same.
        total: how many documents there are, for the progress bar.
        batch: tokens inverted at a time.

    Raises:
        CorruptData: two documents have the same id.
    """
    if folder.is_dir():
        try:
            return Index.open(folder, source=source)
        except CorruptData:
            shutil.rmtree(folder)
    parts = folder.with_name(folder.name + ".parts") / f"{FORMAT}-{source[:32]}-{batch}"
    parts.mkdir(parents=True, exist_ok=True)
    done = sorted(path for path in parts.glob("[0-9]*") if path.suffix != ".tmp")
    runs = [_Run.open(path) for path in done]
    rest = itertools.islice(documents, sum(len(run.ids) for run in runs), None)
    from tqdm import tqdm

    bar = tqdm(rest, "indexing", total, initial=sum(len(run.ids) for run in runs), delay=2, disable=None)
    for run in _runs(bar, batch):
        path = parts / f"{len(runs):06d}"
        run.save(path)
        runs.append(_Run.open(path))
    made = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    files = _Files(made)
    _merge(runs, files)
    files.finish(source)
    if not folder.is_dir():  # another process may have been faster; its index is the same
        made.rename(folder)
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(parts.parent, ignore_errors=True)
    return Index.open(folder, source=source)


class Index:
    """An index that is ready to be searched: the arrays of one folder, or in memory."""

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        """Index documents, each an (id, text), in memory.

        Raises:
            CorruptData: two documents have the same id.
        """
        memory = _Memory()
        _merge(list(_runs(documents, BATCH)), memory)
        self._load({name: np.concatenate(blocks) for name, blocks in memory.blocks.items()})

    @classmethod
    def open(cls, folder: Path, *, source: str) -> Index:
        """The index in a folder, memory-mapped: nothing is read before it is needed.

        Raises:
            CorruptData: there is none, it is damaged, of another version, or of other documents.
        """
        index = cls.__new__(cls)
        try:
            about = json.loads((folder / "index.json").read_bytes())
            sizes = about.pop("sizes", {})  # earlier versions wrote none
            if about != {"format": FORMAT, "source": source}:
                raise CorruptData(f"{folder} is the index of other documents ({about}); build it again")
            data.check_sizes(folder, sizes)
            arrays = {name: _map(folder / name, dtype) for name, dtype in _ARRAYS.items()}
            index._load(arrays | {"codes": _map(folder / "codes", _code_type(arrays["impacts"]))})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CorruptData(f"cannot open the index at {folder} ({error}); build it again") from error
        return index

    def _load(self, arrays: dict[str, Array]) -> None:
        self._ids = _Texts(arrays["ids"], arrays["id_ends"])
        self._terms = _Texts(arrays["terms"], arrays["term_ends"])
        self._starts, self._docs, self._codes = arrays["starts"], arrays["docs"], arrays["codes"]
        self._order = arrays["order"].data
        self._best, self._rank, self._impacts = arrays["best"], arrays["rank"], arrays["impacts"]
        self._count = int(arrays["count"][0])
        # Small blocks first: their best scores let the large ones skip most of what they have.
        size = len(self)
        first = [_BLOCK >> i for i in (7, 5, 3, 1) if size > _BLOCK]
        edges = [0, *first, *range(_BLOCK, size + _BLOCK, _BLOCK)]
        self._edges = np.unique(np.minimum(edges, size))

    def __len__(self) -> int:
        return len(self._ids)

    def id(self, number: int) -> str:
        """The id of a document."""
        return self._ids[number]

    def number(self, id: str) -> int | None:
        """The number of the document with that id."""
        place = bisect.bisect_left(self._order, id, key=self._ids.__getitem__)
        if place == len(self._order) or self._ids[self._order[place]] != id:
            return None
        return self._order[place]

    def postings(self) -> tuple[list[str], Array, Array, Array]:
        """The terms, sorted; for each in turn where its documents end; their numbers; and their scores.

        The score is what the term adds to the document's where it stands in a query once. For small
        indexes: everything is in memory at once.
        """
        found = (self._starts[1:] - self._starts[:-1]).astype(np.int64)
        idf = [math.log(1 + (self._count - n + 0.5) / (n + 0.5)) for n in found.tolist()]
        weights = np.repeat(np.array(idf, np.float32), found)
        return list(self._terms), self._starts[1:], self._docs, weights - weights / self._impacts[self._codes]

    def search(self, query: str, k: int = 50) -> list[Hit]:
        """The k best documents for a query, best first; only documents that share a term with it."""
        lists = [found for term, times in Counter(terms(query)).items() if (found := self._find(term, times))]
        if not lists or k < 1:
            return []
        numbers, scores = self._candidates(lists, k)
        if len(numbers) > 4 * k:
            enough = scores >= np.partition(scores, -k)[-k]
            numbers, scores = numbers[enough], scores[enough]
        order = np.lexsort((self._rank[numbers], -scores))[:k]
        return [Hit(int(numbers[i]), self._ids[int(numbers[i])], float(scores[i])) for i in order]

    def _find(self, term: str, times: int) -> _List | None:
        """The documents with a term that stands so many times in the query."""
        place = bisect.bisect_left(self._terms, term)
        if place == len(self._terms) or self._terms[place] != term:
            return None
        start, end = int(self._starts[place]), int(self._starts[place + 1])
        found = end - start
        idf = np.float32(math.log(1 + (self._count - found + 0.5) / (found + 0.5)))
        weight = idf * np.float32(times)
        best = float(weight - weight / self._best[place])
        return _List(self._docs[start:end], self._codes[start:end], self._impacts, weight, best)

    def _candidates(self, lists: list[_List], k: int) -> _Scored:
        """Numbers of documents, ascending, among which the k best are; and the score of each.

        Documents are scored term by term, the weightiest first (MaxScore: Turtle & Flood 1995). Once what the
        remaining terms can add is less than the k-th best score so far, documents without any of the terms
        so far are out, and the remaining terms are looked up for those that are still in.
        """
        lists = sorted(lists, key=lambda found: -found.best)
        rest = [*itertools.accumulate((found.best for found in reversed(lists)), initial=0.0)][::-1]
        if _SPARSE * sum(len(found.docs) for found in lists) < len(self):
            return _merged(lists, rest, k)
        return self._blocks(lists, rest, k)

    def _blocks(self, lists: list[_List], rest: list[float], k: int) -> _Scored:
        """Candidates of a block of documents at a time, which stays in the processor's cache."""
        edges = self._edges
        if len(edges) == 2:
            cuts = [[0, len(found.docs)] for found in lists]
        else:
            cuts = [np.searchsorted(found.docs, edges.astype(np.uint32)).tolist() for found in lists]
        room = np.empty(min(_BLOCK, len(self)))
        numbers, scores = [], []
        best = np.zeros(0)  # the k best scores so far
        least = 0.0  # the lowest of them, a little lowered because scores are compared in single precision
        for block, edge in enumerate(edges[:-1]):
            parts = [found.part(cut[block], cut[block + 1]) for found, cut in zip(lists, cuts, strict=True)]
            # Exact in any order: sums of a few single-precision numbers of like size fit double precision.
            sums = room[: edges[block + 1] - edge]
            sums[:] = 0.0
            needed = next((i for i in range(len(lists)) if rest[i] < least), len(lists))
            i = 0
            while i < len(lists) and (i < needed or len(parts[i].docs) < 2 * len(parts[0].docs)):
                sums[parts[i].docs.astype(np.intp) - edge] += parts[i].scores()
                i += 1
            threshold = least - rest[i]
            if needed == 1:  # every candidate has the first term
                places = parts[0].docs.astype(np.intp) - edge
                places = places[sums[places] >= threshold]
            else:
                places = np.flatnonzero(sums >= threshold if threshold > 0 else sums)
            found, partial = (places + edge).astype(np.uint32), sums[places]
            for j in range(i, len(lists)):
                if not len(found):
                    break
                partial += parts[j].scores_of(found)
                still = partial >= least - rest[j + 1]
                partial, found = partial[still], found[still]
            if len(found):
                numbers.append(found)
                scores.append(partial)
                best = np.concatenate((best, partial))
                if len(best) >= k:
                    best = np.partition(best, -k)[-k:]
                    least = float(best[0]) * _SLACK
        return np.concatenate(numbers), np.concatenate(scores).astype(np.float32)


_Scored = tuple[NDArray[np.uint32], NDArray[np.float32]]
"""Numbers of documents, ascending, and the score of each."""


class _List(NamedTuple):
    """The documents with one term of a query, and what the term adds to the score of each."""

    docs: NDArray[np.uint32]
    codes: Array
    impacts: NDArray[np.float32]
    weight: np.float32
    best: float
    """The highest score in the list."""

    def part(self, start: int, end: int) -> _List:
        """A part of the list, by place."""
        return _List(self.docs[start:end], self.codes[start:end], self.impacts, self.weight, self.best)

    def scores(self) -> NDArray[np.float32]:
        """The term's score for each document of the list."""
        return self.weight - self.weight / self.impacts[self.codes]

    def scores_of(self, numbers: NDArray[np.uint32]) -> NDArray[np.float32]:
        """The term's score for each of the documents; 0 where it is not in the list."""
        if not len(self.docs):
            return np.zeros(len(numbers), np.float32)
        places = np.searchsorted(self.docs, numbers)
        places[places == len(self.docs)] = 0
        scores = self.weight - self.weight / self.impacts[self.codes[places]]
        scores[self.docs[places] != numbers] = 0.0
        return scores


def _merged(lists: list[_List], rest: list[float], k: int) -> _Scored:
    """Candidates from lists merged one by one: takes no time for documents that are in none of them."""
    numbers, sums = lists[0].docs, lists[0].scores().astype(np.float64)
    least, i = _kth(sums, k), 1
    while i < len(lists) and rest[i] >= least * _SLACK:
        end, more = i + 1, len(lists[i].docs)
        while end < len(lists) and _SHORT * more < len(numbers):
            end, more = end + 1, more + len(lists[end].docs)
        joined = np.concatenate([numbers, *(found.docs for found in lists[i:end])])
        order = np.argsort(joined, kind="stable")  # sorted runs, most often two: merged in linear time
        joined = joined[order]
        first = np.flatnonzero(np.concatenate(([True], joined[1:] != joined[:-1])))
        scores: list[Array] = [sums, *(found.scores() for found in lists[i:end])]
        sums = np.add.reduceat(np.concatenate(scores)[order], first)
        numbers = joined[first]
        least, i = max(least, _kth(sums, k)), end
    enough = sums >= least * _SLACK - rest[i]
    numbers, sums = numbers[enough], sums[enough]
    for j in range(i, len(lists)):
        sums += lists[j].scores_of(numbers)
        least = max(least, _kth(sums, k))
        still = sums >= least * _SLACK - rest[j + 1]
        numbers, sums = numbers[still], sums[still]
    return numbers, sums.astype(np.float32)


def _kth(values: NDArray[np.float64], k: int) -> float:
    """A lower bound of the k-th largest value, near it; 0 where there are not so many."""
    if len(values) > 4 * k * _STRIDE:
        values = values[: len(values) // _STRIDE * _STRIDE].reshape(-1, _STRIDE).max(axis=1)
    return float(np.partition(values, -k)[-k]) if len(values) >= k else 0.0


class _Texts:
    """Texts that lie end to end in one array of UTF-8 bytes."""

    def __init__(self, data: Array, ends: Array) -> None:
        self._data, self._ends = data.data, ends.data  # quicker than arrays, item by item

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return str(self._data[start : self._ends[index]], "utf-8", "surrogatepass")


# Building: documents are inverted in runs, each a folder of its own; then the runs are merged.

_ARRAYS: dict[str, type] = {
    "ids": np.uint8, "id_ends": np.uint64,  # the documents' ids
    "order": np.uint32,  # the documents by id, sorted by code point
    "rank": np.uint32,  # place of each document in `order`
    "terms": np.uint8, "term_ends": np.uint64,  # the terms, sorted by code point
    "starts": np.uint64,  # where each term's documents begin in `docs` and `codes`, and where the last end
    "docs": np.uint32,  # numbers of the documents with the term, ascending
    "codes": np.uint16,  # for each, a place in `impacts`; 32 bits where that has more than 2**16 places
    "impacts": np.float32,  # 1 + tf / (k1 (1 - b + b length / mean length)), of each (tf, length) there is
    "best": np.float32,  # each term's highest impact
    "count": np.uint64,  # documents that have a term at all
}  # fmt: skip


class _Run(NamedTuple):
    """A batch of documents, inverted."""

    ids: list[str]
    terms: list[str]
    """Sorted."""
    found: Array
    """Number of documents with each term."""
    docs: Array
    """For each term in turn, which documents of the run have it."""
    times: Array
    """How often the term stands in each of these."""
    lengths: Array
    """Tokens in each document."""

    def save(self, path: Path) -> None:
        """Write the run into a folder, whole or not at all."""
        made = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for name, value in self._asdict().items():
            if isinstance(value, list):
                (made / f"{name}.json").write_text(json.dumps(value))
            else:
                np.save(made / name, value)
        try:
            made.rename(path)
        except OSError:  # another process has built the same run
            shutil.rmtree(made, ignore_errors=True)

    @classmethod
    def open(cls, path: Path) -> _Run:
        """A run that was saved, its long arrays memory-mapped."""
        ids, words = (json.loads((path / f"{name}.json").read_bytes()) for name in ("ids", "terms"))
        return cls(ids, words, *(np.load(path / f"{name}.npy", mmap_mode="r") for name in cls._fields[2:]))


def _runs(documents: Iterable[tuple[str, str]], batch: int) -> Iterator[_Run]:
    """Documents inverted, so many that they have at least `batch` tokens at a time."""
    ids: list[str] = []
    vocabulary: dict[str, int] = {}
    tokens, lengths = array("I"), array("I")
    for name, text in documents:
        words = terms(text)
        ids.append(name)
        lengths.append(len(words))
        tokens.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words])
        if len(tokens) >= batch:
            yield _invert(ids, vocabulary, tokens, lengths)
            ids, vocabulary, tokens, lengths = [], {}, array("I"), array("I")
    if ids:
        yield _invert(ids, vocabulary, tokens, lengths)


def _invert(ids: list[str], vocabulary: dict[str, int], tokens: Any, lengths: Any) -> _Run:
    words = sorted(vocabulary)
    place = np.empty(len(words), np.int64)
    place[[vocabulary[word] for word in words]] = np.arange(len(words))
    sizes = np.frombuffer(lengths, np.uint32)
    numbers = np.repeat(np.arange(len(ids)), sizes)
    pairs = place[np.frombuffer(tokens, np.uint32)] * len(ids) + numbers if len(tokens) else numbers
    pairs, times = np.unique(pairs, return_counts=True)
    found = np.bincount(pairs // len(ids), minlength=len(words))
    return _Run(ids, words, found, (pairs % len(ids)).astype(np.uint32), times.astype(np.uint32), sizes)


class _Memory:
    """Collects arrays, block by block."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[Array]] = {}

    def add(self, name: str, block: Array) -> None:
        self.blocks.setdefault(name, []).append(block)


class _Files:
    """Writes arrays, block by block, each into a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {name: open(folder / name, "wb") for name in _ARRAYS}

    def add(self, name: str, block: Array) -> None:
        self.files[name].write(np.ascontiguousarray(block).data)

    def finish(self, source: str) -> None:
        for file in self.files.values():
            file.close()
        about = {"format": FORMAT, "source": source, "sizes": data.sizes(self.folder)}
        (self.folder / "index.json").write_text(json.dumps(about))


def _code_type(impacts: Array) -> type:
    return np.uint16 if len(impacts) <= 1 << 16 else np.uint32


def _map(path: Path, dtype: type) -> Array:
    if not path.stat().st_size:  # which cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)


def _merge(runs: list[_Run], out: _Memory | _Files) -> None:
    """Put runs together into one index."""
    ids = [name for run in runs for name in run.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for a, b in zip(order, order[1:], strict=False):
        if ids[a] == ids[b]:
            raise CorruptData(f"documents {a} and {b} have the same id, {ids[a]!r}")
    rank = np.empty(len(ids), np.uint32)
    rank[order] = np.arange(len(ids))
    out.add("rank", rank)
    out.add("order", np.array(order, np.uint32))
    _add_texts(out, "ids", "id_ends", ids)

    vocabulary = sorted(set().union(*(run.terms for run in runs)))
    _add_texts(out, "terms", "term_ends", vocabulary)
    place = {term: i for i, term in enumerate(vocabulary)}
    # For each run: the global places of its terms, and where their documents begin.
    places = [np.array([place[term] for term in run.terms], np.int64) for run in runs]
    starts = [np.concatenate(([0], np.cumsum(run.found))) for run in runs]
    first = np.cumsum([0, *(len(run.ids) for run in runs)])
    found = np.zeros(len(vocabulary), np.int64)
    for run, where in zip(runs, places, strict=True):
        found[where] += run.found
    ends = np.cumsum(found)
    out.add("starts", np.concatenate(([0], ends)).astype(np.uint64))

    lengths = np.concatenate([run.lengths for run in runs]) if runs else np.zeros(0, np.uint32)
    sizes = _length_byte(lengths)
    pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *map(np.unique, _pairs(runs, sizes, first))]))
    count = int(np.count_nonzero(lengths))
    impacts = _impacts(pairs, np.float32(int(lengths.sum(dtype=np.int64)) / max(count, 1)))
    out.add("impacts", impacts)
    out.add("count", np.array([count], np.uint64))

    low = 0
    while low < len(vocabulary):  # a range of terms at a time, of about _MERGED postings
        done = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + _MERGED, "right")))
        docs = np.empty(int(ends[high - 1]) - done, np.uint32)
        codes = np.empty(len(docs), np.uint32)
        next_free = ends[low:high] - found[low:high] - done
        for r, run in enumerate(runs):
            a, b = np.searchsorted(places[r], [low, high])
            where = places[r][a:b] - low
            begin, end = int(starts[r][a]), int(starts[r][b])
            shift = np.repeat(next_free[where] - (starts[r][a:b] - begin), run.found[a:b])
            target = np.arange(end - begin) + shift
            numbers = run.docs[begin:end] + np.uint32(first[r])
            docs[target] = numbers
            codes[target] = np.searchsorted(
                pairs, run.times[begin:end].astype(np.int64) << 8 | sizes[numbers]
            )
            next_free[where] += run.found[a:b]
        out.add("docs", docs)
        out.add("codes", codes.astype(_code_type(impacts)))
        out.add("best", np.maximum.reduceat(impacts[codes], ends[low:high] - found[low:high] - done))
        low = high
    if not vocabulary:
        for name in ("docs", "codes", "best"):
            out.add(name, np.zeros(0, _ARRAYS[name]))


def _pairs(runs: list[_Run], sizes: Array, first: Array) -> Iterator[Array]:
    """(times, length byte) of every posting, as one number, a block at a time."""
    for r, run in enumerate(runs):
        for low in range(0, len(run.docs), _MERGED):
            block = slice(low, low + _MERGED)
            yield run.times[block].astype(np.int64) << 8 | sizes[run.docs[block] + np.uint32(first[r])]


def _add_texts(out: _Memory | _Files, data: str, ends: str, texts: Sequence[str]) -> None:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    out.add(data, np.frombuffer(b"".join(encoded), np.uint8))
    out.add(ends, np.cumsum([len(text) for text in encoded], dtype=np.uint64))


def _impacts(pairs: Array, mean: Any) -> Array:
    """BM25's denominator for each (times, length byte), in the operations and precision of Lucene."""
    k1, b, one, lengths = np.float32(K1), np.float32(B), np.float32(1), _LENGTHS.astype(np.float32)
    norm = one / (k1 * ((one - b) + b * lengths / mean)) if mean else np.ones(256, np.float32)
    return one + (pairs >> 8).astype(np.float32) * norm[pairs & 255]  # type: ignore[no-any-return]


def _length_of(byte: int) -> int:
    """The length that a byte stands for: exact up to 40, then to four significant bits beyond 24."""
    if byte < 24:
        return byte
    bits, shift = (byte - 24) & 7, ((byte - 24) >> 3) - 1
    return 24 + (bits if shift < 0 else (bits | 8) << shift)


_LENGTHS = np.array([_length_of(byte) for byte in range(256)], np.int64)


def _length_byte(lengths: Array) -> Array:
    """The byte that Lucene keeps of a document's length: the largest that stands for no more."""
    return np.searchsorted(_LENGTHS, lengths, "right") - 1

"""Where a search looks: a question's own paragraphs, or a large corpus in memory-mapped files.

A page is all paragraphs of one title. A title is matched without regard to case, underscores, runs of spaces,
and HTML's escapes, which HotpotQA's titles have and its texts and questions have not; an exact match goes
first. What matches none is ranked by BM25 over titles and texts (`bm25`).
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import mmap
import os
import shutil
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from prosegym.envs import bm25, data
from prosegym.envs.core import digest
from prosegym.envs.download import file_digest
from prosegym.envs.errors import CorruptData
from prosegym.envs.home import alone, writable
from prosegym.envs.questions.data import Split, open_split
from prosegym.envs.questions.ranking import Ranking, encode
from prosegym.envs.questions.records import Paragraph, Question, read_corpus

FORMAT = 2
"""Version of a built corpus's files; one of another version is built anew."""

MAX_KEPT = 256
"""Queries whose result is kept, of one question."""

PER_TITLE = 4
"""Paragraphs ranked at first for each title wanted: several of the best may be of one page."""


class Page(NamedTuple):
    """A page of an encyclopaedia."""

    title: str
    paragraphs: tuple[str, ...]
    ambiguous: bool = False
    """Whether the wiki it comes from has it as a list of what the title may mean."""


class Corpus(Protocol):
    """Where a search looks."""

    def page(self, title: str) -> Page | None:
        """The page of that title."""
        ...

    def similar(self, query: str, count: int) -> list[str]:
        """Titles of the pages that match the query best, best first; fewer where fewer match at all."""
        ...

    def nearest(self, query: str) -> Page | None:
        """The page of that title, or else the first of the similar ones; None where there is none."""
        return self.page(query) or next(map(self.page, self.similar(query, 1)), None)


def title_key(title: str) -> str:
    """What two spellings of a title have in common."""
    if "&" in title:
        title = html.unescape(title)
    if not title.isascii():
        title = unicodedata.normalize("NFC", title)
    return " ".join(title.replace("_", " ").split()).casefold()


# A question's own paragraphs.


class OwnParagraphs(Corpus):
    """The paragraphs that come with a question; searched in memory."""

    def __init__(self, paragraphs: Sequence[Paragraph], ranking: Callable[[], bytes] | None = None) -> None:
        """`ranking` gives what `ranking.encode` made of the paragraphs, where that is kept."""
        self._paragraphs = paragraphs
        self._encoded = ranking or functools.partial(encode, paragraphs)
        texts: dict[str, list[str]] = {}
        for paragraph in self._paragraphs:
            texts.setdefault(paragraph.title, []).append(paragraph.text)
        self._exact = {title: Page(title, tuple(parts)) for title, parts in texts.items()}
        self._found: dict[str, list[str]] = {}

    @functools.cached_property
    def _pages(self) -> dict[str, Page]:
        """Every page by what its title's spellings have in common; the first where several have the same."""
        return {title_key(title): page for title, page in reversed(self._exact.items())}

    @functools.cached_property
    def _ranking(self) -> Ranking:
        return Ranking(self._encoded())

    def page(self, title: str) -> Page | None:
        """The page of that title."""
        return self._exact.get(title) or self._pages.get(title_key(title))

    def similar(self, query: str, count: int) -> list[str]:
        """Titles of the pages that match the query best."""
        # Kept, because the attempts at one question tend to search for the same things.
        found = self._found.get(query)
        if found is None:
            hits = self._ranking.search(query)
            found = list(dict.fromkeys(self._paragraphs[number].title for number in hits))
            if len(self._found) < MAX_KEPT:
                self._found[query] = found
        return found[:count]

    def nearest(self, query: str) -> Page | None:
        """The page of that title, the best by BM25, or else the one whose title has most of its letters."""
        if page := super().nearest(query):
            return page
        wanted = _trigrams(query)
        return max(self._exact.values(), key=lambda page: _overlap(wanted, _trigrams(page.title)))


def _trigrams(text: str) -> set[str]:
    padded = f"  {title_key(text)} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def _overlap(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


@functools.lru_cache(maxsize=512)
def of_question(split: Split, question_id: str) -> tuple[Question, OwnParagraphs]:
    """A question, and the corpus of its own paragraphs."""
    question = split.question(question_id)
    return question, OwnParagraphs(question.paragraphs, functools.partial(split.ranking, question_id))


# Large corpora: a folder of memory-mapped files.


class FileCorpus(Corpus):
    """A corpus in a folder that `build` made; opening it reads next to nothing.

    `texts` holds each paragraph's title, a line break, and its text; `ends` where each ends; `keys` the
    hashes of all title keys, sorted, and `places` the paragraphs they belong to; `bm25` the index.
    """

    def __init__(self, folder: Path, sha256: str) -> None:
        """Open the corpus with that digest.

        Raises:
            CorruptData: it is not there, of another version, or cut.
        """
        self.sha256 = sha256
        self._folder = folder
        try:
            about = json.loads((folder / "corpus.json").read_bytes())
            self._ends = np.memmap(folder / "ends", np.uint64, "r")
            self._keys = np.memmap(folder / "keys", np.uint64, "r")
            self._places = np.memmap(folder / "places", np.uint32, "r")
            with open(folder / "texts", "rb") as file:
                self._texts = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CorruptData(
                f"no corpus at {folder} ({error}); remove the folder to build it again"
            ) from error
        right = {"format": FORMAT, "sha256": sha256, "paragraphs": len(self._ends)}
        if about != right or len(self._texts) != int(self._ends[-1]):
            raise CorruptData(f"{folder} holds another corpus ({about}); remove the folder to build it again")

    def __len__(self) -> int:
        return len(self._ends)

    @functools.cached_property
    def _index(self) -> bm25.Index:
        try:
            return bm25.Index.open(self._folder / "bm25", source=self.sha256)
        except CorruptData as error:
            raise CorruptData(f"{error}: remove {self._folder} for that") from error

    def _paragraph(self, number: int) -> tuple[str, str]:
        start = int(self._ends[number - 1]) if number else 0
        title, _, text = self._texts[start : int(self._ends[number])].decode("utf-8").partition("\n")
        return title, text

    def page(self, title: str) -> Page | None:
        """The page of that title."""
        key = title_key(title)
        hashed = np.uint64(_hash(key))
        low = int(np.searchsorted(self._keys, hashed))
        found: dict[str, list[str]] = {}
        while low < len(self._keys) and self._keys[low] == hashed:
            other, text = self._paragraph(int(self._places[low]))
            if title_key(other) == key:
                found.setdefault(other, []).append(text)
            low += 1
        if not found:
            return None
        best = title if title in found else next(iter(found))
        return Page(best, tuple(found[best]))

    def similar(self, query: str, count: int) -> list[str]:
        """Titles of the pages that match the query best."""
        ranked = count * PER_TITLE
        while True:
            hits = self._index.search(query, ranked)
            found = list(dict.fromkeys(self._paragraph(hit.number)[0] for hit in hits))[:count]
            if len(found) == count or len(hits) < ranked:
                return found
            ranked *= 2


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "little")


def build(paragraphs: Iterable[Paragraph], folder: Path, *, sha256: str) -> FileCorpus:
    """Write paragraphs as a corpus into a folder, and open it; one that is there already is kept.

    A paragraph with the title and text of an earlier one is left out. Interrupted while indexing, which
    takes nearly all of the time, the same call goes on where it was; the folder appears when it is complete.

    Args:
        paragraphs: read once; two hashes and a place of each are kept in memory.
        folder: where the corpus is to lie.
        sha256: the digest of what the paragraphs come from.

    Raises:
        CorruptData: there is no paragraph.
    """
    if folder.is_dir():
        try:
            return FileCorpus(folder, sha256)
        except CorruptData:
            shutil.rmtree(folder)
    stage = folder.with_name(f"{folder.name}.{FORMAT}-{sha256[:32]}")
    if not stage.is_dir():
        _write_texts(paragraphs, stage)
    count = (stage / "ends").stat().st_size // 8
    bm25.build(_documents(stage), stage / "bm25", source=sha256, total=count)
    about = {"format": FORMAT, "sha256": sha256, "paragraphs": count}
    (stage / "corpus.json").write_text(json.dumps(about))
    try:
        stage.rename(folder)
    except OSError:  # another process was faster; its corpus is the same
        shutil.rmtree(stage, ignore_errors=True)
    return FileCorpus(folder, sha256)


def _write_texts(paragraphs: Iterable[Paragraph], stage: Path) -> None:
    """Everything but the index, whole or not at all."""
    work = stage.with_name(f"{stage.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if not _write_paragraphs(paragraphs, work):
            raise CorruptData(f"the corpus for {stage.parent} has no paragraphs")
        if not stage.is_dir():
            work.rename(stage)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_paragraphs(paragraphs: Iterable[Paragraph], folder: Path) -> int:
    keys, ends, end = array("Q"), array("Q"), 0
    seen: set[int] = set()
    with open(folder / "texts", "wb", buffering=1 << 20) as file:
        for paragraph in paragraphs:
            title = " ".join(paragraph.title.split("\n"))
            raw = f"{title}\n{paragraph.text}".encode("utf-8", "replace")
            mark = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
            if mark in seen:
                continue
            seen.add(mark)
            end += file.write(raw)
            ends.append(end)
            keys.append(_hash(title_key(title)))
    hashes = np.frombuffer(keys, np.uint64)
    order = np.argsort(hashes, kind="stable")
    np.frombuffer(ends, np.uint64).tofile(folder / "ends")
    hashes[order].tofile(folder / "keys")
    order.astype(np.uint32).tofile(folder / "places")
    return len(ends)


def _documents(folder: Path) -> Iterator[tuple[str, str]]:
    """(number, title and text) of every paragraph; numbers have leading zeros, for ties go by text."""
    ends = np.fromfile(folder / "ends", np.uint64)
    start = 0
    with open(folder / "texts", "rb") as file:
        for number, end in enumerate(ends.tolist()):
            yield f"{number:08d}", file.read(end - start).decode("utf-8")
            start = end


def of_file(path: Path) -> FileCorpus:
    """The corpus of a file of paragraphs (see `records.read_corpus`), built at its first use.

    Raises:
        CorruptData: the file holds no paragraphs, or a malformed one, named by line and field.
    """
    stat = path.stat()
    return _of_file(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _of_file(path: Path, stamp: int, size: int) -> FileCorpus:
    sha256 = file_digest(path)
    return _built(read_corpus(path), sha256)


def of_split(name: str, split: str) -> FileCorpus:
    """The corpus of all paragraphs of an installed split, each once, built at its first use."""
    return _of_split(name, split, (data.folder(name) / f"{split}.index").stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _of_split(name: str, split: str, stamp: int) -> FileCorpus:
    questions = open_split(name, split)
    sha256 = digest(name, *(row.sha256 for row in questions.rows))
    paragraphs = (paragraph for question in questions for paragraph in question.paragraphs)
    return _built(paragraphs, sha256)


def _built(paragraphs: Iterable[Paragraph], sha256: str) -> FileCorpus:
    """The corpus of that digest on this machine, built by the first process that wants it."""
    folder = writable("corpora")
    with alone(folder / f"{sha256[:32]}.lock"):
        return build(paragraphs, folder / sha256[:32], sha256=sha256)

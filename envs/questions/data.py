"""The official question sets: where they come from, how they are installed, how they are read back.

An installed set is a folder: `SPLIT.jsonl` holds the questions in the own form of `records`, sorted by id,
`SPLIT.ranks` what `ranking` made of each one's paragraphs, and `SPLIT.index` each one's id, type, digest and
places in the two, so that a split of 90,000 opens in a moment.
"""

from __future__ import annotations

import functools
import logging
import mmap
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from prosegym.envs import data
from prosegym.envs.core import digest
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError
from prosegym.envs.home import writable
from prosegym.envs.questions.panels import REACT_DEV_SIZE, REFLEXION_ROWS, react_rows
from prosegym.envs.questions.ranking import encode
from prosegym.envs.questions.records import (
    UNANSWERABLE,
    Aliases,
    Question,
    raw_records,
    read_aliases,
    read_questions,
)

SPLITS = ("train", "dev")
HELD_OUT = 5
"""Where a selection has no training file, every fifth question or so is set aside for training."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One question of an installed split."""

    id: str
    type: str
    sha256: str
    line: tuple[int, int]
    """Where its line begins and ends."""
    ranks: tuple[int, int]
    """Where its paragraphs' ranking begins and ends."""


class FileReport(msgspec.Struct, frozen=True):
    """What became of one question file."""

    name: str
    split: str
    questions: int
    left_out: int
    first_reason: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What an installed set was made of."""

    name: str
    files: list[FileReport]
    questions: dict[str, int]
    held_out: bool
    """Whether `train` was set aside from files that are not the official training set."""
    aliases: int
    """Answers for which an alias file gave other right answers (2WikiMultihopQA's `id_aliases.json`)."""
    react500: list[str] = []
    """Ids of ReAct's 500 questions, where the official development set was installed whole."""


class Split:
    """An installed split."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        try:
            self.rows = msgspec.msgpack.decode((folder / f"{name}.index").read_bytes(), type=list[Row])
        except msgspec.DecodeError as error:
            raise _outdated(folder) from error
        self._at = {row.id: row for row in self.rows}
        self._lines = _map(folder / f"{name}.jsonl")
        self._ranks = _map(folder / f"{name}.ranks")

    def __contains__(self, question_id: str) -> bool:
        return question_id in self._at

    def row(self, question_id: str) -> Row:
        """What is known of the question without reading it."""
        return self._at[question_id]

    @functools.cached_property
    def sha256(self) -> str:
        """Digest of its questions, in order."""
        return digest(*(row.sha256 for row in self.rows))

    def question(self, question_id: str) -> Question:
        """The question of that id."""
        return msgspec.json.decode(self._lines[slice(*self._at[question_id].line)], type=Question)

    def ranking(self, question_id: str) -> bytes:
        """What `ranking.encode` made of its paragraphs."""
        return self._ranks[slice(*self._at[question_id].ranks)]

    def __iter__(self) -> Iterator[Question]:
        return (self.question(row.id) for row in self.rows)


def _map(path: Path) -> bytes | mmap.mmap:
    if not path.stat().st_size:
        return b""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def open_split(name: str, split: str) -> Split:
    """A split of an installed set, opened once a process.

    Raises:
        DataMissing: the set is not installed.
        CorruptData: it is damaged, or was installed by another version.
    """
    folder = data.folder(name)
    try:
        stamp = (folder / f"{split}.index").stat().st_mtime_ns
    except OSError as error:
        raise data.missing(name) from error
    return _open(folder, split, stamp)


@functools.lru_cache(maxsize=8)
def _open(folder: Path, split: str, stamp: int) -> Split:
    return Split(folder, split)


def read_manifest(name: str) -> Manifest:
    """What an installed set was made of."""
    try:
        raw = (data.folder(name) / "manifest.json").read_bytes()
    except OSError as error:
        raise data.missing(name) from error
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise _outdated(data.folder(name)) from error


def _outdated(folder: Path) -> CorruptData:
    return CorruptData(
        f"{folder} is damaged or of another version; run `prosegym data get {folder.name}` again"
    )


@dataclass(frozen=True)
class QuestionSet:
    """An official set of questions with paragraphs."""

    name: str
    about: str
    urls: tuple[tuple[str, str], ...]
    """(address, file name) of what its authors publish."""
    last: str = "manifest.json"

    def get(self, source: Path | None = None) -> Path:
        """Install the set, from `source` (a file, folder or archive) or by download.

        A file is told by its content. Training questions are those of files named after it ("train");
        all others are `dev`; in a folder or archive, files named "test" are left out, since the official
        ones have no answers, and so are MuSiQue-Full beside MuSiQue-Ans and HotpotQA's fullwiki file beside
        the distractor one. Questions without an answer or without their paragraphs are left out; a warning
        says so, `manifest.json` counts them. Where no training file is given, about one in five dev questions
        (by a hash of the id, and none of Reflexion's 100) becomes `train`, and the manifest says so.

        Raises:
            CorruptData: a malformed record, named by file, line and field.
            ProsegymError: nothing of this set is there, or it cannot be downloaded.
        """
        if source is None:
            return self._download()
        if not source.exists():
            raise ProsegymError(
                f"{source} does not exist; give the file or folder that holds the {self.name} data"
            )
        target = data.folder(self.name)
        with tempfile.TemporaryDirectory(dir=writable("data"), prefix=f".{self.name}-") as work:
            unpacked, made = Path(work, "unpacked"), Path(work, "made")
            unpacked.mkdir()
            made.mkdir()
            self._install(_question_files(source, unpacked), made, alone=source.is_file())
            if target.exists():
                target.rename(Path(work, "old"))
            made.rename(target)
        return target

    def _download(self) -> Path:
        from prosegym.envs.download import fetch

        folder = writable("downloads", self.name)
        for url, file_name in self.urls:
            path = fetch(url, folder / file_name)
            with open(path, "rb") as file:
                is_page = file.read(64).lstrip().startswith(b"<")
            if is_page:  # a host that is busy, or wants a consent, sends a page in the file's place
                path.unlink()
                raise ProsegymError(
                    f"{url} sent a web page in place of {file_name}; download it by hand and use --from"
                )
        try:
            return self.get(folder)
        except CorruptData:
            shutil.rmtree(folder)  # the next call would take it for the download
            raise

    def _install(self, files: list[Path], made: Path, *, alone: bool) -> None:
        chosen, aliases = self._chosen(files, alone=alone)
        questions: dict[str, Question] = {}
        split_of: dict[str, str] = {}
        reports, react500 = [], []
        for path in chosen:
            split = "train" if "train" in path.name.lower() else "dev"
            kept, report = _read(path, split, aliases)
            reports.append(report)
            for question in kept:
                known = questions.setdefault(question.id, question)
                if known is not question and known.sha256 != question.sha256:
                    raise CorruptData(
                        f"{path.name}: {question.id!r} differs from another file's; give one with --from"
                    )
                split_of.setdefault(question.id, split)
            if self.name == "hotpotqa" and split == "dev" and len(kept) == REACT_DEV_SIZE:
                react500 = _react500(kept)
        if not questions:
            raise ProsegymError(f"none of the {self.name} questions can be played: {reports[0].first_reason}")
        held_out = "train" not in split_of.values()
        if held_out:
            split_of = {question_id: "train" if set_aside(question_id) else "dev" for question_id in split_of}
        counts = {}
        for split in SPLITS:
            ids = sorted(question_id for question_id in questions if split_of[question_id] == split)
            _write_split(made, split, [questions[question_id] for question_id in ids])
            counts[split] = len(ids)
        manifest = Manifest(self.name, reports, counts, held_out, len(aliases), react500)
        (made / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")

    def _chosen(self, files: list[Path], *, alone: bool) -> tuple[list[Path], Aliases]:
        """The files that hold questions of this set, and the aliases that others give."""
        aliases: Aliases = {}
        chosen, unnamed = [], []
        for path in files:
            kind = kind_of(path)
            if kind == "aliases":
                aliases = {**aliases, **read_aliases(path)}
            elif kind == self.name or (kind == "own" and (alone or self.name in path.name.lower())):
                chosen.append(path)
            elif kind == "own":
                unnamed.append(path.name)
            elif alone and len(files) == 1:
                is_of = f"is of the {kind} set" if kind else "holds no questions that can be told"
                raise ProsegymError(
                    f"{path.name} {is_of}; --from takes a file, folder or archive of {self.name}"
                )
        for kept, other in (("_ans_", "_full_"), ("_distractor_", "_fullwiki_")):  # the same questions
            if any(kept in path.name for path in chosen):
                chosen = [path for path in chosen if other not in path.name]
        if not chosen:
            mend = "give the official files, or JSON Lines"
            if unnamed:
                mend = f"{unnamed[0]} names no set: give the file itself, or put {self.name} in its name"
            raise ProsegymError(f"no {self.name} questions are there; {mend}")
        return chosen, aliases


def _read(path: Path, split: str, aliases: Aliases) -> tuple[list[Question], FileReport]:
    """The questions of a file that can be played; what is left out is reported, and warned of."""
    kept, reasons = [], []
    for one in read_questions(path, aliases):
        if isinstance(one, Question):
            kept.append(one)
        else:
            reasons.append(str(one))
    if reasons:
        logging.getLogger("prosegym").warning(
            "%s: %d of %d questions are left out; the first: %s",
            path.name, len(reasons), len(reasons) + len(kept), reasons[0],
        )  # fmt: skip
    return kept, FileReport(path.name, split, len(kept), len(reasons), reasons[0] if reasons else None)


def set_aside(question_id: str) -> bool:
    """Whether a question trains where no training file is given; never one of Reflexion's 100."""
    shared = question_id.removesuffix(UNANSWERABLE)  # MuSiQue-Full asks everything twice
    return question_id not in REFLEXION_ROWS.values() and int(digest(shared)[:8], 16) % HELD_OUT == 0


def _react500(dev: list[Question]) -> list[str]:
    """ReAct's questions, by row of the official file; [] where the file is in another order."""
    if any(dev[row].id != question_id for row, question_id in REFLEXION_ROWS.items()):
        return []
    return [dev[row].id for row in react_rows()]


def _write_split(folder: Path, split: str, questions: list[Question]) -> None:
    from tqdm import tqdm

    rows, line_end, ranks_end = [], 0, 0
    with open(folder / f"{split}.jsonl", "wb") as lines, open(folder / f"{split}.ranks", "wb") as ranks:
        for question in tqdm(questions, f"indexing {split}", delay=2, disable=None):
            line, line_end = line_end, line_end + lines.write(msgspec.json.encode(question) + b"\n")
            rank, ranks_end = ranks_end, ranks_end + ranks.write(encode(question.paragraphs))
            rows.append(Row(question.id, question.type, question.sha256, (line, line_end), (rank, ranks_end)))
    (folder / f"{split}.index").write_bytes(msgspec.msgpack.encode(rows))


def kind_of(path: Path) -> str | None:
    """Which set a file is of, by its first record: a set's name, "own", "aliases", or None.

    Raises:
        CorruptData: it cannot be read, or is a pickle.
    """
    try:
        _, raw = next(raw_records(path))
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (StopIteration, *UNREADABLE):
        return None
    if "Q_id" in fields:
        return "aliases"
    if "question" not in fields:
        return None
    if "answers" in fields:
        return "own"
    if "paragraphs" in fields:
        return "musique"
    if "evidences" in fields or "entity_ids" in fields:
        return "2wikimultihopqa"
    return "hotpotqa" if "context" in fields or "supporting_facts" in fields else None


_NAMES = tuple(kind + packed for kind in (".json", ".jsonl") for packed in ("", ".xz", ".gz", ".bz2"))
"""How the name of a file that may hold questions ends."""


def _question_files(source: Path, unpacked: Path) -> list[Path]:
    """The files that may hold questions, sorted by name; archives are unpacked into `unpacked`."""
    if source.is_file():
        if not _unpack(source, unpacked):
            return [source]
    else:
        for archive in sorted(path for path in source.iterdir() if path.is_file()):
            _unpack(archive, unpacked)
    found = [
        path
        for top in dict.fromkeys([source, unpacked])
        if top.is_dir()
        for path in top.rglob("*")
        if path.is_file() and path.name.lower().endswith(_NAMES) and "__MACOSX" not in path.parts
    ]
    return sorted(
        (path for path in found if "test" not in path.name.lower()), key=lambda path: (path.name, path)
    )


def _unpack(path: Path, target: Path) -> bool:
    """Unpack a zip or tar archive's JSON files into `target`; False where it is no archive."""
    try:
        if zipfile.is_zipfile(path) and not path.name.lower().endswith((".npz", ".pt", ".joblib")):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.lower().endswith(_NAMES) and "__MACOSX" not in member.filename:
                        with archive.open(member) as file:
                            _copy(file, target, member.filename)
            return True
        if ".tar" in path.name.lower() or path.name.lower().endswith(".tgz"):
            with tarfile.open(path) as tar:
                for entry in tar:
                    if entry.isfile() and entry.name.lower().endswith(_NAMES):
                        if opened := tar.extractfile(entry):
                            _copy(opened, target, entry.name)
            return True
    except data.DAMAGED as error:
        raise CorruptData(f"cannot unpack {path}: {data.first_line(error)}") from error
    return False


def _copy(file: IO[bytes], target: Path, name: str) -> None:
    """Into a folder of its own: archives of several sets have a `dev.json` for each."""
    folder = target / str(len(list(target.iterdir())))
    folder.mkdir()
    with open(folder / Path(name).name, "wb") as out:
        shutil.copyfileobj(file, out)


hotpotqa = QuestionSet(
    "hotpotqa",
    "HotpotQA, distractor setting (Yang et al., EMNLP 2018), hotpotqa.github.io; CC BY-SA 4.0",
    (
        (
            "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_train_v1.1.json",
            "hotpot_train_v1.1.json",
        ),
        (
            "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
            "hotpot_dev_distractor_v1.json",
        ),
    ),
)
two_wiki = QuestionSet(
    "2wikimultihopqa",
    "2WikiMultihopQA, April 2021 (Ho et al., COLING 2020), github.com/Alab-NII/2wikimultihop; Apache-2.0",
    (("https://www.dropbox.com/s/ms2m13252h6xubs/data_ids_april7.zip?dl=1", "data_ids_april7.zip"),),
)
musique = QuestionSet(
    "musique",
    "MuSiQue-Ans v1.0 (Trivedi et al., TACL 2022), github.com/StonyBrookNLP/musique; CC BY 4.0",
    (
        (
            "https://drive.usercontent.google.com/download?id=1tGdADlNjWFaHLeZZGShh2IRcpO6Lv24h&export=download&confirm=t",
            "musique_v1.0.zip",
        ),
    ),
)

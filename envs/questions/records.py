"""Question files of every form that is about, read into `Question`.

Read: HotpotQA's and 2WikiMultihopQA's official JSON, the column form of Hugging Face's HotpotQA, MuSiQue's
JSON Lines, HippoRAG's variants of these, and this project's own JSON Lines. A form is told by a record's
fields, never by the file's name. Plain, or compressed with xz, gzip or bzip2. Pickles are refused: opening
one can run any code.

The own form, one question a line:

    {"id": "q1", "question": "...?", "answers": ["...", "an alias"], "type": "bridge",
     "supporting": ["title", ...], "paragraphs": [{"title": "...", "text": "..."}, ...]}

`type` may be left out. `supporting` lists, in the order in which they are needed, titles of `paragraphs`.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from prosegym.envs.core import digest
from prosegym.envs.errors import UNREADABLE, CorruptData
from prosegym.envs.questions.metrics import NO_ANSWER

PICKLES = (".pkl", ".pickle", ".joblib", ".npy", ".npz", ".pt")


MAX_PARAGRAPHS = 256
"""Paragraphs that a question can come with; more are a corpus."""


UNANSWERABLE = "/unanswerable"
"""Ends the id of an unanswerable question of MuSiQue-Full, which there has that of its answerable twin."""


class Paragraph(msgspec.Struct, frozen=True):
    """A paragraph of an encyclopaedia, under the title of its page."""

    title: str
    text: str


class Question(msgspec.Struct, frozen=True):
    """A question, what answers it, and the paragraphs that come with it."""

    id: str
    question: str
    answers: tuple[str, ...]
    """The right answer, then its aliases."""
    supporting: tuple[str, ...]
    """Titles of the paragraphs that are needed, in the order in which they are needed."""
    paragraphs: tuple[Paragraph, ...]
    type: str = "question"

    @property
    def sha256(self) -> str:
        """Digest of all of it but the aliases, which 2WikiMultihopQA distributes apart from its questions."""
        return digest(msgspec.json.encode(msgspec.structs.replace(self, answers=self.answers[:1])))


class Skipped(Exception):
    """A record that is well-formed and cannot be played; the text says why."""


Aliases = Mapping[str, Sequence[str]]
"""Other right answers, by the `answer_id` of 2WikiMultihopQA's records (its `id_aliases.json`)."""


def read_questions(path: Path, aliases: Aliases = MappingProxyType({})) -> Iterator[Question | Skipped]:
    """The questions of a file, in its order; in place of one that cannot be played, why.

    Raises:
        CorruptData: the file cannot be read, is a pickle, or has a malformed record, named by line and
            field; or two records have one id.
    """
    seen: dict[str, str] = {}
    for where, raw in raw_records(path):
        try:
            question = parse(raw, aliases)
        except UNREADABLE as error:
            raise CorruptData(f"{where}: {error}") from error
        except Skipped as reason:
            yield reason
            continue
        if question.id in seen:
            raise CorruptData(f"{where}: field `id`: {question.id!r} is that of {seen[question.id]}, too")
        seen[question.id] = where
        yield question


def raw_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each record of a JSON or JSON Lines file, undecoded, and where it is, for messages.

    JSON Lines are read as they come; a JSON array or object is held in memory.

    Raises:
        CorruptData: the file cannot be read, is a pickle, or is neither JSON nor JSON Lines.
    """
    lines = ((number, line) for number, line in enumerate(_lines(path), start=1) if line.strip())
    head = list(itertools.islice(lines, 2))
    start = head[0][1].lstrip()[:1] if head else b""
    if start == b"{" and len(head) == 2 and any(_is_json(line) for _, line in head):
        for number, line in itertools.chain(head, lines):
            yield f"{path.name}:{number}", line
    elif start in (b"[", b"{"):
        blank = b"\n" * (head[0][0] - 1)  # so that lines are counted from the file's first one
        data = blank + b"".join(line for _, line in itertools.chain(head, _rest(lines, head[-1][0])))
        yield from (_array if start == b"[" else _object)(path, data)
    else:
        raise CorruptData(f"{path.name}: neither JSON nor JSON Lines; give a file of questions")


def _rest(lines: Iterator[tuple[int, bytes]], last: int) -> Iterator[tuple[int, bytes]]:
    """The further lines, with the blank ones put back as line breaks."""
    for number, line in lines:
        yield number, b"\n" * (number - last - 1) + line
        last = number


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, decompressed, each with its line break.

    Raises:
        CorruptData: it cannot be read or decompressed, or is a pickle.
    """
    if path.name.lower().endswith(PICKLES):
        raise _pickle(path)
    try:
        with open(path, "rb") as raw:
            magic = raw.read(6)
        opened = next((opened for start, opened in _PACKED.items() if magic.startswith(start)), open)
        with opened(path, "rb") as file:
            first = file.readline()
            # A pickle of protocol 2 or later begins with 0x80 and its protocol; joblib may zlib one.
            if (first[:1] == b"\x80" and first[1:2] <= b"\x08") or first[:2] in _ZLIB:
                raise _pickle(path)
            yield first.removeprefix(b"\xef\xbb\xbf")
            yield from file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise CorruptData(f"cannot read {path}: {error}") from error


_PACKED: dict[bytes, Any] = {b"\xfd7zXZ\x00": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
_ZLIB = (b"\x78\x9c", b"\x78\x01", b"\x78\xda")


def _pickle(path: Path) -> CorruptData:
    return CorruptData(
        f"{path.name}: pickles and joblib files are refused, since opening one can run any code; "
        "save the questions as JSON Lines"
    )


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNREADABLE:
        return False
    return True


def _array(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        rows = msgspec.json.decode(data, type=list[msgspec.Raw])
    except UNREADABLE as error:
        raise CorruptData(f"{path.name}: {error}") from error
    end, counted, line = 0, 0, 1
    for raw in rows:
        row = bytes(raw)
        start = data.index(row, end)
        line += data.count(b"\n", counted, start)
        counted, end = start, start + len(row)
        yield f"{path.name}:{line}", row


def _object(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """One object: a single record, or `{"data": [records]}`."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except UNREADABLE as error:
        raise CorruptData(f"{path.name}: {error}") from error
    if "data" in fields and bytes(fields["data"]).lstrip().startswith(b"["):
        yield from _array(path, bytes(fields["data"]))
    else:
        yield f"{path.name}:1", data


# The forms.


class _Own(msgspec.Struct):
    id: str
    question: str
    answers: list[str]
    supporting: list[str]
    paragraphs: list[Paragraph]
    type: str = "question"


class _Listed(msgspec.Struct):
    """HotpotQA and 2WikiMultihopQA: `context` is a list of [title, [sentence, ...]]."""

    question: str
    answer: str
    supporting_facts: list[tuple[str, int]]
    context: list[tuple[str, list[str]]] = []
    answer_aliases: list[str] = []
    answer_id: str | None = None
    type: str = "question"


class _ColumnFacts(msgspec.Struct):
    title: list[str]


class _ColumnContext(msgspec.Struct):
    title: list[str]
    sentences: list[list[str]]


class _Columns(msgspec.Struct):
    """Hugging Face's HotpotQA: `context` holds a list of titles and a list of lists of sentences."""

    question: str
    answer: str
    supporting_facts: _ColumnFacts
    context: _ColumnContext
    answer_aliases: list[str] = []
    type: str = "question"


class _Hop(msgspec.Struct):
    paragraph_support_idx: int | None = None


class _MuSiQueParagraph(msgspec.Struct):
    title: str
    paragraph_text: str | None = None
    text: str | None = None
    is_supporting: bool = False
    idx: int | None = None


class _MuSiQue(msgspec.Struct):
    question: str
    answer: str | list[str]
    paragraphs: list[_MuSiQueParagraph]
    answer_aliases: list[str] = []
    question_decomposition: list[_Hop] = []
    answerable: bool = True


_T = TypeVar("_T")


def parse(raw: bytes, aliases: Aliases = MappingProxyType({})) -> Question:
    """The question that one JSON object holds, of whichever form.

    Raises:
        msgspec.DecodeError: it is not JSON, or a field is missing or wrong; the message names the field.
        Skipped: it has no answer (a test set), or comes without its paragraphs.
    """
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    key = next((key for key in ("_id", "id") if key in fields), None)
    if key is None:
        raise msgspec.ValidationError("Object missing required field `id`")
    question_id = _field(fields, key, str)
    if not question_id.strip():
        raise msgspec.ValidationError(f"field `{key}` is empty")
    if "answers" in fields:
        made = _from_own(msgspec.json.decode(raw, type=_Own))
    else:
        if "answer" not in fields:
            raise Skipped(f"question {question_id!r} has no answer")
        if "paragraphs" in fields:
            made = _from_musique(question_id, msgspec.json.decode(raw, type=_MuSiQue))
        elif "context" in fields and bytes(fields["context"]).lstrip().startswith(b"{"):
            columns = msgspec.json.decode(raw, type=_Columns)
            context = columns.context
            if len(context.title) != len(context.sentences):
                raise msgspec.ValidationError("`title` and `sentences` differ in length - at `$.context`")
            pages = list(zip(context.title, context.sentences, strict=True))
            titles = columns.supporting_facts.title
            made = _from_listed(question_id, columns, titles, pages)
        else:
            listed = msgspec.json.decode(raw, type=_Listed)
            listed.answer_aliases = [*listed.answer_aliases, *aliases.get(listed.answer_id or "", ())]
            titles = [title for title, _ in listed.supporting_facts]
            made = _from_listed(question_id, listed, titles, listed.context)
    return _checked(made, own="answers" in fields)


def _field(fields: dict[str, msgspec.Raw], key: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(fields[key], type=kind)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{error} - at `$.{key}`") from error


def _from_own(own: _Own) -> Question:
    return Question(
        own.id, own.question, tuple(own.answers), _once(own.supporting), tuple(own.paragraphs), own.type
    )


def _from_listed(
    question_id: str, record: _Listed | _Columns, supporting: list[str], pages: list[tuple[str, list[str]]]
) -> Question:
    paragraphs = tuple(Paragraph(title, join_sentences(sentences)) for title, sentences in pages)
    answers = _once([record.answer, *record.answer_aliases])
    return Question(question_id, record.question, answers, _once(supporting), paragraphs, record.type)


def _from_musique(question_id: str, record: _MuSiQue) -> Question:
    paragraphs = []
    for number, one in enumerate(record.paragraphs):
        text = one.paragraph_text if one.paragraph_text is not None else one.text
        if text is None:
            raise msgspec.ValidationError(
                f"Object missing required field `paragraph_text` - at `$.paragraphs[{number}]`"
            )
        paragraphs.append(Paragraph(one.title, text))
    at = {one.idx if one.idx is not None else n: one.title for n, one in enumerate(record.paragraphs)}
    hops = [at[i] for hop in record.question_decomposition if (i := hop.paragraph_support_idx) in at]
    supporting = _once([*hops, *(one.title for one in record.paragraphs if one.is_supporting)])
    answers = [record.answer] if isinstance(record.answer, str) else record.answer
    kind = question_id.split("__")[0] if question_id[1:4] == "hop" else "question"
    if not record.answerable:
        return Question(
            question_id + UNANSWERABLE, record.question, (NO_ANSWER,), (), tuple(paragraphs), kind
        )
    return Question(
        question_id, record.question, _once([*answers, *record.answer_aliases]), supporting,
        tuple(paragraphs), kind,
    )  # fmt: skip


def join_sentences(sentences: list[str]) -> str:
    """The sentences as one text, with a space where neither side has one.

    HotpotQA's sentences begin with their space; 2WikiMultihopQA's do not.
    """
    text = ""
    for sentence in sentences:
        glued = text and sentence and not text[-1].isspace() and not sentence[0].isspace()
        text += " " + sentence if glued else sentence
    return text


def _once(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _checked(question: Question, own: bool) -> Question:
    if not question.question.strip():
        raise msgspec.ValidationError("field `question` is empty")
    if not question.answers or not all(answer.strip() for answer in question.answers):
        raise msgspec.ValidationError(f"field `{'answers' if own else 'answer'}` is empty")
    if not question.paragraphs:
        raise Skipped(f"question {question.id!r} comes without paragraphs")
    if len(question.paragraphs) > MAX_PARAGRAPHS:
        raise msgspec.ValidationError(
            f"more than {MAX_PARAGRAPHS} paragraphs; give them as a corpus - at `$.paragraphs`"
        )
    titles = {paragraph.title for paragraph in question.paragraphs}
    if not all(title.strip() for title in titles):
        raise msgspec.ValidationError("a title is empty - at `$.paragraphs`")
    for title in question.supporting:
        if title not in titles and own:
            raise msgspec.ValidationError(f"{title!r} is the title of no paragraph - at `$.supporting`")
        if title not in titles:  # HotpotQA's fullwiki files, whose paragraphs a retriever chose
            raise Skipped(f"question {question.id!r} lacks its supporting paragraph {title!r}")
    return question


def read_aliases(path: Path) -> dict[str, list[str]]:
    """2WikiMultihopQA's aliases: JSON Lines of {"Q_id", "aliases", "demonyms"}.

    Raises:
        CorruptData: a malformed record, named by line and field.
    """
    found: dict[str, list[str]] = {}
    for where, raw in raw_records(path):
        try:
            row = msgspec.json.decode(raw, type=_AliasRow)
        except UNREADABLE as error:
            raise CorruptData(f"{where}: {error}") from error
        # Sorted, because the order of the file's own lists is not kept by the official script either.
        found[row.q_id] = sorted({alias for alias in row.aliases + row.demonyms if alias.strip()})
    return found


class _AliasRow(msgspec.Struct):
    q_id: str = msgspec.field(name="Q_id")
    aliases: list[str] = []
    demonyms: list[str] = []


# Corpora: files of paragraphs without questions.


class _CorpusRow(msgspec.Struct):
    title: str
    text: str | list[str] | None = None
    paragraph_text: str | None = None


def read_corpus(path: Path) -> Iterator[Paragraph]:
    """The paragraphs of a corpus file, in its order.

    Read: JSON Lines or a JSON array of {"title", "text"}, the text a string or a list of sentences (the own
    form, HippoRAG 2, HotpotQA's Wikipedia abstracts), and one JSON object from title to either (HippoRAG).

    Raises:
        CorruptData: the file cannot be read, is a pickle, or has a malformed record, named by line and field.
    """
    records = raw_records(path)
    head = list(itertools.islice(records, 2))
    for where, raw in itertools.chain(head, records):
        try:
            fields = msgspec.json.decode(raw, type=dict[str, Any])
            if "title" not in fields and len(head) == 1:
                yield from _titled(fields)
                continue
            row = msgspec.convert(fields, _CorpusRow)
            text = row.text if row.text is not None else row.paragraph_text
            if text is None:
                raise msgspec.ValidationError("Object missing required field `text`")
            yield Paragraph(row.title, text if isinstance(text, str) else join_sentences(text))
        except UNREADABLE as error:
            raise CorruptData(f"{where}: {error}") from error


def _titled(fields: dict[str, Any]) -> Iterator[Paragraph]:
    for title, text in fields.items():
        text = msgspec.convert({"text": text}, dict[str, str | list[str]])["text"]
        yield Paragraph(title, text if isinstance(text, str) else join_sentences(text))

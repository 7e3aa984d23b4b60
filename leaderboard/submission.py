"""The submission folder, and the reader that trusts nothing in it.

FOLDER/submission.json      who, how, and what is claimed of each run
FOLDER/episodes/<n>.jsonl   the episodes of run n, one trajectory a line (`.jsonl.xz` where compressed)

Whatever is read here was written by a stranger. Sizes are looked at before anything is read, nothing but
plain files of these names is opened, a JSON text must be byte for byte what this package would write
(so there are no doubled keys, no odd numbers, no unknown fields), and every text has a bounded length.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from msgspec import Meta

from prosegym.envs import ENVS, panels
from prosegym.envs.core import arguments
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError, UnknownName
from prosegym.envs.lookup import env_class
from prosegym.envs.panels import Panel
from prosegym.envs.rewards import REWARDS
from prosegym.envs.scienceworld.env import SIMPLIFICATIONS
from prosegym.evaluation.statistics import Estimate
from prosegym.evaluation.texts import unfit, unplain

SCHEMA = 1
"""Version of the form; any new field raises it, for a submission is read in its one form only. One that is
left out where it is empty (`Result.env_conditions`) does not: older submissions are still in that form."""
MAX_MANIFEST = 1 << 20
"""Largest submission.json, in bytes."""
MAX_FILE = 1 << 28
"""Largest episodes file as it lies in the folder, in bytes."""
MAX_EPISODES = 1 << 31
"""Most that a submission's episodes files may hold once decompressed, all together, in bytes: what is kept of
all of them lies in memory at once."""
MAX_LINE = 1 << 23
"""Longest episode, in bytes."""
MAX_RUNS = 64
LZMA_MEMORY = 1 << 27
"""Most memory a decompressor may ask for: xz -9 needs half of it."""

Track = Literal["zero-shot", "few-shot", "trained", "retry", "reference"]

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Line = Annotated[str, Meta(max_length=300)]
Paragraph = Annotated[str, Meta(max_length=4000)]
Count = Annotated[int, Meta(ge=0, le=10**15)]
Scalar = bool | int | float | str | None


class Refused(ProsegymError):
    """A submission that is not what it has to be; the message says what and where."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the submitter says of the agent. None of it can be replayed; the board says so."""

    agent: Annotated[str, Meta(min_length=1, max_length=80)]
    """Its name on the board."""
    track: Track
    about: Paragraph = ""
    """How it works, in a few sentences."""
    method: Line = ""
    """Name of the method (ETO, Reflexion, ...); submissions of one method share a page."""
    curve: Annotated[list[tuple[float, float]], Meta(max_length=1000)] = []
    """Learning curve: how much training, and the success rate on the valid split after it."""
    curve_unit: Line = ""
    """What the first number of each point counts: "episodes", "tokens", "hours"."""
    authors: Line = ""
    base_model: Line = ""
    """Name and revision of the model it starts from; "none" for an agent without one."""
    parameters: Count | None = None
    """Parameters of its models, all together."""
    training_data: Paragraph = ""
    training_panels: Annotated[list[Line], Meta(max_length=100)] = []
    """Panels it was trained or tuned on."""
    training_tasks: Count = 0
    """Tasks in the trajectories that were checked against the evaluation panels."""
    hardware: Line = ""
    tokens: Count | None = None
    """Tokens of its training, all together."""
    cost: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """US dollars, training and evaluation together."""
    code: Line = ""
    """Where the code is: an https address."""
    license: Line = ""


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers claimed of a run; verification computes each of them again."""

    success: Estimate
    score: Estimate
    progress: Estimate
    invalid_rate: float
    steps: float
    initial: float
    """Mean score of first trials."""
    final: float
    """Mean score of last trials."""
    average: float
    """Mean score over trials."""
    errors: Count
    prompt_tokens: float
    """A mean over episodes, as the agent counted them."""
    completion_tokens: float
    seconds: float
    cost: float | None
    """US dollars, whole run, as the agent counted them; None where it did not know a price."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One run: its conditions, its episodes file, and what is claimed of it."""

    env_id: Line
    env_kwargs: Annotated[dict[str, Scalar], Meta(max_length=32)]
    panel: Line
    panel_sha256: Sha256
    agent: Line
    """The agent's name in the episodes."""
    conditions: dict[str, Any]
    """What the agent says of itself: model and revision, prompt digest, sampling, history policy."""
    attempts: Annotated[int, Meta(ge=1, le=1000)]
    trials: Annotated[int, Meta(ge=1, le=100)]
    seed: Annotated[int, Meta(ge=-(2**62), le=2**62)]
    versions: Annotated[dict[str, Line], Meta(max_length=64)]
    """Package versions the run was made with."""
    episodes: Annotated[int, Meta(ge=1, le=10**7)]
    """Lines of the file: every trial of every attempt at every task."""
    claim: Claim
    file: Annotated[str, Meta(pattern=r"^[0-9]{1,3}\.jsonl(\.xz)?\Z")]
    """Name of the episodes file in `episodes/`."""
    size: Annotated[int, Meta(ge=1, le=MAX_EPISODES)]
    """Bytes of its episodes, decompressed."""
    sha256: Sha256
    """Of the file as it lies in the folder."""
    env_conditions: Annotated[dict[str, Any], Meta(max_length=32)] = {}
    """What the environment says that machine settled and that can change a score; not written where empty."""


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `submission.json` holds."""

    schema: int
    card: Card
    results: Annotated[list[Result], Meta(min_length=1, max_length=MAX_RUNS)]


def encode(submission: Submission) -> bytes:
    """The one way in which a submission is written."""
    return msgspec.json.format(msgspec.json.encode(submission), indent=1) + b"\n"


def read(folder: Path) -> tuple[Submission, str]:
    """The submission in a folder, and the digest that stands for all of it.

    Everything that can be checked without replaying is checked: the names and sizes of the files, the form
    of `submission.json`, every text of it, its environments, arguments and panels.

    Raises:
        Refused: what is wrong, and where.
    """
    if folder.is_symlink():
        raise Refused(f"{printable(str(folder))} is a link; name the folder itself")
    if not os.path.lexists(folder / "submission.json"):
        raise Refused(
            f"{printable(str(folder))} is not a submission (no submission.json); make one with "
            "`prosegym submit RUN --out FOLDER`"
        )
    _listing(folder, {"submission.json": False, "episodes": True})
    with _open(folder / "submission.json", MAX_MANIFEST) as file:
        data = file.read(MAX_MANIFEST + 1)
    try:
        submission = msgspec.json.decode(data, type=Submission)
    except UNREADABLE as error:
        raise Refused(f"submission.json: {reason(error)}") from error
    if submission.schema != SCHEMA:
        raise Refused(f"submission.json: schema {submission.schema}; this version reads {SCHEMA}")
    check_card(submission.card)
    for number, result in enumerate(submission.results):
        check_result(result, f"results[{number}]")
    # Last, because a condition that nests too deep must be found before it is written again.
    if encode(submission) != data:
        raise Refused(
            "submission.json is not in its one form (a doubled key, a number or blank written otherwise?); "
            "make it with `prosegym submit`"
        )
    files = [result.file for result in submission.results]
    if len(set(files)) != len(files):
        raise Refused("submission.json: two results name the same episodes file")
    if (total := sum(result.size for result in submission.results)) > MAX_EPISODES:
        raise Refused(
            f"submission.json: its episodes files hold {total:,} bytes decompressed, and at most "
            f"{MAX_EPISODES:,} are read; submit some of its runs apart"
        )
    for number, result in enumerate(submission.results):
        if (submission.card.track == "retry") != (result.trials > 1):
            raise Refused(
                f"results[{number}]: track {submission.card.track!r}, trials {result.trials}: "
                "runs of more than one trial are of the retry track, others are not"
            )
    _listing(folder / "episodes", dict.fromkeys(files, False))
    return submission, hashlib.sha256(data).hexdigest()


def check_card(card: Card) -> None:
    """Refuse a card whose texts are not plain, or whose panels do not exist.

    Raises:
        Refused: which field.
    """
    for field in ("agent", "method", "curve_unit", "authors", "base_model", "hardware", "license", "code"):
        plain(getattr(card, field), f"card.{field}")
    for field in ("about", "training_data"):
        plain(getattr(card, field), f"card.{field}", lines=True)
    if card.agent != card.agent.strip():
        raise Refused("card.agent begins or ends with a blank")
    if card.code and not re.fullmatch(
        r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/%+@#?=&-]*)?", card.code
    ):
        raise Refused("card.code is not an https address")
    for name in card.training_panels:
        try:
            panel_of(name)
        except Refused as error:
            raise Refused(f"{error}; what has no panel is named in card.training_data") from error
    if not all(0 <= x <= 1e15 and 0 <= y <= 1 for x, y in card.curve):
        raise Refused("card.curve: a point is (how much training, success rate from 0 to 1)")
    if [x for x, _ in card.curve] != sorted({x for x, _ in card.curve}):
        raise Refused("card.curve: its points do not go from less training to more")


def missing(card: Card) -> list[str]:
    """The fields that a reader of the board would look for and not find."""
    wanted = {"base_model", "training_data", "hardware", "cost", "code", "license", "authors", "about"}
    if card.track == "reference":
        return []
    if card.base_model != "none":
        wanted.add("parameters")
    if card.track == "trained":
        wanted |= {"training_panels", "tokens"}
    return [f for f in card.__struct_fields__ if f in wanted and getattr(card, f) in ("", None, [])]


def check_result(result: Result, where: str) -> None:
    """Refuse a run of an environment, of arguments or of a panel that a submission may not have.

    Raises:
        Refused: what, and in which result.
    """
    plain(result.agent, f"{where}.agent")
    for name, version in result.versions.items():
        plain(name, f"{where}.versions")
        plain(version, f"{where}.versions")
    for name in ("conditions", "env_conditions"):
        for fault in unfit(getattr(result, name), f"{where}.{name}"):
            raise Refused(fault)
    check_env(result.env_id, result.env_kwargs, where)
    panel = panel_of(result.panel, where)
    if panel.env_id != result.env_id:
        raise Refused(f"{where}: panel {panel.name} is of {panel.env_id}, not of {result.env_id}")
    if panel.sha256 != result.panel_sha256:
        raise Refused(
            f"{where}: the digest of panel {panel.name} is {panel.sha256[:12]}..., "
            f"the submission says {result.panel_sha256[:12]}..."
        )
    if result.episodes > (most := len(panel.tasks) * result.attempts * result.trials):
        raise Refused(f"{where}: {result.episodes} episodes; the panel and the trials make {most} at most")
    for name in Claim.__struct_fields__:
        values = getattr(result.claim, name)
        for value in values if isinstance(values, Estimate) else (values,):
            if value is not None and not -1e15 < value < 1e15:
                raise Refused(f"{where}.claim.{name}: {value} is out of range")


_PANEL = re.compile(r"([A-Za-z0-9-]{1,60}-v[0-9]{1,4}/[A-Za-z0-9_.-]{1,60}?)(?:\[:([1-9][0-9]{0,6})\])?")


def panel_of(name: str, where: str = "card.training_panels") -> Panel:
    """A committed panel, or the first tasks of one (`NAME[:N]`).

    Raises:
        Refused: there is no such panel.
    """
    match = _PANEL.fullmatch(name)
    if not match or match[1].endswith(".json"):
        raise Refused(f"{where}: {name[:80]!r} is not the name of a committed panel (`prosegym list`)")
    try:
        whole = panels.load(match[1])
    except UnknownName as error:
        raise Refused(f"{where}: {error}") from error
    panel = whole.head(int(match[2])) if match[2] else whole
    if panel.name != name:
        raise Refused(f"{where}: {name} is the whole of {panel.name}; name it so")
    return panel


_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,+-]{0,63}")
_SIMPLIFICATION = f"({'|'.join(SIMPLIFICATIONS)})"

SETTINGS: dict[str, frozenset[str] | tuple[int, int] | type[bool] | re.Pattern[str] | None] = {
    "admissible": bool,
    "catalogue": None,
    "corpus": frozenset({"question", "split"}),
    "corpus_sha256": re.compile("[0-9a-f]{64}"),
    "describe": None,
    "dialect": None,
    "either_put": bool,
    "goals": None,
    "gold": None,
    "kendall": None,
    "level": None,
    "max_steps": (1, 100_000),
    "metric": None,
    "observation": None,
    "params": re.compile(r"\w{1,40}=\d{1,4}(,\w{1,40}=\d{1,4}){0,20}"),
    "products": (1, 2_000_000),
    "reward": frozenset(REWARDS) - {"expert"},
    "rows": (1, 1_000_000),
    "simplifications": re.compile(f"easy|{_SIMPLIFICATION}(,{_SIMPLIFICATION}){{0,4}}"),
    "split": None,
    "step_limits": None,
    "stop_at_success": bool,
    "tagger": None,
    "variant": None,
    "writes": bool,
}
"""Arguments that a submission may set, and to what; None is any plain word that the environment takes.

Not every argument of an environment may be set by a stranger: one names a file, another an address, a
third shows the expert's actions. A new environment's arguments are refused until they stand here.
"""


def check_env(env_id: str, env_kwargs: dict[str, Scalar], where: str = "result") -> None:
    """Refuse an environment that is not ours, and arguments that are not plain settings of it.

    Ids are looked up in our own table and never given to Gymnasium, which imports the module in front of a
    colon.

    Raises:
        Refused: which id or argument.
    """
    if env_id not in ENVS:
        raise Refused(f"{where}: {UnknownName('environment', env_id[:80], ENVS)}")
    known = {"reward", *arguments(env_class(env_id))}
    for name, value in env_kwargs.items():
        if name not in SETTINGS or name not in known:
            raise Refused(f"{where}: env_kwargs: {name[:80]!r} may not be set in a submission")
        if not _admits(SETTINGS[name], value):
            raise Refused(f"{where}: env_kwargs: {name} may not be {str(value)[:80]!r} in a submission")


def _admits(setting: object, value: Scalar) -> bool:
    if value is None:
        return True
    if setting is bool:
        return isinstance(value, bool)
    if isinstance(setting, tuple):
        return type(value) is int and setting[0] <= value <= setting[1]
    if type(value) is int and setting is None:
        return 0 <= value <= 1000  # a level by its number
    if not isinstance(value, str):
        return False
    if isinstance(setting, frozenset):
        return value in setting
    if not value:
        return True
    return bool((setting if isinstance(setting, re.Pattern) else _WORD).fullmatch(value))


def plain(text: str, where: str, *, lines: bool = False) -> None:
    """Refuse a text that a page could not show as it is (`texts.unplain`).

    Raises:
        Refused: where, and which character.
    """
    if fault := unplain(text, lines=lines):
        raise Refused(f"{where} {fault}")


def _listing(folder: Path, expected: dict[str, bool]) -> None:
    """Refuse a folder that holds anything but the entries expected (True: a folder), links above all."""
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_symlink():
                raise Refused(f"{name!r} is a link; a submission holds plain files only")
            if name not in expected:
                raise Refused(
                    f"{printable(folder.name)}/ holds {name[:80]!r}, which submission.json does not name"
                )
            if entry.is_dir(follow_symlinks=False) != expected[name]:
                raise Refused(f"{name!r} should be a {'folder' if expected[name] else 'file'}")
            found.add(name)
    if lacking := sorted(expected.keys() - found):
        raise Refused(f"{printable(folder.name)}/ lacks {lacking[0]!r}")


def _open(path: Path, limit: int) -> BinaryIO:
    """Open a plain file of at most `limit` bytes; never a link, a pipe or a device."""
    # Absent on Windows, where a link was refused by the listing already.
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise Refused(f"cannot read {path.name}: {error.strerror}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise Refused(f"{path.name} is not a plain file")
    if status.st_size > limit:
        os.close(handle)
        raise Refused(f"{path.name} has {status.st_size:,} bytes; at most {limit:,} are read")
    return os.fdopen(handle, "rb", buffering=1 << 20)


def file_digest(path: Path) -> str:
    """SHA-256 of an episodes file as it lies in the folder."""
    found = hashlib.sha256()
    with _open(path, MAX_FILE) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def intact(folder: Path) -> str | None:
    """The digest of a submission whose episodes files are those that it states; None of any other folder."""
    try:
        submission, digest = read(folder)
        same = all(file_digest(folder / "episodes" / r.file) == r.sha256 for r in submission.results)
    except (Refused, OSError):
        return None
    return digest if same else None


def copy(source: Path, target: Path) -> None:
    """Copy one plain file of a submission."""
    with _open(source, MAX_FILE) as file, open(target, "wb") as out:
        while block := file.read(1 << 20):
            out.write(block)


def lines(folder: Path, result: Result) -> Iterator[bytes]:
    """The lines of a run's episodes file, each with its newline, one after the other.

    Raises:
        Refused: the file is too large, holds more than it declares, is not xz, or a line is too long or cut.
    """
    path = folder / "episodes" / result.file
    name = f"episodes/{result.file}"
    rest, total, number = b"", 0, 0
    with _open(path, MAX_FILE) as file:
        for block in _unpacked(file, name) if path.suffix == ".xz" else iter(lambda: file.read(1 << 20), b""):
            total += len(block)
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                number += 1
                if number > result.episodes:
                    raise Refused(f"{name} holds more than the {result.episodes} episodes declared")
                if len(line) > MAX_LINE:
                    raise Refused(f"{name}:{number} is longer than {MAX_LINE:,} bytes")
                yield line + b"\n"
            if len(rest) > MAX_LINE:
                raise Refused(f"{name}:{number + 1} is longer than {MAX_LINE:,} bytes")
            if total > result.size:
                raise Refused(f"{name} holds more than the {result.size:,} bytes that are declared")
    if rest:
        raise Refused(f"{name} ends in the middle of a line")
    if total != result.size:
        raise Refused(f"{name} holds {total:,} bytes; {result.size:,} are declared")


def _unpacked(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The decompressed blocks of an xz file, each of at most 1 MiB however small its source."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LZMA_MEMORY)
    try:
        while not unpacker.eof:
            data = file.read(1 << 16) if unpacker.needs_input else b""
            if unpacker.needs_input and not data:
                raise Refused(f"{name} is cut short")
            if block := unpacker.decompress(data, 1 << 20):
                yield block
    except lzma.LZMAError as error:
        raise Refused(f"{name} is not an xz file that can be read: {reason(error)}") from error
    if unpacker.unused_data or file.read(1):
        raise Refused(f"{name} goes on after the end of its xz stream")


def reason(error: Exception) -> str:
    """What a decoder says, in one line that a terminal can show: it may quote the stranger's text."""
    return printable(str(error)[:300])


def printable(text: str) -> str:
    """A stranger's text, or the name of its folder, as a terminal can show it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def read_card(path: Path) -> Card:
    """A model card from a JSON file; blanks and the order of fields do not matter.

    Raises:
        CorruptData: it cannot be read, or a field is unknown or not what it should be.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except OSError as error:
        raise CorruptData(f"cannot read {path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise CorruptData(f"{path}: {error}") from error

"""Which TextWorld games there are, and how one gets onto this machine.

A game is named by its task id, `split/level/seed`. `games.json` holds the digest of every game's content;
`build` makes games in worker processes and keeps them under `PROSEGYM_HOME`; `ready` gives the path of
one, built first where it is not there or is broken, and never one whose content is not that of the digest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs.core import Task, digest
from prosegym.envs.errors import EngineError, ProsegymError
from prosegym.envs.home import home, processors, writable

TABLE = Path(__file__).with_name("games.json")

TIME_LIMIT = 120.0
"""Seconds after which the building of one game is given up; those of the table take one to three."""

Settings = Mapping[str, Any]

_RECIPE = {
    "take": 0, "go": 1, "open": False, "cook": False, "cut": False, "drop": False, "recipe_seed": 0,
}  # fmt: skip

LEVELS: dict[str, dict[str, Settings]] = {
    "CoinCollector": {f"level-{n}": {"level": n} for n in (3, 5, 10, 20, 105, 110, 120, 205, 210, 220)},
    "TreasureHunter": {f"level-{n}": {"level": n} for n in (1, 3, 5, 8, 10, 11, 13, 15, 17, 21)},
    "Cooking": {
        "recipe1": _RECIPE | {"recipe": 1},
        "recipe1+take1": _RECIPE | {"recipe": 1, "take": 1, "open": True},
        "recipe1+cook": _RECIPE | {"recipe": 1, "take": 1, "open": True, "cook": True},
        "recipe1+cut": _RECIPE | {"recipe": 1, "take": 1, "open": True, "cut": True},
        "recipe2+cook+cut": _RECIPE | {"recipe": 2, "take": 2, "open": True, "cook": True, "cut": True},
        "recipe1+go6": _RECIPE | {"recipe": 1, "take": 1, "open": True, "go": 6},
        "recipe2+cook+go6": _RECIPE | {"recipe": 2, "take": 2, "open": True, "cook": True, "go": 6},
        "recipe3+cook+cut+go9":
            _RECIPE | {"recipe": 3, "take": 3, "open": True, "cook": True, "cut": True, "go": 9},
        "recipe3+cook+cut+drop+go6":
            _RECIPE
            | {"recipe": 3, "take": 3, "open": True, "cook": True, "cut": True, "drop": True, "go": 6},
        "recipe3+cook+cut+go12":
            _RECIPE | {"recipe": 3, "take": 3, "open": True, "cook": True, "cut": True, "go": 12},
    },
}  # fmt: skip
"""Every level of every challenge, with the settings that TextWorld's own generator takes for it.

Coin Collector: up to 100, a chain of that many rooms; from 101, one blind alley beside each; from 201, two.
Treasure Hunter: up to 10, 5 empty rooms; up to 20, 10 rooms with furniture and doors; above, 20 rooms.
"""

CHALLENGES = {
    "CoinCollector": "tw-coin_collector", "TreasureHunter": "tw-treasure_hunter", "Cooking": "tw-cooking",
}  # fmt: skip
"""TextWorld's name of each challenge."""

SIZES = {"train": 20, "valid": 5, "test": 10}
"""Games per level of each split."""

FIRST_SEED = {"train": 1, "valid": 100_001, "test": 200_001}
"""Where a split's seeds begin, so that no seed is in two splits."""


@functools.cache
def table(challenge: str) -> dict[str, dict[str, str]]:
    """The digest of each game of a challenge: split -> task id -> digest, in the order of the split.

    Levels take turns, so that the head of a split is a sample of all of them.
    """
    games: dict[str, dict[str, dict[str, str]]] = msgspec.json.decode(TABLE.read_bytes())
    return games[challenge]


def generate(challenge: str, split: str, level: str, seed: int) -> tuple[Any, str]:
    """Generate a game: TextWorld's object for it, not yet compiled, and the digest of its content.

    The objective names what to find and where it lies but not the way there (`only_last_action`); Cooking
    draws its foods and preparations from the split's own part, as the FTWP competition did.
    """
    from textworld import GameOptions
    from textworld.challenges import CHALLENGES as makers
    from textworld.generator.inform7 import generate_inform7_source

    options = GameOptions()
    options.seeds = seed
    options.grammar.only_last_action = True
    settings = dict(LEVELS[challenge][level])
    if challenge == "Cooking":
        settings["split"] = split
    game = makers[CHALLENGES[challenge]][1](settings, options)
    for quest in game.quests:
        # Cooking lists the ways to spoil an ingredient in the order of a set, which differs between
        # Python versions; the order means nothing, so it is fixed here.
        quest.fail_events = sorted(quest.fail_events, key=lambda event: str(event.condition))
    known = game.serialize()
    rest = {key: known[key] for key in ("world", "infos", "quests", "objective")}
    content = digest(
        challenge,
        generate_inform7_source(game),
        json.dumps(_canonical(rest), sort_keys=True),
        known["KB"]["logic"],
    )
    return game, content


def _canonical(value: Any) -> Any:
    """The value with every list sorted: TextWorld writes sets as lists."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return sorted((_canonical(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def make_game(challenge: str, split: str, level: str, seed: int, path: Path) -> str:
    """Generate and compile a game into `path` (.z8) and its .json; returns the digest of its content."""
    from textworld import GameOptions
    from textworld.generator import compile_game

    game, content = generate(challenge, split, level, seed)
    options = GameOptions()
    options.path = str(path)
    options.force_recompile = True
    compile_game(game, options)
    return content


_SUFFIXES = (".z8", ".json")


def ready(challenge: str, task: Task) -> Path:
    """The path of a task's game, built first where it is missing or broken.

    Raises:
        EngineError: it cannot be built in time.
        ProsegymError: the folder cannot be written to, TextWorld is not installed, or what this machine
            builds is not the game of the digest.
    """
    path = _path(challenge, task)
    if not _there(task, path):
        build(challenge, [task], workers=1, progress=False)
    return path


def build(
    challenge: str, tasks: Sequence[Task], workers: int | None = None, *, progress: bool = True
) -> list[Path]:
    """Build what is not yet there, in parallel, each game once; returns the path of every task's game.

    Raises:
        As `ready`.
    """
    _version()  # games that are there already need it, too: to be played
    paths = [_path(challenge, task) for task in tasks]
    wanted = [
        (task, path) for task, path in dict(zip(tasks, paths, strict=True)).items() if not _there(task, path)
    ]
    if not wanted:
        return paths
    writable(*_folder(challenge))
    with _pool(min(workers or processors(), len(wanted))) as (pool, worker):
        futures = [pool.submit(_build_one, worker, challenge, task, path) for task, path in wanted]
        from tqdm import tqdm

        done = tqdm(
            as_completed(futures),
            total=len(futures),
            desc=f"building {challenge} games",
            unit="game",
            delay=2,  # no bar for what is quickly done
            disable=not progress,
        )
        try:
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _build_one(worker: _Workers, challenge: str, task: Task, path: Path) -> None:
    split, level, seed = task.id.split("/")
    # In a folder of its own, which goes even where the builder is killed and leaves half a game in it.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="part-", ignore_cleanup_errors=True) as folder:
        part = Path(folder, path.name)
        answer = worker.ask({"game": [challenge, split, level, int(seed)], "path": str(part)})
        if error := answer.get("error"):
            raise EngineError(f"{task.env_id} {task.id}: the game could not be built: {error}")
        if task.sha256 not in ("", answer["content"]):
            raise ProsegymError(
                f"{task.env_id} {task.id}: TextWorld {_version()} builds another game here than this version "
                f"of prosegym knows; install the release it was made with (`pip install textworld==1.7.0`)"
            )
        sums = [hashlib.sha256(part.with_suffix(suffix).read_bytes()).hexdigest() for suffix in _SUFFIXES]
        part.with_suffix(".sha256").write_text("\n".join([answer["content"], *sums]) + "\n")
        for suffix in (*_SUFFIXES, ".sha256"):
            os.replace(part.with_suffix(suffix), path.with_suffix(suffix))


def _path(challenge: str, task: Task) -> Path:
    return home().joinpath(*_folder(challenge), task.id.replace("/", "-") + ".z8")


def _folder(challenge: str) -> tuple[str, ...]:
    return "games", "textworld", _version(), challenge


def _there(task: Task, path: Path) -> bool:
    """Whether the task's game is built; where the task has no digest, no game of the table, it may be any."""
    built = content(path)
    return built is not None and task.sha256 in ("", built)


def content(path: Path) -> str | None:
    """The digest of a built game's content; None where it is missing, or its files are not those built."""
    try:
        built, *sums = path.with_suffix(".sha256").read_text().split()
        whole = sums == [hashlib.sha256(path.with_suffix(s).read_bytes()).hexdigest() for s in _SUFFIXES]
    except (OSError, ValueError, UnicodeDecodeError):
        return None
    return built if whole else None


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("textworld")
    except importlib.metadata.PackageNotFoundError:
        raise ProsegymError('TextWorld is not installed; run `pip install "prosegym[textworld]"`') from None


class _Workers:
    """Processes that build games, one for each thread that asks."""

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._mine = threading.local()
        self._processes: list[subprocess.Popen[str]] = []

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """What this thread's process answers to a job; `error` where it fails or takes too long."""
        process: subprocess.Popen[str] | None = self._mine.__dict__.get("process")
        if process is None:
            process = self._mine.process = self._start()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._time_limit, stop)
        timer.start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            del self._mine.process
            code = process.wait()
            if late.is_set():
                return {"error": f"it took over {self._time_limit:g} s"}
            if code < 0:
                return {"error": f"the builder was killed by signal {-code}; see whether memory ran short"}
            return {"error": "the builder died"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        # Strings hash the same in every builder: TextWorld iterates over sets of them.
        process = subprocess.Popen(
            [sys.executable, "-m", "prosegym.envs.textworld.builder"],
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[tuple[ThreadPoolExecutor, _Workers]]:
    processes = _Workers()
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool, processes
    finally:
        processes.close()
        pool.shutdown(cancel_futures=True)


def make_table(time_limit: float = 10.0) -> dict[str, dict[str, dict[str, str]]]:
    """Choose the games of every split and digest them: the content of `games.json`.

    From a split's first seed upward, a seed is passed over where TextWorld can make no game of it, takes
    longer than `time_limit` seconds of processor time, or makes one that is already there. This is done
    once, by the project: the table fixes the outcome, so no machine's speed decides which games are played.
    """
    import signal

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, late)
    games: dict[str, dict[str, dict[str, str]]] = {}
    for challenge, levels in LEVELS.items():
        seen: set[str] = set()
        games[challenge] = {}
        for split, size in SIZES.items():
            chosen = {level: _choose(challenge, split, level, size, seen, time_limit) for level in levels}
            games[challenge][split] = {
                f"{split}/{level}/{chosen[level][i][0]}": chosen[level][i][1]
                for i in range(size)
                for level in levels
            }
    return games


def _choose(
    challenge: str, split: str, level: str, size: int, seen: set[str], time_limit: float
) -> list[tuple[int, str]]:
    import signal

    from textworld.generator import QuestGenerationError

    chosen: list[tuple[int, str]] = []
    seed = FIRST_SEED[split]
    while len(chosen) < size:
        signal.setitimer(signal.ITIMER_PROF, time_limit)
        try:
            _, content = generate(challenge, split, level, seed)
        except (QuestGenerationError, TimeoutError):
            content = ""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if content and content not in seen:
            seen.add(content)
            chosen.append((seed, content))
        seed += 1
    return chosen

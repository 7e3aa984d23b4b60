"""Differential fuzzing: InterCode-SQL's reward and episodes against the original's own code.

    python tests/fuzz/fuzz_intercode.py --original CHECKOUT --steps 100000 [--seed 0]

CHECKOUT is princeton-nlp/intercode at c3e46d8; its `SqlEnv` runs as it is, with stand-ins for Docker, rich and the MySQL client.
The installed data is asked (`prosegym data get intercode_sql`). Half of the steps ask a client that gives made-up results: rows of
every type with repeats, other orders and other columns, no rows, nothing, errors. The other half ask our engine for both, over the
official tasks: gold queries as they are, changed and of other tasks, USE, odd and malformed actions, `submit` and
`skip` in many spellings. Left out is what docs/envs/intercode_sql.md says differs. After every statement the original is asked for its reward, as its experiments do. Texts, rewards, refusals
and ends must be equal. Prints a line for every difference and a summary; exits 1 on any.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import json
import logging
import random
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs.core import Task
from prosegym.envs.sql import data
from prosegym.envs.sql.base import SHOWN, SQLEnv
from prosegym.envs.sql.data import Record
from prosegym.envs.sql.engine import Answer
from prosegym.envs.sql.env import InterCodeSQL

CELLS: list[Any] = [
    None, True, 0, 1, -1, 10**30, 0.0, -0.0, 1.0, 1e-7, 1e22, float("inf"), Decimal(1), Decimal("1.0"), Decimal("1.00"),
    Decimal("-0"), "", "1", "None", "a", "A", "ä", "😀", "a'b", 'a"b', "a\nb", "a\0", "a\\", "x" * 300, b"", b"a", b"\0\xff",
    bytearray(b"a"), dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 1, 2, 3, 4), dt.timedelta(hours=-3),
]  # fmt: skip
SUBMITS = ["submit", "submit", "submit", "submit;", "submit\n", "submit x", "submit[1]", "submitted"]
ODD = """Submit|submission| submit|SUBMIT|xsubmit|Skip| skip|skip |SKIP|skip;|execute[SELECT 1|execute SELECT 1|Action: SELECT 1|SQL: SELECT 1|  |;|;;|-- a|
/* a */|#a|SHOW TABLES|SHOW DATABASES|SELECT DATABASE()|SELECT 1|SELECT NULL|SELECT 1 WHERE 0|SELECT 1; SELECT 2|SELECT 1;;|
select 'submit'|SELECT 1 ; -- a|üüü|USE nowhere|USE`car_1`|/* a */ USE car_1|DELETE FROM singer|CREATE TABLE t (a INT)""".split(
    "|"
)
CHANGED = """{}|{}|{}|{}|{};|{} ; |  {}|```sql
{}
```|```{}```|/* a */ {}|{} -- a|{} # a|{}; SELECT 1|{} LIMIT 3|{} ORDER BY 1 DESC|SELECT * FROM ({}) t ORDER BY 1 DESC|
Action: execute[{}]|execute[{}] done|{} ORDER BY RAND()""".split("|")

Ask = Callable[[str, str], Answer]


class Refusal(Exception):
    """What the MySQL client raises."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)
        self.msg = msg


class Client:
    """A buffered cursor of the MySQL client, and its connection; `ask` is the server."""

    def __init__(self, ask: Ask) -> None:
        self.ask, self.db = ask, ""
        self.description: Any = None

    def cursor(self, **_: Any) -> Client:
        return self

    def execute(self, statement: str) -> None:
        self.description, self._rows = None, []
        answer = self.ask(statement, self.db)
        if answer.error is not None:
            raise Refusal(answer.error)
        self.db = answer.db or self.db
        if answer.rows is not None:
            self.description, self._rows = [("column",)], list(answer.rows)

    def fetchall(self) -> list[Any]:
        return self._rows


def original(checkout: Path) -> Any:
    """The original's module; its packages' `__init__`s, which load every other environment, are left out."""

    def module(name: str, path: str = "", **holds: Any) -> types.ModuleType:
        made = sys.modules[name] = types.ModuleType(name)
        made.__dict__.update(holds, __path__=[str(checkout / path)] if path else [])
        return made

    class Loader:
        def __init__(self, path: str) -> None:
            self._records: list[dict[str, str]] = json.loads(Path(path).read_text("utf-8"))

        def get(self, index: int) -> dict[str, str]:
            return self._records[index]

    errors = module("mysql.connector.errors", ProgrammingError=Refusal, DatabaseError=Refusal)
    module("mysql", connector=module("mysql.connector", errors=errors))
    module("rich")
    module("rich.logging", RichHandler=lambda **_: logging.NullHandler())
    for name in ("intercode", "intercode.envs", "intercode.envs.sql"):
        module(name, name.replace(".", "/"))
    module("intercode.utils", IntercodeDataLoader=Loader, get_container=lambda *_, **__: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its docstrings' escapes
        from intercode.envs.sql import sql_env  # type: ignore[import-not-found]
    return sql_env


class MadeUp(SQLEnv):
    """Ours, on made-up results."""

    env_id = "made/Up-v0"
    instruction = ""
    splits = ("dev",)
    results: dict[str, Answer]

    def tasks(self, split: str) -> list[Task]:
        return [Task("dev/0", split, self.env_id, "made-up", "")]

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        return self.results[statement]

    def _open(self, task: Task) -> tuple[Any, str, str, str]:
        return self, "d", "a question", "gold"


class Match:
    """Theirs and ours, side by side."""

    def __init__(self, module: Any, records: list[Record], ours: SQLEnv, ask: Ask, scratch: str) -> None:
        def prepare(record: dict[str, str]) -> list[str]:
            return [f"use {record['db']}"]

        prepare.__annotations__ = {"record": module.Dict, "return": module.List}  # it insists on these
        path = Path(scratch, f"{len(records)}.json")
        path.write_bytes(msgspec.json.encode(records))
        module.mysql.connector.connect = lambda **_: Client(ask)
        self.theirs = module.SqlEnv("image", data_path=str(path), preprocess=prepare)
        self.ours = ours
        self.count: collections.Counter[str] = collections.Counter()
        self.differences = self.steps = 0

    def same(self, what: str, theirs: Any, ours: Any, *about: Any) -> None:
        self.count[f"{what} compared"] += 1
        if theirs != ours:
            self.differences += 1
            print(
                f"{what}: theirs {theirs!r:.200}, ours {ours!r:.200}",
                *(f"{a!r:.300}" for a in about),
                sep="\n    ",
            )

    def begin(self, index: int) -> None:
        self.theirs.reset(index)
        self.ours.reset(options={"task_id": f"dev/{index}"})
        self.left = self.ours.max_steps

    def step(self, action: str, *about: Any) -> bool:
        """Whether the episode goes on."""
        self.steps += 1
        self.left -= 1
        shown, reward, ended, info = self.theirs.step(action)
        text, paid, terminated, truncated, ours = self.ours.step(action)
        self.same("end", ended, terminated, action)
        self.same("limit", not ended and not self.left, truncated, action)
        if not ended:
            self.same("text", str(shown)[:SHOWN], text, action)
            self.same("refusal", not info["action_executed"], ours["invalid_action"], action)
            _, reward, _, _ = self.theirs.step("submit")
        reward = float(reward)
        if action != "skip":
            self.same("signed reward", reward, self.ours.upstream_reward, action, *about)
        self.same("score", max(0.0, reward), ours["score"], action, *about)
        self.same("success", reward == 1, ours["success"], action, *about)
        self.same("pay", max(0.0, reward) if ended or truncated else 0.0, paid, action)
        self.count[f"reward {round(reward)}"] += 1
        return not (terminated or truncated)


def made_up(rng: random.Random) -> Answer:
    """A result, its cells from a few or from many."""
    kind = rng.random()
    if kind < 0.12:
        return rng.choice([Answer([]), Answer(), Answer(error="Unknown column 'a'")])
    cells = rng.sample(CELLS, rng.randint(1, 12)) if kind < 0.75 else list(range(rng.randint(1, 40)))
    wide = rng.choice([1, 1, 1, 2, 3, 5])
    return Answer(
        [tuple(rng.choices(cells, k=wide)) for _ in range(rng.choice([1, 1, 2, 3, 4, 6, 10, 25, 60, 400]))]
    )


def like(result: Answer, rng: random.Random) -> Answer:
    """A result that has much in common with another one."""
    if result.rows is None or rng.random() < 0.15:
        return made_up(rng)
    rows = list(result.rows)
    for _ in range(rng.randint(0, 2)):
        match rng.randrange(7):
            case 0:
                rng.shuffle(rows)
            case 1:
                rows.reverse()
            case 2:
                rows.sort(key=str)
            case 3:
                rows = rng.sample(rows, rng.randint(0, len(rows)))
            case 4:
                rows += rng.choices(rows, k=rng.randint(1, 5)) if rows else []
            case 5:
                rows *= rng.randint(2, 3)
            case 6:
                rows[: rng.randint(0, 3)] = [(rng.choice(CELLS),)]
    return Answer(rows)


def play_made_up(match: Match, rng: random.Random) -> None:
    env = match.ours
    assert isinstance(env, MadeUp)
    gold = made_up(rng)
    asked = {f"q{i}": like(gold, rng) for i in range(rng.randint(0, 4))}
    env.results = {"use d": Answer(), "gold": gold, **asked}
    match.begin(0)
    for statement, answer in asked.items():
        match.step(statement, answer, gold)
    match.step(rng.choice(SUBMITS))


def play_tasks(match: Match, rng: random.Random, records: list[Record]) -> None:
    index = rng.randrange(len(records))
    match.begin(index)
    going = True
    while going:
        about = records[index] if rng.random() < 0.8 else rng.choice(records)
        kind = rng.random()
        if kind < 0.6:
            action = rng.choice(CHANGED).replace("{}", rng.choice([str, str.lower, str.upper])(about.gold))
        elif kind < 0.85:
            action = rng.choice(ODD)
        elif kind < 0.9:
            action = f"USE {about.db}"
        else:
            action = rng.choice([*SUBMITS, "skip"])
        going = match.step(action)


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--original", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.original / "intercode" / "envs" / "sql").is_dir():
        parser.error(f"{arguments.original} is no checkout of princeton-nlp/intercode")
    started, rng = time.monotonic(), random.Random(arguments.seed)
    warnings.simplefilter("ignore")  # SciPy's, of a single common row
    module, (records, server) = original(arguments.original), data.official()
    with tempfile.TemporaryDirectory() as scratch:
        ours = MadeUp(split="dev", gold="upstream")
        task = Record("d", "gold", "a question", "made-up")
        made = Match(module, [task], ours, ours.run, scratch)
        asked = Match(module, records, InterCodeSQL(gold="upstream"), server.run, scratch)
    both = (made, asked)
    while sum(m.steps for m in both) < arguments.steps and sum(m.differences for m in both) < 20:
        if made.steps <= asked.steps:
            play_made_up(made, rng)
        else:
            play_tasks(asked, rng, records)
    for name, match in zip(("made-up results", "official tasks"), both, strict=True):
        print(f"{name}: {match.steps} steps, {match.differences} differences")
        for what, n in sorted(match.count.items()):
            print(f"  {n:7d} {what}")
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(m.differences for m in both))


if __name__ == "__main__":
    sys.exit(main())

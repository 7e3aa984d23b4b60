"""`prosegym/MiniSQL-v1`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from prosegym.envs.core import Expert, Outcome, Task, Tasks, digest
from prosegym.envs.errors import UnknownName, unknown_task
from prosegym.envs.rewards import Maker
from prosegym.envs.sql.base import Database, SQLEnv
from prosegym.envs.sql.engine import Server
from prosegym.envs.sql.env import INSTRUCTION
from prosegym.envs.sql.generator import DB, FORMS, LEVELS, MiniTask, generate, words
from prosegym.envs.sql.reward import Kendall

COUNTS = {"train": 100_000, "valid": 1_000, "test": 1_000}


class MiniSQL(SQLEnv):
    """Generated databases and questions, answered by the same MySQL as InterCodeSQL's.

    Observation: the question; then each statement's rows as `str` of a list of tuples, or the server's error.
    Actions: one MySQL statement (also as `execute[...]`); `submit` ends the episode, `skip` ends it with 0.
    Reward: IoU of the two multisets of rows, times Kendall's tau where the question asks for an order.
    Progress: the best score so far.
    Termination: at `submit` and `skip`; at reward 1 with `stop_at_success`; truncated after 10 steps.
    Splits: train (100,000), valid and test (1,000 each); the i-th task is a function of (split, i).
        Task types are Spider's four levels of hardness, in turn: easy, medium, hard, extra.
    Source: this package, Apache-2.0; needs no data.
    Differences: it is not InterCode, and its scores are not comparable.
    """

    env_id = "prosegym/MiniSQL-v1"
    instruction = INSTRUCTION
    experts: ClassVar[Mapping[str, bool]] = {"gold": True, "explorer": False}

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks `<split>/<index>`, made when asked for."""
        if split not in COUNTS:
            raise UnknownName("split", split, COUNTS)
        return Tasks(COUNTS[split], lambda i: self._task_of(split, i))

    def _task_of(self, split: str, index: int) -> Task:
        task = generate(split, index)
        return Task(f"{split}/{index}", split, self.env_id, task.level, digest(task.content()))

    def task(self, task_id: str) -> Task:
        """The task of that id; see `TextEnv.task`."""
        split, _, number = task_id.partition("/")
        if (
            split in COUNTS
            and number.isdecimal()
            and str(int(number[:9])) == number
            and int(number) < COUNTS[split]
        ):
            return self._task_of(split, int(number))
        raise unknown_task(task_id, [(f"{s}/0", f"{s}/{count - 1}") for s, count in COUNTS.items()])

    def _open(self, task: Task) -> tuple[Database, str, str, str]:
        split, _, number = task.id.partition("/")
        mini, server = _made(split, int(number))
        self._ordered = mini.ordered
        return server, DB, mini.question, mini.gold

    def _begin(self, task: Task) -> Outcome:
        outcome = super()._begin(task)
        self._question = outcome.observation
        return outcome

    def _order_rule(self) -> Kendall:
        return self.kendall if self._ordered else "none"

    def _expert(self, name: str) -> Expert:
        return Explorer() if name == "explorer" else super()._expert(name)

    def _save(self) -> Any:
        return super()._save(), self._ordered

    def _load(self, state: Any) -> None:
        inner, self._ordered = state
        super()._load(inner)


@lru_cache(maxsize=64)
def _made(split: str, index: int) -> tuple[MiniTask, Server]:
    task = generate(split, index)
    return task, Server({DB: task.tables}, cache=256)


def _pattern(wording: str) -> re.Pattern[str]:
    """A wording as a pattern that finds what stands in its places."""
    seen: set[str] = set()

    def place(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        shape = r"\d+" if name in "kc" else r"\w+" if name in "TtPpvw" else r"\w+(?: \w+)?"
        return f"(?P<{name}>{shape})"

    return re.compile(re.sub(r"\\\{(\w)\\\}", place, re.escape(wording)) + r"\Z")


_PATTERNS = [(_pattern(wording), gold) for _, _, _, wordings, gold in FORMS for wording in wordings]


class Explorer:
    """Reads the schema, then the question, then asks: knows only what it was shown.

    Which words of the question are columns and which are tables it finds in the schema that DESCRIBE
    showed; two tables are joined by a key of one that the other has a column of the same name for.
    """

    privileged = False

    def __init__(self) -> None:
        self._question: str | None = None
        self._tables: list[str] = []
        self._schema: dict[str, list[tuple[str, str]]] = {}
        self._asked = False

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """SHOW TABLES, DESCRIBE each, the query, submit."""
        if self._question is None:
            self._question = observation
            return "SHOW TABLES"
        if not self._tables:
            self._tables = [row[0] for row in ast.literal_eval(observation)]
        elif len(self._schema) < len(self._tables):
            rows = ast.literal_eval(observation)
            self._schema[self._tables[len(self._schema)]] = [(row[0], row[3]) for row in rows]
        if len(self._schema) < len(self._tables):
            return f"DESCRIBE {self._tables[len(self._schema)]}"
        if self._asked:
            return "submit"
        self._asked = True
        return self._query() or "submit"

    def _query(self) -> str | None:
        """The first reading of the question that fits the schema, as a query."""
        assert self._question is not None
        for pattern, gold in _PATTERNS:
            match = pattern.match(self._question)
            if match is None:
                continue
            query = self._fitted(match.groupdict(), gold)
            if query is not None:
                return query
        return None

    def _table(self, spoken: str | None, one: str | None) -> str | None:
        for table, columns in self._schema.items():
            if spoken is not None and words(table) == spoken:
                return table
            if (
                spoken is None
                and one is not None
                and any(c == f"{one}_id" and key == "PRI" for c, key in columns)
            ):
                return table
        return None

    def _fitted(self, said: dict[str, str], gold: str) -> str | None:
        child, parent = (self._table(said.get(a), said.get(b)) for a, b in (("T", "t"), ("P", "p")))
        if child is None and (parent is None or "{T}" in gold):
            return None
        if "{P}" in gold and parent is None:
            return None
        values: dict[str, str] = {"T": child or "", "P": parent or ""}
        if child is not None and parent is not None:
            mine = {c for c, _ in self._schema[child]}
            shared = [c for c, key in self._schema[parent] if key == "PRI" and c in mine]
            if not shared:
                return None
            values["f"] = shared[0]
        for name, table in (("n", child), ("l", child), ("x", child), ("m", parent), ("q", parent)):
            if name not in said:
                continue
            found = [c for c, _ in self._schema.get(table or "", ()) if words(c) == said[name]]
            if not found:
                return None
            values[name] = found[0]
        for name in "vwkc":
            if name in said:
                values[name] = said[name].replace("'", "''")
        return gold.format(**values)


make = Maker(MiniSQL)

__all__ = ["LEVELS", "Explorer", "MiniSQL", "make"]

"""What the SQL environments share: a session with a database, judged against a gold answer."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from prosegym.envs.core import MAX_ACTION, Expert, Outcome, Task, TextEnv
from prosegym.envs.errors import BadOption, UnknownName, Unsupported
from prosegym.envs.sql.engine import Answer, Server
from prosegym.envs.sql.reward import Kendall, reward

SHOWN = 200_000
"""Characters of an observation that are shown."""

_EXECUTE = re.compile(r"\s*execute\[(.*)\]\s*\Z", re.S | re.I)
_ABOUT = re.compile(r"\s*(desc|describe|explain|show)\b", re.I)
_SPACES = re.compile(r"\s+")


class Database(Protocol):
    """Where statements are run: SQLite as MySQL, or a real MySQL server."""

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        """The answer to one statement in the database `db`."""
        ...


def same_statement(a: str, b: str) -> bool:
    """Whether two statements are one but for spaces around and between words, and a final semicolon."""
    return a == b or _SPACES.sub(" ", a).strip(" ;") == _SPACES.sub(" ", b).strip(" ;")


class SQLEnv(TextEnv):
    """One question about one database; statements are answered, the last answer is what counts."""

    experts: ClassVar[Mapping[str, bool]] = {"gold": True}
    tells_type: ClassVar[bool] = False
    max_steps = 10
    refusal = (
        "Error executing query: the statement is longer than "
        f"{MAX_ACTION:,} characters or holds a control character"
    )

    def __init__(
        self,
        *,
        kendall: Kendall = "upstream",
        gold: str = "repaired",
        stop_at_success: bool = False,
        rows: int = 5000,
        writes: bool = False,
        describe: str = "bytes",
        **base: Any,
    ) -> None:
        """Make the environment; nothing is loaded before the first reset.

        Args:
            kendall: how the order of rows counts: "upstream" (times tau), "retroact" (times (tau + 1) / 2),
                "none" (not at all).
            gold: what is right: "repaired" (the gold query's answer in the task's own database; where MySQL
                refuses it, its answer under SQLite's rules, for which it was written) or "upstream" (its
                answer in the session's database; no rows where it is refused, as InterCode does).
            stop_at_success: whether the episode ends, unasked, at reward 1, as InterCode's and RetroAct's
                experiments do with the reward as their oracle.
            rows: rows that an observation shows at most.
            writes: whether statements may write: on a copy that the episode owns and that ends with it.
            describe: how DESCRIBE and SHOW COLUMNS show types and defaults: as "bytes" or as "text"; the
                MySQL client does one or the other, by its version.
            base: those of `TextEnv`.
        """
        if describe not in ("bytes", "text"):
            raise UnknownName("describe", describe, ["bytes", "text"])
        if kendall not in ("upstream", "retroact", "none"):
            raise UnknownName("kendall", kendall, ["upstream", "retroact", "none"])
        if gold not in ("repaired", "upstream"):
            raise UnknownName("gold", gold, ["repaired", "upstream"])
        if rows < 1:
            raise BadOption(f"rows must be at least 1, not {rows}")
        super().__init__(**base)
        self.kendall: Kendall = kendall
        self.gold_rule = gold
        self.stop_at_success = stop_at_success
        self.rows = rows
        self.writes = writes
        self.describe = describe
        self.upstream_reward = 0.0
        """The reward of the last statement before it is clipped to [0, 1] for `score`: in [-1, 1]."""
        self._db = ""
        self._best = 0.0

    @abstractmethod
    def _open(self, task: Task) -> tuple[Database, str, str, str]:
        """(database server, database, question, gold query) of a task."""

    def _begin(self, task: Task) -> Outcome:
        self._server, self._home, question, self._gold = self._open(task)
        self._judge = self._server  # what an episode writes does not change what is right
        if self.writes and isinstance(self._server, Server):
            self._server = self._server.writable()
        self._db = self._home
        self._best = self.upstream_reward = 0.0
        self._golds: dict[str, list[str]] = {}
        return Outcome(question)

    def _gold_rows(self) -> list[str]:
        """The gold answer's rows as text."""
        # Upstream asks in the session's database: after a USE of one without the tables, no rows are right.
        db = self._db if self.gold_rule == "upstream" else self._home
        found = self._golds.get(db)
        if found is None:
            answer = self._judge.run(self._gold, db)
            if answer.error is not None and self.gold_rule == "repaired":
                answer = self._judge.run(self._gold, db, strict=False)
            found = self._golds[db] = [] if answer.error is not None else answer.row_texts
        return found

    def _play(self, action: str) -> Outcome:
        last = self._last
        if action.startswith("submit"):
            return last._replace(terminated=True, invalid=False)
        if action == "skip":
            return Outcome("skipped", 0.0, self._best, False, True)
        if match := _EXECUTE.match(action):
            action = match[1]
        answer = self._server.run(action, self._db)
        if answer.error is not None and self.gold_rule == "repaired" and same_statement(action, self._gold):
            answer = self._server.run(self._gold, self._db, strict=False)
        if answer.db is not None:
            self._db = answer.db
        if answer.error is not None or answer.rows is None:
            self.upstream_reward = 0.0
        else:
            self.upstream_reward = reward(answer.row_texts, self._gold_rows(), self._order_rule())
        score = max(0.0, self.upstream_reward)
        self._best = max(self._best, score)
        done = score == 1.0
        if self.describe == "text" and answer.rows and _ABOUT.match(action):
            plain = [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in answer.rows]
            answer = Answer(plain)
        invalid = answer.error is not None
        return Outcome(
            self._shown_of(answer), score, self._best, done, done and self.stop_at_success, invalid
        )

    def _order_rule(self) -> Kendall:
        """How order counts in the present episode."""
        return self.kendall

    def _shown_of(self, answer: Answer) -> str:
        text = (
            answer.text
            if answer.rows is None or len(answer.rows) <= self.rows
            else str(answer.rows[: self.rows])
        )
        return text if len(text) <= SHOWN else text[:SHOWN]

    def _expert(self, name: str) -> Expert:
        return _Gold(self._gold)

    def _save(self) -> Any:
        if self.writes:
            raise Unsupported(f"{self.env_id} with writes=True cannot snapshot; start from a prefix instead")
        fixed = self._server, self._judge, self._home, self._gold, self._golds
        return fixed, self._db, self._best, self.upstream_reward

    def _load(self, state: Any) -> None:
        fixed, self._db, self._best, self.upstream_reward = state
        self._server, self._judge, self._home, self._gold, self._golds = fixed


class _Gold:
    """Asks the gold query, then submits."""

    privileged = True

    def __init__(self, gold: str) -> None:
        self._query = gold

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The gold query until it has been answered."""
        return "submit" if info["success"] else self._query

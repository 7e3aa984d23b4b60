"""`prosegym/InterCodeSQL-v1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prosegym.envs.core import Outcome, Task, Tasks, digest
from prosegym.envs.errors import UnknownName
from prosegym.envs.rewards import Maker
from prosegym.envs.sql import data
from prosegym.envs.sql.base import Database, SQLEnv
from prosegym.envs.sql.remote import MySQL, address

INSTRUCTION = (
    "You answer a question about a MySQL database by asking it. Each action is one SQL statement, sent as "
    "it is (SHOW TABLES and DESCRIBE tell what there is); the observation is its rows as a Python list of "
    "tuples, or the server's error. The rows of your last statement before the action `submit` are your "
    "answer: they must be the right rows, with the right columns, in the right order."
)


class InterCodeSQL(SQLEnv):
    """InterCode-SQL (Yang et al. 2023, arXiv:2306.14898): Spider's dev questions, asked of MySQL.

    Observation: the question; then each statement's rows as `str` of a list of tuples, `None` where the
        statement gives none, or `Error executing query: ...`.
    Actions: one MySQL statement (also as `execute[...]`); `submit` ends the episode, `skip` ends it with 0.
    Reward: IoU of the two multisets of rows times Kendall's tau of their common rows' order, clipped at 0
        as `score` (`upstream_reward` keeps the sign).
    Progress: the best score so far.
    Termination: at `submit` and `skip`; at reward 1 with `stop_at_success`; truncated after 10 steps.
    Splits: dev (1,034 tasks over 20 databases), the only one; hardness is the task type.
    Source: github.com/princeton-nlp/intercode, MIT; Spider CC BY-SA 4.0.
    Differences: SQLite in memory answers as MySQL 8.0 would (docs/envs/intercode_sql.md lists what
        differs, with measured shares). Each episode starts from the dump, and statements that write are
        refused, where upstream's server keeps what agents do to it. Gold queries that MySQL refuses are
        repaired (`gold="upstream"` leaves them).
    """

    env_id = "prosegym/InterCodeSQL-v1"
    instruction = INSTRUCTION
    splits = ("dev",)
    data = data.OFFICIAL.name
    official = True

    def __init__(self, *, split: str = "dev", server: str | None = None, **base: Any) -> None:
        """Make the environment; nothing is loaded before the first reset.

        Args:
            split: only "dev".
            server: URL of a real MySQL or MariaDB server that holds the databases
                (`mysql://user@host:port`, its password in PROSEGYM_MYSQL_PASSWORD); None answers in this
                process.
            base: those of `SQLEnv` and `TextEnv`.

        Raises:
            BadOption: `server` is no such URL, or has a password in it.
        """
        super().__init__(split=split, **base)
        if server is not None:
            address(server)
        self._url = server
        self._remote: MySQL | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks, in the file's order, made when asked for; ids are `dev/<index>`."""
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        records, _ = data.official()
        dump = data.FILES[data.DUMP]

        def made(i: int) -> Task:
            r = records[i]
            content = digest(dump, r.db, r.query, r.gold, r.hardness)
            return Task(f"dev/{i}", split, self.env_id, r.hardness, content)

        return Tasks(len(records), made)

    def _open(self, task: Task) -> tuple[Database, str, str, str]:
        records, server = data.official()
        record = records[int(task.id.partition("/")[2])]
        if self._url is None:
            return server, record.db.lower(), record.query, record.gold
        if self._remote is None:
            self._remote = MySQL(self._url)
        else:  # what an episode did to its session ends with it, and so does one that was lost
            self._remote.renew()
        return self._remote, record.db.lower(), record.query, record.gold

    def _begin(self, task: Task) -> Outcome:
        first = super()._begin(task)
        if self._remote is not None:
            self._gold_rows()  # asked before the agent can do anything to the session
        return first

    def close(self) -> None:
        """Let go of the engine, and of the session on a server."""
        super().close()
        if self._remote is not None:
            self._remote.close()


make = Maker(InterCodeSQL)

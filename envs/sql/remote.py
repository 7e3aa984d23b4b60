"""A real MySQL or MariaDB server, for those who want the original."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from prosegym.envs.errors import BadOption, EngineError, ProsegymError
from prosegym.envs.sql.engine import Answer

PASSWORD = "PROSEGYM_MYSQL_PASSWORD"
"""Environment variable with the password: URLs stand in every record of what was played."""


def address(url: str) -> SplitResult:
    """The URL of a server in its parts.

    Raises:
        BadOption: it is no such URL, or has a password.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("mysql", "mariadb"):
            raise ValueError("of another kind")
    except ValueError as error:
        raise BadOption("`server` is not of the form mysql://user@host:port") from error
    if parts.password is not None:
        raise BadOption(f"a password in `server` would stand in every record; put it into {PASSWORD}")
    return parts


class MySQL:
    """A session on a server that holds InterCode's databases; the rows that a statement writes are undone."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: `mysql://user@host:port` or `mysql://user@/?unix_socket=PATH`; the password, if there is one,
                is taken from the environment variable PROSEGYM_MYSQL_PASSWORD.

        Raises:
            BadOption: that is no such URL, or it has a password.
            ProsegymError: PyMySQL is not installed, or the server does not answer.
        """
        self._parts = address(url)
        try:
            import pymysql
        except ImportError as error:
            raise ProsegymError('a real server needs PyMySQL; run `pip install "prosegym[mysql]"`') from error
        self._errors = pymysql.err
        self._connect: Callable[..., Any] = pymysql.connect
        self._connection: Any = None
        self.renew()

    def renew(self) -> None:
        """Begin a new session: variables, temporary tables and locks of the one before end with it.

        Raises:
            ProsegymError: the server does not answer.
        """
        self.close()
        parts = self._parts
        socket = parts.query.removeprefix("unix_socket=") or None
        try:
            self._connection = self._connect(
                host=parts.hostname or "localhost",
                port=parts.port or 3306,
                user=unquote(parts.username or ""),
                password=os.environ.get(PASSWORD, ""),
                unix_socket=socket,
                charset="utf8mb4",
                autocommit=False,
            )
        except (self._errors.MySQLError, ValueError) as error:
            raise ProsegymError(f"cannot connect to {parts.hostname or socket}: {error}") from error
        self._db = ""

    def close(self) -> None:
        """End the session."""
        if self._connection is not None and self._connection.open:
            self._connection.close()

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        """The server's answer to one statement in the database `db`; the rows that it wrote are undone.

        Raises:
            EngineError: the connection was lost.
        """
        del strict  # a real server has its own rules
        cursor = self._connection.cursor()
        try:
            if db != self._db:
                self._connection.select_db(db)
                self._db = db
            self._connection.begin()  # also undoes what is written under SET autocommit=1
            cursor.execute(statement)
            if cursor.description is not None:
                return Answer([tuple(row) for row in cursor.fetchall()])
            # USE is written in many ways (USE`x`, /* */ USE x): the server knows where the session is.
            cursor.execute("SELECT DATABASE() LIMIT 1")  # a limit that the session has set does not hold then
            self._db = (cursor.fetchone()[0] or "").lower()
            return Answer(db=self._db)
        except (self._errors.OperationalError, self._errors.InterfaceError) as error:
            code, message = _parts(error)
            if code in (0, 2003, 2006, 2013, 2055):
                raise EngineError(f"the connection to the MySQL server was lost: {message}") from error
            return Answer(error=message)
        except self._errors.MySQLError as error:
            return Answer(error=_parts(error)[1])
        finally:
            cursor.close()
            try:
                self._connection.rollback()
            except self._errors.MySQLError:
                self._db = ""


def _parts(error: Exception) -> tuple[int, str]:
    if len(error.args) > 1:
        return int(error.args[0]), str(error.args[1])
    return 0, str(error)

"""A real MySQL or MariaDB server, for those who want the original."""

from __future__ import annotations

import os
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
    """A connection to a server that holds InterCode's databases; what a statement writes is undone."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: `mysql://user@host:port` or `mysql://user@/?unix_socket=PATH`; the password, if there is one,
                is taken from the environment variable PROSEGYM_MYSQL_PASSWORD.

        Raises:
            BadOption: that is no such URL, or it has a password.
            ProsegymError: PyMySQL is not installed, or the server does not answer.
        """
        parts = address(url)
        try:
            import pymysql
        except ImportError as error:
            raise ProsegymError('a real server needs PyMySQL; run `pip install "prosegym[mysql]"`') from error
        socket = parts.query.removeprefix("unix_socket=") or None
        try:
            self._connection = pymysql.connect(
                host=parts.hostname or "localhost",
                port=parts.port or 3306,
                user=unquote(parts.username or ""),
                password=os.environ.get(PASSWORD, ""),
                unix_socket=socket,
                charset="utf8mb4",
                autocommit=False,
            )
        except (pymysql.err.MySQLError, ValueError) as error:
            raise ProsegymError(f"cannot connect to {parts.hostname or socket}: {error}") from error
        self._errors = pymysql.err
        self._db = ""

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        """The server's answer to one statement in the database `db`; what it wrote is undone.

        Raises:
            EngineError: the connection was lost.
        """
        del strict  # a real server has its own rules
        cursor = self._connection.cursor()
        try:
            if db != self._db:
                self._connection.select_db(db)
                self._db = db
            cursor.execute(statement)
            if cursor.description is not None:
                return Answer([tuple(row) for row in cursor.fetchall()])
            # USE is written in many ways (USE`x`, /* */ USE x): the server knows where the session is.
            cursor.execute("SELECT DATABASE()")
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

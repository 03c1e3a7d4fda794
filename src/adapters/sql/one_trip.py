"""aiosqlite with one trip to the connection's thread for each statement.

SQLAlchemy's adapter makes four (cursor, execute, fetch, close), and a transaction's BEGIN is one more statement. A
trip wakes two threads and costs more than most statements here: with one for each, and BEGIN riding along with the
first, reading one row takes half the time. Given to ``create_async_engine(module=...)``.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

_Answer = tuple[Any, int, int | None, list[Any]]


class OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    """A statement's answer, fetched whole."""

    __slots__ = ("_answer",)

    # Nothing stays open in the thread that would need closing.
    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: "OneTripConnection") -> None:
        self._adapt_connection: OneTripConnection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor = None  # type: ignore[assignment]
        self._rows = deque()
        self._answer: _Answer = (None, -1, None, [])

    @property
    def description(self) -> Any:
        return self._answer[0]

    @property
    def rowcount(self) -> int:
        return self._answer[1]

    @property
    def lastrowid(self) -> Any:
        return self._answer[2]

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        return self._trip(lambda cursor: cursor.execute(operation, parameters or ()))

    def executemany(self, operation: Any, seq_of_parameters: Sequence[Any]) -> Any:
        return self._trip(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    def _trip(self, run: Callable[[sqlite3.Cursor], object]) -> None:
        connection = self._adapt_connection
        first = connection.first

        def work(raw: sqlite3.Connection) -> _Answer:
            for statement in first:
                raw.execute(statement)
            cursor = raw.cursor()
            try:
                run(cursor)
                rows = cursor.fetchall() if cursor.description else []
                return cursor.description, cursor.rowcount, cursor.lastrowid, rows
            finally:
                cursor.close()

        try:
            connection.first = ()
            self._answer = await_(connection.in_thread(work))
        except Exception as error:  # noqa: BLE001 - SQLAlchemy translates it
            connection._handle_exception(error)
        self._rows = deque(self._answer[3])


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """``first`` is what the next statement begins with: a transaction's BEGIN."""

    __slots__ = ("first",)

    _cursor_cls = OneTripCursor  # type: ignore[assignment]

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.first: tuple[str, ...] = ()

    async def in_thread(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        connection: Any = self._connection
        answer: _Answer = await connection._execute(lambda: work(connection._conn))
        return answer

    def commit(self) -> None:
        if not self._unbegun():
            super().commit()

    def rollback(self) -> None:
        if not self._unbegun():
            super().rollback()

    def _unbegun(self) -> bool:
        """Whether the transaction ends without a statement: then it never began."""
        unbegun = bool(self.first)
        self.first = ()
        return unbegun


class OneTripModule(AsyncAdapt_aiosqlite_dbapi):
    """The DBAPI."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> OneTripConnection:
        connection: Any = self.aiosqlite.connect(*arg, **kw)
        # A process may end with a statement under way: SQLite undoes what was not committed.
        connection._thread.daemon = True
        try:
            return OneTripConnection(self, await_(connection))
        except Exception:
            # The thread of a connection that could not be opened has one more thing to tell the loop, which must
            # not be closed before.
            await_(asyncio.to_thread(connection._thread.join))
            raise

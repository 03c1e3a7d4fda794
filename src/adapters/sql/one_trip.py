"""aiosqlite, with a way to its connection's thread: several statements can be one trip there.

A trip wakes two threads and costs more than most statements here. Given to ``create_engine(module=...)``.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_dbapi
from sqlalchemy.util.concurrency import await_

T = TypeVar("T")


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    async def in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do this with the connection, in its thread."""
        connection: Any = self._connection
        done: T = await connection._execute(lambda: work(connection._conn))
        return done


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

"""What SQLAlchemy and the drivers raise, in the words of the core. Nothing else in this package looks at a code."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Dialect

from adapters.sql.tables import metadata
from chat_core.errors import Contention, StorageUnavailable

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_COLLIDED = {"40001", "40P01"}
#: Whole classes: connection exceptions, refused authorization, no such database, insufficient resources (disk full, too
#: many connections), operator intervention (shutting down, a time-out of the server's), system errors.
_AWAY_CLASSES = ("08", "28", "3D", "53", "57", "58")
#: Lock not available, read-only transaction (a standby after a failover), idle in transaction for too long.
_AWAY = {"55P03", "25006", "25P03"}
#: The session may have ended after its commit was written: the server is being shut down, or the line is dead.
_LOST = ("08", "57P")

# https://www.sqlite.org/rescode.html, primary codes
_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

#: SQLite names the columns of a violated constraint and not the constraint.
_BY_COLUMNS = {
    ", ".join(f"{table.name}.{column.name}" for column in unique.columns): str(unique.name)
    for table in metadata.tables.values()
    for unique in (*table.constraints, *table.indexes)
    if isinstance(unique, sa.UniqueConstraint | sa.PrimaryKeyConstraint)
    or (isinstance(unique, sa.Index) and unique.unique)
}


@contextmanager
def in_words_of_sqlalchemy(dialect: Dialect, connection: Any = None, sql: str | None = None) -> Iterator[None]:
    """What a driver raises, as SQLAlchemy would: without the parameters, since what people wrote, and their hashes,
    stay out of errors and so out of logs. ``connection`` is SQLAlchemy's adapter of the driver's."""
    base: Any = dialect.loaded_dbapi.Error
    try:
        try:
            yield
        except Exception as error:
            if connection is None or isinstance(error, base):
                raise
            connection._handle_exception(error)  # noqa: SLF001 - the driver's errors in the adapter's words, as it does
            raise
    except base as original:
        raise exc.DBAPIError.instance(
            sql,
            None,
            original,
            base,
            hide_parameters=True,
            connection_invalidated=dialect.is_disconnect(original, connection, None),
            dialect=dialect,
        ) from original


def _sqlstate(error: exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def translated(error: Exception) -> StorageUnavailable | None:
    """What this failure is to a caller; ``None`` where it is a fault of ours."""
    if isinstance(error, exc.TimeoutError):
        return StorageUnavailable("All connections to the database are in use.")
    if isinstance(error, OSError):  # asyncio's and asyncpg's time-outs are OSErrors too
        return StorageUnavailable()
    if not isinstance(error, exc.DBAPIError):
        return None
    state = _sqlstate(error)
    cause = error.orig.__cause__ if error.orig is not None else None
    # A migration changed a table under a statement prepared before it; SQLAlchemy has dropped its cache by now.
    if state in _COLLIDED or isinstance(cause, asyncpg.InvalidCachedStatementError):
        return Contention()
    if error.connection_invalidated or isinstance(cause, asyncpg.InterfaceError):
        return StorageUnavailable()
    if state in _AWAY or state.startswith(_AWAY_CLASSES):
        return StorageUnavailable()
    if _sqlite_code(error) in _SQLITE_AWAY:
        return StorageUnavailable()
    return None


def divided_by_zero(error: Exception) -> bool:
    """How a statement says that it must not be done after all (PostgreSQL)."""
    return isinstance(error, exc.DBAPIError) and _sqlstate(error) == "22012"


@contextmanager
def in_words_of_the_core() -> Iterator[None]:
    """What an attempt to get a connection raises: nothing was said on it yet, whatever the failure."""
    try:
        yield
    except Exception as error:
        if (away := translated(error)) is not None:
            raise away from error
        raise


def locked_out(error: exc.DBAPIError) -> bool:
    """Whether it was refused a row that somebody else holds (PostgreSQL)."""
    return _sqlstate(error) in {"55P03", "40P01"}


def outcome_unknown(error: Exception) -> bool:
    """Whether a commit that failed so may have happened all the same.

    An error that the server itself reports has undone the transaction, except where the server is going away. SQLite
    says busy or full before anything is written; after an I/O error only the next reader of the file can tell.
    """
    if not isinstance(error, exc.DBAPIError):
        return isinstance(error, OSError)
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_code(error) == sqlite3.SQLITE_IOERR
    state = _sqlstate(error)
    return state.startswith(_LOST) or (error.connection_invalidated and not state)


def violated(error: exc.IntegrityError) -> str:
    """The name of the constraint that refused this, on both databases alike.

    Empty for a foreign key of SQLite's, which never says which one it was.
    """
    cause = error.orig.__cause__ if error.orig is not None else None
    if isinstance(cause, asyncpg.PostgresError):
        return getattr(cause, "constraint_name", None) or ""
    _, _, columns = str(error.orig).partition("UNIQUE constraint failed: ")
    return _BY_COLUMNS.get(columns, "")


def points_nowhere(error: exc.IntegrityError, table: str) -> bool:
    """Whether this was refused for want of the row in this table that it points at.

    SQLite never says which foreign key it was: to be asked where there is one alone.
    """
    name = violated(error)
    if name:
        return name.startswith("fk_") and name.endswith(f"_{table}")
    return str(error.orig) == "FOREIGN KEY constraint failed"


def _sqlite_code(error: exc.DBAPIError) -> int | None:
    # The low byte is the primary code, the rest says more about it.
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

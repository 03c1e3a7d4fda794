"""Bringing a database's schema to the revision that this version needs, and refusing one that is at another.

Alembic is imported only when something is to be migrated: a server that starts does not pay for it.
"""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from adapters.sql.engine import Database, normalize_url
from adapters.sql.failures import translated
from adapters.sql.tables import SCHEMA_REVISION
from chat_core.errors import StorageUnavailable

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.ext.asyncio import AsyncConnection

#: Of PostgreSQL's advisory lock: "chat" in ASCII. All versions of this program take the same one.
_LOCK = 0x63686174
#: How long one that migrates waits, in seconds, for another that does.
_PATIENCE = 60.0

_CURRENT = sa.text("SELECT version_num FROM alembic_version")


class SchemaMismatch(Exception):
    """The database is at another revision than this version needs."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """``current`` is the database's revision (``None``: it has none), ``head`` the one that this version needs."""

    current: str | None
    head: str

    @property
    def fits(self) -> bool:
        return self.current == self.head

    def require(self) -> None:
        """Raise ``SchemaMismatch``, with what to do, where it does not fit."""
        if not self.fits:
            at = "has no tables yet" if self.current is None else f"is at revision {self.current}"
            raise SchemaMismatch(f"The database {at}, this version needs {self.head}: run `chat-api migrate`")


async def check(database: Database) -> SchemaState:
    """How the database's schema stands to this version. Raises ``StorageUnavailable``."""
    if _is_yet_to_be_made(database):
        if not Path(str(database.url.database)).parent.is_dir():
            raise StorageUnavailable("There is no such directory for the database's file.")
        return SchemaState(current=None, head=SCHEMA_REVISION)
    try:
        current = await greenlet_spawn(_current, database.read)
    except Exception as error:
        if (away := translated(error)) is not None:
            raise away from error
        raise
    return SchemaState(current=current, head=SCHEMA_REVISION)


def _current(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(_CURRENT) if sa.inspect(connection).has_table("alembic_version") else None


def _is_yet_to_be_made(database: Database) -> bool:
    # Opening an SQLite file that is not there would make it, and a check changes nothing.
    return database.dialect == "sqlite" and not Path(str(database.url.database)).exists()


async def upgrade(url: str | sa.URL, revision: str = "head") -> None:
    """Bring the schema up to this revision, all of it or nothing; harmless where it is there already.

    Any number of processes may do this at once: one does, the others wait for it and find it done. Raises
    ``ValueError`` for a URL as ``normalize_url`` does, ``StorageUnavailable`` where the database is away.
    """
    from alembic import command

    await _run(url, lambda config: command.upgrade(config, revision))


async def downgrade(url: str | sa.URL, revision: str) -> None:
    """Take the schema back to this revision (``"base"``: to nothing), with what newer tables and columns hold."""
    from alembic import command

    await _run(url, lambda config: command.downgrade(config, revision))


async def _run(url: str | sa.URL, migrate: Any) -> None:
    def on(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        migrate(config)

    try:
        async with migrating(url) as connection:
            await connection.run_sync(on)
    except Exception as error:
        if (away := translated(error)) is not None:
            raise away from error
        raise


def alembic_config() -> "Config":
    """Alembic's configuration with the revisions that this package holds, wherever it is installed."""
    from alembic.config import Config

    config = Config()
    # Percent signs would be read as interpolations.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


@asynccontextmanager
async def migrating(url: str | sa.URL) -> "AsyncIterator[AsyncConnection]":
    """A connection in a transaction that holds off everyone else who migrates, committed at the end.

    It has none of the server's time-outs: a migration may take as long as it needs.
    """
    from sqlalchemy.ext.asyncio import create_async_engine

    normal = normalize_url(url) if isinstance(url, str) else url
    if normal.get_backend_name() == "sqlite":
        engine = create_async_engine(normal, poolclass=NullPool, connect_args={"timeout": _PATIENCE})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    else:
        engine = create_async_engine(
            normal,
            poolclass=NullPool,
            connect_args={"timeout": 5.0, "server_settings": {"lock_timeout": f"{_PATIENCE:g}s"}},
        )
    try:
        async with engine.begin() as connection:
            if normal.get_backend_name() == "sqlite":
                yield connection
                broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).fetchall()
                if broken:
                    raise RuntimeError(f"the migration left {len(broken)} rows that point nowhere; nothing was changed")
            else:
                # Freed with the transaction, however it ends.
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                yield connection
    finally:
        await engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    # Off, and checked at the end: copying a table drops the old one, and its rows' dependants would go with it.
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.execute("PRAGMA synchronous=FULL")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Only the first of those that begin at once can turn it on; the others are told that the file is locked, however
    long they would have waited, and find it on a moment later."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

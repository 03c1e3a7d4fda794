"""From a DATABASE_URL to pooled connections that keep the promises on time and isolation."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from adapters.sql.batches import Batches
from adapters.sql.compiled import Compiler
from adapters.sql.failures import in_words_of_the_core
from adapters.sql.group import GroupWriter
from adapters.sql.held import HeldConnections
from adapters.sql.links import Link, PostgresLink, SqliteLink
from adapters.sql.one_trip import OneTripModule
from adapters.sql.statements import SqlStatements
from adapters.sql.step_statements import PROCEDURES
from adapters.sql.writing import patience_ms
from chat_core.errors import StorageUnavailable

_POSTGRES_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}
_SQLITE_SCHEMES = {"sqlite", "sqlite+aiosqlite"}
_FORMS = "sqlite:///path/to/file.db or postgresql://user:password@host/database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections, and how long a caller may be kept waiting, in seconds.

    PostgreSQL: "away" is said within 2 s both when nothing can be opened (``acquire`` for a free place in the pool,
    then ``connect``) and when a connection falls silent (``statement``, kept by the server, with ``grace`` more kept
    by the client for a server that does not answer at all). ``batch_lock`` is how long what is committed together waits
    for one row before each of it is done by itself: for ``batches.MOST`` rows, less than ``statement``. SQLite:
    ``busy`` covers the wait for this process's writer and for other processes' locks together.
    """

    pool_size: int = 10
    acquire: float = 1.0
    connect: float = 0.9
    statement: float = 1.5
    grace: float = 0.3
    lock: float = 1.2
    batch_lock: float = 0.05
    idle_in_transaction: float = 10.0
    busy: float = 5.0
    readers: int = 4

    @property
    def batching(self) -> int:
        """How many of the connections are for what is committed together."""
        return min(2, self.pool_size - 1)


DEFAULT_LIMITS = Limits()

_AS_IT_SEES_FIT: Mapping[str, str] = {}
#: What is committed together looks up a few rows, each by its key. With old statistics a look through all of them seems
#: cheaper, for as long as the plan is kept.
_BY_KEY: Mapping[str, str] = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_PING = sa.select(sa.literal(1))

_SQLITE_ALWAYS = ("PRAGMA foreign_keys=ON", "PRAGMA synchronous=FULL")
_SQLITE_READS = (*_SQLITE_ALWAYS, "PRAGMA query_only=ON")
_SQLITE_WRITES = (
    *_SQLITE_ALWAYS,
    "PRAGMA journal_mode=WAL",
    # Procedures are the connection's own, and nothing that needs a disk.
    "PRAGMA temp_store=MEMORY",
)


def normalize_url(url: str) -> sa.URL:
    """The everyday forms of a database URL with the driver that is used here.

    ``sqlite:///file``, ``postgres://``, ``postgresql://``, each with or without that driver; unix sockets as
    ``postgresql://user@/database?host=/directory``; ``sslmode`` as libpq has it. Raises ``ValueError`` for all else,
    naming DATABASE_URL and never showing what is in it.
    """
    try:
        parsed = sa.make_url(url.strip())
    except (exc.ArgumentError, ValueError):
        # Not chained: the library's error quotes the URL, with its password.
        raise ValueError(f"DATABASE_URL is not a database URL; it looks like {_FORMS}") from None
    if parsed.drivername in _SQLITE_SCHEMES:
        return _sqlite_url(parsed)
    if parsed.drivername in _POSTGRES_SCHEMES:
        return _postgres_url(parsed)
    raise ValueError(f"DATABASE_URL names a kind of database that is not supported; it looks like {_FORMS}")


def _sqlite_url(url: sa.URL) -> sa.URL:
    if not url.database or ":memory:" in url.database or url.database.startswith("file:") or url.query:
        raise ValueError(
            "DATABASE_URL must name an SQLite file, as in sqlite:///./chat.db: "
            "readers and the writer have connections of their own, and a database in memory has one alone"
        )
    if url.host or url.username:
        raise ValueError("DATABASE_URL has two slashes too few or too many: sqlite:///relative or sqlite:////absolute")
    return url.set(drivername="sqlite+aiosqlite")


def _postgres_url(url: sa.URL) -> sa.URL:
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    unknown = sorted(set(query) - {"host", "port", "ssl"})
    if unknown:
        raise ValueError(f"DATABASE_URL has parameters that are not known: {', '.join(unknown)}")
    if not url.database:
        raise ValueError(f"DATABASE_URL names no database; it looks like {_FORMS}")
    return url.set(drivername="postgresql+asyncpg", query=query)


class Database:
    """The connections of this process. ``write`` and ``read`` are engines, to be used in SQLAlchemy's greenlets
    (``greenlet_spawn``), as their drivers are; ``dialect`` is their dialect's name.

    ``AsyncEngine`` would see to the greenlets, but its package loads the ORM: 7 MB in each process and a twelfth of its
    start, for nothing that is used here.
    """

    def __init__(self, url: str | sa.URL, limits: Limits = DEFAULT_LIMITS) -> None:
        """Opens nothing yet. Raises ``ValueError`` as ``normalize_url`` does."""
        normal = normalize_url(url) if isinstance(url, str) else url
        self.url = normal
        self.limits = limits
        self.dialect = normal.get_backend_name()
        writes = (*_SQLITE_WRITES, *(said for procedure in PROCEDURES for said in procedure.setup))
        if self.dialect == "sqlite":
            self.write = _sqlite_engine(normal, limits, 1, writes)
            self.read = _sqlite_engine(normal, limits, limits.readers, _SQLITE_READS)
        else:
            self.write = self.read = _postgres_engine(normal, limits, limits.pool_size - limits.batching)
        self._compiler = Compiler(self.write.dialect)
        self._held = {engine: self._holding(engine) for engine in {self.write, self.read}}
        self._batches: Batches | None = None
        if self.dialect == "postgresql" and limits.batching:
            hasty = replace(limits, lock=limits.batch_lock)
            batching = _postgres_engine(normal, hasty, limits.batching, _BY_KEY)
            self._held[batching] = self._holding(batching)
            self._batches = Batches(self._held[batching], self._compiler.dialect)
        self._group: GroupWriter | None = None
        if self.dialect == "sqlite":
            held = self._held[self.write]
            self._group = GroupWriter(held, str(normal.database), writes, PROCEDURES, limits.busy)

    def _holding(self, engine: sa.Engine) -> HeldConnections:
        return HeldConnections(engine, self._compiler.dialect)

    @property
    def in_use(self) -> int:
        """How many connections somebody has now."""
        return sum(held.in_use for held in self._held.values())

    async def begin(self, *, readonly: bool = False) -> Link:
        """A transaction on a connection of its own, which it takes when it has something to say; of those that only
        read from SQLite, now. Raises ``StorageUnavailable`` within the limits."""
        held = self._held[self.read if readonly else self.write]
        if self.dialect == "postgresql":
            return PostgresLink(self._compiler, held, self._batches, readonly=readonly)
        if not readonly:
            return SqliteLink(self._compiler, held, self._writer, self._group)
        link = SqliteLink(self._compiler, held, self._reader)
        with in_words_of_the_core():
            await link.open()
        return link

    async def _reader(self) -> tuple[PoolProxiedConnection, tuple[str, ...]]:
        return await self._held[self.read].take(), ("BEGIN",)

    async def _writer(self) -> tuple[PoolProxiedConnection, tuple[str, ...]]:
        """A transaction that reads first and then writes fails at once when another wrote in between, whatever the
        time-out: one that may write takes the lock before it looks."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        proxied = await self._held[self.write].take()
        return proxied, (*self._busy_timeout(proxied, clock() - asked), "BEGIN IMMEDIATE")

    def _busy_timeout(self, proxied: PoolProxiedConnection, waited: float) -> tuple[str, ...]:
        """Whoever waited for this process's writer has that much less time for other processes."""
        wanted = patience_ms(self.limits.busy, waited)
        if proxied.info.get("busy_ms", round(self.limits.busy * 1000)) == wanted:
            return ()
        proxied.info["busy_ms"] = wanted
        return (f"PRAGMA busy_timeout={wanted}",)

    async def ping(self, within: float = 1.0) -> None:
        """Raises ``StorageUnavailable`` where the database does not answer within so many seconds."""
        try:
            async with asyncio.timeout(within):
                statements = SqlStatements(await self.begin(readonly=True))
                try:
                    await statements.row(_PING)
                finally:
                    await statements.leave()
        except StorageUnavailable:
            raise
        except Exception as error:
            raise StorageUnavailable from error

    async def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when they come back. What SQLite's writer
        has begun comes to its end first."""
        if self._group is not None:
            await self._group.close()
        for held in self._held.values():
            held.close()
        for engine in self._held:
            await greenlet_spawn(engine.dispose)


def _sqlite_engine(url: sa.URL, limits: Limits, pool_size: int, opening: tuple[str, ...]) -> sa.Engine:
    """SQLite has one writer at a time, so there is one connection for it: the transactions of this process queue up
    in asyncio, in order, and only other processes are met inside SQLite, which knows no order. ``opening`` is said on a
    new connection."""
    engine = sa.create_engine(
        url,
        module=OneTripModule(),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=limits.busy,
        # Closing a connection rolls back what is open; the pool's own rollback on top would be a trip to the
        # connection's thread for nothing.
        pool_reset_on_return=None,
        connect_args={"timeout": limits.busy},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 begins nothing by itself: ``begin`` does
        cursor = connection.cursor()
        for statement in opening:
            cursor.execute(statement)
        cursor.close()

    return engine


def _postgres_engine(
    url: sa.URL, limits: Limits, pool_size: int, planning: Mapping[str, str] = _AS_IT_SEES_FIT
) -> sa.Engine:
    """``planning`` is more of what PostgreSQL's planner is told."""

    def milliseconds(seconds: float) -> str:
        return str(round(seconds * 1000))

    engine = sa.create_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=limits.acquire,
        # The connection used last is the one with the warmest caches, and the others may grow idle.
        pool_use_lifo=True,
        connect_args={
            "timeout": limits.connect,
            "command_timeout": limits.statement + limits.grace,
            # More than there are statements here.
            "statement_cache_size": 500,
            "server_settings": {
                "application_name": "chat-api",
                "timezone": "UTC",
                "default_transaction_isolation": "read committed",
                # Statements here touch few rows: compiling one would cost more than running it.
                "jit": "off",
                # And they find them in the order of an index: where the statistics are old, as in a database that is
                # filled, a plan that takes all rows of a room and sorts them looks cheaper than it is.
                "enable_bitmapscan": "off",
                **planning,
                "statement_timeout": milliseconds(limits.statement),
                "lock_timeout": milliseconds(limits.lock),
                "idle_in_transaction_session_timeout": milliseconds(limits.idle_in_transaction),
            },
        },
    )

    # What pool_pre_ping does, without its three round trips: asyncio tells the driver when the server hangs up, so a
    # restart is seen without asking. A peer that vanished silently would not answer a ping either; the client's
    # time-out on statements is for that.
    @event.listens_for(engine, "checkout")
    def refuse_dead(connection: Any, _record: object, _proxy: object) -> None:
        if connection.driver_connection.is_closed():
            raise exc.DisconnectionError

    return engine

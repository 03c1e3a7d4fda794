"""Connections that are taken out of SQLAlchemy's pool and not given back before somebody else wants them."""

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn

from adapters.sql.failures import in_words_of_sqlalchemy


class HeldConnections:
    """The pool of one engine, with those of its connections at hand that nobody uses.

    Going through the pool takes a greenlet and its events each time, as long as a statement. The pool goes on to bound
    how many there are, and to let those wait who find none: as long as somebody does, connections go back to it.
    """

    def __init__(self, engine: AsyncEngine, dialect: Dialect) -> None:
        self._pool = engine.sync_engine.pool
        self._dialect = dialect
        self._idle: list[PoolProxiedConnection] = []
        self._waiting = 0
        self._open = True

    @property
    def in_use(self) -> int:
        taken = self._pool.checkedout() if isinstance(self._pool, QueuePool) else 0
        return taken - len(self._idle)

    async def take(self) -> PoolProxiedConnection:
        """The one used last: it has the warmest caches, and the others may grow idle."""
        while self._idle:
            proxied = self._idle.pop()
            if not self._is_closed(proxied):
                return proxied
            await greenlet_spawn(proxied.invalidate)
        self._waiting += 1
        try:
            with in_words_of_sqlalchemy(self._dialect):
                return await greenlet_spawn(self._pool.connect)
        finally:
            self._waiting -= 1

    def _is_closed(self, proxied: PoolProxiedConnection) -> bool:
        # asyncio tells asyncpg when the server hangs up, so that a restart is seen without asking.
        driver: Any = proxied.driver_connection
        return self._dialect.name == "postgresql" and bool(driver.is_closed())

    def give_back(self, proxied: PoolProxiedConnection) -> None:
        """After its transaction has ended. Never waits."""
        if self._waiting or not self._open:
            proxied.close()
        else:
            self._idle.append(proxied)

    def close(self) -> None:
        """Let the pool have all of them."""
        self._open = False
        while self._idle:
            self._idle.pop().close()

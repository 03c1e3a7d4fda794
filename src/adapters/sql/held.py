"""Connections that are taken out of SQLAlchemy's pool and not given back before the end."""

import asyncio
from collections import deque
from typing import Any, cast

from sqlalchemy import exc
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn

from adapters.sql.failures import in_words_of_sqlalchemy


class HeldConnections:
    """The pool of one engine, with those of its connections at hand that nobody uses.

    Going through the pool takes a greenlet and its events each time, as long as a statement. It goes on to open and
    close connections, and to say how many there may be; who finds none waits here, first come, first served, and gets
    the next one that comes back. Raises ``sqlalchemy.exc.TimeoutError`` after the pool's time-out.
    """

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self._pool = cast("QueuePool", engine.pool)
        self._dialect = dialect
        self._idle: list[PoolProxiedConnection] = []
        # A turn is a connection, or none: then there is a free place in the pool.
        self._waiting: deque[asyncio.Future[PoolProxiedConnection | None]] = deque()
        self._taken = 0
        self._open = True

    @property
    def in_use(self) -> int:
        return self._taken - len(self._idle)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for one."""
        return bool(self._waiting)

    async def take(self) -> PoolProxiedConnection:
        """The one used last: it has the warmest caches, and the others may grow idle."""
        while True:
            if self._idle:
                proxied = self._idle.pop()
            elif self._taken < self._pool.size():
                return await self._connect()
            elif (given := await self._turn()) is None:
                continue
            else:
                proxied = given
            if not self._is_closed(proxied):
                return proxied
            await self.throw_away(proxied)

    async def _connect(self) -> PoolProxiedConnection:
        self._taken += 1
        try:
            with in_words_of_sqlalchemy(self._dialect):
                return await greenlet_spawn(self._pool.connect)
        except BaseException:
            self._free()
            raise

    async def _turn(self) -> PoolProxiedConnection | None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[PoolProxiedConnection | None] = loop.create_future()
        self._waiting.append(turn)
        late = loop.call_later(self._pool.timeout(), _too_late, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It came in the same moment: the next one gets it, or nobody.
                given = turn.result()
                if given is not None:
                    self.give_back(given)
                else:
                    self._pass_on(None)
            raise
        finally:
            late.cancel()

    def _is_closed(self, proxied: PoolProxiedConnection) -> bool:
        # asyncio tells asyncpg when the server hangs up, so that a restart is seen without asking.
        driver: Any = proxied.driver_connection
        return self._dialect.name == "postgresql" and bool(driver.is_closed())

    def give_back(self, proxied: PoolProxiedConnection) -> None:
        """After its transaction has ended. Never waits."""
        if not self._open:
            proxied.close()
            self._free()
        elif not self._pass_on(proxied):
            self._idle.append(proxied)

    async def throw_away(self, proxied: PoolProxiedConnection) -> None:
        """Close it, for another one to be opened in its place."""
        try:
            await greenlet_spawn(proxied.invalidate)
        finally:
            self._free()

    def _free(self) -> None:
        self._taken -= 1
        self._pass_on(None)

    def _pass_on(self, proxied: PoolProxiedConnection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(proxied)
                return True
        return False

    def close(self) -> None:
        """Let the pool have all of them."""
        self._open = False
        while self._idle:
            self._idle.pop().close()
            self._taken -= 1


def _too_late(turn: "asyncio.Future[PoolProxiedConnection | None]") -> None:
    if not turn.done():
        turn.set_exception(exc.TimeoutError("no connection came back in time"))

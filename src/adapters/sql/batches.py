"""Small transactions of one process, committed together (PostgreSQL).

A statement that is a transaction of its own costs a round trip, a commit and the waking of a server process, which is
more than what it does. Those that come while one of the same text is under way are sent together, and share them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import Dialect

from adapters.sql.failures import in_words_of_sqlalchemy, in_words_of_the_core, locked_out, outcome_unknown
from adapters.sql.group import tell
from adapters.sql.held import HeldConnections
from chat_core.values import value

#: So many go together: whoever comes later waits for these.
MOST = 24
#: Nobody waits longer for others, in seconds.
PATIENCE = 0.2
#: For so many seconds nobody is sent with others, after these had to wait for a row that somebody holds.
APART_SECONDS = 1.0

#: What a driver found, a row after the other.
Found = Sequence[Any]


@value(kw_only=True)
class Own:
    """What tells a statement from the others of its batch: ``mark`` is the first column of each row that it finds, and
    of nobody else's; ``locks`` is the row that it waits for before all others."""

    mark: Any
    locks: Any


@value()
class _Waiting:
    own: Own
    parameters: Sequence[Any]
    done: "asyncio.Future[Found | None]"


class Batches:
    """Sends statements of one text as one transaction.

    Each is told only when all of it is on the disk. Rows are locked in the order of ``Own.locks``, so that no two
    batches deadlock, and the connections of ``held`` are to wait but shortly for one that somebody else holds. Where
    the server refuses one statement of a batch, for that or any other reason, nothing of the batch is done, and each
    goes by itself: what it then raises is its own. Where the connection is lost, all raise that, for of none it is
    known whether it was done. A batch that is held up holds up those alone who are in it.
    """

    def __init__(self, held: HeldConnections, dialect: Dialect) -> None:
        self._held, self._dialect = held, dialect
        self._lines: dict[str, _Line] = {}

    async def found(
        self, sql: str, parameters: Sequence[Any], own: Own, by_itself: Callable[[], Awaitable[Found]]
    ) -> Found:
        """What the statement finds, once that is committed; ``by_itself`` sends it where it has to go so."""
        line = self._lines.get(sql)
        if line is None:
            line = self._lines[sql] = _Line(sql, self._send)
        return await line.found(parameters, own, by_itself)

    async def _send(self, sql: str, batch: Sequence[_Waiting]) -> bool:
        """Tell each what it found, or that it has to go by itself. Returns whether somebody else held a row of it."""
        try:
            with in_words_of_the_core():
                proxied = await self._held.take()
        except BaseException as error:
            tell((one.done for one in batch), error)
            if not isinstance(error, Exception):
                raise
            return False
        raw: Any = proxied.driver_connection
        try:
            with in_words_of_sqlalchemy(self._dialect, proxied.dbapi_connection, sql):
                if len(batch) == 1:
                    rows = await raw.fetch(sql, *batch[0].parameters)
                else:
                    rows = await raw.fetchmany(sql, [one.parameters for one in batch])
        except BaseException as error:
            if isinstance(error, exc.DBAPIError) and not error.connection_invalidated and not outcome_unknown(error):
                self._held.give_back(proxied)
                _scatter(batch)
                return locked_out(error)
            tell((one.done for one in batch), error)
            raw.terminate()
            await self._held.throw_away(proxied)
            if not isinstance(error, Exception):
                raise
            return False
        self._held.give_back(proxied)
        found: dict[Any, list[Any]] = {one.own.mark: [] for one in batch}
        for row in rows:
            found[row[0]].append(row)
        for one in batch:
            if not one.done.done():
                one.done.set_result(found[one.own.mark])
        return False


class _Line:
    """Of those who have the same to say."""

    def __init__(self, sql: str, send: Callable[[str, Sequence[_Waiting]], Awaitable[bool]]) -> None:
        self._sql, self._send = sql, send
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Any, _Waiting] = {}
        self._busy = False
        # Nobody joins the line before this time.
        self._apart_until = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def found(self, parameters: Sequence[Any], own: Own, by_itself: Callable[[], Awaitable[Found]]) -> Found:
        # Of two with one mark nobody could tell whose a row is.
        if self._loop.time() < self._apart_until or own.mark in self._waiting:
            return await by_itself()
        one = _Waiting(own, parameters, self._loop.create_future())
        if self._busy:
            self._waiting[own.mark] = one
            self._watch()
        else:
            self._busy = True
            await self._go([one])
        found = await one.done
        return await by_itself() if found is None else found

    def _watch(self) -> None:
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE, self._held_up)

    def _held_up(self) -> None:
        """What is under way takes too long: who waits for it goes by itself, and so does whoever comes meanwhile."""
        self._patience = None
        self._apart_until = self._loop.time() + APART_SECONDS
        _scatter(self._waiting.values())
        self._waiting.clear()

    def _next(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        batch = self._take()
        self._busy = bool(batch)
        if batch:
            self._task = asyncio.create_task(self._go(batch))
        if self._waiting:
            self._watch()

    async def _go(self, batch: Sequence[_Waiting]) -> None:
        try:
            if await self._send(self._sql, batch):
                self._apart_until = self._loop.time() + APART_SECONDS
        finally:
            self._next()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        for mark in list(self._waiting):
            if len(batch) == MOST:
                break
            one = self._waiting.pop(mark)
            # Who has left has nothing done any more.
            if not one.done.done():
                batch.append(one)
        batch.sort(key=lambda one: one.own.locks)
        return batch


def _scatter(batch: Iterable[_Waiting]) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_result(None)

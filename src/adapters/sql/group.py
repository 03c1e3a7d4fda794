"""Small transactions of one process, committed together (SQLite)."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy.pool import PoolProxiedConnection

from adapters.sql.held import HeldConnections

#: How some of one kind are done, in a connection's thread: what came of each, or nothing. Raises where one fails.
Kind = Callable[[Any, Sequence[Any]], Sequence[Any]]
#: A connection, and what is to be said on it before anything else.
Opening = Callable[[], Awaitable[tuple[PoolProxiedConnection, tuple[str, ...]]]]

#: So many are committed together: whoever comes later waits for these.
MOST = 64


class Doing(NamedTuple):
    """Something that is under way. Both fail where it fails."""

    kind: Kind
    given: Any
    #: What comes of it, as soon as that is known: then its commit has begun, and nothing can stop it any more.
    found: asyncio.Future[Any]
    #: Done once it is on the disk.
    committed: asyncio.Future[None]


class GroupWriter:
    """Does what comes while the writer is busy in its next turn, as one transaction, what is of one kind together; one
    by one, with a savepoint for each, where one of them comes to nothing or fails. What is to be done may then be done
    twice, the first time in vain.

    There is one writer, and each of its commits waits for the disk: one by one, those who write wait for all commits
    before theirs. Where the commit fails, all are told so. Each is told what has come of it while the commit waits for
    the disk: that needs nothing of the interpreter, and the event loop has the time.
    """

    def __init__(self, opening: Opening, held: HeldConnections) -> None:
        self._open, self._held = opening, held
        self._waiting: deque[Doing] = deque()
        self._task: asyncio.Task[None] | None = None

    def begin(self, kind: Kind, given: Any) -> Doing:
        """Have ``given`` done; nothing of it is where it comes to nothing. For who cancels ``found`` before its turn
        nothing is done."""
        loop = asyncio.get_running_loop()
        doing = Doing(kind, given, loop.create_future(), loop.create_future())
        self._waiting.append(doing)
        if self._task is None:
            self._task = asyncio.create_task(self._go_on())
        return doing

    async def close(self) -> None:
        """Wait for what was begun."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _go_on(self) -> None:
        try:
            while self._waiting:
                # What comes in the same turn of the event loop comes along.
                await asyncio.sleep(0)
                await self._turn()
        finally:
            self._task = None

    async def _turn(self) -> None:
        try:
            proxied, first = await self._open()
        except BaseException as error:
            _fail(self._next(), error)
            if not isinstance(error, Exception):
                raise
            return
        batch, loop = self._next(), asyncio.get_running_loop()
        connection: Any = proxied.dbapi_connection
        try:
            works = [(doing.kind, doing.given) for doing in batch]
            await connection.in_thread(
                lambda raw: _together(
                    raw, first, works, lambda each: loop.call_soon_threadsafe(_tell_found, batch, each)
                )
            )
        except BaseException as error:
            _fail(batch, error)
            await self._held.throw_away(proxied)
            if not isinstance(error, Exception):
                raise
            return
        self._held.give_back(proxied)
        for doing in batch:
            if not doing.committed.done():
                doing.committed.set_result(None)

    def _next(self) -> list[Doing]:
        batch: list[Doing] = []
        while self._waiting and len(batch) < MOST:
            doing = self._waiting.popleft()
            # Who has left has nothing done any more.
            if not doing.found.done():
                batch.append(doing)
        return batch


def _tell_found(batch: Sequence[Doing], outcomes: Sequence[Any]) -> None:
    for doing, outcome in zip(batch, outcomes, strict=True):
        if doing.found.done():
            continue
        if isinstance(outcome, Exception):
            doing.found.set_exception(outcome)
        else:
            doing.found.set_result(outcome)


def _fail(batch: Sequence[Doing], error: BaseException) -> None:
    known = [doing.committed for doing in batch if doing.found.done()]
    tell((doing.found for doing in batch), error)
    tell(known, error)
    for committed in known:
        if not committed.cancelled():
            committed.exception()  # who has left does not ask for it, and is not to be told of in the log


def _together(
    raw: Any, first: Sequence[str], works: Sequence[tuple[Kind, Any]], found: Callable[[list[Any]], object]
) -> None:
    """Have it ``found`` what came of each, what it gave or the exception that it raised; then commit."""
    try:
        _begin(raw, first)
        outcomes = _straight(raw, works)
        if outcomes is None:
            raw.rollback()
            _begin(raw, first)
            outcomes = _one_by_one(raw, works)
        found(outcomes)
        raw.commit()
    except BaseException:
        if raw.in_transaction:
            raw.rollback()
        raise


def _begin(raw: Any, first: Sequence[str]) -> None:
    for statement in first:
        raw.execute(statement)


def _straight(raw: Any, works: Sequence[tuple[Kind, Any]]) -> list[Any] | None:
    """What each gave; nothing where something has to be undone, which is seldom: a savepoint for each takes as long as
    most of what they do."""
    outcomes: list[Any] = [None] * len(works)
    places: dict[Kind, list[int]] = {}
    for place, (kind, _) in enumerate(works):
        places.setdefault(kind, []).append(place)
    for kind, its in places.items():
        before = raw.total_changes
        try:
            found = kind(raw, [works[place][1] for place in its])
        except Exception:  # noqa: BLE001 - it is raised again when it is done again
            return None
        if None in found and raw.total_changes != before:
            return None
        for place, outcome in zip(its, found, strict=True):
            outcomes[place] = outcome
    return outcomes


def _one_by_one(raw: Any, works: Sequence[tuple[Kind, Any]]) -> list[Any]:
    outcomes: list[Any] = []
    for kind, given in works:
        raw.execute("SAVEPOINT one")
        try:
            [outcome] = kind(raw, [given])
        except Exception as error:
            if not raw.in_transaction:
                raise  # such that SQLite has undone everything
            outcome = error
        if outcome is None or isinstance(outcome, Exception):
            raw.execute("ROLLBACK TO one")
        raw.execute("RELEASE one")
        outcomes.append(outcome)
    return outcomes


def tell(waiting: Iterable["asyncio.Future[Any]"], error: BaseException) -> None:
    """Have all of them fail so."""
    for done in waiting:
        if not done.done():
            if isinstance(error, Exception):
                done.set_exception(error)
            else:
                done.cancel()

"""Small transactions of one process, committed together (SQLite)."""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Context
from typing import Any, NamedTuple

from adapters.sql.held import HeldConnections
from adapters.sql.procedures import Procedure
from adapters.sql.writer import WriterProcess
from adapters.sql.writing import COMMITTED, FOUND, Given, error_of, frame

#: So many are with the writer at once: whoever comes later waits here, and may still leave.
MOST = 64


class Doing(NamedTuple):
    """Something that is under way. Both fail where it fails."""

    number: int
    call: bytes
    #: What comes of it, as soon as that is known: then its commit has begun, and nothing can stop it any more.
    found: asyncio.Future[Any]
    #: Done once it is on the disk.
    committed: asyncio.Future[None]


class GroupWriter:
    """Hands what is to be done to the writer, which does in its next turn, as one transaction, what comes while it is
    busy (``writing.Writer``).

    There is one writer, and each of its commits waits for the disk: one by one, those who write wait for all commits
    before theirs. Where a commit fails, all are told so. Each is told what has come of it while the commit waits for
    the disk.

    ``held`` has the connection of those transactions of this process that are not done here. Whoever has it writes:
    while something is under way it is taken, and given to who else waits for it as soon as nothing is. The writer has
    a connection of its own to ``path``, on which it says ``opening`` first, which makes the ``procedures``. ``busy`` is
    how long, in seconds, one may wait for its turn and for other processes' locks together.
    """

    def __init__(
        self, held: HeldConnections, path: str, opening: Sequence[str], procedures: Sequence[Procedure], busy: float
    ) -> None:
        self._held, self._procedures, self._busy = held, procedures, busy
        self._told_first = (path, tuple(opening), busy, [tuple(procedure.texts) for procedure in procedures])
        self._kinds = {procedure: kind for kind, procedure in enumerate(procedures)}
        self._waiting: deque[Doing] = deque()
        self._under_way: dict[int, Doing] = {}
        self._begun = 0
        self._task: asyncio.Task[None] | None = None
        self._writer: WriterProcess | None = None
        self._turn_ended: asyncio.Future[None] | None = None
        self._will_send = False

    def begin(self, procedure: Procedure, given: Given) -> Doing:
        """Have this called; nothing of it is where it comes to nothing. For who cancels ``found`` before it is handed
        over nothing is done."""
        loop = asyncio.get_running_loop()
        self._begun += 1
        call = frame((self._begun, self._kinds[procedure], time.monotonic() + self._busy, given))
        doing = Doing(self._begun, call, loop.create_future(), loop.create_future())
        self._waiting.append(doing)
        if self._task is None:
            # Of no request: what is logged about the writer is not the business of whoever needs it first.
            self._task = asyncio.create_task(self._go_on(), context=Context())
        elif not self._will_send:
            # What comes in the same turn of the event loop goes along.
            self._will_send = True
            loop.call_soon(self._send)
        return doing

    async def close(self) -> None:
        """Wait for what was begun, and end the writer."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close(self._busy)

    async def _go_on(self) -> None:
        try:
            while self._waiting:
                await self._turn()
        finally:
            self._task = None

    async def _turn(self) -> None:
        """Hand over what there is, for as long as nobody else wants to write."""
        try:
            proxied = await self._held.take()
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise
            return
        try:
            if self._writer is None:
                self._writer = await WriterProcess.start(self._hear, self._lose, self._told_first)
            self._turn_ended = asyncio.get_running_loop().create_future()
            self._send()
            await self._turn_ended
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._turn_ended = None
            self._held.give_back(proxied)

    def _send(self) -> None:
        self._will_send = False
        if self._turn_ended is None or self._turn_ended.done() or self._writer is None:
            return
        if not (self._under_way and self._held.is_wanted):
            calls: list[bytes] = []
            while self._waiting and len(self._under_way) < MOST:
                doing = self._waiting.popleft()
                # Who has left has nothing done any more.
                if not doing.found.done():
                    self._under_way[doing.number] = doing
                    calls.append(doing.call)
            if calls:
                self._writer.write(b"".join(calls))
        if not self._under_way:
            self._turn_ended.set_result(None)

    def _hear(self, said: tuple[Any, ...]) -> None:
        what, numbers, *more = said
        if what == FOUND:
            self._found(numbers, *more)
            return
        doings = [doing for number in numbers if (doing := self._under_way.pop(number, None))]
        if what == COMMITTED:
            for doing in doings:
                if not doing.committed.done():
                    doing.committed.set_result(None)
        else:
            _fail(doings, error_of(*more[0]))
        self._send()

    def _found(self, numbers: Sequence[int], groups: Sequence[Any], errors: Sequence[Any]) -> None:
        outcomes: dict[int, Any] = {number: error_of(*described) for number, described in errors}
        for kind, its, text in groups:
            for place, outcome in self._procedures[kind].reads(text):
                outcomes[its[place]] = outcome
        for number in numbers:
            doing, outcome = self._under_way.get(number), outcomes.get(number)
            if doing is None or doing.found.done():
                continue
            if isinstance(outcome, Exception):
                doing.found.set_exception(outcome)
            else:
                doing.found.set_result(outcome)

    def _lose(self) -> None:
        """The writer is gone, and nobody knows what it had done of what is under way: it is as an I/O error."""
        self._writer = None
        doings, self._under_way = list(self._under_way.values()), {}
        if doings:
            code = sqlite3.SQLITE_IOERR
            _fail(doings, error_of("OperationalError", "the writer ended", code, "SQLITE_IOERR"))
        if self._turn_ended is not None and not self._turn_ended.done():
            self._turn_ended.set_result(None)

    def _fail_all(self, error: BaseException) -> None:
        doings = [*self._under_way.values(), *self._waiting]
        self._under_way, self._waiting = {}, deque()
        _fail(doings, error)


def _fail(doings: Iterable[Doing], error: BaseException) -> None:
    for doing in doings:
        if not doing.found.done():
            tell([doing.found], error)
            continue
        tell([doing.committed], error)
        if not doing.committed.cancelled():
            doing.committed.exception()  # who has left does not ask for it, and is not to be told of in the log


def tell(waiting: Iterable["asyncio.Future[Any]"], error: BaseException) -> None:
    """Have all of them fail so."""
    for done in waiting:
        if not done.done():
            if isinstance(error, Exception):
                done.set_exception(error)
            else:
                done.cancel()

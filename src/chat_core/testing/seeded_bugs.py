"""Bugs on purpose, for test builds alone: what a checker of this service must catch before its silence means anything.

Each wraps a ``UnitOfWork`` and breaks one promise of it:

=========================  ============================================================================================
``seq-outside``            places are taken in a transaction of their own, so that what is undone leaves a hole
``lease-skipped``          a claim does not hold: any other maker takes the reply while it is being made
``answer-before-commit``   ``commit`` returns before a message is stored, which happens a moment later
``event-dropped``          one in 1000 messages without an answer, and entries of the log, is not stored
                           (``event-dropped:50``: one in 50)
=========================  ============================================================================================

``seq-outside`` needs a storage with several writers at once: where there is one, it would wait for itself.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any, cast

from chat_core.domain.ids import ReplyId, RoomId, UserId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.domain.room import Door, LogEntry
from chat_core.ports.passing import PassingTransaction
from chat_core.ports.storage import (
    Accepted,
    Asks,
    Claim,
    Claimed,
    Messages,
    Offer,
    Replies,
    Rooms,
    Transaction,
    UnitOfWork,
)

#: How late the commit is, in seconds, after it was said to be done.
LATE = 0.15


class _Overlaid:
    """An object with some of its methods replaced."""

    def __init__(self, inner: object, **methods: Callable[..., Awaitable[Any]]) -> None:
        self._inner, self._methods = inner, methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._inner, name)


class _StepByStep(PassingTransaction):
    """A transaction in which nothing is done in one step: the steps are what is broken."""

    async def accept(self, offer: Offer) -> Accepted | None:
        return await Transaction.accept(self, offer)

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        return await Transaction.answer(self, message, fingerprint, reply, attempt)


class _Wrapped(UnitOfWork):
    """A unit of work whose writing transactions are wrapped. What else it can do is left as it is."""

    def __init__(self, inner: UnitOfWork) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self) -> AbstractAsyncContextManager[Transaction]:
        return self._transaction()

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self.inner.read()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Transaction]:
        async with self.inner() as tx:
            yield self.broken(tx)

    def broken(self, tx: Transaction) -> Transaction:
        return tx


class SeqOutside(_Wrapped):
    def broken(self, tx: Transaction) -> Transaction:
        return _SeqOutsideTransaction(tx, self.inner)


class _SeqOutsideTransaction(_StepByStep):
    def __init__(self, inner: Transaction, uow: UnitOfWork) -> None:
        super().__init__(inner)
        self._uow = uow

    @property
    def rooms(self) -> Rooms:
        return cast("Rooms", _Overlaid(self.inner.rooms, advance=self._advance))

    async def _advance(
        self, room_id: RoomId, user_id: UserId | None, *, at: datetime, messages: int = 0
    ) -> Door | None:
        async with self._uow() as other:
            door = await other.rooms.advance(room_id, user_id, at=at, messages=messages)
            await other.commit()
        return door


class LeaseSkipped(_Wrapped):
    def broken(self, tx: Transaction) -> Transaction:
        return _LeaseSkippedTransaction(tx)


class _LeaseSkippedTransaction(PassingTransaction):
    async def claim(self, claim: Claim) -> Claimed | None:
        return await self.inner.claim(replace(claim, lease=0.0))

    @property
    def replies(self) -> Replies:
        return cast("Replies", _Overlaid(self.inner.replies, claim=self._claim, extend=self._extend))

    async def _claim(self, reply_id: ReplyId, lease: float) -> Reply | None:
        return await self.inner.replies.claim(reply_id, 0.0)

    async def _extend(self, reply_id: ReplyId, epoch: int, lease: float) -> Reply | None:
        return await self.inner.replies.extend(reply_id, epoch, 0.0)


class AnswerBeforeCommit(_Wrapped):
    def __init__(self, inner: UnitOfWork) -> None:
        super().__init__(inner)
        self._late: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Transaction]:
        manager = self.inner()
        tx = _LateTransaction(await manager.__aenter__())
        try:
            yield tx
        except BaseException:
            await manager.__aexit__(*sys.exc_info())
            raise
        if not tx.committed:
            await manager.__aexit__(None, None, None)
            return
        task = asyncio.create_task(self._commit(manager, tx.inner))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _commit(self, manager: AbstractAsyncContextManager[Transaction], tx: Transaction) -> None:
        try:
            await asyncio.sleep(LATE)
            await tx.commit()
        finally:
            await manager.__aexit__(None, None, None)


class _LateTransaction(_StepByStep):
    """Late where a message is stored: the rest is let pass, so that there are people and rooms to see it."""

    def __init__(self, inner: Transaction) -> None:
        super().__init__(inner)
        self.holds_message = self.committed = False

    @property
    def messages(self) -> Messages:
        return cast("Messages", _Overlaid(self.inner.messages, add=self._add))

    async def _add(self, message: Message, fingerprint: bytes, asks: Asks | None = None) -> None:
        await self.inner.messages.add(message, fingerprint, asks)
        self.holds_message = True

    async def commit(self) -> None:
        if self.holds_message:
            self.committed = True
        else:
            await self.inner.commit()


class EventDropped(_Wrapped):
    def __init__(self, inner: UnitOfWork, every: int) -> None:
        super().__init__(inner)
        self._every = every
        self._numbers = count(1)

    def broken(self, tx: Transaction) -> Transaction:
        return _ForgetfulTransaction(tx, self._drops)

    def _drops(self) -> bool:
        return next(self._numbers) % self._every == 0


class _ForgetfulTransaction(_StepByStep):
    """A message is held back until it is known that nothing refers to it: only such a one can be dropped unseen."""

    def __init__(self, inner: Transaction, drops: Callable[[], bool]) -> None:
        super().__init__(inner)
        self._drops = drops
        self._held: tuple[Message, bytes] | None = None

    @property
    def rooms(self) -> Rooms:
        return cast("Rooms", _Overlaid(self.inner.rooms, add_entry=self._add_entry))

    @property
    def messages(self) -> Messages:
        return cast("Messages", _Overlaid(self.inner.messages, add=self._add_message))

    @property
    def replies(self) -> Replies:
        return cast("Replies", _Overlaid(self.inner.replies, add=self._add_reply, finish=self._finish))

    async def commit(self) -> None:
        if self._held is not None and not self._drops():
            await self._store()
        await self.inner.commit()

    async def _add_entry(self, entry: LogEntry) -> None:
        if not self._drops():
            await self.inner.rooms.add_entry(entry)

    async def _add_message(self, message: Message, fingerprint: bytes, asks: Asks | None = None) -> None:
        if asks is not None:
            await self.inner.messages.add(message, fingerprint, asks)
        else:
            self._held = message, fingerprint

    async def _add_reply(self, reply: Reply, lease: float = 0.0) -> None:
        await self._store()
        await self.inner.replies.add(reply, lease)

    async def _finish(self, reply: Reply) -> bool:
        await self._store()
        return await self.inner.replies.finish(reply)

    async def _store(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            await self.inner.messages.add(*held)


#: The bugs' names.
NAMES = ("seq-outside", "lease-skipped", "answer-before-commit", "event-dropped")


def wrap(name: str, uow: UnitOfWork) -> UnitOfWork:
    """``uow`` with this bug. Raises ``ValueError`` where there is none of this name."""
    bug, _, every = name.partition(":")
    match bug:
        case "seq-outside":
            return SeqOutside(uow)
        case "lease-skipped":
            return LeaseSkipped(uow)
        case "answer-before-commit":
            return AnswerBeforeCommit(uow)
        case "event-dropped":
            return EventDropped(uow, int(every or 1000))
        case _:
            raise ValueError(f"CHAT_SEEDED_BUG should be one of {', '.join(NAMES)}")

"""Crash points for fault tests: places at which a process kills itself, waits or is stuck, because a test told it to.

They are wrappers around ports, so that the code under test knows nothing of them; a process has them only where
``CHAT_TEST_BUILD=1`` says that it is made for tests.

========================  ==================================================================
``send.before_commit``    a message is written, and the transaction not committed
``send.after_commit``     it is committed, and nobody has been told
``send.before_enqueue``   the reply is about to be put on the queue
``reply.after_claim``     a maker's claim is committed
``reply.after_attempt_row``  the request to the provider is on the bill, and not made
``reply.before_commit``   the reply's end is written, and not committed
``reply.after_commit``    it is committed, and nobody has been told
``reply.before_ack``      the maker is done, and its message not yet taken off the queue
========================  ==================================================================
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from chat_core.domain.ids import ReplyId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.ports.delivery import Job, ReplyQueue
from chat_core.ports.passing import PassingTransaction
from chat_core.ports.storage import Accepted, Claim, Claimed, Messages, Offer, Replies, Transaction, UnitOfWork

NAMES = frozenset(
    {
        "send.before_commit",
        "send.after_commit",
        "send.before_enqueue",
        "reply.after_claim",
        "reply.after_attempt_row",
        "reply.before_commit",
        "reply.after_commit",
        "reply.before_ack",
    }
)


class Failpoints:
    """What is to happen where: ``name=kill``, ``name=kill:N`` (the Nth time), ``name=pause:SECONDS``, or
    ``name=block:SECONDS``, which holds the whole event loop up, the first time; with ``;`` between several. Raises
    ``ValueError`` for what is none of these."""

    def __init__(self, text: str) -> None:
        self._kill_at: dict[str, int] = {}
        self._pause: dict[str, float] = {}
        self._block: dict[str, float] = {}
        for point in filter(None, (part.strip() for part in text.split(";"))):
            name, _, action = point.partition("=")
            what, _, much = action.partition(":")
            if name not in NAMES or what not in ("kill", "pause", "block"):
                raise ValueError(f"CHAT_FAILPOINTS: {point!r} is no crash point")
            if what == "kill":
                self._kill_at[name] = int(much or 1)
            else:
                (self._pause if what == "pause" else self._block)[name] = float(much)
        self._reached: dict[str, int] = {}

    async def reach(self, name: str) -> None:
        """Do what is to happen at this point."""
        self._reached[name] = self._reached.get(name, 0) + 1
        if self._reached[name] == self._kill_at.get(name):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._reached[name] == 1 and name in self._block:
            time.sleep(self._block[name])  # noqa: ASYNC251 - as bad code would
        if name in self._pause:
            await asyncio.sleep(self._pause[name])

    def storage(self, uow: UnitOfWork) -> UnitOfWork:
        """The storage with the points at its commits."""
        return _UnitOfWork(uow, self)

    def queue(self, queue: ReplyQueue) -> ReplyQueue:
        """The queue with the point before it."""
        return _Queue(queue, self)

    def maker(self, make: Callable[[ReplyId], Awaitable[None]]) -> Callable[[ReplyId], Awaitable[None]]:
        """The use case that makes replies, with the point behind it."""

        async def made(reply_id: ReplyId) -> None:
            await make(reply_id)
            await self.reach("reply.before_ack")

        return made


class _Queue(ReplyQueue):
    def __init__(self, queue: ReplyQueue, points: Failpoints) -> None:
        self._queue, self._points = queue, points

    async def put(self, reply_id: ReplyId) -> None:
        await self._points.reach("send.before_enqueue")
        await self._queue.put(reply_id)

    @property
    def makes_here(self) -> bool:
        return self._queue.makes_here

    async def make(self, job: Job) -> None:
        await self._points.reach("send.before_enqueue")
        await self._queue.make(job)


class _Spy:
    """Passes everything on, and notes what the transaction is about."""

    def __init__(self, inner: object, notes: dict[str, Callable[[Any], str | None]], noted: list[str]) -> None:
        self._inner, self._notes, self._noted = inner, notes, noted

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        note = self._notes.get(name)
        if note is None:
            return method

        async def called(*args: Any, **kwargs: Any) -> Any:
            result = await method(*args, **kwargs)
            if (noted := note(args[0])) is not None:
                self._noted.append(noted)
            return result

        return called


def _of_message(message: Message) -> str | None:
    return None if message.user_id is None else "send"


_BEFORE = {"send": "send.before_commit", "end": "reply.before_commit"}
_AFTER = {
    "send": "send.after_commit",
    "claim": "reply.after_claim",
    "attempt": "reply.after_attempt_row",
    "end": "reply.after_commit",
}


class _Transaction(PassingTransaction):
    """A transaction that reaches the points which what was done in it leads to."""

    def __init__(self, inner: Transaction, points: Failpoints) -> None:
        super().__init__(inner)
        self._points = points
        self._noted: list[str] = []
        self._messages = _Spy(inner.messages, {"add": _of_message}, self._noted)
        self._replies = _Spy(
            inner.replies,
            {"claim": lambda _: "claim", "begin_attempt": lambda _: "attempt", "finish": lambda _: "end"},
            self._noted,
        )

    @property
    def messages(self) -> Messages:
        return cast("Messages", self._messages)

    @property
    def replies(self) -> Replies:
        return cast("Replies", self._replies)

    async def accept(self, offer: Offer) -> Accepted | None:
        # Nothing is lasting before the commit that the points are about.
        accepted = await self.inner.accept(replace(offer, alone=False))
        if accepted is not None:
            self._noted.append("send")
        return accepted

    async def claim(self, claim: Claim) -> Claimed | None:
        claimed = await self.inner.claim(replace(claim, alone=False))
        if claimed is not None:
            self._noted.append("claim")
            if claimed.begun is not None:
                self._noted.append("attempt")
        return claimed

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        place = await self.inner.answer(message, fingerprint, reply, attempt)
        self._noted.append("end")
        return place

    async def commit(self) -> None:
        for note in self._noted:
            if note in _BEFORE:
                await self._points.reach(_BEFORE[note])
        await self.inner.commit()
        for note in self._noted:
            await self._points.reach(_AFTER[note])


class _UnitOfWork(UnitOfWork):
    def __init__(self, inner: UnitOfWork, points: Failpoints) -> None:
        self._inner, self._points = inner, points

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Transaction]:
        async with self._inner() as tx:
            yield _Transaction(tx, self._points)

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.read()

"""Following a reply, stopping it, trying it again, and finding those that nobody makes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chat_core.domain.ids import ReplyId, utc_now, uuid7
from chat_core.domain.message import MessageStatus
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import open_door
from chat_core.domain.user import Actor
from chat_core.errors import NotFound, NotRetryable
from chat_core.ports.delivery import ReplyChanged, ReplyFeed, ReplyQueue, RoomFeed
from chat_core.ports.storage import Answered, Transaction, UnitOfWork
from chat_core.use_cases.quotas import Quotas
from chat_core.use_cases.rooms import cancel_unfinished
from chat_core.use_cases.transactions import again_on_contention


async def _seen_reply(tx: Transaction, actor: Actor, reply_id: ReplyId) -> Reply:
    """The reply, where the actor may see its room; else ``NotFound``."""
    reply = await tx.replies.get(reply_id)
    if reply is None:
        raise NotFound
    open_door(await tx.rooms.door(reply.room_id, actor.user_id))
    return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitReply:
    """Wait for a reply's end, wherever it is made; gives it back as it stands after ``seconds`` at the latest.

    ``look_every`` bounds, in seconds, what a lost announcement costs. Once ``hurry`` says so, nobody waits longer. A
    reply that was ``just_queued`` is not looked at before there is news of it.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    look_every: float = 1.0
    hurry: Callable[[], bool] = lambda: False
    monotonic: Callable[[], float] = time.monotonic

    async def __call__(self, *, reply_id: ReplyId, seconds: float, just_queued: bool = False) -> Answered:
        until = self.monotonic() + seconds
        async with self.feed.watch(reply_id) as watch:
            if just_queued:
                await watch.wait(min(seconds, self.look_every))
            while True:
                async with self.uow.read() as tx:
                    answer = await tx.answered(reply_id)
                if answer is None:
                    raise NotFound
                left = until - self.monotonic()
                if answer.reply.final or left <= 0 or self.hurry():
                    return answer
                await watch.wait(min(left, self.look_every))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReply:
    """A reply as it stands. Raises ``NotFound``, also where its room is closed to the person."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, reply_id: ReplyId) -> Answered:
        async with self.uow.read() as tx:
            answer = await tx.answered(reply_id)
            if answer is None:
                raise NotFound
            open_door(await tx.rooms.door(answer.reply.room_id, actor.user_id))
            return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReply:
    """End a reply now, from any process; the text so far is kept. Harmless to repeat. Raises ``NotFound``.

    Its maker has ``patience`` seconds to end it, with the text that it has; one that does not is cut off.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    await_reply: AwaitReply
    patience: float = 1.3
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, reply_id: ReplyId) -> Answered:
        if await self._ask(actor, reply_id):
            await self.feed.announce(reply_id)
            answer = await self.await_reply(reply_id=reply_id, seconds=self.patience)
            if answer.reply.final:
                return answer
            await self._cut_off(reply_id)
            await self.feed.announce(reply_id)
        return await self.await_reply(reply_id=reply_id, seconds=0)

    @again_on_contention
    async def _ask(self, actor: Actor, reply_id: ReplyId) -> bool:
        """Whether there is somebody to wait for."""
        async with self.uow() as tx:
            if (await _seen_reply(tx, actor, reply_id)).final:
                return False
            await tx.replies.request_stop(reply_id)
            # Looked at again now that its row is locked: it may have been claimed, or have ended, meanwhile.
            reply = await _seen_reply(tx, actor, reply_id)
            if reply.status is ReplyStatus.QUEUED:
                await cancel_unfinished(tx, [reply], self.now())
            await tx.commit()
        return reply.status is ReplyStatus.RUNNING

    @again_on_contention
    async def _cut_off(self, reply_id: ReplyId) -> None:
        async with self.uow() as tx:
            reply = await tx.replies.get(reply_id)
            if reply is not None and await cancel_unfinished(tx, [reply], self.now()):
                await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReply:
    """Ask again for an answer that could not be given; the old reply keeps its status.

    Repeated while the new one is not final, it gives the same new one. Raises ``NotFound``, ``NotRetryable``,
    ``TooManyReplies``, ``QuotaExceeded``.
    """

    uow: UnitOfWork
    queue: ReplyQueue
    room_feed: RoomFeed
    deadline: float = 900.0
    quotas: Quotas = field(default_factory=Quotas)
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, reply_id: ReplyId) -> Reply:
        reply = await self._store(actor, reply_id)
        if reply.status is ReplyStatus.QUEUED:
            await self.queue.put(reply.id)
            await self.room_feed.tell(ReplyChanged(room_id=reply.room_id, reply_id=reply.id))
        return reply

    @again_on_contention
    async def _store(self, actor: Actor, reply_id: ReplyId) -> Reply:
        async with self.uow() as tx:
            asked = await _seen_reply(tx, actor, reply_id)
            newest = await tx.replies.newest_for(asked.prompt_id) or asked
            if not newest.final and newest.try_number > 1:
                return newest
            prompt = await tx.messages.get(asked.prompt_id)
            deleted = prompt is None or prompt.status is MessageStatus.DELETED
            if deleted or newest.status not in (ReplyStatus.FAILED, ReplyStatus.BLOCKED, ReplyStatus.CANCELLED):
                raise NotRetryable
            at = self.now()
            await self.quotas.check(tx, actor.user_id, newest.reserved_tokens, at)
            reply = Reply(
                id=ReplyId(uuid7()),
                room_id=newest.room_id,
                prompt_id=newest.prompt_id,
                asked_by=actor.user_id,
                created_at=at,
                deadline_at=at + timedelta(seconds=self.deadline),
                try_number=newest.try_number + 1,
                reserved_tokens=newest.reserved_tokens,
            )
            await tx.replies.add(reply)
            await tx.commit()
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReplies:
    """Put replies that nobody is making on the queue again: what a lost queue or a dead maker left behind.

    One that was queued less than ``queued_for`` seconds ago is taken to be on its way.
    """

    uow: UnitOfWork
    queue: ReplyQueue
    queued_for: float = 2.0
    limit: int = 100

    async def __call__(self) -> int:
        """How many were found."""
        async with self.uow.read() as tx:
            due = await tx.replies.due(self.limit, self.queued_for)
        for reply_id in due:
            await self.queue.put(reply_id)
        return len(due)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadStops:
    """Tell this process's makers which of their replies were asked to stop: for when the feed did not."""

    uow: UnitOfWork
    feed: ReplyFeed
    limit: int = 1000

    async def __call__(self) -> None:
        async with self.uow.read() as tx:
            stopping = await tx.replies.stopping(self.limit)
        for reply_id in stopping:
            await self.feed.announce(reply_id)

"""Making an answer, and waiting for one that is made elsewhere."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from chat_core.domain.ids import MessageId, ReplyId, utc_now, uuid7
from chat_core.domain.message import AI_NAME, Message, MessageKind, MessageStatus, fingerprint
from chat_core.domain.reply import CRASHES_MAX, Attempt, Reply, ReplyStatus
from chat_core.errors import ModelError, NotFound, Unavailable
from chat_core.ports.delivery import ReplyFeed, ReplyQueue, Watch
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    ReplyPart,
    Text,
    Usage,
)
from chat_core.ports.storage import Transaction, UnitOfWork
from chat_core.use_cases.prompts import CONTEXT_MESSAGES, conversation
from chat_core.use_cases.transactions import again_on_contention

log = logging.getLogger(__name__)

#: An answer longer than this is given up: nobody reads it, and every later prompt would carry it.
ANSWER_MAX = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply as it stands, and the AI's message once there is one."""

    reply: Reply
    message: Message | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitReply:
    """Wait for a reply's end, wherever it is made; gives it back as it stands after ``seconds`` at the latest.

    ``look_every`` bounds, in seconds, what a lost announcement costs.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    look_every: float = 0.5
    monotonic: Callable[[], float] = time.monotonic

    async def __call__(self, *, reply_id: ReplyId, seconds: float) -> Answer:
        until = self.monotonic() + seconds
        async with self.feed.watch(reply_id) as watch:
            while True:
                answer = await self._look(reply_id)
                left = until - self.monotonic()
                if answer.reply.final or left <= 0:
                    return answer
                await watch.wait(min(left, self.look_every))

    async def _look(self, reply_id: ReplyId) -> Answer:
        async with self.uow.read() as tx:
            reply = await tx.replies.get(reply_id)
            if reply is None:
                raise NotFound
            message = await tx.messages.get(reply.message_id) if reply.message_id else None
        return Answer(reply=reply, message=message)


@dataclass(frozen=True, slots=True)
class _Job:
    reply: Reply
    conversation: Conversation
    made: int
    wasted: int


@dataclass(slots=True)
class _Draft:
    """What one maker has of an answer so far."""

    number: int
    parts: list[str] = field(default_factory=list)
    length: int = 0
    attempt: Attempt | None = None
    wasted: int = 0

    def append(self, text: str) -> None:
        # A NUL cannot be stored, and half a surrogate pair is no text: neither is worth the answer around it.
        clean = text.replace("\x00", "").encode("utf-8", "ignore").decode()
        self.parts.append(clean)
        self.length += len(clean)

    def forget(self, usage: Usage | None) -> None:
        self.parts.clear()
        self.length = 0
        if usage is not None:
            self.wasted += usage.input_tokens + usage.output_tokens


class _NotOurs(Exception):
    """The reply has its end, or another maker: this one stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateReply:
    """Make one reply, from its claim to its end. Does nothing where it is not to be had.

    ``lease`` is for how many seconds a claim holds; it is renewed every third of it. ``timeout`` is how many seconds
    the model has from the claim. Never raises for what the model does; raises ``Unavailable`` where the storage is
    away: the reply is then due again when its lease is over.
    """

    uow: UnitOfWork
    model: LanguageModel
    feed: ReplyFeed
    lease: float = 15.0
    timeout: float = 300.0
    now: Callable[[], datetime] = utc_now

    async def __call__(self, reply_id: ReplyId) -> None:
        job = await self._claim(reply_id)
        if job is None:
            return
        making = asyncio.create_task(self._make(job))
        try:
            async with self.feed.watch(reply_id) as watch:
                await self._guard(job.reply, making, watch)
        finally:
            if not making.done():
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
            await self.feed.announce(reply_id)

    @again_on_contention
    async def _claim(self, reply_id: ReplyId) -> _Job | None:
        async with self.uow() as tx:
            reply = await tx.replies.claim(reply_id, self.lease)
            if reply is None:
                return None
            job = await self._job(tx, reply)
            await tx.commit()
        if job is None:
            await self.feed.announce(reply_id)
        return job

    async def _job(self, tx: Transaction, reply: Reply) -> _Job | None:
        """What there is to do, or ``None`` where the reply has its end already, by this transaction."""
        at = self.now()
        prompt = await tx.messages.get(reply.prompt_id)
        room = await tx.rooms.get(reply.room_id)
        if room is None or prompt is None or prompt.status is MessageStatus.DELETED or reply.stop_requested:
            await tx.replies.finish(reply.ended(ReplyStatus.CANCELLED, at, error_code="cancelled"))
            return None
        if reply.crashes > CRASHES_MAX or at >= reply.deadline_at:
            code = "poison" if reply.crashes > CRASHES_MAX else "expired"
            await tx.replies.finish(reply.ended(ReplyStatus.FAILED, at, error_code=code))
            return None
        earlier = await tx.replies.attempts(reply.id) if reply.attempts else ()
        seconds_left = min(self.timeout, (reply.deadline_at - at).total_seconds())
        context = await tx.messages.context(reply.room_id, prompt.seq, CONTEXT_MESSAGES)
        return _Job(
            reply,
            conversation(
                context,
                room.ai,
                seconds_left=seconds_left,
                attempts=[f"{attempt.provider}:{attempt.model}" for attempt in earlier],
            ),
            made=len(earlier),
            wasted=sum((attempt.input_tokens or 0) + (attempt.output_tokens or 0) for attempt in earlier),
        )

    async def _guard(self, reply: Reply, making: asyncio.Task[None], watch: Watch) -> None:
        """Keep the lease while the answer is made; stop the making once the reply is no longer ours."""
        while not making.done():
            news = asyncio.create_task(watch.wait(self.lease / 3))
            try:
                await asyncio.wait({making, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if not making.done() and not await self._renew(reply):
                return
        making.result()

    async def _renew(self, reply: Reply) -> bool:
        try:
            async with self.uow() as tx:
                renewed = await tx.replies.extend(reply.id, reply.epoch, self.lease)
                await tx.commit()
        except Unavailable:
            # Whether the lease still holds is not known. The end is fenced by the epoch, so going on is safe.
            return True
        return renewed is not None and not renewed.stop_requested

    async def _make(self, job: _Job) -> None:
        draft = _Draft(number=job.made, wasted=job.wasted)
        try:
            end = await self._stream(job, draft)
        except _NotOurs:
            return
        except ModelError as error:
            log.warning("the model failed: %s (%s)", error.code, error.detail, extra={"reply_id": str(job.reply.id)})
            await self._fail(job.reply, draft, error.code, error.usage)
        except Unavailable:
            raise
        except Exception:
            log.exception("a reply failed for a reason of our own", extra={"reply_id": str(job.reply.id)})
            await self._fail(job.reply, draft, "internal-error")
        else:
            await self._end(job.reply, draft, end)

    async def _stream(self, job: _Job, draft: _Draft) -> End | None:
        """Read the model to its end; ``None`` where the answer outgrew all bounds."""
        # The port's iterator is a generator, or closes like one.
        stream = cast("AsyncGenerator[ReplyPart, None]", self.model.stream(job.conversation))
        async with aclosing(stream) as parts:
            async for part in parts:
                if isinstance(part, Text):
                    draft.append(part.text)
                    if draft.length > ANSWER_MAX:
                        return None
                elif isinstance(part, AttemptBegins):
                    await self._begin_attempt(job.reply, draft, part)
                elif isinstance(part, AttemptFailed):
                    draft.attempt = self._ended(draft, part.code, part.usage)
                    draft.forget(part.usage)
                elif isinstance(part, End):
                    return part
        raise ModelError("The model's stream has no end.")

    def _ended(self, draft: _Draft, outcome: str, usage: Usage | None) -> Attempt | None:
        if draft.attempt is None or draft.attempt.ended_at is not None:
            # What ended before goes on saying how: a failure between two attempts belongs to neither.
            return draft.attempt
        return replace(
            draft.attempt,
            ended_at=self.now(),
            outcome=outcome,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
        )

    @again_on_contention
    async def _begin_attempt(self, reply: Reply, draft: _Draft, begins: AttemptBegins) -> None:
        attempt = Attempt(
            reply_id=reply.id,
            number=draft.number + 1,
            epoch=reply.epoch,
            provider=begins.provider,
            model=begins.model,
            started_at=self.now(),
        )
        async with self.uow() as tx:
            if draft.attempt is not None:
                await tx.replies.end_attempt(draft.attempt)
            if not await tx.replies.begin_attempt(attempt):
                raise _NotOurs
            await tx.commit()
        draft.number, draft.attempt = attempt.number, attempt

    async def _end(self, reply: Reply, draft: _Draft, end: End | None) -> None:
        if end is None:
            return await self._fail(reply, draft, "answer-too-long")
        draft.attempt = self._ended(draft, end.reason, end.usage)
        text = "".join(draft.parts)
        if end.reason is FinishReason.BLOCKED:
            return await self._finish(reply, draft, ReplyStatus.BLOCKED, end=end, error_code="blocked")
        if not text.strip():
            return await self._finish(reply, draft, ReplyStatus.FAILED, end=end, error_code="empty-answer")
        status = ReplyStatus.COMPLETE if end.reason is FinishReason.STOP else ReplyStatus.INCOMPLETE
        return await self._finish(reply, draft, status, end=end, text=text)

    async def _fail(self, reply: Reply, draft: _Draft, code: str, usage: Usage | None = None) -> None:
        draft.attempt = self._ended(draft, code, usage)
        draft.forget(usage)
        await self._finish(reply, draft, ReplyStatus.FAILED, error_code=code)

    @again_on_contention
    async def _finish(
        self,
        reply: Reply,
        draft: _Draft,
        status: ReplyStatus,
        *,
        end: End | None = None,
        text: str | None = None,
        error_code: str | None = None,
    ) -> None:
        at = self.now()
        usage = end.usage if end else None
        message_id = MessageId(uuid7()) if text is not None else None
        ended = replace(
            reply.ended(
                status,
                at,
                error_code=error_code,
                finish_reason=end.reason if end else None,
                message_id=message_id,
            ),
            attempts=draft.number,
            provider=draft.attempt.provider if draft.attempt else None,
            model=draft.attempt.model if draft.attempt else None,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            wasted_tokens=draft.wasted,
        )
        async with self.uow() as tx:
            if text is not None and message_id is not None:
                # The room's row is locked before the reply's, as everywhere, so that no two transactions deadlock.
                door = await tx.rooms.advance(reply.room_id, None, at=at, messages=1)
                if door is None:
                    return
                message = Message(
                    id=message_id,
                    m_id=str(message_id),
                    seq=door.room.last_seq,
                    content=text,
                    user_id=None,
                    room_id=reply.room_id,
                    kind=MessageKind.AI,
                    username=AI_NAME,
                    created_at=at,
                    reply_to=reply.prompt_id,
                    status=MessageStatus.COMPLETE if status is ReplyStatus.COMPLETE else MessageStatus.INCOMPLETE,
                )
                await tx.messages.add(message, fingerprint(text))
            if draft.attempt is not None:
                await tx.replies.end_attempt(draft.attempt)
            if await tx.replies.finish(ended):
                await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReplies:
    """Put replies that nobody is making on the queue again: what a lost queue or a dead maker left behind."""

    uow: UnitOfWork
    queue: ReplyQueue
    limit: int = 100

    async def __call__(self) -> int:
        """How many were found."""
        async with self.uow.read() as tx:
            due = await tx.replies.due(self.limit)
        for reply_id in due:
            await self.queue.put(reply_id)
        return len(due)

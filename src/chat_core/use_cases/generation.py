"""Making a reply: the claim, the model, and the end, fenced against every other maker."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import cast

from chat_core.domain.ids import MessageId, ReplyId, RoomId, SummaryId, utc_now, uuid7
from chat_core.domain.message import AI_NAME, Message, MessageKind, MessageStatus, fingerprint
from chat_core.domain.reply import CRASHES_MAX, Attempt, Reply, ReplyStatus
from chat_core.domain.summary import Summary
from chat_core.errors import ModelError, ModelTimedOut, PromptTooLong, Unavailable
from chat_core.ports.delivery import Job, LogGrew, ReplyFeed, RoomFeed, Watch
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    End,
    LanguageModel,
    ReplyPart,
    Text,
    Thinking,
)
from chat_core.ports.storage import Answered, Claim, Claimed, Transaction, UnitOfWork
from chat_core.use_cases.attempts import ChosenModels
from chat_core.use_cases.drafts import ANSWER_MAX, AnswerTooLong, Draft, Verdict, verdict_of, verdict_of_stop
from chat_core.use_cases.guard import Guard
from chat_core.use_cases.parts import Showing, ShowParts
from chat_core.use_cases.prompts import Prompts
from chat_core.use_cases.replies import Ends
from chat_core.use_cases.summaries import AskedSummaries
from chat_core.use_cases.transactions import again_on_contention
from chat_core.use_cases.turns import Turns

log = logging.getLogger(__name__)

#: How long a maker that was told to leave may take to hand its reply over, in seconds.
_RELEASE_SECONDS = 3.0


class _Makes(Enum):
    """Why one maker leaves its work."""

    STOPPED = "stopped"
    LOST = "lost"


class _NotOurs(Exception):
    """The reply has its end, or another maker: this one leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateReply:
    """Make one reply, from its claim to its end. Does nothing where it is not to be had.

    ``lease`` is for how many seconds a claim holds; it is renewed every third of it. ``timeout`` is how many seconds
    the model has from the claim. Never raises for what the model does. Raises ``Unavailable`` where the storage is
    away at the claim. Cancelled, it closes the model call and hands the reply over to the next maker.
    """

    uow: UnitOfWork
    model: LanguageModel
    feed: ReplyFeed
    turns: Turns
    show: ShowParts
    room_feed: RoomFeed
    lease: float = 15.0
    timeout: float = 300.0
    prompts: Prompts = field(default_factory=Prompts)
    ends: Ends = field(default_factory=Ends)
    asked: AskedSummaries = field(default_factory=AskedSummaries)
    chosen: ChosenModels = field(default_factory=ChosenModels)
    now: Callable[[], datetime] = utc_now

    async def __call__(self, reply_id: ReplyId) -> None:
        job = await self._claim(reply_id)
        if job is not None:
            await self.go_on(job)

    async def go_on(self, job: Job) -> None:
        """Make a reply that is claimed already, for this maker and for as long as ``lease`` says."""
        reply_id = job.reply.id
        tokens = job.prompt.tokens * self.prompts.scale.of(job.prompt.conversation.model)
        draft = Draft(epoch=job.reply.epoch, number=job.made, wasted=job.wasted, prompt_tokens=round(tokens))
        if job.begun is not None:
            draft.number, draft.attempt = job.begun.number, job.begun
        request = (job.begun.provider, job.begun.model) if job.begun is not None else None
        beginning = None
        if job.reply.epoch == 1 and self.feed.far:
            beginning = asyncio.create_task(self.feed.begin(reply_id, 1, request))
        else:
            # Before the first request: from now on what an earlier maker still has to show is not taken.
            await self.feed.begin(reply_id, job.reply.epoch, request)
        showing = Showing(self.show, reply_id, draft)
        try:
            async with self.feed.watch(reply_id) as watch:
                made = await self._make(job, draft, watch)
            await showing.stop()
            if made is _Makes.LOST:
                await self._abandon(draft)
            else:
                await self._end(job, draft, made)
        except asyncio.CancelledError:
            await showing.stop()
            await self._release(job.reply, draft)
            raise
        finally:
            if beginning is not None:
                beginning.cancel()
                await asyncio.wait([beginning])
            self.show.uncarried.drop(reply_id)
            await self.feed.announce(reply_id)
            await self.feed.end(reply_id)

    # --- the claim ---

    @again_on_contention
    async def _claim(self, reply_id: ReplyId) -> Job | None:
        claim = self._wish(reply_id)
        async with self.uow() as tx:
            claimed = await tx.claim(claim)
            if claimed is None:
                return None
            job = await self._job(tx, claimed, claim.at)
            await tx.commit()
        if job is None:
            await self.feed.announce(reply_id)
        return job

    def _wish(self, reply_id: ReplyId) -> Claim:
        return Claim(
            reply_id=reply_id,
            lease=self.lease,
            at=self.now(),
            foreseen=self.chosen.foreseen(self.model),
            context=self.prompts.budget.messages,
            alone=True,
        )

    async def _job(self, tx: Transaction, claimed: Claimed, at: datetime) -> Job | None:
        """What there is to do, or ``None`` where the reply has its end already, by this transaction."""
        reply, ai, context = claimed.reply, claimed.ai, claimed.context
        if ai is None or context is None or reply.stop_requested:
            await tx.replies.finish(reply.ended(ReplyStatus.CANCELLED, at, error_code="cancelled"))
            return None
        if not reply.may_be_made(at):
            code = "poison" if reply.crashes >= CRASHES_MAX else "expired"
            await tx.replies.finish(reply.ended(ReplyStatus.FAILED, at, error_code=code))
            return None
        self.chosen.meet(ai.model)
        earlier = await tx.replies.attempts(reply.id) if reply.attempts and claimed.begun is None else ()
        seconds_left = min(self.timeout, (reply.deadline_at - at).total_seconds())
        models = [f"{attempt.provider}:{attempt.model}" for attempt in earlier]
        prompt = self.prompts.prompt(context, ai, seconds_left=seconds_left, attempts=models)
        wasted = sum((attempt.input_tokens or 0) + (attempt.output_tokens or 0) for attempt in earlier)
        return Job(reply=reply, prompt=prompt, made=len(earlier), wasted=wasted, begun=claimed.begun)

    # --- the model ---

    async def _make(self, job: Job, draft: Draft, watch: Watch) -> "End | Exception | _Makes":
        """Read the model, and keep the lease meanwhile: what came of it, or why it was left before its end."""
        if job.prompt.too_long:
            return PromptTooLong(f"about {job.prompt.tokens} tokens, more than the model takes")
        seconds = job.prompt.conversation.seconds_left
        # What bounds it is here, whatever the model itself promises.
        cut = asyncio.timeout(None if seconds is None else max(0.0, seconds))
        guard = Guard(lambda: self._renew(job.reply), watch, cut, every=self.lease / 3)
        try:
            async with cut:
                return await self._read(job, draft)
        except TimeoutError as error:
            if not cut.expired():
                return error
            return guard.why or ModelTimedOut(f"no end after {seconds or 0.0:g} s")
        except Exception as error:  # noqa: BLE001 - it is what came of it
            return error
        finally:
            guard.end()

    async def _read(self, job: Job, draft: Draft) -> End:
        # The port's iterator is a generator, or closes like one.
        stream = cast("AsyncGenerator[ReplyPart, None]", self.model.stream(job.prompt.conversation))
        async with aclosing(stream) as parts:
            async for part in parts:
                if isinstance(part, Text):
                    draft.append(part)
                elif isinstance(part, Thinking):
                    draft.heard = True
                elif isinstance(part, AttemptBegins):
                    await self._begins(job, draft, part)
                elif isinstance(part, AttemptFailed):
                    draft.end_attempt(part.code, self.now(), part.usage)
                    draft.forget()
                else:
                    return part
        raise ModelError("The model's stream has no end.")

    async def _begins(self, job: Job, draft: Draft, begins: AttemptBegins) -> None:
        """Have the request stored before it is made."""
        foreseen = draft.attempt is not None and draft.attempt is job.begun and not draft.asked
        draft.asked = True
        if foreseen and draft.attempt is not None:
            if (begins.provider, begins.model) == (draft.attempt.provider, draft.attempt.model):
                return
            draft.end_attempt("not-made", self.now(), None)
        await self._patiently(job.reply, lambda: self._begin_attempt(job.reply, draft, begins))

    @again_on_contention
    async def _begin_attempt(self, reply: Reply, draft: Draft, begins: AttemptBegins) -> None:
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

    # --- the lease ---

    async def _renew(self, reply: Reply) -> _Makes | None:
        """``None``: it is still ours to make."""
        try:
            async with self.uow() as tx:
                renewed = await tx.replies.extend(reply.id, reply.epoch, self.lease)
                await tx.commit()
        except Unavailable:
            # Whether the lease still holds is not known. The end is fenced by the epoch, so going on is safe.
            return None
        if renewed is None:
            return _Makes.LOST
        return _Makes.STOPPED if renewed.stop_requested else None

    @again_on_contention
    async def _abandon(self, draft: Draft) -> None:
        """Close the bill of a request whose answer nobody waits for any more."""
        draft.end_attempt("abandoned", self.now(), None)
        if draft.attempt is None:
            return
        async with self.uow() as tx:
            await tx.replies.end_attempt(draft.attempt)
            await tx.commit()

    async def _release(self, reply: Reply, draft: Draft) -> None:
        draft.end_attempt("handed-over", self.now(), None)
        try:
            async with asyncio.timeout(_RELEASE_SECONDS), self.uow() as tx:
                if draft.attempt is not None:
                    await tx.replies.end_attempt(draft.attempt)
                if await tx.replies.release(reply.id, reply.epoch):
                    await tx.commit()
        except (Unavailable, TimeoutError):
            # Then the next maker comes when the lease is over.
            log.warning("a reply could not be handed over", extra={"reply_id": str(reply.id)})

    # --- the end ---

    async def _end(self, job: Job, draft: Draft, made: End | Exception | _Makes) -> None:
        if isinstance(made, _NotOurs):
            return
        verdict, reply = self._verdict(job, draft, made), job.reply
        if verdict.text is None:
            draft.unsay()
        # After it everything is to be had from the storage.
        await self.show.now(reply.id, draft)
        await self._patiently(reply, lambda: self._in_turn(job, draft, verdict))

    def _verdict(self, job: Job, draft: Draft, made: End | Exception | _Makes) -> Verdict:
        if isinstance(made, End):
            draft.end_attempt(made.reason, self.now(), made.usage)
            if made.usage is not None and draft.number == 1:
                asked = job.prompt.conversation.model
                self.prompts.scale.learn(asked, job.prompt.tokens, made.usage.input_tokens)
            return verdict_of(made, draft.text)
        if isinstance(made, _Makes):
            draft.end_attempt("stopped", self.now(), None)
            return verdict_of_stop(draft.text)
        if isinstance(made, (ModelError, AnswerTooLong)):
            return self._failure(job.reply, draft, made)
        # Whatever it is, the person who asked is told that there will be no answer.
        log.error("a reply failed for a reason of our own", exc_info=made, extra={"reply_id": str(job.reply.id)})
        draft.end_attempt("internal-error", self.now(), None)
        return Verdict(status=ReplyStatus.FAILED, error_code="internal-error")

    def _failure(self, reply: Reply, draft: Draft, error: Exception) -> Verdict:
        code = error.code if isinstance(error, ModelError) else "answer-too-long"
        detail = error.detail if isinstance(error, ModelError) else f"more than {ANSWER_MAX} characters"
        log.warning("the model failed: %s (%s)", code, detail, extra={"reply_id": str(reply.id)})
        usage = error.usage if isinstance(error, ModelError) else None
        draft.end_attempt(code, self.now(), usage)
        draft.forget()
        return Verdict(status=ReplyStatus.FAILED, error_code=code)

    async def _patiently(self, reply: Reply, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` as soon as the storage is there, until the reply's deadline: what the model said is not lost to
        a storage that is away for a while. The epoch fences it, so that doing it late, or twice, does no harm."""
        while True:
            try:
                return await work()
            except Unavailable:
                if self.now() >= reply.deadline_at:
                    raise
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - no secret

    async def _in_turn(self, job: Job, draft: Draft, verdict: Verdict) -> None:
        async with self.turns(job.reply.room_id):
            await self._store(job, draft, verdict)

    @again_on_contention
    async def _store(self, job: Job, draft: Draft, verdict: Verdict) -> None:
        reply, at = job.reply, self.now()
        message_id = MessageId(uuid7()) if verdict.text is not None else None
        ended = reply.ended(
            verdict.status,
            at,
            error_code=verdict.error_code,
            finish_reason=verdict.reason,
            message_id=message_id,
            attempts=draft.number,
            provider=draft.attempt.provider if draft.attempt else None,
            model=draft.attempt.model if draft.attempt else None,
            input_tokens=draft.usage.input_tokens if draft.usage else None,
            output_tokens=draft.usage.output_tokens if draft.usage else None,
            wasted_tokens=draft.wasted,
            cuts=draft.cuts,
            sources=job.prompt.sources,
        )
        place, answer = None, None
        async with self.uow() as tx:
            if message_id is not None:
                answer = _answer(job, verdict, message_id, at)
                place = await tx.answer(answer, fingerprint(answer.content), ended, draft.attempt, alone=True)
                if place is None:
                    return
            else:
                if draft.attempt is not None:
                    await tx.replies.end_attempt(draft.attempt)
                if not await tx.replies.finish(ended):
                    return
            await tx.commit()
        stored = replace(answer, seq=place) if answer is not None and place is not None else None
        self.ends.tell(Answered(reply=ended, message=stored))
        if place is not None:
            await self.room_feed.tell(LogGrew(room_id=reply.room_id, seq=place, moves_doors=False))
            if job.prompt.fold and self.asked.first(reply.room_id, job.prompt.sources.summary_id):
                await self._ask_for_summary(_summary(reply.room_id, job.prompt.fold, at))

    async def _ask_for_summary(self, summary: Summary) -> None:
        try:
            async with self.uow() as tx:
                await tx.summaries.ask(summary, alone=True)
                await tx.commit()
        except Unavailable:
            # A later answer asks as well.
            log.info("a summary could not be asked for", extra={"room_id": str(summary.room_id)})


def _answer(job: Job, verdict: Verdict, message_id: MessageId, at: datetime) -> Message:
    """The AI's message, without its place."""
    complete = verdict.status is ReplyStatus.COMPLETE
    return Message(
        id=message_id,
        m_id=str(message_id),
        seq=0,
        content=verdict.text or "",
        user_id=None,
        room_id=job.reply.room_id,
        kind=MessageKind.AI,
        username=AI_NAME,
        created_at=at,
        reply_to=job.reply.prompt_id,
        status=MessageStatus.COMPLETE if complete else MessageStatus.INCOMPLETE,
    )


def _summary(room_id: RoomId, up_to: int, at: datetime) -> Summary:
    return Summary(id=SummaryId(uuid7()), room_id=room_id, up_to=up_to, created_at=at)

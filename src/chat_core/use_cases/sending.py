"""Sending: a message, and the reply that it asks for, once for each (room, sender, ``m_id``)."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chat_core.domain.ids import MessageId, ReplyId, RoomId, utc_now, uuid7
from chat_core.domain.message import (
    Message,
    MessageKind,
    check_content,
    check_m_id,
    fingerprint,
    mentions_ai,
)
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import AIMode, Door, RoomAI, WhenBusy, open_door
from chat_core.domain.user import Actor
from chat_core.errors import MessageIdReused, NotFound, RoomBusy
from chat_core.ports.delivery import Job, LogGrew, ReplyChanged, ReplyQueue, RoomFeed
from chat_core.ports.language_model import Conversation, LanguageModel
from chat_core.ports.storage import Asks, DuplicateMessage, Offer, StoredSend, Transaction, UnitOfWork
from chat_core.use_cases.attempts import foreseen
from chat_core.use_cases.limits import Limits
from chat_core.use_cases.prompts import Prompts
from chat_core.use_cases.quotas import Quotas, reserved_for
from chat_core.use_cases.rooms import enter
from chat_core.use_cases.transactions import again_on_contention
from chat_core.use_cases.turns import Turns
from chat_core.values import value


@value(kw_only=True)
class Sent:
    """A message that is stored, its newest reply where it asked for one, and whether this was a repeat.

    ``job`` is there where the reply was claimed for this process.
    """

    message: Message
    reply: Reply | None
    replayed: bool = False
    job: Job | None = None


class KnownRooms:
    """What the AI settings of rooms were when somebody last spoke there: a belief, to be checked by the storage."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._settings: dict[RoomId, RoomAI] = {}

    def get(self, room_id: RoomId) -> RoomAI | None:
        return self._settings.get(room_id)

    def put(self, room_id: RoomId, ai: RoomAI) -> None:
        if len(self._settings) >= self._most:
            self._settings.clear()
        self._settings[room_id] = ai

    def forget(self, room_id: RoomId) -> None:
        self._settings.pop(room_id, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessage:
    """Store a message, and a queued reply where the room's AI is asked: once for each (room, sender, ``m_id``).

    A repeat changes nothing and gives back what is stored. ``deadline`` is how many seconds a reply has from now to
    its end, waiting included; ``lease`` and ``timeout`` are as for ``GenerateReply``. Raises
    ``Invalid``, ``NotFound``, ``MessageIdReused``, ``RoomBusy``, ``RateLimited``, ``TooManyReplies``,
    ``QuotaExceeded``.
    """

    uow: UnitOfWork
    queue: ReplyQueue
    turns: Turns
    room_feed: RoomFeed
    model: LanguageModel
    deadline: float = 900.0
    lease: float = 15.0
    timeout: float = 300.0
    prompts: Prompts = field(default_factory=Prompts)
    quotas: Quotas = field(default_factory=Quotas)
    limits: Limits = field(default_factory=Limits)
    known: KnownRooms = field(default_factory=KnownRooms)
    now: Callable[[], datetime] = utc_now

    async def __call__(
        self, *, actor: Actor, room_id: RoomId, content: str, m_id: str | None = None, at_once: bool = False
    ) -> Sent:
        """``at_once``: the sender waits for the answer. Where it is made in this process, the reply is then claimed for
        it in the transaction that stores it, and comes back running; else it comes back queued."""
        check_content(content)
        given = m_id is not None
        m_id = check_m_id(m_id) if m_id is not None else str(uuid7())
        claims = at_once and self.queue.makes_here
        sent = await self._charged(actor, room_id, content, m_id, claims, given)
        if sent.job is not None:
            await self.queue.make(sent.job)
        elif sent.reply is not None and sent.reply.status is ReplyStatus.QUEUED:
            await self.queue.put(sent.reply.id)
        if not sent.replayed:
            await self.room_feed.tell(LogGrew(room_id=room_id, seq=sent.message.seq, moves_doors=False))
            if sent.reply is not None:
                await self.room_feed.tell(ReplyChanged(room_id=room_id, reply_id=sent.reply.id))
        return sent

    async def _charged(self, actor: Actor, room_id: RoomId, content: str, m_id: str, claims: bool, given: bool) -> Sent:
        refusal = await self.limits.sending(actor.user_id)
        if refusal is not None:
            # What is stored can be had again by its key, however often one has asked.
            sent = await self._replay(actor, room_id, content, m_id) if given else None
            if sent is None:
                raise refusal
            return sent
        sent = await (self._once if given else self._in_turn)(actor, room_id, content, m_id, claims)
        if sent.replayed:
            await self.limits.not_new(actor.user_id)
        return sent

    async def _once(self, actor: Actor, room_id: RoomId, content: str, m_id: str, claims: bool) -> Sent:
        # Of repeats that come at once the first goes to the room's line alone: the others find what it has stored.
        async with self.turns((room_id, actor.user_id, m_id)) as waited:
            if waited and (sent := await self._replay(actor, room_id, content, m_id)) is not None:
                return sent
            try:
                return await self._in_turn(actor, room_id, content, m_id, claims, given=True)
            except DuplicateMessage:
                # Another process stored the same m_id between the look and the insert: now it is there to be read.
                sent = await self._replay(actor, room_id, content, m_id)
                if sent is None:
                    raise NotFound from None
                return sent

    async def _in_turn(
        self, actor: Actor, room_id: RoomId, content: str, m_id: str, claims: bool, *, given: bool = False
    ) -> Sent:
        async with self._turn_of(actor), self.turns(room_id):
            return await self._store(actor, room_id, content, m_id, claims, given)

    def _turn_of(self, actor: Actor) -> AbstractAsyncContextManager[object]:
        # What one person asks for is counted by one send after the other: those wait without a connection.
        return self.turns(("asks", actor.user_id)) if self.quotas.bounded else nullcontext()

    @again_on_contention
    async def _store(self, actor: Actor, room_id: RoomId, content: str, m_id: str, claims: bool, given: bool) -> Sent:
        async with self.uow() as tx:
            at = self.now()
            message = Message(
                id=MessageId(uuid7()),
                m_id=m_id,
                seq=0,
                content=content,
                user_id=actor.user_id,
                room_id=room_id,
                kind=MessageKind.USER,
                username=actor.username,
                created_at=at,
            )
            sent = await self._in_one_step(tx, actor, message, claims)
            if sent is None:
                stored = await tx.messages.sent(room_id, actor.user_id, m_id) if given else None
                if stored is not None:
                    open_door(await tx.rooms.door(room_id, actor.user_id))
                    return await self._again(tx, stored, content)
                sent = await self._step_by_step(tx, actor, message, claims)
            await tx.commit()
        return sent

    async def _in_one_step(self, tx: Transaction, actor: Actor, message: Message, claims: bool) -> Sent | None:
        """Where the room is as it was when somebody last spoke here in this process, which is nearly always."""
        ai = self.known.get(message.room_id)
        if ai is None or ai.busy is WhenBusy.REJECT:
            return None
        asks = self._asks(message, ai, claims)
        wanted = self.prompts.budget.messages if asks is not None and claims else 0
        offer = Offer(
            message=message,
            sender=actor.user_id,
            fingerprint=fingerprint(message.content),
            ai=ai,
            asks=asks,
            context=wanted,
            alone=asks is None or not self.quotas.bounded,
        )
        # Where it fails, the next try takes the steps.
        self.known.forget(message.room_id)
        accepted = await tx.accept(offer)
        if accepted is None:
            return None
        self.known.put(message.room_id, ai)
        if asks is not None:
            reserved = asks.reply.reserved_tokens
            await self.quotas.check(tx, actor.user_id, reserved, message.created_at, counted=True)
        job = None
        if asks is not None and accepted.context is not None:
            prompt = self.prompts.prompt(accepted.context, ai, seconds_left=min(self.timeout, self.deadline))
            job = Job(reply=asks.reply, prompt=prompt, begun=asks.attempt)
        return Sent(message=accepted.message, reply=asks.reply if asks else None, job=job)

    async def _step_by_step(self, tx: Transaction, actor: Actor, message: Message, claims: bool) -> Sent:
        at = message.created_at
        door = await self._take_place(tx, message.room_id, actor, at)
        ai = door.room.ai
        self.known.put(message.room_id, ai)
        message = replace(message, seq=door.room.last_seq)
        asks = self._asks(message, ai, claims)
        if asks is not None and ai.busy is WhenBusy.REJECT and await tx.replies.unfinished_in(message.room_id):
            raise RoomBusy
        if asks is not None:
            await self.quotas.check(tx, actor.user_id, asks.reply.reserved_tokens, at)
        await tx.messages.add(message, fingerprint(message.content), asks)
        job = None
        if asks is not None and claims:
            prompt = await self.prompts.read(tx, message, ai, min(self.timeout, self.deadline))
            job = Job(reply=asks.reply, prompt=prompt, begun=asks.attempt)
        return Sent(message=message, reply=asks.reply if asks else None, job=job)

    async def _take_place(self, tx: Transaction, room_id: RoomId, actor: Actor, at: datetime) -> Door:
        # The door is looked at under the lock, where it cannot close. For whom it is closed, no place was taken: that
        # is undone with the transaction.
        door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at, messages=1))
        if not door.is_member:
            await enter(tx, door, actor, at)
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at))
        return door

    def _asks(self, message: Message, ai: RoomAI, claims: bool) -> Asks | None:
        """The reply that it asks for; one that this process makes, with the request that it begins with, where that can
        be foreseen."""
        if ai.mode is AIMode.OFF or (ai.mode is AIMode.MENTION and not mentions_ai(message.content)):
            return None
        at = message.created_at
        begins = foreseen(self.model, Conversation(turns=(), model=ai.model)) if claims else None
        reply = Reply(
            id=ReplyId(uuid7()),
            room_id=message.room_id,
            prompt_id=message.id,
            asked_by=message.user_id,
            created_at=at,
            deadline_at=at + timedelta(seconds=self.deadline),
            reserved_tokens=reserved_for(message.content, ai),
            status=ReplyStatus.RUNNING if claims else ReplyStatus.QUEUED,
            epoch=1 if claims else 0,
            attempts=1 if begins else 0,
            provider=begins.provider if begins else None,
            model=begins.model if begins else None,
        )
        attempt = reply.first_attempt(begins.provider, begins.model, at) if begins else None
        return Asks(reply=reply, lease=self.lease if claims else 0.0, attempt=attempt)

    @again_on_contention
    async def _replay(self, actor: Actor, room_id: RoomId, content: str, m_id: str) -> Sent | None:
        async with self.uow.read() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id))
            stored = await tx.messages.sent(room_id, actor.user_id, m_id)
            return await self._again(tx, stored, content) if stored is not None else None

    async def _again(self, tx: Transaction, stored: StoredSend, content: str) -> Sent:
        if stored.fingerprint != fingerprint(content):
            raise MessageIdReused
        reply = await tx.replies.newest_for(stored.message.id)
        return Sent(message=stored.message, reply=reply, replayed=True)

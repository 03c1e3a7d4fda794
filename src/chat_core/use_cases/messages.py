"""Sending, reading, editing and deleting messages."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chat_core.domain.ids import MessageId, ReplyId, RoomId, utc_now, uuid7
from chat_core.domain.message import (
    Message,
    MessageKind,
    MessageStatus,
    check_content,
    check_m_id,
    fingerprint,
    mentions_ai,
)
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import AIMode, Door, EventKind, LogEntry, RoomAI, WhenBusy, open_door
from chat_core.domain.user import Actor
from chat_core.errors import Forbidden, Invalid, MessageIdReused, NotFound, RoomBusy
from chat_core.ports.delivery import Job, LogGrew, ReplyChanged, ReplyFeed, ReplyQueue, RoomFeed
from chat_core.ports.language_model import Conversation, LanguageModel
from chat_core.ports.storage import Asks, DuplicateMessage, MessagePage, StoredSend, Transaction, UnitOfWork
from chat_core.use_cases.attempts import first_attempt
from chat_core.use_cases.limits import Limits
from chat_core.use_cases.prompts import Prompts
from chat_core.use_cases.quotas import Quotas, reserved_for
from chat_core.use_cases.rooms import cancel_unfinished, enter
from chat_core.use_cases.transactions import again_on_contention
from chat_core.use_cases.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that is stored, its newest reply where it asked for one, and whether this was a repeat.

    ``job`` is there where the reply was claimed for this process.
    """

    message: Message
    reply: Reply | None
    replayed: bool = False
    job: Job | None = None


def _asks(ai: RoomAI, content: str) -> bool:
    return ai.mode is AIMode.ALWAYS or (ai.mode is AIMode.MENTION and mentions_ai(content))


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
            await self.room_feed.tell(LogGrew(room_id=room_id, seq=sent.message.seq))
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
            stored = await tx.messages.sent(room_id, actor.user_id, m_id) if given else None
            if stored is not None:
                open_door(await tx.rooms.door(room_id, actor.user_id))
                return await self._again(tx, stored, content)
            at = self.now()
            door = await self._take_place(tx, room_id, actor, at)
            wants = _asks(door.room.ai, content)
            if wants and door.room.ai.busy is WhenBusy.REJECT and await tx.replies.unfinished_in(room_id):
                raise RoomBusy
            reserved = reserved_for(content, door.room.ai) if wants else 0
            if wants:
                await self.quotas.check(tx, actor.user_id, reserved, at)
            message = Message(
                id=MessageId(uuid7()),
                m_id=m_id,
                seq=door.room.last_seq,
                content=content,
                user_id=actor.user_id,
                room_id=room_id,
                kind=MessageKind.USER,
                username=actor.username,
                created_at=at,
            )
            reply, job = self._reply(message, reserved, at) if wants else None, None
            asks = Asks(reply=reply) if reply is not None else None
            if reply is not None and claims:
                asks = self._claimed(reply.claimed(), door.room.ai, at)
                reply = asks.reply
            await tx.messages.add(message, fingerprint(content), asks)
            if asks is not None and claims:
                seconds_left = min(self.timeout, self.deadline)
                prompt = await self.prompts.read(tx, message, door.room.ai, seconds_left)
                job = Job(reply=asks.reply, prompt=prompt, begun=asks.attempt)
            await tx.commit()
        return Sent(message=message, reply=reply, job=job)

    async def _take_place(self, tx: Transaction, room_id: RoomId, actor: Actor, at: datetime) -> Door:
        # The door is looked at under the lock, where it cannot close. For whom it is closed, no place was taken: that
        # is undone with the transaction.
        door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at, messages=1))
        if not door.is_member:
            await enter(tx, door, actor, at)
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at))
        return door

    def _claimed(self, reply: Reply, ai: RoomAI, at: datetime) -> Asks:
        """A reply that this process makes, with the request that it begins with, where that can be foreseen."""
        attempt = first_attempt(self.model, reply, Conversation(turns=(), model=ai.model), at)
        if attempt is None:
            return Asks(reply=reply, lease=self.lease)
        return Asks(reply=reply.asks(attempt), lease=self.lease, attempt=attempt)

    def _reply(self, message: Message, reserved: int, at: datetime) -> Reply:
        return Reply(
            id=ReplyId(uuid7()),
            room_id=message.room_id,
            prompt_id=message.id,
            asked_by=message.user_id,
            created_at=at,
            deadline_at=at + timedelta(seconds=self.deadline),
            reserved_tokens=reserved,
        )

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMessages:
    """A page of a room's history, oldest first. Raises ``NotFound``, ``Invalid``."""

    uow: UnitOfWork

    async def __call__(
        self,
        *,
        actor: Actor,
        room_id: RoomId,
        limit: int,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage:
        if sum(place is not None for place in (before, after, around)) > 1:
            raise Invalid("Give at most one of 'before', 'after' and 'around'.")
        async with self.uow.read() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id))
            return await tx.messages.page(room_id, limit, before=before, after=after, around=around)


async def _message_in(tx: Transaction, room_id: RoomId, message_id: MessageId) -> Message:
    message = await tx.messages.get(message_id)
    if message is None or message.room_id != room_id:
        raise NotFound
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class EditMessage:
    """Give a message another text. Its author only. Raises ``Invalid``, ``NotFound``, ``Forbidden``.

    The ``m_id`` goes on standing for the first text. An answer that is being made is not asked anew.
    """

    uow: UnitOfWork
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId, message_id: MessageId, content: str) -> Message:
        check_content(content)
        message, seq = await self._edit(actor, room_id, message_id, content)
        await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))
        return message

    @again_on_contention
    async def _edit(self, actor: Actor, room_id: RoomId, message_id: MessageId, content: str) -> tuple[Message, int]:
        async with self.uow() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id))
            self._authored(await _message_in(tx, room_id, message_id), actor)
            at = self.now()
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at))
            message = self._authored(await _message_in(tx, room_id, message_id), actor).edited(content, at)
            await tx.messages.save(message)
            await tx.summaries.void(room_id, message.seq)
            await tx.rooms.add_entry(_entry(door, EventKind.MESSAGE_EDITED, message, at))
            await tx.commit()
        return message, door.room.last_seq

    def _authored(self, message: Message, actor: Actor) -> Message:
        if message.user_id != actor.user_id:
            raise Forbidden("Only its author may edit a message.")
        if message.status is MessageStatus.DELETED:
            raise NotFound
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteMessage:
    """Empty a message, which keeps its place. The author or the room's owner. Raises ``NotFound``, ``Forbidden``.

    Harmless to repeat. An answer to it that is still being made is cancelled.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId, message_id: MessageId) -> None:
        seq, ended = await self._delete(actor, room_id, message_id)
        if seq is not None:
            await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))
        for reply_id in ended:
            await self.feed.announce(reply_id)

    @again_on_contention
    async def _delete(self, actor: Actor, room_id: RoomId, message_id: MessageId) -> tuple[int | None, list[ReplyId]]:
        """The place that it took, where it was not deleted before, and the replies that it ended."""
        async with self.uow() as tx:
            door = open_door(await tx.rooms.door(room_id, actor.user_id))
            self._allowed(door, await _message_in(tx, room_id, message_id), actor)
            at = self.now()
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at))
            message = self._allowed(door, await _message_in(tx, room_id, message_id), actor)
            if message.status is MessageStatus.DELETED:
                return None, []
            message = message.deleted(at)
            await tx.messages.save(message)
            await tx.summaries.void(room_id, message.seq)
            await tx.rooms.add_entry(_entry(door, EventKind.MESSAGE_DELETED, message, at))
            reply = await tx.replies.newest_for(message_id)
            unfinished = [reply] if reply is not None and not reply.final else []
            ended = await cancel_unfinished(tx, unfinished, at)
            await tx.commit()
        return door.room.last_seq, [reply.id for reply in ended]

    def _allowed(self, door: Door, message: Message, actor: Actor) -> Message:
        if message.user_id != actor.user_id and not door.is_owner:
            raise Forbidden("Only its author or the room's owner may delete a message.")
        return message


def _entry(door: Door, kind: EventKind, message: Message, at: datetime) -> LogEntry:
    return LogEntry(room_id=door.room.id, seq=door.room.last_seq, kind=kind, created_at=at, message_id=message.id)

"""Where everything is kept, and the transactions that change it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field, replace
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from chat_core.domain.ids import MessageId, ReplyId, RoomId, SummaryId, UserId
from chat_core.domain.message import Message, MessageStatus, Said
from chat_core.domain.reply import Attempt, Part, Place, Reply
from chat_core.domain.room import Door, LogEntry, Membership, Room, RoomAI, RoomEvent
from chat_core.domain.session import Session
from chat_core.domain.summary import Summary
from chat_core.domain.user import User
from chat_core.values import value


class DuplicateMessage(Exception):
    """A message with this (room, sender, m_id) is stored already. The transaction can only be left."""


@value(kw_only=True)
class StoredSend:
    """What a (room, sender, m_id) stands for: the message as it is now, and the fingerprint of its first text."""

    message: Message
    fingerprint: bytes


@value(kw_only=True)
class Context:
    """What was said, oldest first, and the summary of it up to a place that may lie among them."""

    messages: Sequence[Said]
    summary: Summary | None = None


@value(kw_only=True)
class Load:
    """What one person has asked for: how many replies are not final, and the tokens of those of a day.

    A reply counts with what it took, wasted tokens included; with what was reserved for it while it is not final, and
    where it ended with an answer whose tokens the provider did not count.
    """

    unfinished: int
    tokens: int


@value(kw_only=True)
class DayUsage:
    """The tokens of what one person asked for in one room on one day (UTC) of asking."""

    date: date
    room_id: RoomId
    input_tokens: int
    output_tokens: int
    wasted_tokens: int


@value(kw_only=True)
class Asks:
    """The reply that a message asks for: queued, or claimed for ``lease`` seconds, and then perhaps with the request
    that is about to be made for it."""

    reply: Reply
    lease: float = 0.0
    attempt: Attempt | None = None


@value(kw_only=True)
class Offer:
    """A new message of the ``sender``'s that may be stored in one step, with the new reply that it asks for. It has no
    place yet: its ``seq`` is 0.

    ``ai`` is what its room's settings are believed to be, on which it depends what the message asks for. ``context``:
    of how many messages, this one included, the context is wanted; 0 for none. ``alone``: nothing else is done in the
    transaction, so that it may be lasting before it is committed, and cannot be undone.
    """

    message: Message
    sender: UserId
    fingerprint: bytes
    ai: RoomAI
    asks: Asks | None = None
    context: int = 0
    alone: bool = False


@value(kw_only=True)
class Accepted:
    """A message at its place, and the context that ends with it, where one was wanted."""

    message: Message
    context: Context | None = None


@value(kw_only=True)
class Answered:
    """A reply as it stands, and the AI's message once there is one."""

    reply: Reply
    message: Message | None


@value(kw_only=True)
class Claim:
    """A reply that somebody wants to make, for ``lease`` seconds, from ``at`` on.

    ``foreseen``: by the model that a room has chosen (``None``: none), the provider and the model that a first request
    would go to, as far as that can be told. ``context`` and ``alone`` are as for an ``Offer``.
    """

    reply_id: ReplyId
    lease: float
    at: datetime
    foreseen: Mapping[str | None, tuple[str, str]] = field(default_factory=dict[str | None, tuple[str, str]])
    context: int
    alone: bool = False


@value(kw_only=True)
class Claimed:
    """A reply that its maker has, and what its prompt is made from; none of it where the room or the message to be
    answered is gone. ``begun`` is the first request, where it was stored with the claim."""

    reply: Reply
    ai: RoomAI | None = None
    context: Context | None = None
    begun: Attempt | None = None


@value(kw_only=True)
class RoomCursor:
    """The last room of a page: the next page begins after it."""

    last_activity_at: datetime
    room_id: RoomId


@value(kw_only=True)
class RoomPage:
    """A page of rooms, how many there are in all, and where the next page begins (``None``: there is none)."""

    rooms: Sequence[Room]
    total: int
    next_cursor: RoomCursor | None


@value(kw_only=True)
class MessagePage:
    """Messages, oldest first, and whether there are more on either side."""

    messages: Sequence[Message]
    has_older: bool
    has_newer: bool


class Users(Protocol):
    """Accounts."""

    @abstractmethod
    async def add(self, user: User) -> None:
        """Store a new account. Raises ``UsernameTaken`` or ``EmailTaken``, without regard to case."""

    @abstractmethod
    async def get(self, user_id: UserId) -> User | None:
        """The account with this id; ``None`` where there is none, or it was ended."""

    @abstractmethod
    async def hold(self, user_id: UserId) -> User | None:
        """As ``get``, and until this transaction ends no other one changes, holds or ends the account."""

    @abstractmethod
    async def by_login(self, login: str) -> User | None:
        """The account with this username or e-mail, without regard to case. None that was ended."""

    @abstractmethod
    async def replace_password_hash(self, user_id: UserId, old: str, new: str) -> bool:
        """Store ``new`` where the hash still is ``old``; says whether it was."""

    @abstractmethod
    async def end(self, user_id: UserId, at: datetime) -> None:
        """End the account. E-mail and password hash are wiped, and its sessions end.

        Its name stays taken for ever, its e-mail is free again. What it said stays, from nobody: a message's
        ``user_id`` is ``None`` and its ``username`` that of a deleted user, and a room's ``created_by`` is ``None``. It
        is in no list of members, and stays a member otherwise until somebody takes it out: see ``departing``.
        """

    @abstractmethod
    async def departing(self, ended_before: datetime, limit: int) -> Sequence[UserId]:
        """Up to ``limit`` accounts that were ended before then and have not ``departed``."""

    @abstractmethod
    async def departed(self, user_id: UserId) -> None:
        """Note that an account that was ended is in no room any more."""


class Rooms(Protocol):
    """Rooms, their members, and the counter that numbers each room's log."""

    @abstractmethod
    async def add(self, room: Room, owner: Membership) -> None:
        """Store a new room with its owner. Takes no place in the log. Raises ``NotAuthenticated`` where the owner's
        account is gone."""

    @abstractmethod
    async def get(self, room_id: RoomId) -> Room | None:
        """The room, whoever may see it; ``None`` where there is none, or it was deleted."""

    @abstractmethod
    async def door(self, room_id: RoomId, user_id: UserId) -> Door | None:
        """The room as this person finds it; ``None`` where there is no such room, or it was deleted."""

    @abstractmethod
    async def advance(self, room_id: RoomId, user_id: UserId | None, *, at: datetime, messages: int = 0) -> Door | None:
        """Take the next place in the room's log, and add ``messages`` to its count. The AI has no ``user_id``.

        The door that comes back shows the room with ``last_seq`` being the place taken, and the person's standing as
        it is under the lock: until this transaction ends no other one takes a place or changes a standing in this
        room. Places taken are 1, 2, 3 ... without a gap, whatever is undone. ``None`` where there is no such room.
        """

    @abstractmethod
    async def save(self, room: Room) -> None:
        """Store the room's name, description, visibility and AI settings; nothing else of it."""

    @abstractmethod
    async def delete(self, room_id: RoomId, at: datetime) -> None:
        """From now on there is no such room; the texts of its messages and summaries are gone, its log's last entry
        stays."""

    @abstractmethod
    async def visible_to(self, user_id: UserId, limit: int, after: RoomCursor | None) -> RoomPage:
        """The rooms whose door is open to this person, latest activity first (of the same moment, largest id first)."""

    @abstractmethod
    async def members(self, room_id: RoomId) -> Sequence[Membership]:
        """The active members whose accounts were not ended, longest-standing first."""

    @abstractmethod
    async def membership(self, room_id: RoomId, user_id: UserId) -> Membership | None:
        """How this person stands to the room, in any standing."""

    @abstractmethod
    async def save_membership(self, membership: Membership) -> None:
        """Store how somebody stands to a room, new or changed."""

    @abstractmethod
    async def rooms_of(self, user_id: UserId) -> Sequence[RoomId]:
        """The rooms in which this person is an active member, also after the account was ended; no deleted ones."""

    @abstractmethod
    async def add_entry(self, entry: LogEntry) -> None:
        """Store what took a place in the log that was got by ``advance`` in this transaction."""

    @abstractmethod
    async def log(self, room_id: RoomId, after: int, limit: int) -> Sequence[RoomEvent]:
        """Up to ``limit`` places of the room's log that come right behind ``after``, in order and without a gap.

        Each is shown with what it is about as that is now. Also of a room that was deleted, whose last entry says so.
        """

    @abstractmethod
    async def last_seqs(self, room_ids: Sequence[RoomId]) -> Mapping[RoomId, int]:
        """How far the logs of these rooms have come, deleted ones included; unknown ones are left out."""

    @abstractmethod
    async def doors(self, room_id: RoomId, user_ids: Sequence[UserId]) -> Mapping[UserId, Door]:
        """The room as each of these people finds it; empty where there is no such room, or it was deleted."""


class Messages(Protocol):
    """Messages; each one's creation is the log entry at its ``seq``."""

    @abstractmethod
    async def add(self, message: Message, fingerprint: bytes, asks: Asks | None = None) -> None:
        """Store a new message at a place that was got by ``advance`` in this transaction, and what it asks for.

        Raises ``DuplicateMessage`` where this (room, sender, m_id) is stored already, ``NotAuthenticated`` where the
        sender's account is gone.
        """

    @abstractmethod
    async def get(self, message_id: MessageId) -> Message | None:
        """The message with this id, as it is now."""

    @abstractmethod
    async def sent(self, room_id: RoomId, user_id: UserId, m_id: str) -> StoredSend | None:
        """What this sender's ``m_id`` stands for in this room, for ever."""

    @abstractmethod
    async def save(self, message: Message) -> None:
        """Store the content, ``edited_at`` and status; ``m_id``, fingerprint and place stay."""

    @abstractmethod
    async def page(
        self,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage:
        """Up to ``limit`` messages by ``seq``, oldest first.

        The newest ones; or those just below ``before``; or just above ``after``; or ``around`` a place, which is
        among them where it holds a message. At most one of the three is given.
        """

    @abstractmethod
    async def context(self, room_id: RoomId, up_to: int, limit: int) -> Context:
        """The latest ``limit`` messages that are not deleted, with a ``seq`` up to ``up_to``, oldest first; and the
        latest summary that is ready and covers nothing from ``up_to`` on."""

    @abstractmethod
    async def at(self, room_id: RoomId, seqs: Sequence[int]) -> Sequence[MessageId]:
        """The messages whose places these are, in the room's order."""


class Replies(Protocol):
    """Answers in the making. Leases run by the storage's clock, not by the caller's."""

    @abstractmethod
    async def add(self, reply: Reply, lease: float = 0.0) -> None:
        """Store a queued reply, or a running one that is claimed already, for ``lease`` seconds from now.

        Raises ``Contention`` where this prompt has an unfinished one, or this try.
        """

    @abstractmethod
    async def get(self, reply_id: ReplyId) -> Reply | None:
        """The reply with this id."""

    @abstractmethod
    async def newest_for(self, prompt_id: MessageId) -> Reply | None:
        """The latest try at answering this prompt."""

    @abstractmethod
    async def unfinished_in(self, *room_ids: RoomId) -> Sequence[Reply]:
        """These rooms' replies that are queued or running, oldest first."""

    @abstractmethod
    async def unfinished_for(self, user_id: UserId) -> Sequence[Reply]:
        """The replies that this person asked for and that are queued or running, oldest first."""

    @abstractmethod
    async def load_of(self, user_id: UserId, since: datetime | None) -> Load:
        """What this person has asked for; the tokens are of replies that were created since then (``None``: not
        counted).

        Until this transaction ends, no other one gets an answer to this question about the same person.
        """

    @abstractmethod
    async def tokens_of(self, user_id: UserId, since: datetime) -> int:
        """As ``load_of`` counts them, for reading alone."""

    @abstractmethod
    async def usage_of(self, user_id: UserId, since: datetime) -> Sequence[DayUsage]:
        """The tokens of this person's replies that were created since then, by day and room, latest day first. Days
        on which the providers counted none are left out."""

    @abstractmethod
    async def claim(self, reply_id: ReplyId, lease: float) -> Reply | None:
        """Take the reply, where it is queued, or running on a lease that is over: of any number that try, one does.

        Raises its epoch, counts a crash in the second case, and leases it for ``lease`` seconds. ``None`` where it
        was not to be had.
        """

    @abstractmethod
    async def extend(self, reply_id: ReplyId, epoch: int, lease: float) -> Reply | None:
        """Lease it for another ``lease`` seconds from now; ``None`` where it is no longer running in this epoch."""

    @abstractmethod
    async def release(self, reply_id: ReplyId, epoch: int) -> bool:
        """Hand the reply over, politely: queued again, and no crash. Says whether it was running in this epoch."""

    @abstractmethod
    async def request_stop(self, reply_id: ReplyId) -> None:
        """Ask whoever makes the reply to stop, where it is not final."""

    @abstractmethod
    async def stopping(self, limit: int) -> Sequence[ReplyId]:
        """Running replies that were asked to stop."""

    @abstractmethod
    async def begin_attempt(self, attempt: Attempt) -> bool:
        """Store a request to a provider before it is made, and count it; says whether the epoch still runs.

        Harmless to repeat: the reply shows the attempt's number as its count, and its provider and model.
        """

    @abstractmethod
    async def end_attempt(self, attempt: Attempt) -> None:
        """Store how the request ended: ``ended_at``, ``outcome`` and tokens."""

    @abstractmethod
    async def attempts(self, reply_id: ReplyId) -> Sequence[Attempt]:
        """The requests that were made for this reply, in order."""

    @abstractmethod
    async def finish(self, reply: Reply) -> bool:
        """Store its final status and what goes with it, ``cuts`` and ``sources`` included, where it is not final and
        no later epoch has it.

        The counts of attempts and crashes stay the storage's own. Says whether it was stored.
        """

    @abstractmethod
    async def keep_parts(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        """Keep parts of one epoch for those whom no feed brings them. Harmless to repeat.

        Says whether the reply still runs in that epoch: where it does not, nothing is kept.
        """

    @abstractmethod
    async def parts(self, reply_id: ReplyId, after: Place) -> Sequence[Part]:
        """The kept parts of the epoch of ``after`` that come behind it, in order."""

    @abstractmethod
    async def spent_parts(self, limit: int) -> Sequence[ReplyId]:
        """Replies that are final, and of which parts are still kept."""

    @abstractmethod
    async def drop_parts(self, reply_ids: Sequence[ReplyId]) -> None:
        """Keep the parts of these replies no longer."""

    @abstractmethod
    async def due(self, limit: int, queued_for: float = 0.0) -> Sequence[ReplyId]:
        """Replies that nobody is making, oldest first: queued for at least so many seconds, or running on a lease
        that is over."""


class Summaries(Protocol):
    """Summaries of what was said in rooms, and the making of them. Leases run by the storage's clock."""

    @abstractmethod
    async def ask(self, summary: Summary, *, alone: bool = False) -> None:
        """Store one that is to be made. Changes nothing where one of its room is to be made already, or one that is
        ready reaches as far. ``alone`` is as for an ``Offer``."""

    @abstractmethod
    async def get(self, summary_id: SummaryId) -> Summary | None:
        """The summary with this id, without its text where it is void."""

    @abstractmethod
    async def due(self, limit: int) -> Sequence[SummaryId]:
        """Those that are to be made and that nobody is making, oldest first."""

    @abstractmethod
    async def claim(self, summary_id: SummaryId, lease: float) -> Summary | None:
        """Take it for ``lease`` seconds, where it is to be made and nobody holds it: of any number that try, one does.
        Raises its epoch."""

    @abstractmethod
    async def count_request(self, summary: Summary) -> bool:
        """Count a request to its ``provider`` and ``model`` before it is made; says whether it is still to be made in
        this epoch."""

    @abstractmethod
    async def finish(self, summary: Summary) -> bool:
        """Store its text, status and tokens where it is still to be made in this epoch; says whether it was. What was
        void in the meantime stays so."""

    @abstractmethod
    async def put_off(self, summary: Summary, seconds: float) -> None:
        """Store a failure and its tokens where it is still to be made in this epoch, and let nobody claim it for so
        many seconds."""

    @abstractmethod
    async def void(self, room_id: RoomId, seq: int) -> None:
        """No summary that covers this place is used any more, or made to its end; their texts are gone.

        Ordered with other changes of the room by ``advance``, which is called first in the same transaction.
        """


@value(kw_only=True)
class SessionOf:
    """A session and whose it is."""

    session: Session
    user: User


@value(kw_only=True)
class Presented:
    """The session that a refresh token belongs to, whose it is, and since when the token is spent."""

    session: Session
    user: User
    spent_at: datetime | None


class Sessions(Protocol):
    """Sessions, their refresh tokens and the tickets of both. Of tokens and tickets it knows digests alone.

    A session that was ended is not there any more; one that has expired is, until it is tidied away.
    """

    @abstractmethod
    async def add(self, session: Session, refresh: bytes) -> None:
        """Store a new session with its first refresh token. Raises ``NotAuthenticated`` where there is no account."""

    @abstractmethod
    async def get(self, session_id: UUID) -> SessionOf | None:
        """The session with this id, also an expired one; ``None`` where it, or its account, was ended."""

    @abstractmethod
    async def of_user(self, user_id: UserId) -> Sequence[Session]:
        """The person's sessions, expired ones included, last used first."""

    @abstractmethod
    async def present(self, refresh: bytes) -> Presented | None:
        """What this refresh token stands for; ``None`` where it was never issued, or its session was ended.

        Until this transaction ends no other one sees it or changes the session: of any number that present the same
        token to ``rotate`` it, one finds it unspent.
        """

    @abstractmethod
    async def rotate(self, session: Session, spent: bytes, refresh: bytes) -> None:
        """Store when the session was last used, that a token is spent since then, and the one in its stead."""

    @abstractmethod
    async def end(self, session_id: UUID, user_id: UserId) -> bool:
        """End this session of this person's, with its tokens and tickets; says whether there was one."""

    @abstractmethod
    async def end_others(self, user_id: UserId, but: UUID | None) -> None:
        """End all sessions of this person's but one."""

    @abstractmethod
    async def alive(self, session_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these sessions that were not ended and have not expired, and whose accounts were not ended.

        In one statement, and for thousands at once: each process asks twice a second for all its open streams.
        """

    @abstractmethod
    async def add_ticket(self, ticket: bytes, session_id: UUID, seconds: float) -> None:
        """Store a ticket for ``seconds``, by the storage's clock. Raises ``NotAuthenticated`` where the session is
        gone."""

    @abstractmethod
    async def take_ticket(self, ticket: bytes) -> UUID | None:
        """The session that this ticket is for, and never again: of any number that take it, one gets it.

        ``None`` where it is unknown, was taken, or has expired.
        """

    @abstractmethod
    async def tidy(self, at: datetime, limit: int) -> None:
        """Forget up to ``limit`` sessions that have expired at this moment, and as many expired tickets. Leaves those
        alone that another transaction is at work on."""


class Transaction(Protocol):
    """One transaction. What is not committed is undone when it is left."""

    @property
    @abstractmethod
    def users(self) -> Users: ...

    @property
    @abstractmethod
    def rooms(self) -> Rooms: ...

    @property
    @abstractmethod
    def messages(self) -> Messages: ...

    @property
    @abstractmethod
    def replies(self) -> Replies: ...

    @property
    @abstractmethod
    def summaries(self) -> Summaries: ...

    @property
    @abstractmethod
    def sessions(self) -> Sessions: ...

    async def accept(self, offer: Offer) -> Accepted | None:
        """What ``rooms.advance``, ``messages.add`` and ``messages.context`` do for a message, in one step: the first
        of its transaction. For storages that do it in fewer trips than those take.

        ``None`` where it has to be done step by step, and then nothing was done: this (room, sender, ``m_id``) is
        stored already, the sender is no active member, the room's settings are others, there is no such room, or the
        storage knows no such step. Raises ``Contention`` where somebody else was in the room meanwhile,
        ``DuplicateMessage`` as ``messages.add``, ``OutcomeUnknown`` as ``commit``.
        """
        return None

    async def claim(self, claim: Claim) -> Claimed | None:
        """What ``replies.claim`` and ``messages.context`` do for a reply; and ``replies.begin_attempt`` too, where it
        was never claimed before, may be made (``Reply.may_be_made``), and its first request is ``foreseen``.

        ``None`` where it was not to be had. Raises ``OutcomeUnknown`` as ``commit``.
        """
        reply = await self.replies.claim(claim.reply_id, claim.lease)
        if reply is None:
            return None
        prompt, room = await self.messages.get(reply.prompt_id), await self.rooms.get(reply.room_id)
        if room is None or prompt is None or prompt.status is MessageStatus.DELETED:
            return Claimed(reply=reply)
        begun = None
        if reply.epoch == 1 and reply.may_be_made(claim.at) and room.ai.model in claim.foreseen:
            provider, model = claim.foreseen[room.ai.model]
            begun = reply.first_attempt(provider, model, claim.at)
            await self.replies.begin_attempt(begun)
            reply = reply.asks(begun)
        context = await self.messages.context(prompt.room_id, prompt.seq, claim.context)
        return Claimed(reply=reply, ai=room.ai, context=context, begun=begun)

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        """Store an answer, the end of its reply and that of its last request; the message has no place yet, and the
        one that it took comes back. ``alone`` is as for an ``Offer``.

        ``None`` where there is no such room, the reply is final or a later epoch has it: then this transaction can
        only be left.
        """
        # The room's row is locked before the reply's, as everywhere, so that no two transactions deadlock.
        door = await self.rooms.advance(message.room_id, None, at=message.created_at, messages=1)
        if door is None:
            return None
        await self.messages.add(replace(message, seq=door.room.last_seq), fingerprint)
        if attempt is not None:
            await self.replies.end_attempt(attempt)
        return door.room.last_seq if await self.replies.finish(reply) else None

    async def page_for(
        self,
        user_id: UserId,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage | None:
        """As ``messages.page``, where this room is open to this person; ``None`` where it is not."""
        door = await self.rooms.door(room_id, user_id)
        if door is None or not door.is_open:
            return None
        return await self.messages.page(room_id, limit, before=before, after=after, around=around)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        """The reply with this id, and its message as that is now."""
        reply = await self.replies.get(reply_id)
        if reply is None:
            return None
        message = await self.messages.get(reply.message_id) if reply.message_id else None
        return Answered(reply=reply, message=message)

    @abstractmethod
    async def commit(self) -> None:
        """Make it lasting. Raises ``OutcomeUnknown`` where the storage was lost meanwhile."""


class UnitOfWork(Protocol):
    """Opens transactions.

    Raises ``StorageUnavailable`` where the storage is away, ``Contention`` (from any call in a transaction) where two
    of them collided: then the whole of it may be tried again.
    """

    @abstractmethod
    def __call__(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that may write."""

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that only reads, and never waits for those that write."""

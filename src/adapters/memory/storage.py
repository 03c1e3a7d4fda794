"""Storage in dictionaries: one writer at a time, and readers that see what was committed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Generic, TypeVar

from adapters.memory.sessions import MemorySessions, SessionTables
from adapters.memory.summaries import HeldSummary, MemorySummaries
from chat_core.domain.ids import MessageId, ReplyId, RoomId, SummaryId, UserId
from chat_core.domain.message import AI_NAME, DELETED_NAME, Message, MessageStatus, Said
from chat_core.domain.reply import Attempt, Part, Place, Reply, ReplyStatus
from chat_core.domain.room import GONE, Door, EventKind, LogEntry, Membership, Role, Room, RoomEvent, Standing
from chat_core.domain.user import User
from chat_core.errors import Contention, EmailTaken, NotAuthenticated, UsernameTaken
from chat_core.ports.storage import (
    Accepted,
    Asks,
    Context,
    DayUsage,
    DuplicateMessage,
    Load,
    MessagePage,
    Messages,
    Offer,
    Replies,
    RoomCursor,
    RoomPage,
    Rooms,
    Sessions,
    StoredSend,
    Transaction,
    UnitOfWork,
    Users,
)

K = TypeVar("K")
V = TypeVar("V")


class _Table(Generic[K, V]):
    """What is committed, and over it what this transaction has changed."""

    def __init__(self, committed: dict[K, V]) -> None:
        self._committed = committed
        self._changed: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self._changed.get(key)
        return found if found is not None else self._committed.get(key)

    def put(self, key: K, value: V) -> None:
        self._changed[key] = value

    def values(self) -> Iterator[V]:
        for key, value in self._committed.items():
            if key not in self._changed:
                yield value
        yield from self._changed.values()

    def uncommitted(self) -> Iterator[V]:
        yield from self._changed.values()

    def commit(self) -> None:
        self._committed.update(self._changed)
        self._changed = {}


@dataclass(frozen=True, slots=True)
class _Leased:
    reply: Reply
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Tables:
    """Keys are those of the constraints that the storage promises."""

    users: dict[UserId, User] = field(default_factory=dict)
    usernames: dict[str, UserId] = field(default_factory=dict)
    emails: dict[str, UserId] = field(default_factory=dict)
    ended: dict[UserId, datetime] = field(default_factory=dict)
    departed: dict[UserId, bool] = field(default_factory=dict)
    sessions: SessionTables = field(default_factory=SessionTables)
    rooms: dict[RoomId, Room] = field(default_factory=dict)
    deleted_rooms: dict[RoomId, datetime] = field(default_factory=dict)
    memberships: dict[tuple[RoomId, UserId], Membership] = field(default_factory=dict)
    entries: dict[tuple[RoomId, int], LogEntry] = field(default_factory=dict)
    messages: dict[MessageId, StoredSend] = field(default_factory=dict)
    places: dict[tuple[RoomId, int], MessageId] = field(default_factory=dict)
    sends: dict[tuple[RoomId, UserId, str], MessageId] = field(default_factory=dict)
    replies: dict[ReplyId, _Leased] = field(default_factory=dict)
    newest_tries: dict[MessageId, ReplyId] = field(default_factory=dict)
    attempts: dict[tuple[ReplyId, int], Attempt] = field(default_factory=dict)
    parts: dict[ReplyId, tuple[Part, ...]] = field(default_factory=dict)
    summaries: dict[SummaryId, HeldSummary] = field(default_factory=dict)


class MemoryUsers(Users):
    def __init__(self, tables: _Tables, monotonic: Callable[[], float]) -> None:
        self._users = _Table(tables.users)
        self._usernames = _Table(tables.usernames)
        self._emails = _Table(tables.emails)
        self._ended = _Table(tables.ended)
        self._departed = _Table(tables.departed)
        self.sessions = MemorySessions(tables.sessions, self.get, monotonic)
        self.changed = (self._users, self._usernames, self._emails, self._ended, self._departed)

    async def add(self, user: User) -> None:
        if self._usernames.get(user.username.casefold()):
            raise UsernameTaken
        owner = self._emails.get(user.email.casefold())
        if owner is not None and not self._ended.get(owner):
            raise EmailTaken
        self._users.put(user.id, user)
        self._usernames.put(user.username.casefold(), user.id)
        self._emails.put(user.email.casefold(), user.id)

    async def get(self, user_id: UserId) -> User | None:
        return None if self._ended.get(user_id) else self._users.get(user_id)

    async def hold(self, user_id: UserId) -> User | None:
        return await self.get(user_id)  # there is one writer

    async def by_login(self, login: str) -> User | None:
        key = login.casefold()
        user_id = self._usernames.get(key) or self._emails.get(key)
        return await self.get(user_id) if user_id else None

    async def replace_password_hash(self, user_id: UserId, old: str, new: str) -> bool:
        user = await self.get(user_id)
        if user is None or user.password_hash != old:
            return False
        self._users.put(user_id, user.with_password_hash(new))
        return True

    async def end(self, user_id: UserId, at: datetime) -> None:
        user = await self.get(user_id)
        if user is not None:
            self._users.put(user_id, replace(user, username=DELETED_NAME, email="", password_hash=""))
            self._ended.put(user_id, at)
            await self.sessions.end_others(user_id, None)

    async def departing(self, ended_before: datetime, limit: int) -> Sequence[UserId]:
        ended = ((self._ended.get(user.id), user.id) for user in self._users.values())
        due = [(at, user_id) for at, user_id in ended if at and at < ended_before and not self._departed.get(user_id)]
        return [user_id for _, user_id in sorted(due)][:limit]

    async def departed(self, user_id: UserId) -> None:
        self._departed.put(user_id, True)


class MemoryMessages(Messages):
    def __init__(self, tables: _Tables, users: MemoryUsers, replies: "MemoryReplies") -> None:
        self._users = users
        self._replies = replies
        self._messages = _Table(tables.messages)
        self._places = _Table(tables.places)
        self._sends = _Table(tables.sends)
        self._rooms = tables.rooms
        self.summaries = MemorySummaries(_Table(tables.summaries), replies.monotonic)
        self.changed = (self._messages, self._places, self._sends, self.summaries.table)

    async def _now(self, stored: StoredSend) -> Message:
        author = stored.message.user_id
        if author is None:
            return replace(stored.message, username=AI_NAME)
        user = await self._users.get(author)
        return replace(
            stored.message, user_id=author if user else None, username=user.username if user else DELETED_NAME
        )

    async def add(self, message: Message, fingerprint: bytes, asks: Asks | None = None) -> None:
        if self._places.get((message.room_id, message.seq)):
            raise LookupError("this place in the log is taken")
        if message.user_id is not None:
            if await self._users.get(message.user_id) is None:
                raise NotAuthenticated
            key = (message.room_id, message.user_id, message.m_id)
            if self._sends.get(key):
                raise DuplicateMessage
            self._sends.put(key, message.id)
        self._messages.put(message.id, StoredSend(message=message, fingerprint=fingerprint))
        self._places.put((message.room_id, message.seq), message.id)
        if asks is not None:
            await self._replies.add(asks.reply, asks.lease)
        if asks is not None and asks.attempt is not None:
            await self._replies.begin_attempt(asks.attempt)

    async def get(self, message_id: MessageId) -> Message | None:
        stored = self._messages.get(message_id)
        return await self._now(stored) if stored else None

    async def sent(self, room_id: RoomId, user_id: UserId, m_id: str) -> StoredSend | None:
        message_id = self._sends.get((room_id, user_id, m_id))
        stored = self._messages.get(message_id) if message_id else None
        return replace(stored, message=await self._now(stored)) if stored else None

    async def save(self, message: Message) -> None:
        stored = self._messages.get(message.id)
        if stored is not None:
            changed = replace(
                stored.message, content=message.content, edited_at=message.edited_at, status=message.status
            )
            self._messages.put(message.id, replace(stored, message=changed))

    async def erase(self, room_id: RoomId, at: datetime) -> None:
        for stored in list(self._messages.values()):
            if stored.message.room_id == room_id:
                self._messages.put(stored.message.id, replace(stored, message=stored.message.deleted(at)))

    async def _walk(self, room_id: RoomId, seqs: range, limit: int) -> list[Message]:
        found: list[Message] = []
        for seq in seqs:
            if len(found) == limit:
                break
            message_id = self._places.get((room_id, seq))
            stored = self._messages.get(message_id) if message_id else None
            if stored is not None:
                found.append(await self._now(stored))
        return found

    async def in_place(self, room_id: RoomId, seq: int) -> Message | None:
        """The message whose place this is."""
        return next(iter(await self._walk(room_id, range(seq, seq + 1), 1)), None)

    def _newest(self, room_id: RoomId) -> int:
        # The count of a room in this transaction is not known here; the places just taken lie within what is put.
        committed = self._rooms.get(room_id)
        return max(
            [committed.last_seq if committed else 0]
            + [stored.message.seq for stored in self._messages.uncommitted() if stored.message.room_id == room_id]
        )

    async def page(
        self,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage:
        newest = self._newest(room_id)
        if after is not None:
            found = await self._walk(room_id, range(after + 1, newest + 1), limit + 1)
            messages, has_newer = found[:limit], len(found) > limit
            has_older = bool(await self._walk(room_id, range(min(after, newest), 0, -1), 1))
            return MessagePage(messages=messages, has_older=has_older, has_newer=has_newer)
        if around is not None:
            older = await self._walk(room_id, range(min(around, newest), 0, -1), limit + 1)
            newer = await self._walk(room_id, range(around + 1, newest + 1), limit + 1)
            back = max(limit - limit // 2, limit - len(newer))
            ahead = limit - min(back, len(older))
            return MessagePage(
                messages=[*reversed(older[:back]), *newer[:ahead]],
                has_older=len(older) > back,
                has_newer=len(newer) > ahead,
            )
        top = newest if before is None else min(before - 1, newest)
        found = await self._walk(room_id, range(top, 0, -1), limit + 1)
        has_newer = before is not None and bool(await self._walk(room_id, range(max(before, 1), newest + 1), 1))
        return MessagePage(messages=found[:limit][::-1], has_older=len(found) > limit, has_newer=has_newer)

    async def context(self, room_id: RoomId, up_to: int, limit: int) -> Context:
        found: list[Message] = []
        for seq in range(up_to, 0, -1):
            if len(found) == limit:
                break
            here = await self._walk(room_id, range(seq, seq + 1), 1)
            found.extend(message for message in here if message.status is not MessageStatus.DELETED)
        said = [Said.of(message) for message in found[::-1]]
        return Context(messages=said, summary=self.summaries.below(room_id, up_to))

    async def at(self, room_id: RoomId, seqs: Sequence[int]) -> Sequence[MessageId]:
        return [found for seq in sorted(seqs) if (found := self._places.get((room_id, seq)))]


class MemoryRooms(Rooms):
    def __init__(self, tables: _Tables, users: MemoryUsers, messages: MemoryMessages) -> None:
        self._users = users
        self._messages = messages
        self._rooms = _Table(tables.rooms)
        self._deleted = _Table(tables.deleted_rooms)
        self._memberships = _Table(tables.memberships)
        self._entries = _Table(tables.entries)
        self.changed = (self._rooms, self._deleted, self._memberships, self._entries)

    async def add(self, room: Room, owner: Membership) -> None:
        if await self._users.get(owner.user_id) is None:
            raise NotAuthenticated
        self._rooms.put(room.id, room)
        self._memberships.put((room.id, owner.user_id), owner)

    async def get(self, room_id: RoomId) -> Room | None:
        room = None if self._deleted.get(room_id) else self._rooms.get(room_id)
        if room is None or room.created_by is None or await self._users.get(room.created_by) is not None:
            return room
        return replace(room, created_by=None)

    async def door(self, room_id: RoomId, user_id: UserId | None) -> Door | None:
        room = await self.get(room_id)
        if room is None:
            return None
        membership = await self.membership(room_id, user_id) if user_id else None
        return Door(room=room, user_id=user_id, membership=membership)

    async def advance(self, room_id: RoomId, user_id: UserId | None, *, at: datetime, messages: int = 0) -> Door | None:
        room = await self.get(room_id)
        if room is None:
            return None
        taken = replace(
            room,
            last_seq=room.last_seq + 1,
            message_count=room.message_count + messages,
            last_activity_at=max(at, room.last_activity_at),
        )
        self._rooms.put(room_id, taken)
        return await self.door(room_id, user_id)

    async def save(self, room: Room) -> None:
        known = self._rooms.get(room.id)
        if known is not None:
            self._rooms.put(
                room.id,
                replace(known, name=room.name, description=room.description, visibility=room.visibility, ai=room.ai),
            )

    async def delete(self, room_id: RoomId, at: datetime) -> None:
        self._deleted.put(room_id, at)
        await self._messages.erase(room_id, at)
        await self._messages.summaries.void(room_id, 0)

    async def visible_to(self, user_id: UserId, limit: int, after: RoomCursor | None) -> RoomPage:
        doors = [await self.door(room.id, user_id) for room in list(self._rooms.values())]
        rooms = [door.room for door in doors if door is not None and door.is_open]
        rooms.sort(key=lambda room: (room.last_activity_at, room.id), reverse=True)
        rest = rooms
        if after is not None:
            rest = [
                room for room in rooms if (room.last_activity_at, room.id) < (after.last_activity_at, after.room_id)
            ]
        page = rest[:limit]
        more = len(rest) > limit
        cursor = RoomCursor(last_activity_at=page[-1].last_activity_at, room_id=page[-1].id) if more else None
        return RoomPage(rooms=page, total=len(rooms), next_cursor=cursor)

    async def members(self, room_id: RoomId) -> Sequence[Membership]:
        found = [
            membership
            for known in list(self._memberships.values())
            if known.room_id == room_id and known.active and await self._users.get(known.user_id) is not None
            if (membership := await self.membership(room_id, known.user_id))
        ]
        return sorted(found, key=lambda membership: (membership.joined_at, membership.user_id))

    async def membership(self, room_id: RoomId, user_id: UserId) -> Membership | None:
        membership = self._memberships.get((room_id, user_id))
        if membership is None:
            return None
        user = await self._users.get(user_id)
        return replace(membership, username=user.username if user else DELETED_NAME)

    async def save_membership(self, membership: Membership) -> None:
        self._memberships.put((membership.room_id, membership.user_id), membership)

    async def rooms_of(self, user_id: UserId) -> Sequence[RoomId]:
        known = (known for known in self._memberships.values() if known.user_id == user_id and known.active)
        return sorted(membership.room_id for membership in known if not self._deleted.get(membership.room_id))

    async def add_entry(self, entry: LogEntry) -> None:
        self._entries.put((entry.room_id, entry.seq), entry)

    async def log(self, room_id: RoomId, after: int, limit: int) -> Sequence[RoomEvent]:
        room = self._rooms.get(room_id)
        last = room.last_seq if room else 0
        return [await self._event(room_id, seq) for seq in range(after + 1, min(after + limit, last) + 1)]

    async def _event(self, room_id: RoomId, seq: int) -> RoomEvent:
        entry = self._entries.get((room_id, seq))
        if entry is None:
            message = await self._messages.in_place(room_id, seq)
            return RoomEvent(room_id=room_id, seq=seq, kind=EventKind.MESSAGE_CREATED, message=message)
        event = RoomEvent(room_id=room_id, seq=seq, kind=entry.kind)
        if entry.message_id is not None:
            return replace(event, message=await self._messages.get(entry.message_id))
        if entry.kind in (EventKind.MEMBER_JOINED, EventKind.MEMBER_LEFT):
            known = await self.membership(room_id, entry.user_id) if entry.user_id else None
            return replace(event, membership=known or _nobody_s(entry))
        return replace(event, room=self._rooms.get(room_id))

    async def last_seqs(self, room_ids: Sequence[RoomId]) -> Mapping[RoomId, int]:
        rooms = [self._rooms.get(room_id) for room_id in room_ids]
        return {room.id: room.last_seq for room in rooms if room is not None}

    async def doors(self, room_id: RoomId, user_ids: Sequence[UserId]) -> Mapping[UserId, Door]:
        doors = {user_id: await self.door(room_id, user_id) for user_id in user_ids}
        return {user_id: door for user_id, door in doors.items() if door is not None}


def _nobody_s(entry: LogEntry) -> Membership:
    return Membership(
        room_id=entry.room_id,
        user_id=GONE,
        username=DELETED_NAME,
        role=Role.MEMBER,
        joined_at=entry.created_at,
        standing=Standing.LEFT,
    )


def _charge(reply: Reply) -> int:
    counted = reply.input_tokens is not None or reply.output_tokens is not None
    if not reply.final or (reply.message_id is not None and not counted):
        return reply.reserved_tokens + reply.wasted_tokens
    return (reply.input_tokens or 0) + (reply.output_tokens or 0) + reply.wasted_tokens


def _age(reply: Reply) -> tuple[datetime, ReplyId]:
    return reply.created_at, reply.id


class MemoryReplies(Replies):
    def __init__(self, tables: _Tables, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._replies = _Table(tables.replies)
        self._newest = _Table(tables.newest_tries)
        self._attempts = _Table(tables.attempts)
        self._parts = _Table(tables.parts)
        self.changed = (self._replies, self._newest, self._attempts, self._parts)

    async def add(self, reply: Reply, lease: float = 0.0) -> None:
        newest = await self.newest_for(reply.prompt_id)
        if newest is not None and (not newest.final or newest.try_number >= reply.try_number):
            raise Contention
        self._replies.put(reply.id, _Leased(reply, self.monotonic() + lease))
        self._newest.put(reply.prompt_id, reply.id)

    async def get(self, reply_id: ReplyId) -> Reply | None:
        leased = self._replies.get(reply_id)
        return leased.reply if leased else None

    async def newest_for(self, prompt_id: MessageId) -> Reply | None:
        reply_id = self._newest.get(prompt_id)
        return await self.get(reply_id) if reply_id else None

    async def unfinished_in(self, *room_ids: RoomId) -> Sequence[Reply]:
        replies = (leased.reply for leased in self._replies.values())
        found = [reply for reply in replies if reply.room_id in room_ids and not reply.final]
        return sorted(found, key=_age)

    async def unfinished_for(self, user_id: UserId) -> Sequence[Reply]:
        replies = (leased.reply for leased in self._replies.values())
        found = [reply for reply in replies if reply.asked_by == user_id and not reply.final]
        return sorted(found, key=_age)

    async def load_of(self, user_id: UserId, since: datetime | None) -> Load:
        tokens = await self.tokens_of(user_id, since) if since is not None else 0
        return Load(unfinished=len(await self.unfinished_for(user_id)), tokens=tokens)

    def _of(self, user_id: UserId, since: datetime) -> list[Reply]:
        replies = (leased.reply for leased in self._replies.values())
        return [reply for reply in replies if reply.asked_by == user_id and reply.created_at >= since]

    async def tokens_of(self, user_id: UserId, since: datetime) -> int:
        return sum(_charge(reply) for reply in self._of(user_id, since))

    async def usage_of(self, user_id: UserId, since: datetime) -> Sequence[DayUsage]:
        sums: dict[tuple[date, RoomId], tuple[int, int, int]] = {}
        for reply in self._of(user_id, since):
            key = (reply.created_at.astimezone(UTC).date(), reply.room_id)
            known = sums.get(key, (0, 0, 0))
            new = (reply.input_tokens or 0, reply.output_tokens or 0, reply.wasted_tokens)
            sums[key] = (known[0] + new[0], known[1] + new[1], known[2] + new[2])
        days = [
            DayUsage(date=day, room_id=room, input_tokens=i, output_tokens=o, wasted_tokens=w)
            for (day, room), (i, o, w) in sums.items()
            if i or o or w
        ]
        return sorted(days, key=lambda usage: (-usage.date.toordinal(), usage.room_id))

    def _is_due(self, leased: _Leased, queued_for: float = 0.0) -> bool:
        # A queued reply is free from when it was queued.
        wait = queued_for if leased.reply.status is ReplyStatus.QUEUED else 0.0
        return not leased.reply.final and leased.until + wait <= self.monotonic()

    async def claim(self, reply_id: ReplyId, lease: float) -> Reply | None:
        leased = self._replies.get(reply_id)
        if leased is None or not self._is_due(leased):
            return None
        claimed = leased.reply.claimed()
        self._replies.put(reply_id, _Leased(claimed, self.monotonic() + lease))
        return claimed

    def _running(self, reply_id: ReplyId, epoch: int) -> Reply | None:
        leased = self._replies.get(reply_id)
        if leased is None or leased.reply.status is not ReplyStatus.RUNNING or leased.reply.epoch != epoch:
            return None
        return leased.reply

    async def extend(self, reply_id: ReplyId, epoch: int, lease: float) -> Reply | None:
        reply = self._running(reply_id, epoch)
        if reply is not None:
            self._replies.put(reply_id, _Leased(reply, self.monotonic() + lease))
        return reply

    async def release(self, reply_id: ReplyId, epoch: int) -> bool:
        reply = self._running(reply_id, epoch)
        if reply is not None:
            self._replies.put(reply_id, _Leased(replace(reply, status=ReplyStatus.QUEUED), self.monotonic()))
        return reply is not None

    async def request_stop(self, reply_id: ReplyId) -> None:
        leased = self._replies.get(reply_id)
        if leased is not None and not leased.reply.final:
            self._replies.put(reply_id, replace(leased, reply=replace(leased.reply, stop_requested=True)))

    async def stopping(self, limit: int) -> Sequence[ReplyId]:
        replies = [leased.reply for leased in self._replies.values()]
        return [reply.id for reply in replies if reply.stop_requested and reply.status is ReplyStatus.RUNNING][:limit]

    async def begin_attempt(self, attempt: Attempt) -> bool:
        reply = self._running(attempt.reply_id, attempt.epoch)
        if reply is None:
            return False
        until = self._replies.get(attempt.reply_id)
        counted = replace(reply, attempts=attempt.number, provider=attempt.provider, model=attempt.model)
        self._replies.put(attempt.reply_id, _Leased(counted, until.until if until else 0.0))
        self._attempts.put((attempt.reply_id, attempt.number), attempt)
        return True

    async def end_attempt(self, attempt: Attempt) -> None:
        self._attempts.put((attempt.reply_id, attempt.number), attempt)

    async def attempts(self, reply_id: ReplyId) -> Sequence[Attempt]:
        found = [attempt for attempt in self._attempts.values() if attempt.reply_id == reply_id]
        return sorted(found, key=lambda attempt: attempt.number)

    async def finish(self, reply: Reply) -> bool:
        known = await self.get(reply.id)
        if known is None or known.final or known.epoch > reply.epoch:
            return False
        self._replies.put(reply.id, _Leased(replace(reply, attempts=known.attempts, crashes=known.crashes)))
        return True

    async def keep_parts(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        if self._running(reply_id, parts[0].epoch) is None:
            return False
        kept = {part.place: part for part in self._parts.get(reply_id) or ()} | {part.place: part for part in parts}
        self._parts.put(reply_id, tuple(kept[place] for place in sorted(kept)))
        return True

    async def parts(self, reply_id: ReplyId, after: Place) -> Sequence[Part]:
        kept = self._parts.get(reply_id) or ()
        return [part for part in kept if part.epoch == after.epoch and part.offset > after.offset]

    async def spent_parts(self, limit: int) -> Sequence[ReplyId]:
        found = [leased.reply for leased in self._replies.values() if leased.reply.final]
        return [reply.id for reply in found if self._parts.get(reply.id)][:limit]

    async def drop_parts(self, reply_ids: Sequence[ReplyId]) -> None:
        for reply_id in reply_ids:
            self._parts.put(reply_id, ())

    async def due(self, limit: int, queued_for: float = 0.0) -> Sequence[ReplyId]:
        found = [leased.reply for leased in self._replies.values() if self._is_due(leased, queued_for)]
        return [reply.id for reply in sorted(found, key=_age)[:limit]]


class MemoryTransaction(Transaction):
    def __init__(self, tables: _Tables, monotonic: Callable[[], float]) -> None:
        self._users = MemoryUsers(tables, monotonic)
        self._replies = MemoryReplies(tables, monotonic)
        self._messages = MemoryMessages(tables, self._users, self._replies)
        self._rooms = MemoryRooms(tables, self._users, self._messages)

    @property
    def users(self) -> Users:
        return self._users

    @property
    def rooms(self) -> Rooms:
        return self._rooms

    @property
    def messages(self) -> Messages:
        return self._messages

    @property
    def replies(self) -> Replies:
        return self._replies

    @property
    def summaries(self) -> MemorySummaries:
        return self._messages.summaries

    @property
    def sessions(self) -> Sessions:
        return self._users.sessions

    async def accept(self, offer: Offer) -> Accepted | None:
        message = offer.message
        door = await self._rooms.door(message.room_id, offer.sender)
        used = await self._messages.sent(message.room_id, offer.sender, message.m_id)
        gone = await self._users.get(offer.sender) is None
        if door is None or not door.is_member or gone or door.room.ai != offer.ai or used is not None:
            return None
        await self._rooms.advance(message.room_id, offer.sender, at=message.created_at, messages=1)
        message = replace(message, seq=door.room.last_seq + 1)
        await self._messages.add(message, offer.fingerprint, offer.asks)
        wanted = offer.context
        context = await self._messages.context(message.room_id, message.seq, wanted) if wanted else None
        return Accepted(message=message, context=context)

    async def commit(self) -> None:
        for repository in (self._users, self._users.sessions, self._messages, self._rooms, self._replies):
            for table in repository.changed:
                table.commit()


class MemoryUnitOfWork(UnitOfWork):
    """Transactions over dictionaries that live as long as this object. ``monotonic`` is the clock of leases."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tables = _Tables()
        self._monotonic = monotonic
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Transaction]:
        async with self._writer:
            yield MemoryTransaction(self._tables, self._monotonic)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        yield MemoryTransaction(self._tables, self._monotonic)

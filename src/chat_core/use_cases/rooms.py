"""Opening rooms, and who belongs to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chat_core.domain.ids import RoomId, UserId, utc_now, uuid7
from chat_core.domain.message import Message
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import (
    Door,
    EventKind,
    LogEntry,
    Membership,
    Role,
    Room,
    Standing,
    Visibility,
    open_door,
)
from chat_core.domain.user import Actor
from chat_core.errors import AlreadyMember, Forbidden, Invalid, NotFound, OwnerCannotLeave
from chat_core.ports.delivery import LogGrew, ReplyFeed, RoomFeed
from chat_core.ports.storage import RoomCursor, RoomPage, Transaction, UnitOfWork
from chat_core.use_cases.limits import Limits
from chat_core.use_cases.transactions import again_on_contention

RECENT_MESSAGES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRoom:
    """Open a room, owned by who asks. Raises ``Invalid``, ``RateLimited``."""

    uow: UnitOfWork
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = utc_now

    async def __call__(
        self, *, actor: Actor, name: str, description: str = "", visibility: Visibility = Visibility.PUBLIC
    ) -> Room:
        at = self.now()
        room = Room(
            id=RoomId(uuid7()),
            name=name,
            description=description,
            created_by=actor.user_id,
            created_at=at,
            visibility=visibility,
            last_activity_at=at,
        ).check()
        owner = Membership(
            room_id=room.id, user_id=actor.user_id, username=actor.username, role=Role.OWNER, joined_at=at
        )
        await self.limits.making_room(actor.user_id)
        await self._store(room, owner)
        return room

    @again_on_contention
    async def _store(self, room: Room, owner: Membership) -> None:
        async with self.uow() as tx:
            await tx.rooms.add(room, owner)
            await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRooms:
    """A page of the rooms that the person may see, latest activity first."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, limit: int, after: RoomCursor | None = None) -> RoomPage:
        async with self.uow.read() as tx:
            return await tx.rooms.visible_to(actor.user_id, limit, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRoom:
    """A room and its last messages, oldest first. Raises ``NotFound``."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, room_id: RoomId) -> tuple[Room, Sequence[Message]]:
        async with self.uow.read() as tx:
            door = open_door(await tx.rooms.door(room_id, actor.user_id))
            page = await tx.messages.page(room_id, RECENT_MESSAGES)
        return door.room, page.messages


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRoom:
    """Change a room's name, description, visibility or AI. The owner only.

    ``models`` are those that a room may choose. Raises ``NotFound``, ``Forbidden`` or ``Invalid``.
    """

    uow: UnitOfWork
    models: frozenset[str]
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId, change: Callable[[Room], Room]) -> Room:
        """``change`` makes the new room from the one that is stored; it may be called more than once."""
        room, changed = await self._update(actor, room_id, change)
        if changed:
            await self.room_feed.tell(LogGrew(room_id=room_id, seq=room.last_seq))
        return room

    @again_on_contention
    async def _update(self, actor: Actor, room_id: RoomId, change: Callable[[Room], Room]) -> tuple[Room, bool]:
        async with self.uow() as tx:
            room = open_door(await tx.rooms.door(room_id, actor.user_id)).owned().room
            if self._checked(change(room), room) == room:
                return room, False
            at = self.now()
            locked = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at)).owned().room
            changed = self._checked(change(locked), locked)
            await tx.rooms.save(changed)
            await tx.rooms.add_entry(
                LogEntry(room_id=room_id, seq=locked.last_seq, kind=EventKind.ROOM_UPDATED, created_at=at)
            )
            await tx.commit()
        return changed, True

    def _checked(self, changed: Room, before: Room) -> Room:
        if changed.ai.model not in (None, before.ai.model) and changed.ai.model not in self.models:
            raise Invalid.at("/ai/model", "must be one of the configured models: " + ", ".join(sorted(self.models)))
        return changed.check()


async def cancel_unfinished(tx: Transaction, replies: Sequence[Reply], at: datetime) -> Sequence[Reply]:
    """Give these replies their end, in this transaction; returns those that it ended.

    Their makers find out by their lease or by the feed, and close the model call.
    """
    ended = [reply.ended(ReplyStatus.CANCELLED, at, error_code="cancelled") for reply in replies]
    return [reply for reply in ended if await tx.replies.finish(reply)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRoom:
    """End a room: its texts are gone, its running replies stop. The owner only. Raises ``NotFound``, ``Forbidden``."""

    uow: UnitOfWork
    feed: ReplyFeed
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId) -> None:
        seq, ended = await self._delete(actor, room_id)
        await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))
        for reply in ended:
            await self.feed.announce(reply.id)

    @again_on_contention
    async def _delete(self, actor: Actor, room_id: RoomId) -> tuple[int, Sequence[Reply]]:
        async with self.uow() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id)).owned()
            at = self.now()
            room = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at)).owned().room
            await tx.rooms.add_entry(
                LogEntry(room_id=room_id, seq=room.last_seq, kind=EventKind.ROOM_DELETED, created_at=at)
            )
            ended = await cancel_unfinished(tx, await tx.replies.unfinished_in(room_id), at)
            await tx.rooms.delete(room_id, at)
            await tx.commit()
        return room.last_seq, ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMembers:
    """The room's members, longest-standing first. Raises ``NotFound``."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, room_id: RoomId) -> Sequence[Membership]:
        async with self.uow.read() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id))
            return await tx.rooms.members(room_id)


async def enter(tx: Transaction, door: Door, actor: Actor, at: datetime) -> Membership:
    """Make the person a member, at the place in the log that ``door`` has just taken."""
    joined = Membership(
        room_id=door.room.id, user_id=actor.user_id, username=actor.username, role=Role.MEMBER, joined_at=at
    )
    await _stand(tx, joined, EventKind.MEMBER_JOINED, door.room.last_seq, at)
    return joined


async def _stand(tx: Transaction, membership: Membership, kind: EventKind, seq: int, at: datetime) -> None:
    await tx.rooms.save_membership(membership)
    await tx.rooms.add_entry(
        LogEntry(room_id=membership.room_id, seq=seq, kind=kind, created_at=at, user_id=membership.user_id)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMember:
    """Let somebody in, by username; also somebody who was removed. The owner only.

    Raises ``NotFound`` for the room and for an unknown name, ``Forbidden``, ``AlreadyMember``.
    """

    uow: UnitOfWork
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId, username: str) -> Membership:
        added, seq = await self._add(actor, room_id, username)
        await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))
        return added

    @again_on_contention
    async def _add(self, actor: Actor, room_id: RoomId, username: str) -> tuple[Membership, int]:
        async with self.uow() as tx:
            open_door(await tx.rooms.door(room_id, actor.user_id)).owned()
            user = await tx.users.by_login(username) if "\x00" not in username else None
            # An e-mail would find the account too: whether one is known must not be told.
            if user is None or user.username.casefold() != username.casefold():
                raise NotFound("There is nobody of this name.")
            at = self.now()
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at)).owned()
            known = await tx.rooms.membership(room_id, user.id)
            if known is not None and known.active:
                raise AlreadyMember
            added = await enter(tx, door, Actor(user_id=user.id, username=user.username), at)
            await tx.commit()
        return added, door.room.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember:
    """Leave a room, or, as its owner, remove somebody, who finds it closed until added again.

    Raises ``NotFound`` for the room and for who is no member, ``Forbidden``, ``OwnerCannotLeave``.
    """

    uow: UnitOfWork
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, room_id: RoomId, user_id: UserId) -> None:
        seq = await self._remove(actor, room_id, user_id)
        await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))

    @again_on_contention
    async def _remove(self, actor: Actor, room_id: RoomId, user_id: UserId) -> int:
        leaves = actor.user_id == user_id
        async with self.uow() as tx:
            door = open_door(await tx.rooms.door(room_id, actor.user_id))
            await self._leaver(tx, door, user_id, leaves)
            at = self.now()
            door = open_door(await tx.rooms.advance(room_id, actor.user_id, at=at))
            leaver = await self._leaver(tx, door, user_id, leaves)
            standing = Standing.LEFT if leaves else Standing.REMOVED
            await _stand(tx, leaver.now(standing), EventKind.MEMBER_LEFT, door.room.last_seq, at)
            await tx.commit()
        return door.room.last_seq

    async def _leaver(self, tx: Transaction, door: Door, user_id: UserId, leaves: bool) -> Membership:
        if not leaves and not door.is_owner:
            raise Forbidden("Only the room's owner may remove others.")
        membership = await tx.rooms.membership(door.room.id, user_id)
        if membership is None or not membership.active:
            raise NotFound("This person is no member here.")
        if membership.role is Role.OWNER:
            raise OwnerCannotLeave
        return membership

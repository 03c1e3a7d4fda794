"""Reading, editing and deleting messages."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chat_core.domain.ids import MessageId, ReplyId, RoomId, utc_now
from chat_core.domain.message import (
    Message,
    MessageStatus,
    check_content,
)
from chat_core.domain.room import Door, EventKind, LogEntry, open_door
from chat_core.domain.user import Actor
from chat_core.errors import Forbidden, Invalid, NotFound
from chat_core.ports.delivery import LogGrew, ReplyFeed, RoomFeed
from chat_core.ports.storage import MessagePage, Transaction, UnitOfWork
from chat_core.use_cases.rooms import cancel_unfinished
from chat_core.use_cases.transactions import again_on_contention


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
            page = await tx.page_for(actor.user_id, room_id, limit, before=before, after=after, around=around)
        if page is None:
            raise NotFound
        return page


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
        await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq, moves_doors=False))
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
            await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq, moves_doors=False))
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

"""Values to test with: small builders, and short ways to have them stored."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chat_core.domain.ids import MessageId, ReplyId, RoomId, UserId, uuid7
from chat_core.domain.message import AI_NAME, Message, MessageKind, fingerprint
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import Membership, Role, Room, Standing, Visibility
from chat_core.domain.user import User
from chat_core.ports.storage import UnitOfWork

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC)

#: What has broken storages before: quoting, placeholders, combining and bidirectional marks, the ends of the planes.
HARD_TEXTS = (
    "",
    " ",
    "'; DROP TABLE messages; --",
    '%s %(name)s :name $1 ? {0} \\ \\x00 \\u0000 "',
    "line\r\nline\ttab\x01\x7f\x80",
    "e\u0301 ﬁ ß İ ı Σσς",
    "\u202eright to left\u202c \u200b\ufeff",
    "👩‍👩‍👧 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \uffff \U0010ffff",
)


def any_texts(count: int, *, seed: int = 7) -> Iterator[str]:
    """The hard ones, then so many drawn from all of Unicode, without NUL and lone surrogates; the same each time."""
    yield from HARD_TEXTS
    draw = random.Random(seed)
    for _ in range(count):
        points = (draw.choice((draw.randint(1, 0xD7FF), draw.randint(0xE000, 0x10FFFF))) for _ in range(40))
        yield "".join(map(chr, points))


def a_user(username: str = "ann", **changes: Any) -> User:
    """An account that is not stored."""
    user = User(
        id=UserId(uuid7()),
        username=username,
        email=f"{username}@example.org",
        password_hash="$hash$",
        created_at=MOMENT,
    )
    return replace(user, **changes)


def a_room(owner: User, **changes: Any) -> Room:
    """A room that is not stored."""
    room = Room(
        id=RoomId(uuid7()),
        name="Room",
        description="",
        created_by=owner.id,
        created_at=MOMENT,
        last_activity_at=MOMENT,
    )
    return replace(room, **changes)


def a_membership(room: Room, user: User, **changes: Any) -> Membership:
    """A membership that is not stored; a plain member's."""
    membership = Membership(
        room_id=room.id, user_id=user.id, username=user.username, role=Role.MEMBER, joined_at=MOMENT
    )
    return replace(membership, **changes)


def a_message(room: Room, user: User | None, seq: int, content: str = "hello", **changes: Any) -> Message:
    """A message that is not stored; the AI's where there is no user."""
    message_id = MessageId(uuid7())
    message = Message(
        id=message_id,
        m_id=str(message_id),
        seq=seq,
        content=content,
        user_id=None if user is None else user.id,
        room_id=room.id,
        kind=MessageKind.AI if user is None else MessageKind.USER,
        username=AI_NAME if user is None else user.username,
        created_at=MOMENT,
    )
    return replace(message, **changes)


def a_reply(prompt: Message, **changes: Any) -> Reply:
    """A queued reply that is not stored."""
    reply = Reply(
        id=ReplyId(uuid7()),
        room_id=prompt.room_id,
        prompt_id=prompt.id,
        asked_by=prompt.user_id,
        created_at=MOMENT,
        deadline_at=MOMENT + timedelta(minutes=5),
    )
    return replace(reply, **changes)


async def stored_user(uow: UnitOfWork, username: str = "ann", **changes: Any) -> User:
    """An account, stored."""
    user = a_user(username, **changes)
    async with uow() as tx:
        await tx.users.add(user)
        await tx.commit()
    return user


async def stored_room(uow: UnitOfWork, owner: User, **changes: Any) -> Room:
    """A room with its owner, stored."""
    room = a_room(owner, **changes)
    async with uow() as tx:
        await tx.rooms.add(room, a_membership(room, owner, role=Role.OWNER))
        await tx.commit()
    return room


async def stored_private_room(uow: UnitOfWork, owner: User, **changes: Any) -> Room:
    """A private room with its owner, stored."""
    return await stored_room(uow, owner, visibility=Visibility.PRIVATE, **changes)


async def stored_member(
    uow: UnitOfWork, room: Room, user: User, standing: Standing = Standing.ACTIVE, **changes: Any
) -> Membership:
    """A membership, stored."""
    membership = a_membership(room, user, standing=standing, **changes)
    async with uow() as tx:
        await tx.rooms.save_membership(membership)
        await tx.commit()
    return membership


async def said(uow: UnitOfWork, room: Room, user: User | None, content: str = "hello", **changes: Any) -> Message:
    """A message at the room's next place, stored."""
    async with uow() as tx:
        door = await tx.rooms.advance(room.id, user.id if user else UserId(uuid7()), at=MOMENT, messages=1)
        assert door is not None
        message = a_message(room, user, door.room.last_seq, content, **changes)
        await tx.messages.add(message, fingerprint(content))
        await tx.commit()
    return message


async def asked(uow: UnitOfWork, prompt: Message, **changes: Any) -> Reply:
    """A queued reply, stored."""
    reply = a_reply(prompt, **changes)
    async with uow() as tx:
        await tx.replies.add(reply)
        await tx.commit()
    return reply


async def a_prompt(uow: UnitOfWork) -> Message:
    """A message of somebody's in a room of theirs, stored."""
    user = await stored_user(uow)
    return await said(uow, await stored_room(uow, user), user)


async def a_queued_reply(uow: UnitOfWork) -> Reply:
    """A queued reply to such a prompt, stored."""
    return await asked(uow, await a_prompt(uow))


async def claimed(uow: UnitOfWork, reply: Reply, lease: float = 60.0) -> Reply:
    """The reply, claimed for so many seconds; it must be to be had. A lease of 0 is over at once."""
    async with uow() as tx:
        found = await tx.replies.claim(reply.id, lease)
        await tx.commit()
    assert found is not None
    return found


async def finished(uow: UnitOfWork, reply: Reply, status: ReplyStatus = ReplyStatus.FAILED) -> Reply:
    """The reply, with this final status; it must be possible."""
    ended = reply.ended(status, MOMENT)
    async with uow() as tx:
        assert await tx.replies.finish(ended)
        await tx.commit()
    return ended

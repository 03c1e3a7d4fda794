"""What the storage promises of a room's log, read as one."""

from dataclasses import replace
from datetime import timedelta

from chat_core.domain.ids import MessageId, RoomId, UserId, uuid7
from chat_core.domain.room import Door, EventKind, LogEntry, Role, Room, RoomEvent, Standing, Visibility
from chat_core.domain.user import User
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_membership,
    a_user,
    said,
    stored_member,
    stored_private_room,
    stored_room,
    stored_user,
)


async def _entered(
    uow: UnitOfWork,
    room: Room,
    kind: EventKind,
    *,
    message_id: MessageId | None = None,
    user_id: UserId | None = None,
) -> int:
    """The place of an entry, stored."""
    async with uow() as tx:
        door = await tx.rooms.advance(room.id, None, at=MOMENT)
        assert door is not None
        seq = door.room.last_seq
        await tx.rooms.add_entry(
            LogEntry(room_id=room.id, seq=seq, kind=kind, created_at=MOMENT, message_id=message_id, user_id=user_id)
        )
        await tx.commit()
    return seq


async def _log(uow: UnitOfWork, room: Room, after: int = 0, limit: int = 50) -> list[RoomEvent]:
    async with uow.read() as tx:
        return list(await tx.rooms.log(room.id, after, limit))


class LogClauses(Contract):
    """The log as one, how far logs have come, and doors for many."""

    async def test_the_log_is_read_as_one(self, uow: UnitOfWork) -> None:
        """Messages and all else that took a place, 1, 2, 3 ... without a gap, each with what it is about."""
        owner, other = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_room(uow, owner)
        first = await said(uow, room, owner, "one")
        membership = await stored_member(uow, room, other)
        await _entered(uow, room, EventKind.MEMBER_JOINED, user_id=other.id)
        answer = await said(uow, room, None, "answer", reply_to=first.id)
        await _entered(uow, room, EventKind.MESSAGE_EDITED, message_id=first.id)
        await _entered(uow, room, EventKind.ROOM_UPDATED)
        events = await _log(uow, room)
        stored = replace(room, last_seq=5, message_count=2)
        assert events == [
            RoomEvent(room_id=room.id, seq=1, kind=EventKind.MESSAGE_CREATED, message=first),
            RoomEvent(room_id=room.id, seq=2, kind=EventKind.MEMBER_JOINED, membership=membership),
            RoomEvent(room_id=room.id, seq=3, kind=EventKind.MESSAGE_CREATED, message=answer),
            RoomEvent(room_id=room.id, seq=4, kind=EventKind.MESSAGE_EDITED, message=first),
            RoomEvent(room_id=room.id, seq=5, kind=EventKind.ROOM_UPDATED, room=stored),
        ]

    async def test_pages_of_the_log_of_any_size_join_without_a_gap(self, uow: UnitOfWork) -> None:
        """Each begins right behind its ``after``; behind the end there is nothing, and other rooms are not in it."""
        owner = await stored_user(uow)
        room, other = await stored_room(uow, owner), await stored_room(uow, owner)
        for number in range(9):
            if number % 3 == 2:
                await _entered(uow, room, EventKind.ROOM_UPDATED)
            else:
                await said(uow, room, owner, str(number))
            await said(uow, other, owner)
        whole = await _log(uow, room)
        assert [event.seq for event in whole] == list(range(1, 10))
        for limit in (1, 2, 4, 9, 50):
            joined: list[RoomEvent] = []
            while page := await _log(uow, room, len(joined), limit):
                assert len(page) <= limit
                joined += page
            assert joined == whole
        assert await _log(uow, room, 9) == []
        assert await _log(uow, room, 2**62) == []

    async def test_the_log_shows_messages_as_they_are_now(self, uow: UnitOfWork) -> None:
        """A text that was changed or deleted is nowhere in it, also not where it was first said."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        edited, deleted = await said(uow, room, owner, "old"), await said(uow, room, owner, "secret")
        async with uow() as tx:
            await tx.messages.save(edited.edited("new", MOMENT))
            await tx.messages.save(deleted.deleted(MOMENT))
            await tx.commit()
        await _entered(uow, room, EventKind.MESSAGE_EDITED, message_id=edited.id)
        await _entered(uow, room, EventKind.MESSAGE_DELETED, message_id=deleted.id)
        texts = [event.message.content for event in await _log(uow, room) if event.message is not None]
        assert texts == ["new", "", "new", ""]

    async def test_the_log_shows_members_as_they_are_now(self, uow: UnitOfWork) -> None:
        """Those who left or were removed too."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        for number, standing in enumerate(Standing):
            person = await stored_user(uow, f"person{number}")
            await stored_member(uow, room, person, joined_at=MOMENT - timedelta(days=1))
            await _entered(uow, room, EventKind.MEMBER_JOINED, user_id=person.id)
            now = await stored_member(uow, room, person, standing)
            await _entered(uow, room, EventKind.MEMBER_LEFT, user_id=person.id)
            assert [event.membership for event in (await _log(uow, room))[-2:]] == [now, now]

    async def test_the_log_of_a_deleted_room_can_be_read_to_its_end(self, uow: UnitOfWork) -> None:
        """Its last entry says that it was deleted, and shows the room; what was said in it is gone."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        await said(uow, room, owner, "secret")
        await _entered(uow, room, EventKind.ROOM_DELETED)
        async with uow() as tx:
            await tx.rooms.delete(room.id, MOMENT)
            await tx.commit()
        created, deleted = await _log(uow, room)
        assert created.message is not None
        assert created.message.content == ""
        assert (deleted.seq, deleted.kind) == (2, EventKind.ROOM_DELETED)
        assert deleted.room == replace(room, last_seq=2, message_count=1)

    async def test_an_unknown_room_has_no_log(self, uow: UnitOfWork) -> None:
        """Nothing, and no error."""
        async with uow.read() as tx:
            assert list(await tx.rooms.log(RoomId(uuid7()), 0, 10)) == []

    async def test_how_far_the_logs_of_many_rooms_have_come(self, uow: UnitOfWork) -> None:
        """Deleted ones included; unknown ones are left out; none at all is no error."""
        owner = await stored_user(uow)
        silent, spoken, deleted = [await stored_room(uow, owner) for _ in range(3)]
        for room in (spoken, spoken, deleted):
            await said(uow, room, owner)
        async with uow() as tx:
            await tx.rooms.delete(deleted.id, MOMENT)
            await tx.commit()
        async with uow.read() as tx:
            found = await tx.rooms.last_seqs([silent.id, spoken.id, deleted.id, RoomId(uuid7())])
            assert dict(found) == {silent.id: 0, spoken.id: 2, deleted.id: 1}
            assert dict(await tx.rooms.last_seqs([])) == {}

    async def test_doors_for_many_are_what_each_one_finds(self, uow: UnitOfWork) -> None:
        """Of whatever visibility and standing, and with nobody else's in them."""
        owner, stranger = await stored_user(uow), a_user("zoe")
        people: list[User] = [await stored_user(uow, f"person{number}") for number in range(3)]
        for visibility in Visibility:
            room = await stored_room(uow, owner, visibility=visibility)
            for person, standing in zip(people, Standing, strict=True):
                await stored_member(uow, room, person, standing)
            asked = [person.id for person in (owner, *people, stranger)]
            async with uow.read() as tx:
                doors = await tx.rooms.doors(room.id, asked)
                assert dict(doors) == {user_id: await tx.rooms.door(room.id, user_id) for user_id in asked}
                alone = await tx.rooms.doors(room.id, [stranger.id])
                assert dict(alone) == {stranger.id: Door(room=room, user_id=stranger.id, membership=None)}
                assert doors[owner.id].membership == a_membership(room, owner, role=Role.OWNER)
                assert dict(await tx.rooms.doors(room.id, [])) == {}

    async def test_there_are_no_doors_to_a_room_that_is_not_there(self, uow: UnitOfWork) -> None:
        """Neither to an unknown one nor to one that was deleted."""
        owner = await stored_user(uow)
        room = await stored_private_room(uow, owner)
        async with uow() as tx:
            await tx.rooms.delete(room.id, MOMENT)
            await tx.commit()
        async with uow.read() as tx:
            assert dict(await tx.rooms.doors(room.id, [owner.id])) == {}
            assert dict(await tx.rooms.doors(RoomId(uuid7()), [owner.id])) == {}

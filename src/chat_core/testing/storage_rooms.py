"""What the storage promises of rooms and of those who belong to them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import RoomId, UserId, uuid7
from chat_core.domain.room import (
    AIMode,
    Door,
    EventKind,
    LogEntry,
    Role,
    Room,
    RoomAI,
    Standing,
    Visibility,
    WhenBusy,
)
from chat_core.domain.user import User
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import RoomCursor, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_membership,
    a_room,
    a_user,
    any_texts,
    said,
    stored_member,
    stored_private_room,
    stored_room,
    stored_user,
)


async def _door(uow: UnitOfWork, room: Room, user: User) -> Door | None:
    async with uow.read() as tx:
        return await tx.rooms.door(room.id, user.id)


async def _listed(uow: UnitOfWork, user: User, limit: int) -> list[list[Room]]:
    """All pages, one after the other, each of which must give the same total."""
    pages: list[list[Room]] = []
    cursor: RoomCursor | None = None
    totals: set[int] = set()
    while cursor is not None or not pages:
        async with uow.read() as tx:
            page = await tx.rooms.visible_to(user.id, limit, cursor)
        pages.append(list(page.rooms))
        totals.add(page.total)
        cursor = page.next_cursor
    assert totals == {sum(map(len, pages))}
    return pages


class RoomClauses(Contract):
    """Rooms, doors, members, and the list."""

    async def test_a_room_comes_back_as_it_was_stored(self, uow: UnitOfWork) -> None:
        """Every field, to the microsecond, whatever text is in it."""
        owner = await stored_user(uow)
        for number, text in enumerate(any_texts(8)):
            room = await stored_room(
                uow,
                owner,
                name=text,
                description=text,
                visibility=list(Visibility)[number % 2],
                created_at=MOMENT + timedelta(microseconds=number),
                last_activity_at=MOMENT - timedelta(microseconds=number),
                ai=RoomAI(
                    mode=list(AIMode)[number % 3],
                    model=text,
                    system_prompt=text,
                    temperature=number / 7,
                    max_output_tokens=number + 1,
                    busy=list(WhenBusy)[number % 2],
                ),
            )
            door = await _door(uow, room, owner)
            assert door == Door(room=room, user_id=owner.id, membership=a_membership(room, owner, role=Role.OWNER))
        plain = await stored_room(uow, owner)
        door = await _door(uow, plain, owner)
        assert door is not None
        assert door.room == plain

    async def test_a_room_needs_an_owner_with_an_account(self, uow: UnitOfWork) -> None:
        """``NotAuthenticated`` where the account is gone, and no room is left behind."""
        ghost, room = a_user(), a_room(a_user())
        async with uow() as tx:
            with pytest.raises(NotAuthenticated):
                await tx.rooms.add(replace(room, created_by=ghost.id), a_membership(room, ghost, role=Role.OWNER))
        assert await _door(uow, room, ghost) is None

    async def test_creating_a_room_takes_no_place(self, uow: UnitOfWork) -> None:
        """The first place is 1."""
        owner = await stored_user(uow)
        assert (await said(uow, await stored_room(uow, owner), owner)).seq == 1

    async def test_a_place_counts_and_dates_the_room(self, uow: UnitOfWork) -> None:
        """The door that comes back shows the place, the count and the time, and so does every later one."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        later = MOMENT + timedelta(seconds=1)
        async with uow() as tx:
            await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
            door = await tx.rooms.advance(room.id, owner.id, at=later)
            await tx.commit()
        assert door is not None
        assert door.room == replace(room, last_seq=2, message_count=1, last_activity_at=later)
        assert door == await _door(uow, room, owner)

    async def test_each_room_has_places_of_its_own(self, uow: UnitOfWork) -> None:
        """A place taken in one is free in the other."""
        owner = await stored_user(uow)
        first, second = await stored_room(uow, owner), await stored_room(uow, owner)
        assert [(await said(uow, room, owner)).seq for room in (first, second, first)] == [1, 1, 2]

    async def test_a_door_shows_somebody_in_any_standing(self, uow: UnitOfWork) -> None:
        """Who never belonged has no membership; who was removed or left still has one."""
        owner, other = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_room(uow, owner)
        assert await _door(uow, room, other) == Door(room=room, user_id=other.id, membership=None)
        for standing in Standing:
            membership = await stored_member(uow, room, other, standing)
            assert await _door(uow, room, other) == Door(room=room, user_id=other.id, membership=membership)
            async with uow() as tx:
                door = await tx.rooms.advance(room.id, other.id, at=MOMENT)
                assert door is not None
                assert door.membership == membership
                assert await tx.rooms.membership(room.id, other.id) == membership

    async def test_there_is_no_door_to_a_room_that_is_not_there(self, uow: UnitOfWork) -> None:
        """``None``, also for a membership."""
        owner = await stored_user(uow)
        async with uow.read() as tx:
            assert await tx.rooms.door(RoomId(uuid7()), owner.id) is None
            assert await tx.rooms.membership(RoomId(uuid7()), owner.id) is None

    async def test_saving_a_room_leaves_its_counters_and_dates_alone(self, uow: UnitOfWork) -> None:
        """Name, description, visibility and AI settings are stored; an old value cannot turn the log back."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        await said(uow, room, owner)
        changed = replace(
            room,
            name="Other",
            description="d",
            visibility=Visibility.PRIVATE,
            ai=RoomAI(mode=AIMode.OFF, model="m", system_prompt="s", temperature=0.5, max_output_tokens=7),
        )
        async with uow() as tx:
            await tx.rooms.save(replace(changed, created_by=None, created_at=MOMENT + timedelta(days=1)))
            await tx.commit()
        door = await _door(uow, room, owner)
        assert door is not None
        assert door.room == replace(changed, last_seq=1, message_count=1)

    async def test_a_deleted_room_is_not_there(self, uow: UnitOfWork) -> None:
        """No door, no place, in nobody's list; the texts of its messages are gone."""
        owner = await stored_user(uow)
        room, other = await stored_room(uow, owner), await stored_room(uow, owner)
        message, kept = await said(uow, room, owner), await said(uow, other, owner)
        async with uow() as tx:
            door = await tx.rooms.advance(room.id, owner.id, at=MOMENT)
            assert door is not None
            await tx.rooms.add_entry(
                LogEntry(
                    room_id=room.id,
                    seq=door.room.last_seq,
                    kind=EventKind.ROOM_DELETED,
                    created_at=MOMENT,
                    user_id=owner.id,
                )
            )
            await tx.rooms.delete(room.id, MOMENT)
            await tx.commit()
        async with uow() as tx:
            assert await tx.rooms.door(room.id, owner.id) is None
            assert await tx.rooms.advance(room.id, owner.id, at=MOMENT) is None
            gone = await tx.messages.get(message.id)
            assert gone is None or gone.content == ""
            assert all(left.content == "" for left in (await tx.messages.page(room.id, 10)).messages)
            assert all(left.content == "" for left in (await tx.messages.context(room.id, 99, 10)).messages)
            assert await tx.messages.get(kept.id) == kept
        assert [[found.id for found in page] for page in await _listed(uow, owner, 10)] == [[other.id]]

    async def test_the_active_members_are_listed_longest_standing_first(self, uow: UnitOfWork) -> None:
        """Who left or was removed is not among them; the names are the accounts'."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        people = [await stored_user(uow, name) for name in ("ben", "cat", "dan", "eve")]
        for hours, (person, standing) in enumerate(
            zip(people, (Standing.ACTIVE, Standing.LEFT, Standing.REMOVED, Standing.ACTIVE), strict=True)
        ):
            await stored_member(uow, room, person, standing, joined_at=MOMENT - timedelta(hours=hours + 1))
        async with uow.read() as tx:
            members = await tx.rooms.members(room.id)
        assert [member.username for member in members] == ["eve", "ben", "ann"]
        assert members[2] == a_membership(room, owner, role=Role.OWNER)

    async def test_a_membership_is_stored_anew_or_changed(self, uow: UnitOfWork) -> None:
        """One for each person and room: role, date and standing are those stored last."""
        owner, other = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_room(uow, owner)
        await stored_member(uow, room, other)
        later = MOMENT + timedelta(microseconds=1)
        changed = await stored_member(uow, room, other, Standing.LEFT, role=Role.OWNER, joined_at=later)
        async with uow.read() as tx:
            assert await tx.rooms.membership(room.id, other.id) == changed
            assert len(await tx.rooms.members(room.id)) == 1

    async def test_rooms_are_listed_by_their_latest_activity(self, uow: UnitOfWork) -> None:
        """A room that somebody speaks in comes first; pages of any size hold each room once, and tell the total."""
        owner = await stored_user(uow)
        rooms = [
            await stored_room(uow, owner, last_activity_at=MOMENT + timedelta(microseconds=minute // 2))
            for minute in range(7)
        ]
        async with uow() as tx:
            await tx.rooms.advance(rooms[2].id, owner.id, at=MOMENT + timedelta(seconds=1), messages=1)
            await tx.commit()
        whole = (await _listed(uow, owner, 50))[0]
        assert whole[0].id == rooms[2].id
        assert whole == sorted(whole, key=lambda room: (room.last_activity_at, room.id), reverse=True)
        assert {room.id for room in whole} == {room.id for room in rooms}
        for limit in (1, 2, 3, 7):
            pages = await _listed(uow, owner, limit)
            assert [room for page in pages for room in page] == whole
            assert all(len(page) == limit for page in pages[:-1])

    async def test_the_last_page_of_rooms_has_no_cursor(self, uow: UnitOfWork) -> None:
        """Also where it is full; and an empty list has none, with a total of 0."""
        owner = await stored_user(uow)
        async with uow.read() as tx:
            empty = await tx.rooms.visible_to(owner.id, 1, None)
        assert (list(empty.rooms), empty.total, empty.next_cursor) == ([], 0, None)
        await stored_room(uow, owner)
        async with uow.read() as tx:
            full = await tx.rooms.visible_to(owner.id, 1, None)
            assert (len(full.rooms), full.total, full.next_cursor) == (1, 1, None)
            beyond = RoomCursor(last_activity_at=MOMENT - timedelta(days=1), room_id=RoomId(uuid7()))
            past = await tx.rooms.visible_to(owner.id, 1, beyond)
        assert (list(past.rooms), past.total, past.next_cursor) == ([], 1, None)

    async def test_the_list_holds_the_rooms_whose_door_is_open(self, uow: UnitOfWork) -> None:
        """Each combination of visibility and standing is in it, and in the total, just where its door is open."""
        owner, other = await stored_user(uow), await stored_user(uow, "ben")
        open_to_other: set[RoomId] = set()
        for visibility in Visibility:
            for standing in (None, *Standing):
                room = await stored_room(uow, owner, visibility=visibility)
                if standing is not None:
                    await stored_member(uow, room, other, standing)
                door = await _door(uow, room, other)
                assert door is not None
                if door.is_open:
                    open_to_other.add(room.id)
        listed = await _listed(uow, other, 3)
        assert {room.id for page in listed for room in page} == open_to_other
        assert len(open_to_other) == 4
        assert sum(map(len, await _listed(uow, owner, 3))) == 8

    async def test_a_private_room_leaves_no_trace_in_a_strangers_list(self, uow: UnitOfWork) -> None:
        """Neither in the total nor in where pages end."""
        owner, stranger = await stored_user(uow), a_user("ben", id=UserId(uuid7()))
        public = await stored_room(uow, owner)
        await stored_private_room(uow, owner, last_activity_at=MOMENT + timedelta(days=1))
        await stored_private_room(uow, owner, last_activity_at=MOMENT - timedelta(days=1))
        assert await _listed(uow, stranger, 1) == [[public]]

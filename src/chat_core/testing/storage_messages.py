"""What the storage promises of messages."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import MessageId, RoomId, UserId, uuid7
from chat_core.domain.message import Message, MessageStatus, Said, fingerprint
from chat_core.domain.room import EventKind, LogEntry, Room, Standing, Visibility
from chat_core.domain.user import User
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import DuplicateMessage, MessagePage, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_message,
    a_user,
    any_texts,
    said,
    stored_member,
    stored_room,
    stored_user,
)


async def _a_room(uow: UnitOfWork) -> tuple[User, Room]:
    user = await stored_user(uow)
    return user, await stored_room(uow, user)


async def _a_room_with_holes(uow: UnitOfWork) -> Room:
    """Messages at 1, 2, 4, 5, 7, 8 and 10; the other places up to 12 hold something else."""
    user, room = await _a_room(uow)
    for seq in range(1, 13):
        if seq in (3, 6, 9, 11, 12):
            async with uow() as tx:
                await tx.rooms.advance(room.id, user.id, at=MOMENT)
                await tx.rooms.add_entry(
                    LogEntry(room_id=room.id, seq=seq, kind=EventKind.ROOM_UPDATED, created_at=MOMENT)
                )
                await tx.commit()
        else:
            await said(uow, room, user)
    await said(uow, await stored_room(uow, user), user)  # next door: in nobody's page
    return room


def _seen(page: MessagePage) -> tuple[list[int], bool, bool]:
    return [message.seq for message in page.messages], page.has_older, page.has_newer


class MessageClauses(Contract):
    """Messages, by their ids, their senders' keys and their places."""

    async def test_a_message_comes_back_as_it_was_stored(self, uow: UnitOfWork) -> None:
        """Every field, to the microsecond, whatever text is in it; the name is the sender's."""
        user, room = await _a_room(uow)
        first = await said(uow, room, user)
        for number, text in enumerate(any_texts(12)):
            message = await said(
                uow,
                room,
                user,
                text,
                m_id=f"a-Z_0:.{number}",
                created_at=MOMENT + timedelta(microseconds=number),
                edited_at=MOMENT - timedelta(microseconds=number),
                reply_to=first.id,
                status=MessageStatus.INCOMPLETE,
            )
            async with uow.read() as tx:
                assert await tx.messages.get(message.id) == message
                assert (await tx.messages.page(room.id, 1)).messages == [message]

    async def test_the_longest_message_comes_back_whole(self, uow: UnitOfWork) -> None:
        """32,000 characters of four bytes each."""
        user, room = await _a_room(uow)
        message = await said(uow, room, user, "\U0001f4a1" * 32_000)
        async with uow.read() as tx:
            assert await tx.messages.get(message.id) == message

    async def test_a_message_of_the_ai_has_no_sender_and_the_ais_name(self, uow: UnitOfWork) -> None:
        """``user_id`` is ``None``; it keeps what it replies to."""
        user, room = await _a_room(uow)
        prompt = await said(uow, room, user)
        answers = [await said(uow, room, None, reply_to=prompt.id, m_id="same") for _ in range(2)]
        async with uow.read() as tx:
            assert [await tx.messages.get(answer.id) for answer in answers] == answers

    async def test_there_is_no_message_with_an_unknown_id(self, uow: UnitOfWork) -> None:
        """``None``."""
        async with uow.read() as tx:
            assert await tx.messages.get(MessageId(uuid7())) is None

    async def test_a_key_used_again_by_its_sender_in_its_room_is_a_duplicate(self, uow: UnitOfWork) -> None:
        """``DuplicateMessage``, whatever the content; the transaction can only be left, and leaves nothing."""
        user, room = await _a_room(uow)
        first = await said(uow, room, user, "first", m_id="key")
        with pytest.raises(DuplicateMessage):
            await said(uow, room, user, "second", m_id="key")
        async with uow.read() as tx:
            assert (await tx.messages.page(room.id, 10)).messages == [first]
        assert (await said(uow, room, user)).seq == 2

    async def test_a_sender_needs_an_account(self, uow: UnitOfWork) -> None:
        """``NotAuthenticated`` where it is gone, and no place is taken."""
        user, room = await _a_room(uow)
        with pytest.raises(NotAuthenticated):
            await said(uow, room, a_user("ghost"))
        assert (await said(uow, room, user)).seq == 1

    async def test_a_key_belongs_to_one_sender_in_one_room(self, uow: UnitOfWork) -> None:
        """Others may use the same one, and so may the same person elsewhere; upper and lower case are two keys."""
        user, room = await _a_room(uow)
        ben, elsewhere = await stored_user(uow, "ben"), await stored_room(uow, user)
        await said(uow, room, user, m_id="key")
        await said(uow, room, ben, m_id="key")
        await said(uow, elsewhere, user, m_id="key")
        await said(uow, room, user, m_id="KEY")

    async def test_of_many_sends_with_one_key_one_is_stored(self, uow: UnitOfWork) -> None:
        """Also when they come at once; the others meet ``DuplicateMessage``."""
        user, room = await _a_room(uow)

        async def send() -> bool:
            try:
                await said(uow, room, user, m_id="key")
            except DuplicateMessage:
                return False
            return True

        assert sorted(await asyncio.gather(*(send() for _ in range(8)))) == [False] * 7 + [True]

    async def test_a_key_stands_for_its_message_for_ever(self, uow: UnitOfWork) -> None:
        """``sent`` gives the message as it is now with the fingerprint of its first text, edited or deleted."""
        user, room = await _a_room(uow)
        message = await said(uow, room, user, "first", m_id="key")
        for later in (message, message.edited("second", MOMENT), message.deleted(MOMENT)):
            async with uow() as tx:
                await tx.messages.save(later)
                await tx.commit()
            async with uow.read() as tx:
                found = await tx.messages.sent(room.id, user.id, "key")
                assert found is not None
                assert (found.message, found.fingerprint) == (later, fingerprint("first"))
        with pytest.raises(DuplicateMessage):
            await said(uow, room, user, m_id="key")

    async def test_nothing_was_sent_under_an_unknown_key(self, uow: UnitOfWork) -> None:
        """``None`` for another key, sender or room."""
        user, room = await _a_room(uow)
        await said(uow, room, user, m_id="key")
        async with uow.read() as tx:
            assert await tx.messages.sent(room.id, user.id, "other") is None
            assert await tx.messages.sent(room.id, UserId(uuid7()), "key") is None
            assert await tx.messages.sent(RoomId(uuid7()), user.id, "key") is None

    async def test_saving_changes_content_time_and_status_alone(self, uow: UnitOfWork) -> None:
        """Place, key, sender and date stay, whatever else the value says."""
        user, room = await _a_room(uow)
        message = await said(uow, room, user)
        changed = message.edited("other", MOMENT + timedelta(microseconds=1))
        async with uow() as tx:
            await tx.messages.save(replace(changed, m_id="other", seq=99, created_at=MOMENT + timedelta(days=1)))
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.messages.get(message.id) == changed

    async def test_a_page_without_a_cursor_is_the_newest(self, uow: UnitOfWork) -> None:
        """Oldest first; says whether there are older ones; never newer ones."""
        room = await _a_room_with_holes(uow)
        async with uow.read() as tx:
            assert _seen(await tx.messages.page(room.id, 3)) == ([7, 8, 10], True, False)
            assert _seen(await tx.messages.page(room.id, 6)) == ([2, 4, 5, 7, 8, 10], True, False)
            assert _seen(await tx.messages.page(room.id, 7)) == ([1, 2, 4, 5, 7, 8, 10], False, False)
            assert _seen(await tx.messages.page(RoomId(uuid7()), 7)) == ([], False, False)

    async def test_a_page_before_a_place_ends_just_below_it(self, uow: UnitOfWork) -> None:
        """The place itself is not in it, and counts as newer."""
        room = await _a_room_with_holes(uow)
        async with uow.read() as tx:
            assert _seen(await tx.messages.page(room.id, 2, before=7)) == ([4, 5], True, True)
            assert _seen(await tx.messages.page(room.id, 2, before=6)) == ([4, 5], True, True)
            assert _seen(await tx.messages.page(room.id, 4, before=7)) == ([1, 2, 4, 5], False, True)
            assert _seen(await tx.messages.page(room.id, 2, before=1)) == ([], False, True)
            assert _seen(await tx.messages.page(room.id, 2, before=0)) == ([], False, True)
            assert _seen(await tx.messages.page(room.id, 2, before=11)) == ([8, 10], True, False)
            assert _seen(await tx.messages.page(room.id, 2, before=2**53)) == ([8, 10], True, False)

    async def test_a_page_after_a_place_begins_just_above_it(self, uow: UnitOfWork) -> None:
        """The place itself is not in it, and counts as older; from 0 it is the log's beginning."""
        room = await _a_room_with_holes(uow)
        async with uow.read() as tx:
            assert _seen(await tx.messages.page(room.id, 3, after=0)) == ([1, 2, 4], False, True)
            assert _seen(await tx.messages.page(room.id, 2, after=4)) == ([5, 7], True, True)
            assert _seen(await tx.messages.page(room.id, 2, after=6)) == ([7, 8], True, True)
            assert _seen(await tx.messages.page(room.id, 2, after=7)) == ([8, 10], True, False)
            assert _seen(await tx.messages.page(room.id, 2, after=10)) == ([], True, False)
            assert _seen(await tx.messages.page(room.id, 2, after=2**53)) == ([], True, False)

    async def test_a_page_around_a_place_holds_it_and_its_neighbours(self, uow: UnitOfWork) -> None:
        """Where it holds a message, that is in it; what is in it has no hole, and the sides are told."""
        room = await _a_room_with_holes(uow)
        places = [1, 2, 4, 5, 7, 8, 10]
        async with uow.read() as tx:
            for around in range(14):
                for limit in range(1, 9):
                    page, older, newer = _seen(await tx.messages.page(room.id, limit, around=around))
                    assert len(page) <= limit
                    assert (around in page) == (around in places)
                    if page:
                        start = places.index(page[0])
                        assert page == places[start : start + len(page)]
                        assert (older, newer) == (start > 0, start + len(page) < len(places))

    async def test_a_page_for_somebody_is_that_of_the_room_where_it_is_open_to_them(self, uow: UnitOfWork) -> None:
        """Each combination of visibility and standing, with messages and without; and none of a room that is not there
        or was deleted."""
        owner, other = await stored_user(uow), await stored_user(uow, "ben")
        opened = 0
        for visibility in Visibility:
            for standing in (None, *Standing):
                room = await stored_room(uow, owner, visibility=visibility)
                if standing is not None:
                    await stored_member(uow, room, other, standing)
                stored: list[Message] = []
                for _ in range(2):
                    async with uow.read() as tx:
                        door = await tx.rooms.door(room.id, other.id)
                        assert door is not None
                        page = await tx.page_for(other.id, room.id, 5)
                    assert (page is not None) == door.is_open
                    assert page is None or page.messages == stored
                    opened += page is not None
                    stored.append(await said(uow, room, owner))
        assert opened == 8
        room = await stored_room(uow, owner)
        await said(uow, room, owner)
        async with uow() as tx:
            await tx.rooms.delete(room.id, MOMENT)
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.page_for(owner.id, room.id, 5) is None
            assert await tx.page_for(owner.id, RoomId(uuid7()), 5) is None

    async def test_a_page_for_somebody_is_where_it_was_asked_for(self, uow: UnitOfWork) -> None:
        """The same as without somebody, from wherever, and beyond either end."""
        room = await _a_room_with_holes(uow)
        reader = await stored_user(uow, "ben")
        async with uow.read() as tx:
            for limit in (1, 3, 7, 20):
                assert await tx.page_for(reader.id, room.id, limit) == await tx.messages.page(room.id, limit)
                for place in (0, 1, 5, 6, 10, 12, 99):
                    for where in ("before", "after", "around"):
                        found = await tx.page_for(reader.id, room.id, limit, **{where: place})
                        assert found == await tx.messages.page(room.id, limit, **{where: place})

    async def test_pages_in_either_direction_walk_the_whole_log(self, uow: UnitOfWork) -> None:
        """Each message once, whatever the size of the pages."""
        room = await _a_room_with_holes(uow)
        for limit in (1, 2, 3, 7):
            async with uow.read() as tx:
                forth: list[int] = []
                more = True
                while more:
                    places, _, more = _seen(await tx.messages.page(room.id, limit, after=forth[-1] if forth else 0))
                    forth += places
                back: list[int] = []
                more = True
                while more:
                    places, more, _ = _seen(await tx.messages.page(room.id, limit, before=back[0] if back else 99))
                    back = places + back
            assert forth == back == [1, 2, 4, 5, 7, 8, 10]

    async def test_a_deleted_message_stays_in_its_place(self, uow: UnitOfWork) -> None:
        """As a tombstone, in pages as in ``get``."""
        user, room = await _a_room(uow)
        message = await said(uow, room, user)
        async with uow() as tx:
            await tx.messages.save(message.deleted(MOMENT))
            await tx.commit()
        async with uow.read() as tx:
            assert (await tx.messages.page(room.id, 10)).messages == [message.deleted(MOMENT)]

    async def test_context_skips_the_deleted_and_ends_at_its_place(self, uow: UnitOfWork) -> None:
        """The latest so many up to a place, oldest first, of this room alone, as they are now."""
        user, room = await _a_room(uow)
        elsewhere = await stored_room(uow, user)
        messages = [await said(uow, room, user if n % 2 else None, str(n)) for n in range(6)]
        await said(uow, elsewhere, user, "next door")
        messages[1] = messages[1].edited("edited", MOMENT)
        async with uow() as tx:
            await tx.messages.save(messages[1])
            await tx.messages.save(messages[3].deleted(MOMENT))
            await tx.commit()
        async with uow.read() as tx:
            latest = [Said.of(messages[place]) for place in (1, 2, 4)]
            assert (await tx.messages.context(room.id, 5, 3)).messages == latest
            assert (await tx.messages.context(room.id, 4, 10)).messages == [Said.of(one) for one in messages[:3]]
            assert (await tx.messages.context(room.id, 0, 10)).messages == []

    async def test_places_are_told_as_the_messages_in_them(self, uow: UnitOfWork) -> None:
        """In the room's order, deleted ones too; a place that holds something else, or nothing, is left out."""
        user, room = await _a_room(uow)
        messages = [await said(uow, room, user, str(n)) for n in range(3)]
        async with uow() as tx:
            await tx.messages.save(messages[1].deleted(MOMENT))
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.messages.at(room.id, (3, 2, 9)) == [messages[1].id, messages[2].id]
            assert await tx.messages.at(room.id, ()) == []

    async def test_a_message_at_a_taken_place_is_refused(self, uow: UnitOfWork) -> None:
        """A place holds one message; that is a fault of the caller's, and no duplicate send."""
        user, room = await _a_room(uow)
        await said(uow, room, user)
        async with uow() as tx:
            with pytest.raises(Exception) as refusal:  # noqa: PT011 - each storage has its own
                await tx.messages.add(a_message(room, user, 1), b"")
        assert not isinstance(refusal.value, DuplicateMessage)

"""What a transaction promises, whatever is in it."""

import asyncio

import pytest

from chat_core.domain.ids import RoomId, uuid7
from chat_core.domain.message import fingerprint
from chat_core.domain.room import Standing
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_message,
    a_user,
    said,
    stored_member,
    stored_private_room,
    stored_room,
    stored_user,
)


class TransactionClauses(Contract):
    """Undone unless committed, unseen until then, and one at a time for each room's log."""

    async def test_what_is_committed_is_there(self, uow: UnitOfWork) -> None:
        """A commit makes it lasting for every later transaction."""
        user = a_user()
        async with uow() as tx:
            await tx.users.add(user)
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.users.get(user.id) == user

    async def test_what_is_not_committed_is_undone(self, uow: UnitOfWork) -> None:
        """Leaving without a commit undoes everything, also where nothing failed."""
        user = a_user()
        async with uow() as tx:
            await tx.users.add(user)
        async with uow.read() as tx:
            assert await tx.users.get(user.id) is None

    async def test_what_fails_is_undone_as_a_whole(self, uow: UnitOfWork) -> None:
        """An exception on the way out undoes what came before it, and is not changed."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        with pytest.raises(ZeroDivisionError):
            async with uow() as tx:
                await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
                await tx.messages.add(a_message(room, owner, 1), b"")
                raise ZeroDivisionError
        async with uow.read() as tx:
            assert (await tx.messages.page(room.id, 10)).messages == []
            door = await tx.rooms.door(room.id, owner.id)
            assert door is not None
            assert door.room == room

    async def test_a_transaction_sees_its_own_writes(self, uow: UnitOfWork) -> None:
        """Before its commit, and alone."""
        user = a_user()
        async with uow() as tx:
            await tx.users.add(user)
            assert await tx.users.by_login("ann") == user

    async def test_reads_neither_see_nor_wait_for_what_is_not_committed(self, uow: UnitOfWork) -> None:
        """A read answers while a transaction that writes is open, and shows what was there before it."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        async with uow() as tx:
            await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
            await tx.messages.add(a_message(room, owner, 1), b"")
            async with asyncio.timeout(5), uow.read() as other:
                assert (await other.messages.page(room.id, 10)).messages == []
                door = await other.rooms.door(room.id, owner.id)
                assert door is not None
                assert door.room.last_seq == 0
            await tx.commit()

    async def test_places_have_no_gap_whatever_is_undone(self, uow: UnitOfWork) -> None:
        """A place that was taken by a transaction that was undone is taken again."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        await said(uow, room, owner)
        async with uow() as tx:
            door = await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
            assert door is not None
            assert door.room.last_seq == 2
        assert (await said(uow, room, owner)).seq == 2

    async def test_twenty_writers_at_once_take_places_without_a_gap(self, uow: UnitOfWork) -> None:
        """Of twenty that write at once each gets a place of its own, 1 to 20 less those undone, none twice."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)

        async def send(number: int) -> int | None:
            async with uow() as tx:
                door = await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
                assert door is not None
                message = a_message(room, owner, door.room.last_seq, str(number))
                await tx.messages.add(message, fingerprint(message.content))
                if number % 4 == 0:
                    return None
                await tx.commit()
                return message.seq

        places = await asyncio.gather(*map(send, range(20)))
        assert sorted(place for place in places if place is not None) == list(range(1, 16))
        async with uow.read() as tx:
            assert [message.seq for message in (await tx.messages.page(room.id, 50)).messages] == list(range(1, 16))
            door = await tx.rooms.door(room.id, owner.id)
            assert door is not None
            assert (door.room.last_seq, door.room.message_count) == (15, 15)

    async def test_a_place_locks_out_others_until_the_end(self, uow: UnitOfWork) -> None:
        """Who asks for a place while another transaction has one waits, and then gets the next."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        async with uow() as tx:
            await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
            other = asyncio.create_task(said(uow, room, owner))
            # Bounded, and no promise is read from the time itself: it is long enough to catch one that does not wait.
            assert not (await asyncio.wait([other], timeout=0.1))[0]
            await tx.messages.add(a_message(room, owner, 1), b"")
            await tx.commit()
        assert (await other).seq == 2

    async def test_a_place_shows_the_standing_that_the_one_before_left(self, uow: UnitOfWork) -> None:
        """Somebody removed while they waited for a place is seen as removed: the door is as it is under the lock."""
        owner, member = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_private_room(uow, owner)
        membership = await stored_member(uow, room, member)

        async def late() -> bool:
            async with uow() as tx:
                door = await tx.rooms.advance(room.id, member.id, at=MOMENT, messages=1)
                assert door is not None
                return door.is_open

        async with uow() as tx:
            await tx.rooms.advance(room.id, owner.id, at=MOMENT)
            waiting = asyncio.create_task(late())
            await asyncio.wait([waiting], timeout=0.1)
            await tx.rooms.save_membership(membership.now(Standing.REMOVED))
            await tx.commit()
        assert not await waiting

    async def test_a_cancelled_transaction_is_undone_and_hinders_nobody(self, uow: UnitOfWork) -> None:
        """A task cancelled in a transaction leaves nothing behind, neither a row nor a lock."""
        owner = await stored_user(uow)
        room = await stored_room(uow, owner)
        begun = asyncio.Event()

        async def stuck() -> None:
            async with uow() as tx:
                await tx.rooms.advance(room.id, owner.id, at=MOMENT, messages=1)
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stuck())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        async with asyncio.timeout(5):
            assert (await said(uow, room, owner)).seq == 1

    async def test_there_is_no_place_in_a_room_that_is_not_there(self, uow: UnitOfWork) -> None:
        """``advance`` says ``None``."""
        owner = await stored_user(uow)
        async with uow() as tx:
            assert await tx.rooms.advance(RoomId(uuid7()), owner.id, at=MOMENT) is None

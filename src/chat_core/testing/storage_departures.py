"""What the storage promises of accounts that are ended."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.message import DELETED_NAME, Said
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.room import Role, Standing
from chat_core.domain.user import User
from chat_core.errors import NotAuthenticated, UsernameTaken
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_membership,
    a_user,
    asked,
    finished,
    said,
    stored_member,
    stored_private_room,
    stored_room,
    stored_user,
)
from chat_core.testing.storage_sessions import stored_session


async def _ended(uow: UnitOfWork, user: User) -> None:
    async with uow() as tx:
        await tx.users.end(user.id, MOMENT)
        await tx.commit()


class DepartureClauses(Contract):
    """The end of an account, and what is left of it."""

    async def test_an_ended_account_is_not_found(self, uow: UnitOfWork) -> None:
        """By id, name or e-mail; nor held, nor given another password. Its sessions are over."""
        user = await stored_user(uow, "ann", password_hash="old")
        session = await stored_session(uow, user, b"refresh")
        await _ended(uow, user)
        async with uow() as tx:
            assert await tx.users.get(user.id) is None
            assert await tx.users.hold(user.id) is None
            assert await tx.users.by_login("ann") is None
            assert await tx.users.by_login(user.email) is None
            assert await tx.users.by_login("") is None
            assert not await tx.users.replace_password_hash(user.id, "old", "new")
            assert not await tx.users.replace_password_hash(user.id, "", "new")
            assert await tx.sessions.get(session.id) is None
            assert await tx.sessions.of_user(user.id) == []
            assert await tx.sessions.present(b"refresh") is None

    async def test_its_name_stays_taken_and_its_e_mail_is_free(self, uow: UnitOfWork) -> None:
        """In any case of letters. Who takes the e-mail is found by it."""
        await _ended(uow, await stored_user(uow, "Ann", email="ann@example.org"))
        async with uow() as tx:
            with pytest.raises(UsernameTaken):
                await tx.users.add(a_user("aNN", email="other@example.org"))
        other = await stored_user(uow, "ben", email="ann@example.org")
        async with uow.read() as tx:
            assert await tx.users.by_login("ANN@example.org") == other

    async def test_any_number_of_accounts_can_be_ended(self, uow: UnitOfWork) -> None:
        """What is wiped does not collide."""
        for name in ("ann", "ben", "cid"):
            await _ended(uow, await stored_user(uow, name))

    async def test_its_messages_stay_and_are_nobodys(self, uow: UnitOfWork) -> None:
        """Alone, in a page, and in a context; those of others are as they were."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        room = await stored_room(uow, ben)
        message, other, ai = await said(uow, room, ann), await said(uow, room, ben), await said(uow, room, None)
        await _ended(uow, ann)
        nobodys = replace(message, user_id=None, username=DELETED_NAME)
        async with uow.read() as tx:
            assert await tx.messages.get(message.id) == nobodys
            for page in (
                await tx.messages.page(room.id, 10),
                await tx.messages.page(room.id, 10, after=0),
            ):
                assert page.messages == [nobodys, other, ai]
            context = await tx.messages.context(room.id, 3, 10)
            assert context.messages == [Said.of(message) for message in (nobodys, other, ai)]

    async def test_the_m_ids_of_others_are_safe(self, uow: UnitOfWork) -> None:
        """Each goes on standing for the same message."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        room = await stored_room(uow, ben)
        for user in (ann, ben):
            await said(uow, room, user, user.username, m_id="k")
        await _ended(uow, ann)
        async with uow.read() as tx:
            stored = await tx.messages.sent(room.id, ben.id, "k")
        assert stored is not None
        assert stored.message.content == "ben"

    async def test_it_says_nothing_any_more_and_opens_no_room(self, uow: UnitOfWork) -> None:
        """``NotAuthenticated``, as where there is no such account."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        room = await stored_room(uow, ben)
        await _ended(uow, ann)
        for gone in (ann, a_user("nobody")):
            with pytest.raises(NotAuthenticated):
                await said(uow, room, gone)
            with pytest.raises(NotAuthenticated):
                await stored_room(uow, gone)
        assert (await said(uow, room, ben)).seq == 1

    async def test_its_rooms_show_no_creator(self, uow: UnitOfWork) -> None:
        """In every way to look at them."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        room, other = await stored_room(uow, ann), await stored_room(uow, ben)
        await _ended(uow, ann)
        async with uow() as tx:
            found, door = await tx.rooms.get(room.id), await tx.rooms.door(room.id, ben.id)
            assert found is not None
            assert door is not None
            assert (found.created_by, door.room.created_by) == (None, None)
            page = await tx.rooms.visible_to(ben.id, 10, None)
            assert {seen.id: seen.created_by for seen in page.rooms} == {room.id: None, other.id: ben.id}
            door = await tx.rooms.advance(room.id, ben.id, at=MOMENT)
            assert door is not None
            assert door.room.created_by is None

    async def test_it_is_in_no_list_of_members_and_still_in_its_rooms(self, uow: UnitOfWork) -> None:
        """Until somebody takes it out; its membership is shown under the name of a deleted user."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        room = await stored_private_room(uow, ben)
        await stored_member(uow, room, ann)
        await _ended(uow, ann)
        async with uow.read() as tx:
            assert await tx.rooms.members(room.id) == [a_membership(room, ben, role=Role.OWNER)]
            assert await tx.rooms.rooms_of(ann.id) == [room.id]
            membership = await tx.rooms.membership(room.id, ann.id)
        assert membership == replace(a_membership(room, ann), username=DELETED_NAME)

    async def test_the_rooms_of_somebody_are_those_that_they_belong_to(self, uow: UnitOfWork) -> None:
        """Not those they left, were removed from, or that were deleted."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        own, joined = await stored_room(uow, ann), await stored_private_room(uow, ben)
        deleted, left, removed = [await stored_room(uow, ben) for _ in range(3)]
        await stored_room(uow, ben)
        for room, standing in (
            (joined, Standing.ACTIVE),
            (deleted, Standing.ACTIVE),
            (left, Standing.LEFT),
            (removed, Standing.REMOVED),
        ):
            await stored_member(uow, room, ann, standing)
        async with uow() as tx:
            await tx.rooms.delete(deleted.id, MOMENT)
            await tx.commit()
        async with uow.read() as tx:
            assert set(await tx.rooms.rooms_of(ann.id)) == {own.id, joined.id}

    async def test_it_departs_once(self, uow: UnitOfWork) -> None:
        """Those that ended before a moment are found, so many at a time, until it is noted that they have departed."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        await stored_user(uow, "cid")
        for user in (ann, ben):
            await _ended(uow, user)
        later = MOMENT + timedelta(seconds=1)
        async with uow() as tx:
            assert await tx.users.departing(MOMENT, 10) == []
            assert set(await tx.users.departing(later, 10)) == {ann.id, ben.id}
            assert len(await tx.users.departing(later, 1)) == 1
            await tx.users.departed(ann.id)
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.users.departing(later, 10) == [ben.id]

    async def test_its_unfinished_replies_are_found_in_every_room(self, uow: UnitOfWork) -> None:
        """Those that the person asked for, and not those that have ended."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        first, second = await stored_room(uow, ann), await stored_room(uow, ben)
        wanted = [await asked(uow, await said(uow, room, ann)) for room in (first, second)]
        await asked(uow, await said(uow, first, ben))
        await finished(uow, await asked(uow, await said(uow, first, ann)), ReplyStatus.CANCELLED)
        async with uow.read() as tx:
            found = await tx.replies.unfinished_for(ann.id)
        assert found == wanted

    async def test_who_holds_an_account_holds_off_its_end(self, uow: UnitOfWork) -> None:
        """What is decided while it is held is decided before its end, or after it, and never in between."""
        user = await stored_user(uow)
        held, decided = asyncio.Event(), "another hash"

        async def log_in() -> bool:
            async with uow() as tx:
                found = await tx.users.hold(user.id)
                held.set()
                await asyncio.sleep(0)
                if found is not None:
                    await tx.users.replace_password_hash(user.id, user.password_hash, decided)
                    await tx.commit()
            return found is not None

        async def end() -> bool:
            await held.wait()
            async with uow() as tx:
                found = await tx.users.hold(user.id)
                await tx.users.end(user.id, MOMENT)
                await tx.commit()
            return found is not None and found.password_hash == decided

        assert await asyncio.gather(log_in(), end()) == [True, True]

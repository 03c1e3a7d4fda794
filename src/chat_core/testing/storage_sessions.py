"""What the storage promises of sessions, refresh tokens and tickets."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chat_core.domain.ids import utc_now, uuid7
from chat_core.domain.session import IDLE, LIFETIME, Session, digest
from chat_core.domain.user import User
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import Presented, SessionOf, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import MOMENT, a_user, any_texts, stored_user

SECOND = timedelta(seconds=1)


def a_session(user: User, **changes: Any) -> Session:
    """A session that is not stored, begun now."""
    at = utc_now()
    session = Session(id=uuid7(), user_id=user.id, user_agent="curl/8", created_at=at, last_used_at=at)
    return replace(session, **changes)


async def stored_session(uow: UnitOfWork, user: User, refresh: bytes | None = None, **changes: Any) -> Session:
    """A session, stored."""
    session = a_session(user, **changes)
    async with uow() as tx:
        await tx.sessions.add(session, refresh or digest(str(session.id)))
        await tx.commit()
    return session


async def _found(uow: UnitOfWork, session: Session) -> SessionOf | None:
    async with uow.read() as tx:
        return await tx.sessions.get(session.id)


async def _alive(uow: UnitOfWork, *session_ids: UUID) -> set[UUID]:
    async with uow.read() as tx:
        return await tx.sessions.alive(session_ids)


async def _presented(uow: UnitOfWork, refresh: bytes) -> Presented | None:
    async with uow() as tx:
        return await tx.sessions.present(refresh)


async def _ticket(uow: UnitOfWork, session: Session, ticket: bytes, seconds: float = 30.0) -> None:
    async with uow() as tx:
        await tx.sessions.add_ticket(ticket, session.id, seconds)
        await tx.commit()


async def _taken(uow: UnitOfWork, ticket: bytes) -> UUID | None:
    async with uow() as tx:
        taken = await tx.sessions.take_ticket(ticket)
        await tx.commit()
    return taken


class SessionClauses(Contract):
    """Sessions, refresh tokens, tickets."""

    async def test_a_session_comes_back_as_it_was_stored(self, uow: UnitOfWork) -> None:
        """Every field, to the microsecond, whatever text is in it; and its account with it."""
        user = await stored_user(uow)
        for number, text in enumerate((None, *any_texts(4))):
            at = MOMENT + timedelta(microseconds=number)
            session = await stored_session(uow, user, user_agent=text, created_at=at, last_used_at=at + SECOND)
            assert await _found(uow, session) == SessionOf(session=session, user=user)
        assert await _found(uow, a_session(user)) is None

    async def test_a_session_needs_an_account(self, uow: UnitOfWork) -> None:
        """``NotAuthenticated`` where there is none."""
        session = a_session(a_user())
        async with uow() as tx:
            with pytest.raises(NotAuthenticated):
                await tx.sessions.add(session, b"refresh")
        assert await _found(uow, session) is None

    async def test_somebodys_sessions_are_listed_last_used_first(self, uow: UnitOfWork) -> None:
        """Theirs, and nobody else's."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        sessions = [
            await stored_session(uow, ann, last_used_at=MOMENT + timedelta(days=days), created_at=MOMENT)
            for days in (2, 3, 1)
        ]
        await stored_session(uow, ben)
        async with uow.read() as tx:
            listed = await tx.sessions.of_user(ann.id)
        assert listed == [sessions[1], sessions[0], sessions[2]]

    async def test_a_refresh_token_stands_for_its_session_and_is_spent_by_the_next(self, uow: UnitOfWork) -> None:
        """Spent ones go on standing for it, and tell since when they are spent."""
        user = await stored_user(uow)
        session = await stored_session(uow, user, b"first")
        assert await _presented(uow, b"first") == Presented(session=session, user=user, spent_at=None)
        assert await _presented(uow, b"unknown") is None
        used = session
        for spent, refresh in ((b"first", b"second"), (b"second", b"third")):
            used = used.used(used.last_used_at + SECOND)
            async with uow() as tx:
                await tx.sessions.rotate(used, spent, refresh)
                await tx.commit()
        for refresh, spent_at in (
            (b"first", session.last_used_at + SECOND),
            (b"second", session.last_used_at + 2 * SECOND),
            (b"third", None),
        ):
            assert await _presented(uow, refresh) == Presented(session=used, user=user, spent_at=spent_at)
        assert await _found(uow, session) == SessionOf(session=used, user=user)

    async def test_a_rotation_that_is_not_committed_has_not_been(self, uow: UnitOfWork) -> None:
        """The old token is unspent, and the new one unknown."""
        user = await stored_user(uow)
        session = await stored_session(uow, user, b"first")
        async with uow() as tx:
            await tx.sessions.rotate(session.used(session.last_used_at + SECOND), b"first", b"second")
        assert await _presented(uow, b"first") == Presented(session=session, user=user, spent_at=None)
        assert await _presented(uow, b"second") is None

    async def test_of_many_that_rotate_one_token_at_once_one_finds_it_unspent(self, uow: UnitOfWork) -> None:
        """The others see it spent already."""
        session = await stored_session(uow, await stored_user(uow), b"first")

        async def rotate(number: int) -> bool:
            async with uow() as tx:
                presented = await tx.sessions.present(b"first")
                assert presented is not None
                if presented.spent_at is not None:
                    return False
                await tx.sessions.rotate(session.used(session.last_used_at + SECOND), b"first", b"next %d" % number)
                await tx.commit()
                return True

        assert sorted(await asyncio.gather(*map(rotate, range(8)))) == [False] * 7 + [True]

    async def test_a_session_is_ended_by_its_person_alone(self, uow: UnitOfWork) -> None:
        """With its tokens and tickets; another's is not touched, and an ended one cannot be ended again."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        session = await stored_session(uow, ann, b"first")
        await _ticket(uow, session, b"ticket")
        async with uow() as tx:
            assert not await tx.sessions.end(session.id, ben.id)
            assert await tx.sessions.get(session.id) is not None
            assert await tx.sessions.end(session.id, ann.id)
            assert not await tx.sessions.end(session.id, ann.id)
            await tx.commit()
        assert await _found(uow, session) is None
        assert await _presented(uow, b"first") is None
        assert await _taken(uow, b"ticket") is None

    async def test_all_sessions_but_one_are_ended(self, uow: UnitOfWork) -> None:
        """Or all of them. Those of others go on."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        sessions = [await stored_session(uow, ann) for _ in range(3)]
        other = await stored_session(uow, ben)
        ids = [session.id for session in (*sessions, other)]
        async with uow() as tx:
            await tx.sessions.end_others(ann.id, sessions[1].id)
            await tx.commit()
        assert await _alive(uow, *ids) == {sessions[1].id, other.id}
        async with uow() as tx:
            await tx.sessions.end_others(ann.id, None)
            await tx.commit()
        assert await _alive(uow, *ids) == {other.id}

    async def test_alive_are_those_that_have_neither_ended_nor_expired(self, uow: UnitOfWork) -> None:
        """By the age since the log-in, and since the last use; and whose account was not ended."""
        ann, ben = await stored_user(uow, "ann"), await stored_user(uow, "ben")
        at = utc_now()
        live = await stored_session(uow, ann)
        almost = await stored_session(uow, ann, created_at=at - LIFETIME + timedelta(hours=1))
        old = await stored_session(uow, ann, created_at=at - LIFETIME - SECOND)
        idle = await stored_session(uow, ann, created_at=at - IDLE - 2 * SECOND, last_used_at=at - IDLE - SECOND)
        bens = await stored_session(uow, ben)
        ids = [session.id for session in (live, almost, old, idle, bens)]
        assert await _alive(uow, *ids, uuid7()) == {live.id, almost.id, bens.id}
        async with uow() as tx:
            await tx.users.end(ben.id, at)
            await tx.commit()
        assert await _alive(uow, *ids) == {live.id, almost.id}
        assert await _alive(uow) == set()
        assert await _alive(uow, live.id, *(uuid7() for _ in range(3000))) == {live.id}

    async def test_a_session_that_was_used_lives_on(self, uow: UnitOfWork) -> None:
        """What was idle for too long is alive again once it is rotated at a later time."""
        at = utc_now()
        session = await stored_session(
            uow, await stored_user(uow), b"first", created_at=at - IDLE - SECOND, last_used_at=at - IDLE - SECOND
        )
        assert await _alive(uow, session.id) == set()
        async with uow() as tx:
            await tx.sessions.rotate(session.used(at), b"first", b"second")
            await tx.commit()
        assert await _alive(uow, session.id) == {session.id}

    async def test_a_ticket_is_good_once(self, uow: UnitOfWork) -> None:
        """It gives its session; of many that take it at once, one gets it."""
        session = await stored_session(uow, await stored_user(uow))
        await _ticket(uow, session, b"ticket")
        taken = await asyncio.gather(*(_taken(uow, b"ticket") for _ in range(8)))
        assert sorted(map(str, taken)) == sorted([str(session.id)] + ["None"] * 7)
        assert await _taken(uow, b"unknown") is None

    async def test_a_ticket_expires(self, uow: UnitOfWork) -> None:
        """One of 0 seconds at once."""
        session = await stored_session(uow, await stored_user(uow))
        await _ticket(uow, session, b"ticket", 0.0)
        assert await _taken(uow, b"ticket") is None

    async def test_a_ticket_needs_a_session(self, uow: UnitOfWork) -> None:
        """``NotAuthenticated`` where there is none."""
        user = await stored_user(uow)
        async with uow() as tx:
            with pytest.raises(NotAuthenticated):
                await tx.sessions.add_ticket(b"ticket", a_session(user).id, 30.0)

    async def test_refresh_tokens_and_tickets_are_not_taken_for_each_other(self, uow: UnitOfWork) -> None:
        """Each is unknown as the other."""
        session = await stored_session(uow, await stored_user(uow), b"refresh")
        await _ticket(uow, session, b"ticket")
        assert await _taken(uow, b"refresh") is None
        assert await _presented(uow, b"ticket") is None

    async def test_what_has_expired_is_tidied_away_a_little_at_a_time(self, uow: UnitOfWork) -> None:
        """So many sessions, and no live ones."""
        user = await stored_user(uow)
        live = await stored_session(uow, user)
        for _ in range(3):
            session = await stored_session(uow, user, created_at=MOMENT, last_used_at=MOMENT)
            await _ticket(uow, session, session.id.bytes, 0.0)
        left: list[int] = []
        for _ in range(3):
            async with uow() as tx:
                await tx.sessions.tidy(MOMENT + LIFETIME, 2)
                left.append(len(await tx.sessions.of_user(user.id)))
                await tx.commit()
        assert left == [2, 1, 1]
        assert await _alive(uow, live.id) == {live.id}

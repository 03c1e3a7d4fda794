"""Going on with sessions, ending them, and tickets."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from chat_core.domain.ids import uuid7
from chat_core.domain.session import Session, digest
from chat_core.domain.user import Actor
from chat_core.errors import (
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    RefreshRaced,
    StorageUnavailable,
    WrongCredentials,
    WrongPassword,
)
from chat_core.ports.security import Claims
from chat_core.ports.storage import Transaction
from chat_core.use_cases.accounts import LoggedIn
from chat_core.use_cases.authentication import Authenticate, RecentSessions, Seen
from tests.clocks import Seconds, TimeOfDay
from tests.world import PASSWORD, WatchedUnitOfWork, World

DAY = 86_400.0


@pytest.fixture
def clock(world: World) -> TimeOfDay:
    """The time of day of all that deals with sessions."""
    clock = TimeOfDay()
    container = world.container
    for provider in (container.log_in, container.refresh, container.list_sessions, container.redeem_ticket):
        provider.add_kwargs(now=clock)
    container.authenticate.add_kwargs(now=clock, recent=RecentSessions(seconds=0.0))
    return clock


async def log_in(world: World, name: str = "ann", **more: Any) -> LoggedIn:
    begun: LoggedIn = await world.container.log_in()(login=name, password=PASSWORD, **more)
    return begun


async def ann_logs_in(world: World) -> LoggedIn:
    await world.person("ann")
    return await log_in(world)


async def refresh(world: World, refresh_token: str) -> LoggedIn:
    begun: LoggedIn = await world.container.refresh()(refresh_token=refresh_token)
    return begun


async def actor_of(world: World, begun: LoggedIn) -> Actor:
    actor: Actor = await world.container.authenticate()(begun.token.text)
    return actor


async def is_live(world: World, begun: LoggedIn) -> bool:
    try:
        await actor_of(world, begun)
    except NotAuthenticated:
        return False
    return True


async def can_go_on(world: World, refresh_token: str) -> bool:
    try:
        await refresh(world, refresh_token)
    except NotAuthenticated:
        return False
    return True


async def listed(world: World, actor: Actor) -> list[Session]:
    return list(await world.container.list_sessions()(actor=actor))


# --- log-in ---


async def test_the_actor_knows_the_session_it_acts_in(world: World):
    begun = await ann_logs_in(world)
    assert await actor_of(world, begun) == Actor(user_id=begun.user.id, username="ann", session_id=begun.session.id)


@pytest.mark.abuse("A18")
async def test_each_log_in_begins_a_new_session(world: World):
    """Nothing that was known before the log-in is part of what comes out of it."""
    first, second = await ann_logs_in(world), await log_in(world)
    assert first.session.id != second.session.id
    assert len({first.token.text, second.token.text, first.refresh_token, second.refresh_token}) == 4


async def test_a_session_shows_where_it_was_begun(world: World):
    await world.person("ann")
    begun = await log_in(world, user_agent="Mozilla/5.0 \x1b[31m\r\nred" + "x" * 1000)
    [session] = await listed(world, await actor_of(world, begun))
    assert session == begun.session
    assert session.user_agent is not None
    assert session.user_agent.startswith("Mozilla/5.0 [31mredxxx")
    assert len(session.user_agent) == 256


async def test_who_gives_no_user_agent_has_none(world: World):
    assert (await ann_logs_in(world)).session.user_agent is None


async def test_secrets_are_kept_as_digests_alone(world: World):
    begun = await ann_logs_in(world)
    ticket = await world.container.issue_ticket()(actor=await actor_of(world, begun))
    stored = repr(world.uow._inner._tables)  # type: ignore[attr-defined]
    assert repr(digest(begun.refresh_token)) in stored
    assert repr(digest(ticket.text)) in stored
    for secret in (begun.refresh_token, ticket.text, begun.token.text, PASSWORD):
        assert secret not in stored


# --- refresh ---


async def test_a_session_goes_on_with_new_tokens(world: World, clock: TimeOfDay):
    begun = await ann_logs_in(world)
    clock.let_pass(1800)
    gone_on = await refresh(world, begun.refresh_token)
    assert (gone_on.user, gone_on.session.id) == (begun.user, begun.session.id)
    assert gone_on.refresh_token != begun.refresh_token
    assert (await actor_of(world, gone_on)).session_id == begun.session.id
    [session] = await listed(world, await actor_of(world, begun))
    assert session.last_used_at == clock()
    assert session.created_at < clock()


async def test_a_token_that_was_spent_just_now_raced_and_changes_nothing(world: World, clock: TimeOfDay):
    begun = await ann_logs_in(world)
    winner = await refresh(world, begun.refresh_token)
    commits = world.uow.commits
    for _ in range(3):
        with pytest.raises(RefreshRaced):
            await refresh(world, begun.refresh_token)
    clock.let_pass(10)
    with pytest.raises(RefreshRaced):
        await refresh(world, begun.refresh_token)
    assert world.uow.commits == commits
    assert await is_live(world, winner)
    assert await can_go_on(world, winner.refresh_token)


async def test_of_many_that_refresh_at_once_one_wins_and_the_others_raced(world: World):
    begun = await ann_logs_in(world)
    found = await asyncio.gather(*(refresh(world, begun.refresh_token) for _ in range(8)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["LoggedIn"] + ["RefreshRaced"] * 7


@pytest.mark.abuse("A15")
async def test_a_token_that_comes_again_later_ends_the_whole_session(
    world: World, clock: TimeOfDay, caplog: pytest.LogCaptureFixture
):
    begun, other = await ann_logs_in(world), await log_in(world)
    second = await refresh(world, begun.refresh_token)
    third = await refresh(world, second.refresh_token)
    clock.let_pass(10.001)
    with caplog.at_level(logging.WARNING), pytest.raises(NotAuthenticated):
        await refresh(world, begun.refresh_token)
    for one in (begun, second, third):
        assert not await is_live(world, one)
        assert not await can_go_on(world, one.refresh_token)
    assert await is_live(world, other)
    [record] = caplog.records
    assert "used again" in record.message
    assert record.__dict__["session_id"] == str(begun.session.id)
    for one in (begun, second, third):
        assert one.refresh_token not in repr(record.__dict__)
        assert digest(one.refresh_token).hex() not in repr(record.__dict__)


@pytest.mark.abuse("A17")
async def test_a_session_that_is_not_used_for_14_days_is_over(world: World, clock: TimeOfDay):
    begun = await ann_logs_in(world)
    clock.let_pass(14 * DAY - 1)
    gone_on = await refresh(world, begun.refresh_token)
    clock.let_pass(14 * DAY)
    assert await listed(world, Actor(user_id=begun.user.id, username="ann")) == []
    assert not await can_go_on(world, gone_on.refresh_token)


@pytest.mark.abuse("A17")
async def test_no_session_lasts_longer_than_30_days(world: World, clock: TimeOfDay):
    """However often it is refreshed; and its access tokens end with it."""
    begun = await ann_logs_in(world)
    for _ in range(29):
        clock.let_pass(DAY)
        begun = await refresh(world, begun.refresh_token)
    clock.let_pass(DAY - 1)
    last = await refresh(world, begun.refresh_token)
    assert await is_live(world, last)
    clock.let_pass(1)
    assert not await is_live(world, last)
    assert not await can_go_on(world, last.refresh_token)


async def test_expired_sessions_are_tidied_away_by_those_who_log_in(world: World, clock: TimeOfDay):
    begun = await ann_logs_in(world)
    clock.let_pass(14 * DAY)
    await log_in(world)
    async with world.uow.read() as tx:
        assert await tx.sessions.get(begun.session.id) is None


@pytest.mark.parametrize("refresh_token", ["", "nonsense", "\x00", "\ud800", "ä" * 100, "x" * 10_000])
async def test_what_was_never_issued_is_no_refresh_token(world: World, refresh_token: str):
    assert not await can_go_on(world, refresh_token)


@pytest.mark.abuse("A10")
async def test_no_secret_passes_for_one_of_another_kind(world: World):
    """Access token, refresh token and ticket, each in the place of each; only its own takes it."""
    begun = await ann_logs_in(world)
    actor = await actor_of(world, begun)
    takers: dict[str, Any] = {
        "access": lambda secret: world.container.authenticate()(secret),
        "refresh": lambda secret: world.container.refresh()(refresh_token=secret),
        "ticket": lambda secret: world.container.redeem_ticket()(ticket=secret),
    }
    secrets = {
        "access": begun.token.text,
        "refresh": begun.refresh_token,
        "ticket": (await world.container.issue_ticket()(actor=actor)).text,
    }
    for kind, take in takers.items():
        for other, secret in secrets.items():
            if other != kind:
                with pytest.raises(NotAuthenticated):
                    await take(secret)
    # All of them are good still, each for what it is.
    for kind, take in takers.items():
        assert await take(secrets[kind])


# --- the end ---


@pytest.mark.abuse("A14")
async def test_after_a_log_out_nothing_of_the_session_is_left(world: World):
    """On this process at once."""
    begun, other = await ann_logs_in(world), await log_in(world)
    actor = await actor_of(world, begun)
    ticket = await world.container.issue_ticket()(actor=actor)
    await world.container.log_out()(actor=actor)
    assert not await is_live(world, begun)
    assert not await can_go_on(world, begun.refresh_token)
    with pytest.raises(NotAuthenticated):
        await world.container.redeem_ticket()(ticket=ticket.text)
    with pytest.raises(NotAuthenticated):
        await world.container.issue_ticket()(actor=actor)
    assert await is_live(world, other)
    await world.container.log_out()(actor=actor)


@pytest.mark.abuse("A14")
async def test_on_another_process_a_log_out_holds_within_a_second(world: World):
    """Counted from the moment when that process asked, and not from when it was answered."""
    begun = await ann_logs_in(world)
    clock = Seconds()
    elsewhere = Authenticate(uow=world.uow, tokens=world.container.tokens(), recent=RecentSessions(monotonic=clock))
    await elsewhere(begun.token.text)
    await world.container.log_out()(actor=await actor_of(world, begun))
    clock.let_pass(0.999)
    assert (await elsewhere(begun.token.text)).session_id == begun.session.id
    clock.let_pass(0.001)
    with pytest.raises(NotAuthenticated):
        await elsewhere(begun.token.text)


async def test_an_answer_that_was_long_on_its_way_is_kept_for_that_much_less(world: World):
    begun = await ann_logs_in(world)
    clock = Seconds()
    recent = RecentSessions(monotonic=clock)
    asked = clock()
    clock.let_pass(0.6)
    recent.put(begun.session.id, Seen(begun.user), asked)
    assert recent.get(begun.session.id) == Seen(begun.user)
    clock.let_pass(0.4)
    assert recent.get(begun.session.id) is None


async def test_of_those_who_come_at_once_with_one_session_one_asks_the_storage(world: World):
    begun = await ann_logs_in(world)
    looks = 0

    class Counting(WatchedUnitOfWork):
        @asynccontextmanager
        async def read(self) -> AsyncIterator[Transaction]:
            nonlocal looks
            looks += 1
            async with super().read() as tx:
                yield tx

    authenticate = Authenticate(uow=Counting(world.uow), tokens=world.container.tokens())
    await asyncio.gather(*(authenticate(begun.token.text) for _ in range(20)))
    assert looks == 1
    await world.container.log_out()(actor=await actor_of(world, begun))
    authenticate.recent.forget(begun.session.id)
    found = await asyncio.gather(*(authenticate(begun.token.text) for _ in range(20)), return_exceptions=True)
    assert {type(one) for one in found} == {NotAuthenticated}
    assert looks == 2


async def test_a_storage_that_is_away_is_no_reason_to_be_a_stranger(world: World):
    begun = await ann_logs_in(world)
    world.uow.away = StorageUnavailable()
    found = await asyncio.gather(*(actor_of(world, begun) for _ in range(5)), return_exceptions=True)
    assert {type(one) for one in found} == {StorageUnavailable}
    world.uow.away = None
    assert await is_live(world, begun)


async def test_a_token_of_a_session_that_is_not_there_is_nobodys(world: World):
    """As those are that were issued before there were sessions; nor does one account's session do for another's."""
    begun = await ann_logs_in(world)
    ben = await world.person("ben")
    issue = world.container.tokens().issue
    for claims in (
        Claims(user_id=begun.user.id, session_id=uuid7()),
        Claims(user_id=ben.user_id, session_id=begun.session.id),
    ):
        with pytest.raises(NotAuthenticated):
            await world.container.authenticate()(issue(claims).text)


async def test_of_many_sessions_those_that_are_over_are_told_apart(world: World):
    here, there = await ann_logs_in(world), await log_in(world)
    await world.container.end_session()(actor=await actor_of(world, here), session_id=there.session.id)
    alive = world.container.alive_sessions()
    assert await alive([here.session.id, there.session.id, uuid7()]) == {here.session.id}


async def test_one_of_the_own_sessions_is_ended_from_another(world: World):
    here, there = await ann_logs_in(world), await log_in(world)
    actor = await actor_of(world, here)
    assert {session.id for session in await listed(world, actor)} == {here.session.id, there.session.id}
    await world.container.end_session()(actor=actor, session_id=there.session.id)
    assert [session.id for session in await listed(world, actor)] == [here.session.id]
    assert not await is_live(world, there)
    assert await is_live(world, here)


async def test_the_sessions_of_others_look_as_if_they_were_not_there(world: World):
    begun = await ann_logs_in(world)
    await world.person("ben")
    ben = await actor_of(world, await log_in(world, "ben"))
    for session_id in (begun.session.id, UUID(int=7)):
        with pytest.raises(NotFound):
            await world.container.end_session()(actor=ben, session_id=session_id)
    assert await is_live(world, begun)
    assert begun.session not in await listed(world, ben)


# --- the password ---


async def change(world: World, actor: Actor, current: str = PASSWORD, new: str = "a new password") -> None:
    await world.container.change_password()(actor=actor, current_password=current, new_password=new)


@pytest.mark.abuse("A14")
async def test_a_new_password_ends_all_other_sessions(world: World):
    here, there = await ann_logs_in(world), await log_in(world)
    await actor_of(world, there)
    await change(world, await actor_of(world, here))
    assert await is_live(world, here)
    assert await can_go_on(world, here.refresh_token)
    assert not await is_live(world, there)
    assert not await can_go_on(world, there.refresh_token)
    with pytest.raises(WrongCredentials):
        await log_in(world)
    again = await world.container.log_in()(login="ann", password="a new password")
    assert again.user.id == here.user.id


async def test_a_wrong_password_is_no_dead_token(world: World):
    here, there = await ann_logs_in(world), await log_in(world)
    for wrong in ("", "wrong", PASSWORD + " ", PASSWORD.upper(), "x" * 2000):
        with pytest.raises(WrongPassword):
            await change(world, await actor_of(world, here), wrong)
    assert issubclass(WrongPassword, Forbidden)
    assert await is_live(world, there)


@pytest.mark.parametrize("new", ["", "short12", "x" * 1025, "with a \x00 in it", "half a pair \ud800"])
async def test_a_new_password_has_to_be_one_that_could_be_signed_up_with(world: World, new: str):
    begun = await ann_logs_in(world)
    with pytest.raises(Invalid) as raised:
        await change(world, await actor_of(world, begun), new=new)
    assert [fault.pointer for fault in raised.value.faults] == ["/new_password"]


async def test_of_two_who_change_the_password_at_once_one_wins_and_the_other_was_wrong(world: World):
    begun = await ann_logs_in(world)
    actor = await actor_of(world, begun)
    found = await asyncio.gather(
        *(change(world, actor, new=f"new password {number}") for number in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in found) == ["NoneType", "WrongPassword"]


# --- tickets ---


async def test_a_ticket_is_good_once_and_tells_who_and_in_which_session(world: World):
    begun = await ann_logs_in(world)
    actor = await actor_of(world, begun)
    ticket = await world.container.issue_ticket()(actor=actor)
    assert ticket.expires_in == 30
    found = await asyncio.gather(
        *(world.container.redeem_ticket()(ticket=ticket.text) for _ in range(8)), return_exceptions=True
    )
    assert [one for one in found if isinstance(one, Actor)] == [actor]
    assert sum(isinstance(one, NotAuthenticated) for one in found) == 7


async def test_a_ticket_is_legal_as_a_subprotocol(world: World):
    """A token of RFC 9110, section 5.6.2."""
    actor = await actor_of(world, await ann_logs_in(world))
    for _ in range(20):
        ticket = await world.container.issue_ticket()(actor=actor)
        assert re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", f"ticket.{ticket.text}")


async def test_a_ticket_lasts_30_seconds(world: World):
    actor = await actor_of(world, await ann_logs_in(world))
    tickets = [await world.container.issue_ticket()(actor=actor) for _ in range(2)]
    world.clock.let_pass(29.9)
    assert await world.container.redeem_ticket()(ticket=tickets[0].text) == actor
    world.clock.let_pass(0.1)
    with pytest.raises(NotAuthenticated):
        await world.container.redeem_ticket()(ticket=tickets[1].text)


async def test_a_ticket_ends_with_its_session(world: World, clock: TimeOfDay):
    begun = await ann_logs_in(world)
    actor = await actor_of(world, begun)
    clock.let_pass(14 * DAY - 1)
    ticket = await world.container.issue_ticket()(actor=actor)
    clock.let_pass(1)
    with pytest.raises(NotAuthenticated):
        await world.container.redeem_ticket()(ticket=ticket.text)


async def test_there_is_no_ticket_outside_of_a_session(world: World):
    ann = await world.person("ann")
    with pytest.raises(NotAuthenticated):
        await world.container.issue_ticket()(actor=ann)


async def test_expired_tickets_are_tidied_away_by_those_who_take_one(world: World):
    actor = await actor_of(world, await ann_logs_in(world))
    for _ in range(5):
        await world.container.issue_ticket()(actor=actor)
    world.clock.let_pass(30)
    await world.container.issue_ticket()(actor=actor)
    assert len(world.uow._inner._tables.sessions.tickets) == 1  # type: ignore[attr-defined]

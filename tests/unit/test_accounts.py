"""Signing up, logging in, and knowing who asks."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from chat_core.domain.ids import UserId, uuid7
from chat_core.domain.user import User
from chat_core.errors import (
    Conflict,
    EmailTaken,
    Invalid,
    NotAuthenticated,
    StorageUnavailable,
    UsernameTaken,
    WrongCredentials,
)
from chat_core.ports.security import Claims, Passwords, Verdict
from chat_core.use_cases.authentication import Authenticate, RecentSessions, Seen
from tests.clocks import Seconds
from tests.world import PASSWORD, World


async def sign_up(world: World, name: str = "ann", email: str = "ann@example.com", password: str = PASSWORD) -> User:
    user: User = await world.container.sign_up()(username=name, email=email, password=password)
    return user


async def log_in(world: World, login: str, password: str = PASSWORD):
    return await world.container.log_in()(login=login, password=password)


async def test_who_signs_up_can_log_in(world: World):
    user = await sign_up(world)
    assert (await log_in(world, "ann")).user == user


async def test_the_password_itself_is_not_kept(world: World):
    user = await sign_up(world)
    assert PASSWORD not in repr(user)


@pytest.mark.parametrize("login", ["ann", "ANN", "Ann", "ann@example.com", "Ann@Example.COM"])
async def test_names_and_addresses_log_in_without_regard_to_case(world: World, login: str):
    user = await sign_up(world)
    assert (await log_in(world, login)).user.id == user.id


async def test_the_token_of_a_log_in_tells_who_asks(world: World):
    user = await sign_up(world)
    token = (await log_in(world, "ann")).token
    actor = await world.container.authenticate()(token.text)
    assert (actor.user_id, actor.username) == (user.id, "ann")
    assert token.expires_in == 1800


async def test_each_log_in_begins_a_session_of_its_own(world: World):
    await sign_up(world)
    tokens = world.container.tokens()
    sessions = {tokens.read((await log_in(world, "ann")).token.text).session_id for _ in range(3)}
    assert len(sessions) == 3
    assert all(isinstance(session, UUID) for session in sessions)


@pytest.mark.parametrize("name", ["abc", "a" * 32, "A.b-c_9", "...", "1234", "aimee", "main"])
async def test_a_name_has_3_to_32_plain_characters(world: World, name: str):
    assert (await sign_up(world, name)).username == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "ab", "a" * 33, "a b", "ann ", " ann", "ann\n", "änn", "аnn", "ann@x", "ann/..", "a\x00b", "ann\u202e"),
        *("admin", "ADMIN", "a.d.m.i.n", "AI-Assistant", "ai_assistant", "_ai_", "system", "root", "Deleted-User"),
    ],
)
async def test_a_name_that_is_none_or_is_reserved_is_refused(world: World, name: str):
    with pytest.raises(Invalid) as raised:
        await sign_up(world, name)
    assert [fault.pointer for fault in raised.value.faults] == ["/username"]


@pytest.mark.parametrize("email", ["a@b.co", "first.last+tag@sub.example.org", "ü@example.com"])
async def test_an_address_looks_like_one(world: World, email: str):
    assert (await sign_up(world, email=email)).email == email


@pytest.mark.parametrize(
    "email",
    [
        *("", "ann", "@example.com", "ann@", "ann@example", "a b@example.com", "a@b@example.com", "ann@example.com\n"),
        *("ann@exa mple.com", "a\x00@example.com", "x" * 65 + "@example.com", "a@" + "b" * 250 + ".com"),
    ],
)
async def test_an_address_that_is_none_is_refused(world: World, email: str):
    with pytest.raises(Invalid) as raised:
        await sign_up(world, email=email)
    assert [fault.pointer for fault in raised.value.faults] == ["/email"]


@pytest.mark.parametrize("password", ["12345678", " " * 8, "x" * 1024, "🔑" * 1024, "密码密码密码密码"])
async def test_a_password_has_8_to_1024_characters_of_any_kind(world: World, password: str):
    await sign_up(world, password=password)
    assert await log_in(world, "ann", password)


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "x" * 100_000, "1234567\x00"])
async def test_a_password_that_is_too_short_or_too_long_is_refused(world: World, password: str):
    with pytest.raises(Invalid) as raised:
        await sign_up(world, password=password)
    assert [fault.pointer for fault in raised.value.faults] == ["/password"]
    assert not password or password not in str(raised.value)


async def test_everything_that_is_wrong_is_said_at_once(world: World):
    with pytest.raises(Invalid) as raised:
        await sign_up(world, "a", "b", "c")
    assert [fault.pointer for fault in raised.value.faults] == ["/username", "/email", "/password"]


async def test_what_is_invalid_costs_no_hash(world: World):
    class Counting(Passwords):
        async def hash(self, password: str) -> str:
            raise AssertionError("it was hashed")

        async def verify(self, password: str, password_hash: str | None) -> Verdict:
            raise AssertionError("it was verified")

    with pytest.raises(Invalid):
        await replace(world.container.sign_up(), passwords=Counting())(username="ann", email="x", password=PASSWORD)


@pytest.mark.parametrize(
    ("name", "email", "error"),
    [
        ("ann", "other@example.com", UsernameTaken),
        ("ANN", "other@example.com", UsernameTaken),
        ("other", "ann@example.com", EmailTaken),
        ("other", "ANN@EXAMPLE.COM", EmailTaken),
    ],
)
async def test_names_and_addresses_are_unique_without_regard_to_case(
    world: World, name: str, email: str, error: type[Conflict]
):
    await sign_up(world)
    with pytest.raises(error):
        await sign_up(world, name, email)


async def test_of_many_who_want_a_name_at_once_one_gets_it(world: World):
    done = await asyncio.gather(
        *(sign_up(world, "ann", f"ann{number}@example.com") for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(user, User) for user in done) == 1
    assert sum(isinstance(error, UsernameTaken) for error in done) == 9


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("ann", "wrong-password"),
        ("ann", ""),
        ("ann", PASSWORD.upper()),
        ("ann", PASSWORD + " "),
        ("ann", "x" * 100_000),
        ("bob", PASSWORD),
        ("", PASSWORD),
        ("ann ", PASSWORD),
        ("ann\x00", PASSWORD),
        ("' OR 1=1--", PASSWORD),
    ],
)
async def test_a_failed_log_in_looks_the_same_for_every_cause(world: World, login: str, password: str):
    await sign_up(world)
    with pytest.raises(WrongCredentials) as raised:
        await log_in(world, login, password)
    assert raised.value.detail == WrongCredentials().detail


async def test_a_password_is_tried_for_nobody_too(world: World):
    seen: list[str | None] = []

    class Spying(Passwords):
        async def hash(self, password: str) -> str:
            return "a hash"

        async def verify(self, password: str, password_hash: str | None) -> Verdict:
            seen.append(password_hash)
            return Verdict(False)

    for login in ("nobody", "no\x00body"):
        with pytest.raises(WrongCredentials):
            await replace(world.container.log_in(), passwords=Spying())(login=login, password=PASSWORD)
    assert seen == [None, None]


async def test_a_password_of_1024_characters_is_not_cut(world: World):
    await sign_up(world, password="x" * 1024)
    with pytest.raises(WrongCredentials):
        await log_in(world, "ann", "x" * 1025)


async def test_an_old_hash_is_replaced_at_log_in(world: World):
    user = await sign_up(world)

    class Renewing(Passwords):
        async def hash(self, password: str) -> str:
            return "a hash"

        async def verify(self, password: str, password_hash: str | None) -> Verdict:
            return Verdict(True, "a new hash")

    await replace(world.container.log_in(), passwords=Renewing())(login="ann", password=PASSWORD)
    async with world.uow.read() as tx:
        stored = await tx.users.get(user.id)
    assert stored is not None
    assert stored.password_hash == "a new hash"


async def test_a_password_that_is_changed_while_it_is_tried_is_tried_against_the_new_one(world: World):
    user = await sign_up(world)
    tried: list[str | None] = []

    class ChangedMeanwhile(Passwords):
        async def hash(self, password: str) -> str:
            return "a hash"

        async def verify(self, password: str, password_hash: str | None) -> Verdict:
            tried.append(password_hash)
            async with world.uow() as tx:
                await tx.users.replace_password_hash(user.id, user.password_hash, "that of a new password")
                await tx.commit()
            return Verdict(len(tried) == 1, "that of the old password")

    with pytest.raises(WrongCredentials):
        await replace(world.container.log_in(), passwords=ChangedMeanwhile())(login="ann", password=PASSWORD)
    assert tried == [user.password_hash, "that of a new password"]
    async with world.uow.read() as tx:
        stored = await tx.users.get(user.id)
        assert await tx.sessions.of_user(user.id) == []
    assert stored is not None
    assert stored.password_hash == "that of a new password"


async def test_no_transaction_is_open_while_a_password_is_worked_on(world: World):
    await sign_up(world)
    open_ones: list[int] = []

    class Looking(Passwords):
        async def hash(self, password: str) -> str:
            open_ones.append(world.uow.open)
            return "a hash"

        async def verify(self, password: str, password_hash: str | None) -> Verdict:
            open_ones.append(world.uow.open)
            return Verdict(True)

    sign_up_here = replace(world.container.sign_up(), passwords=Looking())
    await sign_up_here(username="bob", email="bob@example.com", password=PASSWORD)
    await replace(world.container.log_in(), passwords=Looking())(login="ann", password=PASSWORD)
    assert open_ones == [0, 0]


async def test_the_token_of_an_account_that_is_gone_is_none(world: World):
    token = world.container.tokens().issue(Claims(user_id=UserId(uuid7()), session_id=uuid7()))
    with pytest.raises(NotAuthenticated):
        await world.container.authenticate()(token.text)


@pytest.mark.parametrize("token", ["", "a.b.c", "\x00"])
async def test_no_token_is_nobody(world: World, token: str):
    with pytest.raises(NotAuthenticated):
        await world.container.authenticate()(token)


async def test_who_was_seen_within_the_last_second_is_known_without_the_storage(world: World):
    await sign_up(world)
    token = (await log_in(world, "ann")).token.text
    clock = Seconds()
    recent = RecentSessions(monotonic=clock)
    authenticate = Authenticate(uow=world.uow, tokens=world.container.tokens(), recent=recent)
    await authenticate(token)
    world.uow.away = StorageUnavailable()
    clock.let_pass(0.9)
    assert (await authenticate(token)).username == "ann"
    clock.let_pass(0.1)
    with pytest.raises(StorageUnavailable):
        await authenticate(token)


async def test_only_so_many_are_remembered():
    recent = RecentSessions(most=2, monotonic=Seconds())
    sessions = [uuid7() for _ in range(3)]
    for session in sessions:
        recent.put(session, Seen(None), 1000.0)
    assert [recent.get(session) for session in sessions] == [None, None, Seen(None)]

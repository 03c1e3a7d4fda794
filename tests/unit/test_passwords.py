"""Passwords by argon2id: its parameters, the old bcrypt hashes, and how much is worked on at once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from passlib.hash import bcrypt

from adapters.auth.passwords import CryptContextPasswords
from chat_core.errors import ServerFull
from chat_core.ports.security import Verdict


@pytest.fixture
def passwords() -> Iterator[CryptContextPasswords]:
    passwords = CryptContextPasswords()
    yield passwords
    passwords.close()


class SlowHash:
    """Stands in for the slow function: it works until it is let go."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.calls = 0
        self.go_on = threading.Event()

    def __call__(self, *_: object) -> str:
        self.calls += 1
        self._loop.call_soon_threadsafe(self.started.set)
        assert self.go_on.wait(10)
        return "a hash"


@pytest.fixture
def small() -> Iterator[CryptContextPasswords]:
    """With one thread, and room for one to wait."""
    passwords = CryptContextPasswords(workers=1, waiting=1)
    yield passwords
    passwords.close()


@pytest.fixture
async def slow(small: CryptContextPasswords, monkeypatch: pytest.MonkeyPatch) -> Any:
    work = SlowHash()
    monkeypatch.setattr(small._context, "hash", work)
    yield work
    work.go_on.set()


@pytest.fixture
def dummies(passwords: CryptContextPasswords, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with each hash that is worked out for nobody."""
    done: list[None] = []
    work: Callable[[], object] = passwords._context.dummy_verify

    def spied() -> None:
        work()
        done.append(None)

    monkeypatch.setattr(passwords._context, "dummy_verify", spied)
    return done


def old_hash(password: str) -> str:
    return str(bcrypt.using(rounds=4).hash(password))


async def test_new_hashes_are_argon2id_with_the_parameters_that_owasp_advises(passwords: CryptContextPasswords):
    assert (await passwords.hash("password1")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_an_old_bcrypt_hash_verifies_and_becomes_argon2id(passwords: CryptContextPasswords):
    verdict = await passwords.verify("password1", old_hash("password1"))
    assert verdict.right
    assert verdict.new_hash is not None
    assert verdict.new_hash.startswith("$argon2id$")
    assert await passwords.verify("password1", verdict.new_hash) == Verdict(True)


async def test_a_weaker_argon2_hash_is_renewed_too(passwords: CryptContextPasswords):
    weaker = CryptContextPasswords()
    weaker._context.update(argon2__memory_cost=8192, argon2__time_cost=1)
    password_hash = await weaker.hash("password1")
    weaker.close()
    verdict = await passwords.verify("password1", password_hash)
    assert verdict.right
    assert verdict.new_hash is not None
    assert "m=19456,t=2,p=1" in verdict.new_hash


async def test_a_wrong_password_does_not_renew_an_old_hash(passwords: CryptContextPasswords):
    assert await passwords.verify("password2", old_hash("password1")) == Verdict(False)


@pytest.mark.parametrize("password", ["x" * 73, "x" * 1024, "é" * 37])
async def test_more_than_bcrypt_takes_is_simply_wrong(passwords: CryptContextPasswords, password: str):
    assert await passwords.verify(password, old_hash("x" * 72)) == Verdict(False)


async def test_72_bytes_are_still_right_for_bcrypt(passwords: CryptContextPasswords):
    assert (await passwords.verify("x" * 72, old_hash("x" * 72))).right


@pytest.mark.parametrize("password", ["a\0b", "\ud800" * 8, "x" * 10_000])
async def test_what_can_be_nobodys_password_is_wrong(passwords: CryptContextPasswords, password: str):
    for password_hash in (await passwords.hash("password1"), old_hash("password1"), None):
        assert await passwords.verify(password, password_hash) == Verdict(False)


async def test_an_unreadable_hash_is_wrong_after_the_same_work(passwords: CryptContextPasswords, dummies: list[None]):
    for unreadable in ("", "rubbish", "$argon2id$v=19$m=19456,t=2,p=1$abc$def", "$2b$12$short"):
        assert await passwords.verify("password1", unreadable) == Verdict(False)
    assert len(dummies) == 4


async def test_nobodys_password_is_wrong_after_the_same_work(passwords: CryptContextPasswords, dummies: list[None]):
    assert await passwords.verify("password1", None) == Verdict(False)
    assert len(dummies) == 1


async def test_what_the_work_is_measured_by_is_a_real_hash(passwords: CryptContextPasswords):
    assert str(passwords._context._dummy_hash).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_event_loop_goes_on_while_a_password_is_hashed(small: CryptContextPasswords, slow: SlowHash):
    hashing = asyncio.create_task(small.hash("password1"))
    # That this is reached at all shows it: the hash is at work and ends only when this coroutine says so.
    async with asyncio.timeout(10):
        await slow.started.wait()
    assert not hashing.done()
    slow.go_on.set()
    assert await hashing == "a hash"


async def test_the_event_loop_goes_on_while_a_password_is_verified(
    small: CryptContextPasswords, slow: SlowHash, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(small._context, "dummy_verify", slow)
    verifying = asyncio.create_task(small.verify("password1", None))
    async with asyncio.timeout(10):
        await slow.started.wait()
    assert not verifying.done()
    slow.go_on.set()
    assert await verifying == Verdict(False)


async def test_where_too_many_are_at_work_the_server_is_full(small: CryptContextPasswords, slow: SlowHash):
    working = [asyncio.create_task(small.hash(f"password{number}")) for number in range(2)]
    await slow.started.wait()
    for late in (small.hash("password3"), small.verify("password3", None)):
        with pytest.raises(ServerFull) as raised:
            await late
        assert raised.value.retry_after > 0
    slow.go_on.set()
    assert await asyncio.gather(*working) == ["a hash"] * 2
    assert await small.hash("password4") == "a hash"


async def test_a_caller_that_leaves_keeps_its_place_for_as_long_as_its_work_goes_on(
    small: CryptContextPasswords, slow: SlowHash
):
    left = asyncio.create_task(small.hash("password1"))
    await slow.started.wait()
    left.cancel()
    await asyncio.wait({left})
    assert left.cancelled()
    waiting = asyncio.create_task(small.hash("password2"))
    await asyncio.sleep(0)
    with pytest.raises(ServerFull):
        await small.hash("password3")
    slow.go_on.set()
    assert await waiting == "a hash"


async def test_a_caller_that_leaves_before_its_turn_gives_its_place_back(small: CryptContextPasswords, slow: SlowHash):
    working = asyncio.create_task(small.hash("password1"))
    await slow.started.wait()
    for _ in range(5):
        waiting = asyncio.create_task(small.hash("password2"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    last = asyncio.create_task(small.hash("password3"))
    slow.go_on.set()
    assert list(await asyncio.gather(working, last)) == ["a hash"] * 2
    assert slow.calls == 2

"""What one person, or one address, may ask for."""

from typing import Any

import pytest

from chat_core.errors import RateLimited, WrongCredentials, WrongPassword
from entrypoints.settings import NO_RATES, SettingsError, load_settings
from tests.world import PASSWORD, World


def world(**limits: Any) -> World:
    """Without limits but these."""
    return World(**{"rate_limits": "on", "max_running_replies": 1000, **NO_RATES, **limits})


async def log_in(there: World, name: str, password: str = PASSWORD, peer: str = "192.0.2.1") -> str:
    try:
        await there.container.log_in()(login=name, password=password, peer=peer)
    except WrongCredentials:
        return "wrong"
    except RateLimited as refusal:
        return refusal.limit_name
    return "in"


async def test_passwords_of_one_account_can_be_tried_a_few_times_from_one_address():
    there = world(login_limit=(5, 60_000.0))
    await there.person("ada")
    assert [await log_in(there, "ada", "guess") for _ in range(7)] == ["wrong"] * 5 + ["log-in"] * 2
    assert await log_in(there, "ada") == "log-in"
    assert await log_in(there, "ada@example.com") == "log-in"


async def test_whoever_is_attacked_still_logs_in_from_another_address():
    there = world(login_limit=(5, 60_000.0), login_failure_limit=(3, 86_400.0))
    await there.person("ada")
    for number in range(20):
        await log_in(there, "ada", "guess", peer=f"192.0.2.{number}")
    assert await log_in(there, "ada", peer="198.51.100.7") == "in"


async def test_many_failures_from_many_addresses_leave_each_one_try_a_minute():
    there = world(login_failure_limit=(3, 86_400.0))
    await there.person("ada")
    for number in range(3):
        assert await log_in(there, "ada", "guess", peer=f"192.0.2.{number}") == "wrong"
    assert [await log_in(there, "ada", "guess", peer="192.0.2.9") for _ in range(2)] == ["wrong", "log-in-slow"]
    assert await log_in(there, "nobody", "guess", peer="192.0.2.9") == "wrong"


async def test_a_success_forgets_the_failures_before_it():
    there = world(login_failure_limit=(3, 86_400.0))
    await there.person("ada")
    for _ in range(4):
        for _ in range(2):
            assert await log_in(there, "ada", "guess") == "wrong"
        assert await log_in(there, "ada") == "in"


async def test_a_name_that_there_is_not_is_limited_as_one_that_there_is():
    there = world(login_limit=(2, 60_000.0))
    assert [await log_in(there, "nobody", "guess") for _ in range(3)] == ["wrong", "wrong", "log-in"]
    assert [await log_in(there, "NOBODY", "guess") for _ in range(1)] == ["log-in"]


async def test_one_address_cannot_go_through_many_accounts():
    there = world(login_address_limit=(4, 60_000.0))
    tried = [await log_in(there, f"name{number}", "guess") for number in range(6)]
    assert tried == ["wrong"] * 4 + ["log-in-address"] * 2
    assert await log_in(there, "name9", "guess", peer="198.51.100.7") == "wrong"


async def test_a_stolen_token_does_not_help_to_guess_the_password():
    there = world(login_limit=(3, 60_000.0))
    ada = await there.person("ada")
    change = there.container.change_password()
    for _ in range(3):
        with pytest.raises(WrongPassword):
            await change(actor=ada, current_password="guess", new_password="new-password")
    with pytest.raises(RateLimited):
        await change(actor=ada, current_password=PASSWORD, new_password="new-password")


async def test_sign_ups_are_limited_by_address():
    there = world(signup_limit=(2, 3600.0))
    sign_up = there.container.sign_up()

    async def one(name: str, peer: str) -> None:
        await sign_up(username=name, email=f"{name}@example.com", password=PASSWORD, peer=peer)

    await one("ada", "192.0.2.1")
    await one("bob", "192.0.2.1")
    with pytest.raises(RateLimited):
        await one("cyd", "192.0.2.1")
    await one("cyd", "198.51.100.7")


async def test_sends_are_limited_and_their_repeats_are_not():
    there = world(send_limit=(2, 60_000.0))
    ada = await there.person("ada")
    room = await there.room(ada)
    send = there.container.send_message()
    first = await send(actor=ada, room_id=room.id, content="one", m_id="m-1")
    for _ in range(5):
        assert (await send(actor=ada, room_id=room.id, content="one", m_id="m-1")).replayed
    await send(actor=ada, room_id=room.id, content="two", m_id="m-2")
    with pytest.raises(RateLimited) as refusal:
        await send(actor=ada, room_id=room.id, content="three", m_id="m-3")
    assert 0 < refusal.value.retry_after <= 30_000
    again = await send(actor=ada, room_id=room.id, content="one", m_id="m-1")
    assert again.message.id == first.message.id
    page = await there.container.list_messages()(actor=ada, room_id=room.id, limit=50)
    assert "three" not in [message.content for message in page.messages]


async def test_rooms_are_limited():
    there = world(room_limit=(2, 3600.0))
    ada, bob = await there.person("ada"), await there.person("bob")
    for _ in range(2):
        await there.room(ada)
    with pytest.raises(RateLimited):
        await there.room(ada)
    await there.room(bob)


@pytest.mark.parametrize(
    ("text", "rate"), [("5/m", (5, 60.0)), ("100/15m", (100, 900.0)), ("1/30s", (1, 30.0)), ("off", None)]
)
def test_a_limit_is_so_many_in_a_time(text, rate):
    assert load_settings({"SEND_LIMIT": text, "SECRET_KEY": "k" * 7 + "0123456789" * 4}).send_limit == rate


@pytest.mark.parametrize("text", ["0/m", "5", "5/0m", "m", "-1/m", "5/w", "5 / m", "1e9/m"])
def test_what_is_no_limit_is_refused_at_the_start(text):
    with pytest.raises(SettingsError, match="SEND_LIMIT"):
        load_settings({"SEND_LIMIT": text, "SECRET_KEY": "k" * 7 + "0123456789" * 4})

"""Too much of anything."""

import ipaddress
from typing import Any

import pytest
import websockets

from entrypoints.http.peers import peer_of
from entrypoints.settings import NO_RATES
from tests.abuse.conftest import Start
from tests.e2e.service import PASSWORD, Person, people

#: The settings of a test are the only limits.
LIMITED: dict[str, Any] = {"rate_limits": "on", "max_running_replies": 1000}


async def try_password(person: Person, name: str, password: str = "a wrong one", **headers: str) -> int:
    answer = await person.post("/auth/login", {"username": name, "password": password}, headers=headers)
    return answer.status_code


@pytest.mark.abuse("A22")
async def test_passwords_are_not_tried_by_the_thousand(start: Start):
    async with start(**LIMITED | {"login_limit": (5, 60_000.0)}) as url, people(url, "ada", "bob") as [ada, _]:
        # The log-in itself was one.
        assert [await try_password(ada, "ada") for _ in range(6)] == [401] * 4 + [429] * 2
        refused = await ada.post("/auth/login", {"username": "ada", "password": PASSWORD})
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:chat-api:problem:rate-limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 12_000
        assert refused.headers["ratelimit-policy"] == '"log-in";q=5;w=60000'
        assert refused.headers["ratelimit"] == f'"log-in";r=0;t={refused.headers["retry-after"]}'
        assert await try_password(ada, "bob") == 401


@pytest.mark.abuse("A22")
async def test_one_password_is_not_tried_on_a_thousand_accounts(start: Start):
    async with start(**LIMITED | {"login_address_limit": (5, 60_000.0)}) as url, people(url, "ada") as [ada]:
        tried = [await try_password(ada, f"name{number}") for number in range(6)]
        assert tried == [401] * 4 + [429] * 2


@pytest.mark.abuse("A23")
async def test_nobody_gets_further_by_claiming_other_addresses(start: Start):
    async with start(**LIMITED | {"login_address_limit": (5, 60_000.0)}) as url, people(url, "ada") as [ada]:
        claims = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP")
        tried = [
            await try_password(ada, f"name{number}", **{claims[number % 6]: f"203.0.113.{number}"})
            for number in range(50)
        ]
        assert tried == [401] * 4 + [429] * 46


@pytest.mark.abuse("A23", "A24")
async def test_behind_a_proxy_that_is_trusted_each_address_is_its_own(start: Start):
    limits = LIMITED | {"login_limit": (3, 60_000.0), "trusted_proxies": (ipaddress.ip_network("127.0.0.0/8"),)}
    async with start(**limits) as url, people(url, "ada") as [ada]:
        attacker = {"X-Forwarded-For": "198.51.100.66"}
        for _ in range(20):
            await try_password(ada, "ada", **attacker)
        assert await try_password(ada, "ada", PASSWORD, **attacker) == 429
        # What the attacker writes in front of what the proxy adds changes nothing.
        spoofed = {"X-Forwarded-For": "192.0.2.1, 198.51.100.66"}
        assert await try_password(ada, "ada", PASSWORD, **spoofed) == 429
        # And whoever is attacked gets in from elsewhere.
        assert await try_password(ada, "ada", PASSWORD, **{"X-Forwarded-For": "192.0.2.1"}) == 200


@pytest.mark.abuse("A23")
@pytest.mark.parametrize(
    ("client", "forwarded", "counted"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["203.0.113.1"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["203.0.113.9, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
        ("10.0.0.1", ["203.0.113.9", "203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["203.0.113.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("10.0.0.1", ["::ffff:203.0.113.1"], "203.0.113.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("", [], "-"),
    ],
)
def test_an_address_is_counted_once(client, forwarded, counted):
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"client": (client, 1234) if client else None, "headers": headers}
    assert peer_of((ipaddress.ip_network("10.0.0.0/8"),))(scope) == counted


@pytest.mark.abuse("A86")
async def test_one_address_opens_so_many_sockets_and_no_more(start: Start):
    limits = LIMITED | {"sockets_per_address": 3, "streams_per_user": 2}
    async with start(**limits) as url, people(url, "ada", "bob") as [ada, bob]:
        address = url.replace("http", "ws") + "/ws"
        held = []
        for person in (ada, ada, bob):
            headers = {"Authorization": person.http.headers["Authorization"]}
            held.append(await websockets.connect(address, additional_headers=headers))
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(address, additional_headers={"Authorization": bob.http.headers["Authorization"]})
        assert refused.value.response.status_code == 429
        with pytest.raises(websockets.InvalidStatus) as nobody:
            await websockets.connect(address)
        assert nobody.value.response.status_code == 401
        for socket in held:
            await socket.close()


@pytest.mark.abuse("A89", "A92")
async def test_a_flood_of_messages_is_refused_and_others_are_not(start: Start):
    async with start(**LIMITED | {"send_limit": (5, 60_000.0)}) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        sent = [await ada.send(room, "hello", f"m-{number}") for number in range(8)]
        assert [answer.status_code for answer in sent] == [201] * 5 + [429] * 3
        assert int(sent[-1].headers["retry-after"]) <= 12_000
        assert sent[-1].headers["ratelimit-policy"] == '"sends";q=5;w=60000'
        repeated = await ada.send(room, "hello", "m-0")
        assert repeated.status_code == 200
        assert repeated.json()["data"] == sent[0].json()["data"]
        assert (await bob.send(room, "hello")).status_code == 201
        assert (await bob.get(f"/rooms/{room}")).json()["message_count"] == 6


@pytest.mark.abuse("A89")
async def test_a_flood_of_rooms_is_refused(start: Start):
    async with start(**LIMITED | {"room_limit": (3, 90_000.0)}) as url, people(url, "ada", "bob") as [ada, bob]:
        made = [(await ada.post("/rooms/", {"name": "one more"})).status_code for _ in range(5)]
        assert made == [201] * 3 + [429] * 2
        assert (await bob.get("/rooms/")).json()["count"] == 3
        await bob.room()


@pytest.mark.abuse("A89")
async def test_a_flood_of_anything_is_refused_and_others_are_not(start: Start):
    async with start(**LIMITED | {"request_limit": (30, 90_000.0)}) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await ada.room(visibility="private")
        for _ in range(5):
            await ada.post(f"/rooms/{room}/members", {"username": "bob"})
            await ada.delete(f"/rooms/{room}/members/{bob.id}")
        statuses = [(await ada.get("/rooms/")).status_code for _ in range(25)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        assert (await bob.get("/rooms/")).status_code == 200
        nobody = Person(url, "nobody")
        try:
            # Of an address without a token, 4 were used by signing up and logging in.
            tried = [(await nobody.get("/rooms/")).status_code for _ in range(30)]
            assert tried == [401] * 26 + [429] * 4
        finally:
            await nobody.http.aclose()


@pytest.mark.abuse("A89")
async def test_with_limits_off_nothing_is_refused(start: Start):
    tight: dict[str, Any] = dict.fromkeys(NO_RATES, (1, 90_000.0))
    async with start(**tight | {"rate_limits": "off"}) as url, people(url, "ada", "bob") as [ada, _]:
        for _ in range(5):
            room = await ada.room()
            assert (await ada.send(room, "hello")).status_code == 201
            assert await try_password(ada, "ada", PASSWORD) == 200

"""Live rooms over two processes and one PostgreSQL, with Redis and without."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.live import socket, stream
from tests.e2e.processes import serving
from tests.e2e.service import Person, people

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.fixture(params=["with Redis", "without Redis"])
def urls(request, postgres_url, tmp_path) -> Iterator[list[str]]:
    settings = {
        "DATABASE_URL": postgres_url,
        "SECRET_KEY": "a-key-of-tests-with-enough-characters-0123456789",
        "DRAIN_DELAY": "0",
    }
    if request.param == "with Redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis_url")
    with ExitStack() as stack:
        yield [stack.enter_context(serving(tmp_path, log=tmp_path / f"{number}", **settings)) for number in range(2)]


async def elsewhere(person: Person, url: str) -> Person:
    """The same person at another process."""
    other = Person(url, person.name)
    other.http.headers["Authorization"] = person.http.headers["Authorization"]
    return other


async def test_what_is_said_on_one_process_is_seen_on_the_other(urls):
    async with people(urls[0], "ada", "bob") as [ada, bob]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        there = await elsewhere(bob, urls[1])
        async with socket(there) as live, stream(there, room) as events:
            await live.ask("subscribe", room_id=room)
            await ada.send(room, "hello")
            for event in (await live.event(), await events.event()):
                assert (event["seq"], event["data"]["content"]) == (2, "hello")
        await there.http.aclose()


async def test_a_removal_on_one_process_closes_what_is_open_on_the_other(urls):
    async with people(urls[0], "ada", "bob") as [ada, bob]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        there = await elsewhere(bob, urls[1])
        await bob.send(room, "here")
        for _ in range(10):
            async with socket(there) as live, stream(there, room) as events:
                await live.ask("subscribe", room_id=room)
                assert (await ada.delete(f"/rooms/{room}/members/{bob.id}")).status_code == 204
                await ada.send(room, "secret")
                async with asyncio.timeout(5):
                    assert await live.closed() == 4403
                    assert await events.ended() == []
                assert [event for event in live._events if event["seq"] is not None] == []
            await ada.post(f"/rooms/{room}/members", {"username": "bob"})
        await there.http.aclose()


async def test_a_cursor_goes_on_at_either_process(urls):
    async with people(urls[0], "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        there = await elsewhere(ada, urls[1])
        total = 60

        async def writes(person: Person) -> None:
            for number in range(total // 2):
                await person.send(room, str(number))

        async def reads() -> list[int]:
            seen: list[int] = []
            while len(seen) < total + 1:
                at = (ada, there)[len(seen) % 2]
                async with stream(at, room, Last_Event_ID=str(len(seen))) as events:
                    for _ in range(min(7, total + 1 - len(seen))):
                        seen.append((await events.event())["seq"])
            return seen

        seen, *_ = await asyncio.gather(reads(), writes(ada), writes(there))
        assert seen == list(range(1, total + 2))
        await there.http.aclose()

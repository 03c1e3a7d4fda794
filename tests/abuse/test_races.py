"""Deeds that meet: each has to be before or after the other, and nobody sees what is not theirs in between."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.abuse.conftest import Start
from tests.e2e.live import socket
from tests.e2e.service import Person, people

TIMES = pytest.mark.parametrize("times", [40, pytest.param(1000, marks=pytest.mark.long)])


@pytest.mark.abuse("A46")
@TIMES
async def test_of_a_send_and_a_removal_at_once_the_send_was_first_or_never(start: Start, times: int):
    chance = random.Random(1)
    async with start() as url, people(url, "ada", "bob") as [ada, bob]:
        room = await ada.room(visibility="private")
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        accepted = 0
        for round_ in range(times):
            assert (await ada.post(f"/rooms/{room}/members", {"username": "bob"})).status_code == 201
            before = (await ada.get(f"/rooms/{room}")).json()["last_seq"]

            async def send(number: int, round_: int = round_) -> httpx.Response:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                return await bob.send(room, f"{round_}-{number}")

            *sent, removed = await asyncio.gather(
                *(send(number) for number in range(3)), ada.delete(f"/rooms/{room}/members/{bob.id}")
            )
            assert removed.status_code == 204
            asked = await ada.get(f"/rooms/{room}/events?after={before}&limit=200")
            events = asked.json()["events"]
            [left] = [event["seq"] for event in events if event["type"] == "member.left"]
            said = {event["data"]["content"]: event["seq"] for event in events if event["type"] == "message.created"}
            taken = [answer for answer in sent if answer.status_code == 201]
            accepted += len(taken)
            assert {answer.status_code for answer in sent} <= {201, 404}
            assert len(said) == len(taken)
            assert all(seq < left for seq in said.values())
        assert accepted > 0, "the race was run"


@pytest.mark.parametrize("requests", [800, pytest.param(10_000, marks=pytest.mark.long)])
async def test_nobody_gets_a_byte_of_anothers_data_though_half_of_all_requests_are_cut_off(start: Start, requests: int):
    """All go over one pool of connections, as they do behind a proxy."""
    count = 50 if requests > 1000 else 20
    names = [f"person{number:02}x" for number in range(count)]
    chance = random.Random(2)
    whole = 0
    async with start() as url, people(url, *names) as everybody:
        rooms = {person.name: await person.room(visibility="private", name=f"of {person.name}") for person in everybody}
        tokens = {person.name: person.http.headers["Authorization"] for person in everybody}
        pool = httpx.AsyncClient(base_url=url, timeout=60, verify=False)  # noqa: S501 - plain HTTP

        def choose(name: str) -> Callable[[], Awaitable[httpx.Response]]:
            room, headers = rooms[name], {"Authorization": tokens[name]}
            said: dict[str, Any] = {"json": {"content": f"said by {name}"}}
            deeds: list[tuple[str, str, dict[str, Any]]] = [
                ("GET", f"/rooms/{room}", {}),
                ("GET", f"/rooms/{room}/messages", {}),
                ("GET", f"/rooms/{room}/events", {}),
                ("GET", "/rooms/", {}),
                ("GET", "/auth/me", {}),
                ("GET", "/auth/sessions", {}),
                ("GET", "/usage", {}),
                ("POST", f"/chat/{room}", said),
                ("POST", f"/chat/{room}", {**said, "headers": {"Accept": "text/event-stream"}}),
                ("POST", f"/chat/{room}", {"json": {"content": f" {name} " * 1000}}),
            ]
            method, path, more = chance.choice(deeds)
            more = {**more, "headers": {**headers, **more.get("headers", {})}}
            return lambda: pool.request(method, path, **more)

        async def ask(number: int) -> None:
            nonlocal whole
            name = names[number % count]
            task = asyncio.ensure_future(choose(name)())
            if number % 2:
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                task.cancel()
            answer = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(answer, httpx.Response):
                whole += 1
                assert answer.status_code in (200, 201, 503), answer.text
                others = [other for other in names if other != name and other in answer.text]
                assert others == [], (answer.request.url, name, others)
            elif not isinstance(answer, asyncio.CancelledError):
                assert isinstance(answer, httpx.TransportError), answer

        queue = iter(range(requests))

        async def worker() -> None:
            for number in queue:
                await ask(number)

        await asyncio.gather(*(worker() for _ in range(16)))
        await pool.aclose()
        assert whole >= requests // 2
        await _each_has_their_own(everybody, rooms)


async def _each_has_their_own(everybody: list[Person], rooms: dict[str, str]) -> None:
    """A socket of each shows what was said in their room, and nothing else."""
    for person in everybody[:5]:
        async with socket(person) as opened:
            answer = await opened.ask("subscribe", room_id=rooms[person.name], after=0)
            last = (await person.get(f"/rooms/{rooms[person.name]}")).json()["last_seq"]
            assert answer["type"] == "ok"
            seqs = [event["seq"] for event in await opened.events_to(last)]
            assert seqs == list(range(1, last + 1))
            for other in rooms.keys() - {person.name}:
                assert (await opened.ask("subscribe", room_id=rooms[other], after=0))["type"] == "error"

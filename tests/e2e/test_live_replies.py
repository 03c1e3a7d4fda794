"""Answers in the making, as everyone in the room sees them; and who sees no more of them."""

import asyncio
import math
from typing import Any

import httpx
import pytest

from chat_core.ports.language_model import AttemptBegins, AttemptFailed, End, FinishReason, Text
from chat_core.testing.models import Gate, ScriptedModel, Step
from entrypoints.container import Container, build_container
from tests.e2e.conftest import settings
from tests.e2e.live import Socket, socket, stream
from tests.e2e.service import Person, people, served
from tests.streams import Seen, resumed, sending

STOP = End(reason=FinishReason.STOP)
BEGINS = AttemptBegins(provider="scripted", model="one")


async def until_text(live: Socket, text: str) -> str:
    """Wait until the answer, as the socket shows it, is this; gives its reply's id."""
    seen = ""
    while True:
        event = await live.event("reply.delta", "reply.reset")
        seen = seen + event["data"]["text"] if event["type"] == "reply.delta" else ""
        if seen == text:
            return str(event["data"]["reply_id"])


async def test_everyone_in_the_room_sees_the_answer_being_written(container):
    gates = Gate(), Gate()
    container.model.override(ScriptedModel([Text("Hel"), gates[0], Text("lo"), gates[1], STOP]))
    async with served(container) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await ada.room()
        async with socket(bob) as live, stream(ada, room) as events:
            await live.ask("subscribe", room_id=room, after=None)
            sent = (await ada.send(room, "hi", headers={"Prefer": "respond-async"})).json()["data"]
            started = (await live.event("reply.started"))["data"]
            assert (started["id"], started["status"]) == (sent["reply"]["id"], "running")
            first = await live.event("reply.delta")
            assert first == {
                "type": "reply.delta",
                "room_id": room,
                "seq": None,
                "data": {"reply_id": started["id"], "text": "Hel"},
            }
            # Whoever comes now is told what the others have seen.
            async with socket(ada) as late:
                await late.ask("subscribe", room_id=room, after=None)
                assert (await late.event("reply.started"))["data"]["id"] == started["id"]
                assert (await late.event("reply.delta"))["data"]["text"] == "Hel"
                gates[0].open()
                assert (await late.event("reply.delta"))["data"]["text"] == "lo"
            assert (await live.event("reply.delta"))["data"]["text"] == "lo"
            gates[1].open()
            ended = (await live.event("reply.ended"))["data"]
            assert (ended["id"], ended["status"]) == (started["id"], "complete")
            assert (await events.event("reply.ended"))["data"] == ended
            stored = (await ada.get(f"/replies/{started['id']}")).json()
            assert stored["message"]["content"] == "Hello"


async def test_a_second_attempt_takes_the_first_one_back(memory):
    gate = Gate()
    script: list[Step] = [BEGINS, Text("wro"), gate, AttemptFailed(code="x"), BEGINS, Text("right"), STOP]
    memory.model.override(ScriptedModel(script))
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        async with socket(ada) as live:
            await live.ask("subscribe", room_id=room, after=None)
            await ada.send(room, "hi", headers={"Prefer": "respond-async"})
            await until_text(live, "wro")
            gate.open()
            assert (await live.event("reply.reset"))["data"]["text"] == ""
            await until_text(live, "right")


@pytest.fixture(params=["without Redis", pytest.param("with Redis", marks=pytest.mark.redis)])
def processes(request, postgres_url) -> tuple[Container, Container]:
    more: dict[str, Any] = {"redis_url": request.getfixturevalue("redis_url")} if request.param == "with Redis" else {}
    first, second = (build_container(settings(postgres_url, **more)) for _ in range(2))
    for container in (first, second):
        line = container.line()
        if line is not None:
            line._worker_heard = -math.inf
    return first, second


def elsewhere(person: Person, url: str) -> Person:
    """The same person, talking to another process."""
    other = Person(url, person.name)
    other.http.headers["Authorization"] = person.http.headers["Authorization"]
    return other


async def gone(client: httpx.AsyncClient, reply: str, seen: Seen) -> None:
    """Return once the stream has ended without an end."""
    await resumed(client, reply, seen)
    assert not seen.ended


@pytest.mark.postgres
async def test_the_room_sees_what_another_process_makes(processes):
    gate = Gate()
    for container in processes:
        container.model.override(ScriptedModel([Text("so far"), gate, Text(", and on"), STOP]))
    async with served(processes[0]) as url, served(processes[1]) as other, people(url, "ada") as [ada]:
        room, there = await ada.room(), elsewhere(ada, other)
        async with socket(there) as live:
            await live.ask("subscribe", room_id=room, after=None)
            await ada.send(room, "hi", headers={"Prefer": "respond-async"})
            await until_text(live, "so far")
            gate.open()
            assert (await live.event("reply.delta"))["data"]["text"] == ", and on"
            assert (await live.event("reply.ended"))["data"]["status"] == "complete"
        await there.http.aclose()


@pytest.mark.postgres
async def test_who_is_removed_loses_the_answer_on_every_process(processes):
    gate = Gate()
    for container in processes:
        container.model.override(ScriptedModel([Text("so far"), gate, Text(" a secret"), STOP]))
    async with served(processes[0]) as url, served(processes[1]) as other, people(url, "ada", "bob") as [ada, bob]:
        room, there = await ada.room(), elsewhere(bob, other)
        await bob.send(room, "hello", headers={"Prefer": "respond-async"})
        seen, watching = Seen(), Seen()
        async with sending(bob.http, room, "hi") as events:
            async for event in events:
                seen.take(event)
                if event.event == "delta":
                    break
            reply = seen.data("reply")["id"]
            follows = asyncio.create_task(gone(there.http, reply, watching))
            while watching.text != "so far":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            began = asyncio.get_running_loop().time()
            await ada.delete(f"/rooms/{room}/members/{bob.id}")
            async with asyncio.timeout(5):
                await follows
                async for event in events:
                    seen.take(event)
            assert asyncio.get_running_loop().time() - began < 3  # a second, on a machine that is busy with others
        gate.open()
        assert not seen.ended
        assert seen.text == watching.text == "so far"
        assert (await bob.get(f"/replies/{reply}/events")).status_code == 404
        await there.http.aclose()

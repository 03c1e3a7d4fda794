"""Answers as streams of events: while they are made and afterwards, on this process and on another."""

import asyncio
import math
import random

import httpx
import pytest
from sqlalchemy.pool import PoolProxiedConnection

from adapters.sql.held import HeldConnections
from chat_core.ports.language_model import End, FinishReason, Text
from chat_core.testing.fake_provider.script import NASTY_TEXT
from chat_core.testing.models import Gate, Script, ScriptedModel, answer
from entrypoints.container import Container, build_container
from tests.e2e.conftest import settings
from tests.e2e.service import people, served
from tests.streams import Seen, resumed, sending, streamed

STOP = End(reason=FinishReason.STOP)


async def test_a_send_can_be_streamed(container):
    container.model.override(ScriptedModel(answer("To be ", "or not")))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        seen = await streamed(ada.http, room, "What is the question?", "k")
        assert seen.names == ["user_message", "reply", "delta", "ai_message", "end"]
        user, ai = seen.data("user_message"), seen.data("ai_message")
        assert (user["seq"], user["content"], user["m_id"]) == (1, "What is the question?", "k")
        assert (ai["seq"], ai["content"], ai["reply_to"]) == (2, "To be or not", user["id"])
        assert seen.text == ai["content"]
        reply = (await ada.get(f"/replies/{seen.data('reply')['id']}")).json()
        assert seen.data("end") == {name: value for name, value in reply.items() if name != "message"}
        assert reply["message"] == ai
        # And again, from its start; the message is not stored twice.
        again = await streamed(ada.http, room, "What is the question?", "k")
        assert [event.data for event in again.events[2:]] == [event.data for event in seen.events[2:]]
        assert len((await ada.get(f"/rooms/{room}/messages")).json()["messages"]) == 2


async def test_the_stream_of_a_send_is_one_of_events(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        accepts = {"Accept": "application/json;q=0.5, text/event-stream", "Prefer": "respond-async"}
        answered = await ada.send(room, "hi", "k", headers=accepts)
        assert answered.status_code == 200
        assert answered.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answered.headers["cache-control"] == "no-store"
        assert "Idempotency-Replayed" not in answered.headers
        assert answered.text.startswith("retry: ")
        again = await ada.send(room, "hi", "k", headers=accepts)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (await ada.send(room, "hi", headers={"Accept": "text/event-stream;q=0, */*"})).status_code == 201


async def test_a_stream_costs_no_connection_to_the_database(container, monkeypatch):
    """What looks meanwhile whether the room is still open comes to its end, also where the stream ends before it."""
    thrown_away: list[object] = []
    throw_away = HeldConnections.throw_away

    async def counting(held: HeldConnections, proxied: PoolProxiedConnection) -> None:
        thrown_away.append(proxied)
        await throw_away(held, proxied)

    monkeypatch.setattr(HeldConnections, "throw_away", counting)
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        for number in range(20):
            assert (await streamed(ada.http, room, f"message {number}")).names[-1] == "end"
        assert thrown_away == []


async def test_where_no_answer_is_asked_for_the_stream_ends_at_once(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        seen = await streamed(ada.http, room, "hi")
        assert seen.names == ["user_message", "end"]
        assert seen.data("end") == {}


async def test_a_send_that_is_refused_is_no_stream(memory):
    async with served(memory) as url, people(url, "ada", "eve") as [ada, eve]:
        room = await ada.room(visibility="private")
        events = {"Accept": "text/event-stream"}
        assert (await ada.send(room, " ", headers=events)).status_code == 400
        assert (await eve.send(room, "hi", headers=events)).status_code == 404
        seen = await streamed(ada.http, room, "hi")
        reply = seen.data("reply")["id"]
        refused = await eve.get(f"/replies/{reply}/events")
        assert refused.status_code == 404
        assert refused.headers["content-type"] == "application/problem+json"
        for last_id in ("x", "1", "1-", "1-2-3", "-1-2", "1" * 20 + "-1"):
            refused = await ada.get(f"/replies/{reply}/events", headers={"Last-Event-ID": last_id})
            assert refused.status_code == 400, last_id
        assert (await ada.call("HEAD", f"/replies/{reply}/events")).status_code == 200


async def test_the_text_is_there_byte_for_byte_before_the_message_is_said(container):
    container.model.override(ScriptedModel([*map(Text, NASTY_TEXT), STOP]))
    async with served(container) as url, people(url, "ada") as [ada]:
        room, seen, stored = await ada.room(), Seen(), {}
        async with sending(ada.http, room, "hi") as events:
            async for event in events:
                seen.take(event)
                if event.event == "ai_message":
                    stored = (await ada.get(f"/rooms/{room}/messages")).json()["messages"][-1]
                    assert stored == event.json()
        assert seen.text == stored["content"] == NASTY_TEXT


async def test_a_client_that_leaves_stops_nothing(container):
    gate = Gate()
    container.model.override(ScriptedModel([Text("so far"), gate, Text(", and on"), STOP]))
    async with served(container) as url, people(url, "ada") as [ada]:
        room, seen = await ada.room(), Seen()
        async with sending(ada.http, room, "hi") as events:
            async for event in events:
                seen.take(event)
                if event.event == "delta":
                    break
        gate.open()
        reply = seen.data("reply")["id"]
        await resumed(ada.http, reply, seen)
        assert seen.names == ["user_message", "reply", "delta", "ai_message", "end"]
        assert seen.text == "so far, and on"


async def test_failures_are_told_in_the_stream(memory):
    memory.model.override(ScriptedModel([Text("half"), RuntimeError("a bug")]))
    async with served(memory) as url, people(url, "ada") as [ada]:
        seen = await streamed(ada.http, await ada.room(), "hi")
        assert seen.names[-2:] == ["failed", "end"]
        assert seen.text == ""
        assert seen.data("failed")["error"]["code"] == "internal-error"


Pair = tuple[Container, Container]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request, sqlite_url) -> str:
    return sqlite_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(params=["without Redis", pytest.param("with Redis", marks=pytest.mark.redis)])
def processes(request, database_url) -> Pair:
    """Two services on one database. With Redis, each may make what the other was asked."""
    more: dict[str, object] = (
        {"redis_url": request.getfixturevalue("redis_url")} if request.param == "with Redis" else {}
    )
    first, second = (build_container(settings(database_url, rate_limits="off", **more)) for _ in range(2))
    for container in (first, second):
        line = container.line()
        if line is not None:
            line._worker_heard = -math.inf  # nobody works: replies are made here, at once
    return first, second


def answering(processes: Pair, script: Script) -> None:
    for container in processes:
        container.model.override(ScriptedModel(script))


async def test_an_answer_can_be_followed_on_another_process(processes):
    gates = [Gate() for _ in range(6)]
    words = [f"word-{number} " for number in range(6)]
    steps = [step for pair in zip(map(Text, words), gates, strict=True) for step in pair]
    answering(processes, [*steps, STOP])
    async with served(processes[0]) as url, served(processes[1]) as other, people(url, "ada") as [ada]:
        there = httpx.AsyncClient(base_url=other, headers=ada.http.headers, timeout=30)
        room, here, watching, reply = await ada.room(), Seen(), Seen(), ""
        async with there, sending(ada.http, room, "hi") as events:
            async for event in events:
                here.take(event)
                if event.event == "delta" and not watching.events:
                    # One event at a time, each over a connection of its own.
                    reply = here.data("reply")["id"]
                    for number, gate in enumerate(gates):
                        while watching.text != "".join(words[: number + 1]):
                            await resumed(there, reply, watching, most=1)
                        gate.open()
            await resumed(there, reply, watching)
        assert watching.ended
        assert watching.text == here.text == "".join(words)
        assert [event.id for event in watching.events] == [event.id for event in here.events if event.id]


async def test_after_the_end_every_process_tells_the_same(processes):
    answering(processes, answer("what ", "was ", "said"))
    async with served(processes[0]) as url, served(processes[1]) as other, people(url, "ada") as [ada]:
        seen = await streamed(ada.http, await ada.room(), "hi")
        there = httpx.AsyncClient(base_url=other, headers=ada.http.headers, timeout=30)
        async with there:
            again = await resumed(there, seen.data("reply")["id"])
        assert [(event.event, event.id) for event in again.events] == [
            (event.event, event.id) for event in seen.events[1:]
        ]
        assert again.text == seen.text


async def test_a_storm_of_cuts_loses_nothing(processes):
    answers, cuts = 20, 5
    rng = random.Random(7)
    answering(processes, lambda asked: [*(Text(f"{asked.turns[-1].parts[-1]}:{n} ") for n in range(300)), STOP])
    async with served(processes[0]) as url, served(processes[1]) as other, people(url, "ada") as [ada]:
        clients = [httpx.AsyncClient(base_url=base, headers=ada.http.headers, timeout=60) for base in (url, other)]
        room = await ada.room()

        async def view(number: int) -> None:
            sent = await ada.send(room, f"q{number}", headers={"Prefer": "respond-async"})
            reply = sent.json()["data"]["reply"]["id"]
            seen = Seen()
            for _ in range(cuts):
                await resumed(rng.choice(clients), reply, seen, most=rng.randint(1, 4))
            while not seen.ended:
                await resumed(rng.choice(clients), reply, seen)
            stored = (await ada.get(f"/replies/{reply}")).json()["message"]["content"]
            assert seen.text == stored
            assert seen.text.count(" ") == 300

        await asyncio.gather(*(view(number) for number in range(answers)))
        for client in clients:
            await client.aclose()


async def test_a_stream_ends_early_and_politely_when_the_service_drains(memory):
    gate = Gate()
    memory.model.override(ScriptedModel([Text("so far"), gate, STOP]))
    async with served(memory) as url, people(url, "ada") as [ada]:
        seen = Seen()
        async with sending(ada.http, await ada.room(), "hi") as events:
            async for event in events:
                seen.take(event)
                memory.draining().since = -100.0
        assert seen.names == ["user_message", "reply", "delta"]
        gate.open()

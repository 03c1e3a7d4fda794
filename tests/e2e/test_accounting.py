"""What an answer was made from and what it took, over HTTP; and the refusals that bound both."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from chat_core.ports.language_model import Usage
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import Container, build_container, memory_container
from entrypoints.settings import Settings
from tests.e2e.conftest import settings
from tests.e2e.service import people, served


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request, sqlite_url) -> str:
    return sqlite_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")


async def test_an_answer_tells_what_it_was_made_from(container: Container):
    async with served(container) as url, people(url, "ada", "eve") as [ada, eve]:
        room = await ada.room(visibility="private")
        first = (await ada.send(room, "One.")).json()["data"]["messages"]
        second = (await ada.send(room, "Two.")).json()["data"]["messages"]
        path = f"/messages/{second['ai_message']['id']}/context"
        context = (await ada.get(path)).json()
        assert context["message_ids"] == [
            first["user_message"]["id"],
            first["ai_message"]["id"],
            second["user_message"]["id"],
        ]
        assert (context["summary"], context["model_used"]) == (None, "echo:echo")
        [attempt] = context["attempts"]
        assert (attempt["provider"], attempt["model"], attempt["outcome"]) == ("echo", "echo", "stop")
        closed = await eve.get(path)
        nowhere = await ada.get("/messages/01a2052a-0000-7000-8000-000000000000/context")
        assert (closed.status_code, nowhere.status_code) == (404, 404)
        assert closed.json()["type"] == nowhere.json()["type"]
        assert (await ada.get(f"/messages/{first['user_message']['id']}/context")).status_code == 404


async def test_usage_is_ones_own(container: Container):
    container.model.override(ScriptedModel(answer("Hello.", usage=Usage(input_tokens=30, output_tokens=4))))
    async with served(container) as url, people(url, "ada", "eve") as [ada, eve]:
        room = await ada.room()
        await ada.send(room, "One.")
        usage = (await ada.get("/usage")).json()
        today = datetime.now(UTC).date()
        assert usage == {
            "days": [
                {
                    "date": today.isoformat(),
                    "room_id": room,
                    "input_tokens": 30,
                    "output_tokens": 4,
                    "wasted_tokens": 0,
                }
            ],
            "limit": None,
            "used_today": 34,
            "resets_at": f"{today + timedelta(days=1)}T00:00:00Z",
        }
        assert (await eve.get("/usage")).json()["days"] == []
        del eve.http.headers["Authorization"]
        assert (await eve.get("/usage")).status_code == 401


async def test_who_has_used_up_their_tokens_is_told_what_is_left_and_when_it_resets():
    model = ScriptedModel(answer("Hello.", usage=Usage(input_tokens=900, output_tokens=100)))
    container = memory_container(Settings(daily_token_limit=2000), model=model)
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        assert (await ada.send(room, "One.")).status_code == 201
        refused = await ada.send(room, "Two.", "two")
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:chat-api:problem:quota-exceeded"
        assert "1000 of 2000 tokens are left" in refused.json()["detail"]
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert (await ada.get(f"/rooms/{room}")).json()["message_count"] == 2


async def test_of_1000_sends_of_one_person_no_more_than_eight_are_being_answered(database_url):
    gate = Gate()
    container = build_container(settings(database_url))
    container.model.override(ScriptedModel([gate, *answer("At last.")]))
    async with served(container) as url, people(url, "ada") as [ada]:
        rooms = [await ada.room() for _ in range(5)]
        limit = asyncio.Semaphore(64)

        async def send(number: int) -> int:
            async with limit:
                return (
                    await ada.send(rooms[number % 5], f"text {number}", headers={"Prefer": "respond-async"})
                ).status_code

        answers = await asyncio.gather(*(send(number) for number in range(1000)))
        assert (answers.count(202), answers.count(429)) == (8, 992)
        counts = [(await ada.get(f"/rooms/{room}")).json()["message_count"] for room in rooms]
        assert sum(counts) == 8
        gate.open()


async def test_a_long_talk_is_summarised_and_goes_on_from_there(database_url):
    async with FakeProvider() as provider:
        container = build_container(
            settings(
                database_url,
                llm="gemini:fake",
                context_messages=6,
                environ={"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": provider.url},
            )
        )
        async with served(container) as url, people(url, "ada") as [ada]:
            room = await ada.room()
            for number in range(5):
                await ada.send(room, f"text {number}")
            async with asyncio.timeout(20):
                while True:
                    last = (await ada.send(room, "And now?")).json()["data"]["messages"]["ai_message"]
                    context = (await ada.get(f"/messages/{last['id']}/context")).json()
                    if context["summary"] is not None:
                        break
        assert context["summary"]["text"]
        assert len(context["message_ids"]) <= 6
        assert context["model_asked"] == context["model_used"] == "gemini:fake"

"""Sends under pressure: repeated at once, beside a slow model, stopped, tried again."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from chat_core.domain.ids import ReplyId
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import build_container, memory_container
from tests.e2e.conftest import settings
from tests.e2e.service import people, served


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request, sqlite_url) -> str:
    return sqlite_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")


async def test_of_200_sends_with_20_keys_20_are_stored_and_answered_once(database_url):
    async with FakeProvider() as provider:
        container = build_container(
            settings(
                database_url,
                llm="gemini:fake",
                rate_limits="off",
                environ={"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": provider.url},
            )
        )
        async with served(container) as url, people(url, "ada") as [ada]:
            room = await ada.room()
            sends = [ada.send(room, f"text {key}", f"key-{key}") for _ in range(10) for key in range(20)]
            answers = await asyncio.gather(*sends)
            assert Counter(answer.status_code for answer in answers) == {201: 20, 200: 180}
            pairs = {
                (data["messages"]["user_message"]["id"], data["messages"]["ai_message"]["id"], data["reply"]["id"])
                for data in (answer.json()["data"] for answer in answers)
            }
            assert len(pairs) == 20
            history = (await ada.get(f"/rooms/{room}/messages?limit=200")).json()["messages"]
            assert [message["seq"] for message in history] == list(range(1, 41))
            assert Counter(message["message_type"] for message in history) == {"user": 20, "ai": 20}
            assert len(list(provider.ledger)) == 20


async def test_no_connection_is_held_while_a_model_is_asked(database_url):
    gate = Gate()
    container = build_container(settings(database_url, database_pool_size=1))
    container.model.override(ScriptedModel([gate, *answer("at last")]))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        waiting = asyncio.create_task(ada.send(room, "slow"))
        await gate.reached()
        # The pool has one connection: each of these needs it, to read and to write.
        assert (await ada.get(f"/rooms/{room}")).json()["message_count"] == 1
        assert (await ada.patch(f"/rooms/{room}", {"name": "Still here"})).status_code == 200
        assert not waiting.done()
        gate.open()
        sent = await waiting
        assert sent.json()["data"]["messages"]["ai_message"]["content"] == "at last"


async def test_an_answer_that_takes_longer_than_the_wait_is_a_202_and_comes_later():
    gate = Gate()
    container = memory_container(model=ScriptedModel([gate, *answer("late")]))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = await ada.send(room, "slow", "k1", headers={"Prefer": "wait=0"})
        assert sent.status_code == 202
        data = sent.json()["data"]
        assert data["messages"]["ai_message"] is None
        assert data["reply"]["status"] in ("queued", "running")
        assert sent.headers["Location"] == f"/replies/{data['reply']['id']}"
        asked_again = asyncio.create_task(ada.send(room, "slow", "k1"))
        await gate.reached()
        gate.open()
        again = await asked_again
        assert again.status_code == 200
        assert again.json()["data"]["messages"]["ai_message"]["content"] == "late"


async def test_an_async_send_is_polled(memory):
    async with served(memory) as url, people(url, "ada", "eve") as [ada, eve]:
        room = await ada.room(visibility="private")
        sent = await ada.send(room, "later", headers={"Prefer": "respond-async"})
        assert sent.status_code == 202
        assert sent.json()["data"]["reply"]["status"] == "queued"
        where = sent.headers["Location"]
        while (reply := (await ada.get(where)).json())["status"] in ("queued", "running"):  # noqa: ASYNC110 - as a client polls
            await asyncio.sleep(0)
        assert (reply["status"], reply["message"]["content"]) == ("complete", "(echo, no AI) You said: later")
        assert (await eve.get(where)).status_code == 404
        assert (await eve.post(f"{where}/stop")).status_code == 404
        assert (await eve.post(f"{where}/retry")).status_code == 404
        assert (await ada.get("/replies/nothing")).status_code == 404


async def test_a_reply_is_stopped_with_the_text_that_there_is():
    gate = Gate()
    model = ScriptedModel([*answer("one two")[:-1], gate, *answer("three")])
    async with served(memory_container(model=model)) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = await ada.send(room, "count", headers={"Prefer": "respond-async"})
        await gate.reached()
        where = sent.headers["Location"]
        stopped = await ada.post(f"{where}/stop")
        assert stopped.status_code == 200
        assert (stopped.json()["status"], stopped.json()["finish_reason"]) == ("incomplete", "stopped")
        assert stopped.json()["message"]["content"].startswith("one")
        assert (await ada.post(f"{where}/stop")).json() == stopped.json()
        assert model.open_streams == 0
        assert (await ada.post(f"{where}/retry")).status_code == 409


async def test_a_reply_that_is_stopped_before_its_first_word_is_cancelled_and_can_be_tried_again():
    gate = Gate()
    model = ScriptedModel([gate, *answer("never")], answer("second try"))
    async with served(memory_container(model=model)) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = await ada.send(room, "hello", "k1", headers={"Prefer": "respond-async"})
        await gate.reached()
        where = sent.headers["Location"]
        assert (await ada.post(f"{where}/retry")).status_code == 409
        stopped = (await ada.post(f"{where}/stop")).json()
        assert (stopped["status"], stopped["message"]) == ("cancelled", None)
        retried = await ada.post(f"{where}/retry")
        assert retried.status_code == 202
        assert retried.json()["id"] != stopped["id"]
        repeat = (await ada.send(room, "hello", "k1")).json()["data"]
        assert repeat["reply"]["id"] == retried.json()["id"]
        assert repeat["messages"]["ai_message"]["content"] == "second try"
        assert (await ada.get(where)).json()["status"] == "cancelled"


async def test_when_the_ai_cannot_answer_the_message_is_stored_all_the_same():
    async with FakeProvider() as provider:
        environ = {"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": provider.url}
        container = memory_container(settings("", llm="gemini:fake", environ=environ))
        async with served(container) as url, people(url, "ada") as [ada]:
            room = await ada.room()
            for prompt, status, code in (
                ("[[garbage]]", "failed", "provider-bad-response"),
                ("[[empty]]", "failed", "empty-answer"),
                ("[[blocked]]", "blocked", "blocked"),
                ("[[403]]", "failed", "provider-refused"),
            ):
                sent = await ada.send(room, prompt)
                assert sent.status_code == 201, prompt
                data = sent.json()["data"]
                assert (data["reply"]["status"], data["reply"]["error"]["code"]) == (status, code), prompt
                apology = data["messages"]["ai_message"]
                assert (apology["id"], apology["status"], apology["username"]) == (None, "failed", "AI Assistant")
            history = (await ada.get(f"/rooms/{room}/messages")).json()["messages"]
            assert [message["message_type"] for message in history] == ["user"] * 4


async def test_a_busy_room_may_refuse_and_then_stores_nothing():
    gate = Gate()
    model = ScriptedModel([gate, *answer("done")], answer("next"))
    async with served(memory_container(model=model)) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"busy": "reject"}})
        first = asyncio.create_task(ada.send(room, "first"))
        await gate.reached()
        refused = await ada.send(room, "second")
        assert refused.status_code == 409
        assert refused.json()["type"].endswith("room-busy")
        assert (await ada.get(f"/rooms/{room}")).json()["message_count"] == 1
        gate.open()
        assert (await first).status_code == 201
        assert (await ada.send(room, "second")).status_code == 201


async def test_a_model_that_keeps_failing_is_not_asked_for_a_while_and_readiness_says_so():
    async with FakeProvider() as provider:
        environ = {"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": provider.url}
        container = memory_container(settings("", llm="gemini:fake", environ=environ))
        async with served(container) as url, people(url, "ada") as [ada]:
            room = await ada.room()
            for _ in range(5):
                await ada.send(room, "[[garbage]]")
            assert len(provider.ledger) == 5
            sent = await ada.send(room, "hello")
            reply = sent.json()["data"]["reply"]
            assert (sent.status_code, reply["status"], reply["error"]["code"]) == (
                201,
                "failed",
                "provider-unavailable",
            )
            assert len(provider.ledger) == 5
            async with container.uow()() as tx:
                assert list(await tx.replies.attempts(ReplyId(UUID(reply["id"])))) == []
            ready = await ada.get("/health/ready")
            assert ready.status_code == 200
            assert "gemini:fake (circuit open)" in ready.text

"""The fake provider does what its markers say, and writes down what it was asked."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chat_core.testing.fake_provider import FakeProvider

STREAM = "/v1beta/models/m:streamGenerateContent?alt=sse"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(provider.url, headers={"x-goog-api-key": "k-secret"}) as client:
        yield client


def gemini(prompt: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "who"}, {"text": prompt}]}]}


def openai(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


def events(body: str) -> list[Any]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


async def test_the_default_answer_holds_the_requests_number_and_the_prompt(
    client: aiohttp.ClientSession,
) -> None:
    for number in (1, 2):
        async with client.post(STREAM, json=gemini("hello")) as response:
            found = events(await response.text())
        texts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in found]
        assert "".join(texts) == f"Answer {number} to: hello"
        assert found[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_failures_are_counted_for_each_prompt(client: aiohttp.ClientSession) -> None:
    async def statuses(prompt: str) -> list[int]:
        found: list[int] = []
        for _ in range(3):
            async with client.post(STREAM, json=gemini(prompt)) as response:
                found.append(response.status)
        return found

    assert await statuses("a [[429:2]]") == [429, 429, 200]
    assert await statuses("b [[429:1]]") == [429, 200, 200]
    assert await statuses("[[503]]") == [503, 503, 503]


async def test_the_wish_to_wait_is_sent(client: aiohttp.ClientSession) -> None:
    async with client.post(STREAM, json=gemini("[[429:1:7]]")) as response:
        assert response.headers["retry-after"] == "7"
    async with client.post(STREAM, json=gemini("[[429:1:7:body]]")) as response:
        assert (await response.json())["error"]["details"][0]["retryDelay"] == "7s"


async def test_it_speaks_openai_too(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    headers = {"authorization": "Bearer k-secret"}
    path = "/v1/chat/completions"
    async with client.post(path, json=openai("[[say:one two]]", stream=True), headers=headers) as response:
        body = await response.text()
    found = events(body)
    assert [choice["delta"].get("content") for event in found for choice in event["choices"]] == [
        "one ",
        "two",
        None,
    ]
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 2}
    assert body.endswith("data: [DONE]\n\n")
    async with client.post(path, json=openai("[[length]][[say:one]]"), headers=headers) as response:
        choice = (await response.json())["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one", "length")
    assert [entry.model for entry in provider.ledger] == ["m", "m"]


async def test_it_speaks_anthropic_too(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    headers = {"x-api-key": "k-secret", "anthropic-version": "2023-06-01"}
    path = "/v1/messages"
    async with client.post(path, json=openai("[[think:1]][[say:one two]]", stream=True), headers=headers) as response:
        body = await response.text()
    found = events(body)
    assert [line[7:] for line in body.splitlines() if line.startswith("event: ")] == [event["type"] for event in found]
    assert [event["type"].removeprefix("content_block_") for event in found] == [
        *("message_start", "ping"),
        *("start", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("message_delta", "message_stop"),
    ]
    assert [event["delta"]["text"] for event in found if event.get("delta", {}).get("text")] == ["one ", "two"]
    assert found[0]["message"]["usage"]["input_tokens"] == 7
    assert (found[-2]["delta"]["stop_reason"], found[-2]["usage"]) == ("end_turn", {"output_tokens": 7})
    async with client.post(path, json=openai("[[529]]", stream=True), headers=headers) as response:
        assert (await response.json())["error"]["type"] == "overloaded_error"
    async with client.get("/v1/models/m", headers=headers) as response:
        assert (await response.json())["type"] == "model"
    assert [entry.model for entry in provider.ledger] == ["m", "m", "m"]


async def test_it_answers_whole_and_counts_and_describes(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/models/m:generateContent", json=gemini("[[say:all]]")) as response:
        assert (await response.json())["candidates"][0]["content"]["parts"] == [{"text": "all"}]
    async with client.post("/v1beta/models/m:countTokens", json=gemini("12345678")) as response:
        assert await response.json() == {"totalTokens": 3}
    async with client.get("/v1beta/models/m") as response:
        assert await response.json() == {"name": "models/m"}
    async with client.get("/v1beta/models/retired-m") as response:
        assert response.status == 404
    async with client.get("/elsewhere") as response:
        assert response.status == 404


async def test_without_a_good_key_nothing_is_answered(provider: FakeProvider) -> None:
    async with aiohttp.ClientSession(provider.url) as client:
        async with client.post(STREAM, json=gemini("hi")) as response:
            assert response.status == 403
        async with client.post(STREAM, json=gemini("hi"), headers={"x-goog-api-key": "invalid"}) as response:
            assert response.status == 400


async def test_the_ledger_tells_how_each_request_ended(client: aiohttp.ClientSession, provider: FakeProvider) -> None:
    for prompt in ("hello", "[[cut@2]]", "[[503]]"):
        async with client.post(STREAM, json=gemini(prompt)) as response:
            try:
                await response.read()
            except aiohttp.ClientPayloadError:
                assert prompt == "[[cut@2]]"
    hanging = asyncio.create_task(client.post(STREAM, json=gemini("[[hang]]")).__aenter__())
    await provider.ledger.wait_for_request(4)
    hanging.cancel()
    await provider.ledger.wait(requests=4)
    assert [entry.answered for entry in provider.ledger] == ["complete", "cut", "503", "client-closed"]
    assert [entry.prompt for entry in provider.ledger] == ["hello", "[[cut@2]]", "[[503]]", "[[hang]]"]
    assert all(entry.has_key for entry in provider.ledger)
    assert [entry.chunks for entry in provider.ledger] == [4, 2, 0, 0]


async def test_the_ledger_can_be_read_and_emptied_and_holds_no_key(client: aiohttp.ClientSession) -> None:
    async with client.post(STREAM, json=gemini("hello")) as response:
        await response.read()
    async with client.get("/ledger") as response:
        text = await response.text()
    assert json.loads(text)["prompt"] == "hello"
    assert "k-secret" not in text
    async with client.delete("/ledger"):
        pass
    async with client.get("/ledger") as response:
        assert await response.text() == ""


async def test_it_runs_as_a_process(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_core.testing.fake_provider", "--port", "0", "--ledger", str(ledger)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[-1]
    async with (
        aiohttp.ClientSession(url, headers={"x-goog-api-key": "k"}) as client,
        client.post(STREAM, json=gemini("hello")) as response,
    ):
        await response.read()
    process.terminate()
    assert await process.wait() == 0
    assert json.loads(ledger.read_text())["answered"] == "complete"

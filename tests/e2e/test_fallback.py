"""An outage of one provider is not an outage of the chat."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from httpx_sse import aconnect_sse

from chat_core.testing.fake_provider import FakeProvider
from entrypoints.container import build_container
from tests.e2e.conftest import settings
from tests.e2e.service import people, served

#: What the first provider does, in turn.
FAULTS = ("[[hang]]", "[[cut@2]]", "[[429]]", "[[500]]", "[[hang@2]]", "[[error@1]]", "[[garbage@1:half]]")


def always_down(number: int) -> str:
    return FAULTS[number % len(FAULTS)]


def flaky(number: int) -> str:
    """Two of each eight that run side by side: in whatever order these end, never five fail in a row, and its circuit
    stays closed."""
    return FAULTS[number // 4 % len(FAULTS)] if number % 4 == 0 else ""


@pytest.mark.parametrize("marks", [always_down, flaky])
async def test_a_chain_whose_first_provider_fails_in_turn_answers_every_one_of_200_sends(
    sqlite_url, marks: Callable[[int], str]
):
    async with FakeProvider(marks=marks) as first, FakeProvider() as second:
        container = build_container(
            settings(
                sqlite_url,
                llm="openai:first,gemini:second,echo:",
                # Longer than a good answer takes on a machine that is busy.
                model_first_part=1.0,
                model_silence=1.0,
                rate_limits="off",
                summaries=False,
                environ={
                    "OPENAI_API_KEY": "key",
                    "OPENAI_BASE_URL": f"{first.url}/v1",
                    "GEMINI_API_KEY": "key",
                    "GEMINI_BASE_URL": second.url,
                },
            )
        )
        async with served(container) as url, people(url, "ada") as [ada]:
            rooms = [await ada.room() for _ in range(8)]
            answers: list[tuple[str, str]] = []
            resets = 0

            async def ask(number: int) -> None:
                """Follows the stream, and puts the text together as a client would."""
                nonlocal resets
                text, message, name = "", "", ""
                send = {"content": f"question {number}"}
                path = f"/chat/{rooms[number % 8]}"
                async with aconnect_sse(ada.http, "POST", path, json=send) as source:
                    async for event in source.aiter_sse():
                        if event.event == "delta":
                            text += event.json()["text"]
                        elif event.event == "reset":
                            text, resets = "", resets + 1
                        elif event.event == "ai_message":
                            message = event.json()["content"]
                        elif event.event == "end":
                            name = event.json()["provider"]
                assert text == message, "an answer holds what its client was told to forget, or lacks what it was told"
                answers.append((name, message))

            for begin in range(0, 200, 8):
                await asyncio.gather(*(ask(number) for number in range(begin, begin + 8)))
            assert len(answers) == 200
            # No answer holds what one provider began and the other one ended.
            assert all(text.count("Answer ") == 1 for _, text in answers)
            assert resets > 0
            used = Counter(name for name, _ in answers)
            asked = len(list(first.ledger))
            if marks is flaky:
                assert asked == 200
                assert used == {"openai": 150, "gemini": 50}
            else:
                # Its circuit opened: it was not asked for each of them.
                assert 5 <= asked < 50
                assert used == {"gemini": 200}


async def test_which_model_answered_is_told(sqlite_url):
    async with FakeProvider(marks=lambda number: "[[500]]") as down:
        container = build_container(
            settings(
                sqlite_url,
                llm="openai:first,echo:",
                environ={"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"{down.url}/v1"},
            )
        )
        async with served(container) as url, people(url, "ada") as [ada]:
            room = await ada.room()
            data = (await ada.send(room, "Hello?")).json()["data"]
            assert (data["reply"]["provider"], data["reply"]["attempts"]) == ("echo", 2)
            context = (await ada.get(f"/messages/{data['messages']['ai_message']['id']}/context")).json()
            assert (context["model_asked"], context["model_used"]) == ("openai:first", "echo:echo")
            assert [(made["provider"], made["outcome"]) for made in context["attempts"]] == [
                ("openai", "provider-unavailable"),
                ("echo", "stop"),
            ]

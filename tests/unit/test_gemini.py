"""Gemini's wire format, and what becomes of everything that can go wrong on the wire."""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from adapters.llm import failures, gemini, gemini_format, http_model, sse
from adapters.llm.gemini import Gemini
from chat_core.errors import ModelBadAnswer, ModelInterrupted, ModelRefused, ModelUnavailable, PromptTooLong
from chat_core.ports.language_model import (
    Conversation,
    FinishReason,
    ModelCheck,
    Text,
    Thinking,
    Turn,
    TurnRole,
    Usage,
)
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.fake_provider.script import NASTY_TEXT
from chat_core.testing.reading import asking, end_of, read, streaming, text_of
from tests.raw_http import answering, event_answer, whole, whole_event_answer

KEY = "AIza-secret-key"
MODEL = "gemini-3.8-flash"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def model(provider: FakeProvider) -> AsyncIterator[Gemini]:
    async with talking_to(provider.url) as model:
        yield model


@asynccontextmanager
async def talking_to(url: str, name: str = MODEL, **environ: str) -> AsyncIterator[Gemini]:
    model = gemini.create(name, {"GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": url, **environ})
    try:
        yield model
    finally:
        await model.aclose()


def error_answer(status: int, message: str, headers: str = "") -> bytes:
    body = json.dumps({"error": {"code": status, "message": message, "status": "S"}}).encode()
    return whole(status, body, headers)


def body_of(conversation: Conversation, model: str = MODEL, thinking: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(gemini_format.request(conversation, model, thinking))
    return body


def turn(role: TurnRole, *parts: str) -> Turn:
    return Turn(role=role, parts=parts)


class TestRequest:
    def test_turns_keep_their_roles_and_parts(self) -> None:
        turns = (
            turn(TurnRole.USER, "Ann:", "one"),
            turn(TurnRole.USER, "Bob:", "two"),
            turn(TurnRole.MODEL, "three"),
            turn(TurnRole.USER, "Ann:", "four"),
        )
        body = body_of(Conversation(turns=turns, system="Be brief."))
        assert body["contents"] == [
            {"role": "user", "parts": [{"text": "Ann:"}, {"text": "one"}]},
            {"role": "user", "parts": [{"text": "Bob:"}, {"text": "two"}]},
            {"role": "model", "parts": [{"text": "three"}]},
            {"role": "user", "parts": [{"text": "Ann:"}, {"text": "four"}]},
        ]
        assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}

    def test_answers_without_their_question_are_left_out(self) -> None:
        turns = (turn(TurnRole.MODEL, "lost"), turn(TurnRole.USER, "", "hi"))
        assert body_of(Conversation(turns=turns))["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]

    @pytest.mark.parametrize("turns", [(), (turn(TurnRole.MODEL, "x"),), (turn(TurnRole.USER, "\ud800"),)])
    def test_what_gemini_would_not_take_is_refused_before_it_is_sent(self, turns: tuple[Turn, ...]) -> None:
        with pytest.raises(ModelRefused):
            body_of(Conversation(turns=turns))

    @pytest.mark.parametrize(
        ("name", "taken"),
        [
            ("gemini-2.5-flash", True),
            ("gemini-3.5-flash", True),
            ("gemini-3.5-flash-lite", False),
            ("gemini-3.8-flash", False),
            ("gemini-4-pro", False),
            ("gemini-flash-latest", False),
            ("gemma-3-27b-it", True),
        ],
    )
    def test_the_temperature_goes_to_models_that_take_one(self, name: str, taken: bool) -> None:
        body = body_of(Conversation(turns=asking("hi").turns, temperature=0.3, max_output_tokens=64), name)
        assert body["generationConfig"].get("temperature") == (0.3 if taken else None)
        assert body["generationConfig"]["maxOutputTokens"] == 64

    def test_thoughts_are_asked_for_as_signs_of_life(self) -> None:
        assert body_of(asking("hi"))["generationConfig"] == {"thinkingConfig": {"includeThoughts": True}}
        config = body_of(asking("hi"), thinking="low")["generationConfig"]
        assert config == {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}}
        assert "generationConfig" not in body_of(asking("hi"), "gemini-2.0-flash")

    async def test_the_key_is_in_a_header_and_nowhere_else(self, provider: FakeProvider, model: Gemini) -> None:
        await read(model, "hello")
        entry = provider.ledger[0]
        assert entry.path == f"/v1beta/models/{MODEL}:streamGenerateContent"
        assert entry.has_key and not entry.key_in_url
        assert KEY not in json.dumps(entry.body)

    async def test_proxies_of_the_environment_are_not_used(
        self, model: Gemini, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        _, error = await read(model, "hello")
        assert error is None


class TestAnswer:
    async def test_thoughts_count_as_output(self, model: Gemini) -> None:
        parts, _ = await read(model, "[[think:2]][[say:one two]]")
        assert parts[:2] == [Thinking(), Thinking()]
        assert [part.text for part in parts if isinstance(part, Text)] == ["one ", "two"]
        assert end_of(parts).usage == Usage(input_tokens=7, output_tokens=12)

    @pytest.mark.parametrize(
        ("word", "reason"),
        [
            ("STOP", FinishReason.STOP),
            ("MAX_TOKENS", FinishReason.LENGTH),
            ("SAFETY", FinishReason.BLOCKED),
            ("RECITATION", FinishReason.BLOCKED),
            ("LANGUAGE", FinishReason.BLOCKED),
            ("BLOCKLIST", FinishReason.BLOCKED),
            ("PROHIBITED_CONTENT", FinishReason.BLOCKED),
            ("SPII", FinishReason.BLOCKED),
            ("IMAGE_SAFETY", FinishReason.BLOCKED),
        ],
    )
    async def test_each_finish_reason_is_what_it_says(self, model: Gemini, word: str, reason: FinishReason) -> None:
        parts, error = await read(model, f"[[finish:{word}]]")
        assert error is None
        assert (end_of(parts).reason, end_of(parts).detail) == (reason, word)

    @pytest.mark.parametrize("word", ["OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
    async def test_a_model_that_stumbled_may_be_asked_again(self, model: Gemini, word: str) -> None:
        _, error = await read(model, f"[[finish:{word}]]")
        assert isinstance(error, ModelInterrupted)
        assert word in error.detail

    @pytest.mark.parametrize("word", ["MISSING_THOUGHT_SIGNATURE", "A_REASON_OF_THE_FUTURE", "stop"])
    async def test_an_unknown_finish_reason_is_no_end(self, model: Gemini, word: str) -> None:
        _, error = await read(model, f"[[finish:{word}]]")
        assert type(error) is ModelBadAnswer
        assert word in error.detail

    async def test_an_unspecified_finish_reason_is_none(self, model: Gemini) -> None:
        _, error = await read(model, "[[finish:FINISH_REASON_UNSPECIFIED]]")
        assert isinstance(error, ModelInterrupted)

    async def test_the_reason_for_a_blocked_prompt_is_told(self, model: Gemini) -> None:
        parts, _ = await read(model, "[[blocked]]")
        assert end_of(parts).detail == "prompt: SAFETY"

    async def test_what_a_failed_answer_cost_goes_with_its_error(self) -> None:
        text = {"content": {"parts": [{"text": "so"}]}}
        counts = {"promptTokenCount": 5, "candidatesTokenCount": 1, "thoughtsTokenCount": 2}
        raw = whole_event_answer({"candidates": [text], "usageMetadata": counts})
        async with answering(raw) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert isinstance(error, ModelInterrupted)
        assert error.usage == Usage(input_tokens=5, output_tokens=3)

    async def test_a_count_that_an_event_leaves_out_stands_as_it_was(self) -> None:
        counts: tuple[dict[str, int], ...]
        counts = ({"promptTokenCount": 7, "candidatesTokenCount": 3}, {"candidatesTokenCount": 4}, {})
        text = {"content": {"parts": [{"text": "so"}]}}
        raw = whole_event_answer(*({"candidates": [text], "usageMetadata": count} for count in counts))
        async with answering(raw) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert error is not None
        assert error.usage == Usage(input_tokens=7, output_tokens=4)

    @pytest.mark.parametrize("hold", [False, True])
    async def test_after_the_finish_reason_the_connection_does_not_matter(
        self, hold: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_model, "LINGER_SECONDS", 0.0)
        done = {"content": {"parts": [{"text": "all"}]}, "finishReason": "STOP"}
        async with answering(event_answer({"candidates": [done]}), hold=hold) as url, talking_to(url) as model:
            parts, error = await read(model, "hello")
        assert error is None
        assert text_of(parts) == "all"
        assert end_of(parts).reason is FinishReason.STOP

    async def test_an_endless_answer_is_given_up(self, provider: FakeProvider, model: Gemini) -> None:
        parts, error = await read(model, "[[huge]]")
        assert type(error) is ModelBadAnswer
        assert len(text_of(parts)) <= 400_000
        await provider.ledger.wait()
        assert provider.ledger[0].client_closed

    async def test_the_longest_answer_is_a_setting(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, MODEL_ANSWER_MAX="9") as model:
            assert text_of((await read(model, "[[say:123456789]]"))[0]) == "123456789"
            _, error = await read(model, "[[say:1234567890]]")
            assert error is not None and "MODEL_ANSWER_MAX" in error.detail

    async def test_a_line_without_an_end_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + b"x" * (2 << 20)
        async with answering(raw) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert type(error) is ModelBadAnswer


class TestFailures:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
    async def test_these_may_work_later(self, model: Gemini, status: int) -> None:
        _, error = await read(model, f"[[{status}]]")
        assert type(error) is ModelUnavailable
        assert error.retry_after is None
        assert f"gemini:{MODEL}: HTTP {status}" in error.detail

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422])
    async def test_these_will_not(self, model: Gemini, status: int) -> None:
        _, error = await read(model, f"[[{status}]]")
        assert isinstance(error, ModelRefused)
        assert not isinstance(error, PromptTooLong)

    @pytest.mark.parametrize("status", [404, 429, 503])
    async def test_where_the_model_may_be_retired_the_setting_is_named(self, model: Gemini, status: int) -> None:
        _, error = await read(model, f"[[{status}]]")
        assert error is not None and "LLM" in error.detail

    async def test_the_wish_to_wait_may_be_in_the_body(self, model: Gemini) -> None:
        _, error = await read(model, "[[429:1:3.5:body]]")
        assert isinstance(error, ModelUnavailable)
        assert error.retry_after == 3.5

    def test_the_wish_to_wait_may_be_a_date(self) -> None:
        later = failures.seconds_of(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
        assert later is not None and 90 < later <= 100
        assert failures.seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0

    @pytest.mark.parametrize("header", ["", "soon", "nan", "inf", "-"])
    def test_a_wish_that_is_none_is_ignored(self, header: str) -> None:
        assert failures.seconds_of(header) is None

    async def test_an_error_event_is_what_its_code_would_be(self, model: Gemini) -> None:
        assert isinstance((await read(model, "[[error@2:429]]"))[1], ModelUnavailable)
        assert isinstance((await read(model, "[[error@2:400]]"))[1], ModelRefused)

    async def test_no_server_is_unavailable(self) -> None:
        async with answering(b"") as url:
            pass
        async with talking_to(url) as model:
            _, error = await read(model, "hello")
        assert type(error) is ModelUnavailable

    async def test_a_connection_closed_without_an_answer_is_unavailable(self) -> None:
        async with answering(b"") as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert type(error) is ModelUnavailable

    async def test_what_is_no_http_is_a_bad_answer(self) -> None:
        async with answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert type(error) is ModelBadAnswer

    async def test_the_key_is_in_no_detail_and_no_log_line_is_broken(self) -> None:
        raw = error_answer(400, f"bad key {KEY}\r\nERROR forged line \u2028" + "x" * 5_000)
        async with answering(raw) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert error is not None
        assert KEY not in error.detail and KEY not in repr(error)
        assert "\n" not in error.detail and "\u2028" not in error.detail
        assert len(error.detail) < 500

    async def test_redirects_are_not_followed(self, provider: FakeProvider) -> None:
        raw = error_answer(307, "moved", f"location: {provider.url}/v1beta/models/x:streamGenerateContent\r\n")
        async with answering(raw) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert isinstance(error, ModelRefused)
        assert len(provider.ledger) == 0

    async def test_one_connection_serves_answers_in_turn(self) -> None:
        async with FakeProvider() as provider, talking_to(provider.url) as model:
            for _ in range(3):
                await read(model, "hello")
            assert len(provider._connections) == 1  # pyright: ignore[reportPrivateUsage]

    async def test_a_stream_that_is_left_is_closed(self, provider: FakeProvider, model: Gemini) -> None:
        stream = streaming(model, asking("[[slow:1]][[huge]]"))
        await anext(stream)
        await stream.aclose()
        await provider.ledger.wait()
        assert provider.ledger[0].client_closed


class TestCheck:
    async def test_a_model_that_is_offered_is_ok(self, model: Gemini, provider: FakeProvider) -> None:
        assert (await model.check()).check is ModelCheck.OK
        assert provider.ledger[0].method == "GET"

    async def test_a_retired_model_is_missing_and_the_setting_is_named(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, "gemini-retired") as model:
            health = await model.check()
        assert health.check is ModelCheck.MISSING
        assert "set LLM to another model" in health.detail

    async def test_a_bad_key_is_refused_and_the_variable_is_named(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, GEMINI_API_KEY="invalid") as model:
            health = await model.check()
        assert health.check is ModelCheck.REFUSED
        assert "GEMINI_API_KEY" in health.detail

    async def test_no_word_is_unreachable(self) -> None:
        async with answering(b"") as url, talking_to(url) as model:
            assert (await model.check()).check is ModelCheck.UNREACHABLE

    async def test_silence_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_model, "CHECK_SECONDS", 0.0)
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            async with talking_to(f"http://127.0.0.1:{deaf.getsockname()[1]}") as model:
                assert (await model.check()).check is ModelCheck.UNREACHABLE


class TestCreate:
    @pytest.mark.parametrize(
        ("variable", "environ"),
        [
            ("GEMINI_API_KEY", {}),
            ("GEMINI_API_KEY", {"GEMINI_API_KEY": " "}),
            ("GEMINI_API_KEY", {"GEMINI_API_KEY": "two\nlines"}),
            ("GEMINI_BASE_URL", {"GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": "localhost:80"}),
            ("GEMINI_THINKING", {"GEMINI_API_KEY": KEY, "GEMINI_THINKING": "much"}),
            ("MODEL_ANSWER_MAX", {"GEMINI_API_KEY": KEY, "MODEL_ANSWER_MAX": "-1"}),
        ],
    )
    def test_what_is_missing_or_wrong_is_named(self, variable: str, environ: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=variable):
            gemini.create(MODEL, environ)

    @pytest.mark.parametrize("name", ["", "../files", "a/b", "a:b", "a?b"])
    def test_a_name_that_would_change_the_address_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="LLM"):
            gemini.create(name, {"GEMINI_API_KEY": KEY})

    def test_thinking_levels_are_for_models_that_have_them(self) -> None:
        with pytest.raises(ValueError, match="GEMINI_THINKING"):
            gemini.create("gemini-2.5-flash", {"GEMINI_API_KEY": KEY, "GEMINI_THINKING": "low"})

    def test_an_echo_does_without_the_http_client(self) -> None:
        code = "import sys; from adapters.llm import echo, registry; assert 'aiohttp' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_are_the_same_however_the_bytes_come(size: int) -> None:
    text = json.dumps({"text": NASTY_TEXT}, ensure_ascii=False).encode()
    wire = b": comment\r\n\r\nevent: x\r\ndata: " + text + b"\r\n\r\ndata:a\ndata: b\n\n\nretry: 1\ndata: last"
    events = sse.Events(line_bytes=1_000, wire_bytes=10_000)
    found = [event for start in range(0, len(wire), size) for event in events.take(wire[start : start + size])]
    assert [*found, *events.end()] == [text, b"a\nb", b"last"]

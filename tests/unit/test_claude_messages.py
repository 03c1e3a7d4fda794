"""Anthropic's wire format, and what becomes of everything that can go wrong in it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.llm import claude_messages, claude_messages_format
from adapters.llm.claude_messages import ClaudeMessages
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
from chat_core.testing.reading import asking, end_of, read, text_of
from tests.raw_http import answering, whole, whole_event_answer

KEY = "sk-ant-secret-key"
MODEL = "claude-sonnet-5"
START = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
STOP = {"type": "message_stop"}


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def model(provider: FakeProvider) -> AsyncIterator[ClaudeMessages]:
    async with talking_to(provider.url) as model:
        yield model


@asynccontextmanager
async def talking_to(url: str, name: str = MODEL, **environ: str) -> AsyncIterator[ClaudeMessages]:
    model = claude_messages.create(name, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url, **environ})
    try:
        yield model
    finally:
        await model.aclose()


async def reading(*events: object) -> Any:
    """What is made of a stream of these events."""
    async with answering(whole_event_answer(*events)) as url, talking_to(url) as model:
        return await read(model, "hello")


def delta(kind: str, **more: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **more}}


def body_of(conversation: Conversation, model: str = MODEL) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(claude_messages_format.request(conversation, model, 1_000))
    return body


def texts(*parts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": part} for part in parts]


class TestRequest:
    def test_turns_keep_their_roles_and_parts_and_begin_with_a_user(self) -> None:
        turns = (
            Turn(role=TurnRole.MODEL, parts=("lost",)),
            Turn(role=TurnRole.USER, parts=("Ann:", "one")),
            Turn(role=TurnRole.USER, parts=("Bob:", "two")),
            Turn(role=TurnRole.MODEL, parts=("three",)),
            Turn(role=TurnRole.MODEL, parts=(" \n",)),
            Turn(role=TurnRole.USER, parts=("", "four")),
        )
        assert body_of(Conversation(turns=turns, system="Be brief.")) == {
            "model": MODEL,
            "max_tokens": 1_000,
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": texts("Ann:", "one")},
                {"role": "user", "content": texts("Bob:", "two")},
                {"role": "assistant", "content": texts("three")},
                {"role": "user", "content": texts("four")},
            ],
            "stream": True,
        }

    @pytest.mark.parametrize("turns", [(), (Turn(role=TurnRole.MODEL, parts=("x",)),)])
    def test_without_a_users_turn_nothing_is_sent(self, turns: tuple[Turn, ...]) -> None:
        with pytest.raises(ModelRefused):
            body_of(Conversation(turns=turns))

    def test_the_rooms_limit_goes_before_the_settings(self) -> None:
        assert body_of(Conversation(turns=asking("hi").turns, max_output_tokens=64))["max_tokens"] == 64

    @pytest.mark.parametrize(
        ("name", "taken"),
        [
            ("claude-3-haiku-20240307", True),
            ("claude-3-5-sonnet-20241022", True),
            ("claude-sonnet-4-20250514", True),
            ("claude-opus-4-1-20250805", True),
            ("claude-haiku-4-5", True),
            ("claude-opus-4-6", True),
            ("claude-opus-4-7", False),
            ("claude-opus-4-10", False),
            ("claude-sonnet-5", False),
            ("claude-sonnet-5-20260801", False),
            ("claude-opus-latest", False),
            ("kimi-k2", True),
        ],
    )
    def test_the_temperature_goes_to_models_that_take_one(self, name: str, taken: bool) -> None:
        body = body_of(Conversation(turns=asking("hi").turns, temperature=0.3), name)
        assert body.get("temperature") == (0.3 if taken else None)

    def test_no_temperature_is_higher_than_claude_takes(self) -> None:
        conversation = Conversation(turns=asking("hi").turns, temperature=2.0)
        assert body_of(conversation, "claude-haiku-4-5")["temperature"] == 1.0

    async def test_the_key_and_the_version_are_in_headers(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url + "/v1/", ANTHROPIC_VERSION="2026-10-21") as model:
            await read(model, "hello")
        entry = provider.ledger[0]
        assert entry.path == "/v1/messages"
        assert entry.has_key and KEY not in json.dumps(entry.body)
        assert entry.headers["anthropic-version"] == "2026-10-21"
        assert entry.body["max_tokens"] == claude_messages.MAX_TOKENS

    async def test_the_default_limit_is_a_setting(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, ANTHROPIC_MAX_TOKENS="99") as model:
            await read(model, "hello")
        assert provider.ledger[0].body["max_tokens"] == 99


class TestAnswer:
    @pytest.mark.parametrize(
        ("word", "reason"),
        [
            ("end_turn", FinishReason.STOP),
            ("stop_sequence", FinishReason.STOP),
            ("max_tokens", FinishReason.LENGTH),
            ("model_context_window_exceeded", FinishReason.LENGTH),
            ("refusal", FinishReason.BLOCKED),
        ],
    )
    async def test_each_stop_reason_is_what_it_says(
        self, model: ClaudeMessages, word: str, reason: FinishReason
    ) -> None:
        parts, error = await read(model, f"[[finish:{word}]]")
        assert error is None
        assert (end_of(parts).reason, end_of(parts).detail) == (reason, word)

    @pytest.mark.parametrize("word", ["tool_use", "pause_turn"])
    async def test_a_model_that_stumbled_may_be_asked_again(self, model: ClaudeMessages, word: str) -> None:
        _, error = await read(model, f"[[finish:{word}]]")
        assert isinstance(error, ModelInterrupted)
        assert word in error.detail

    async def test_an_unknown_stop_reason_is_no_end(self, model: ClaudeMessages) -> None:
        _, error = await read(model, "[[finish:a_reason_of_the_future]]")
        assert type(error) is ModelBadAnswer

    async def test_counts_come_in_two_places(self, model: ClaudeMessages) -> None:
        parts, _ = await read(model, "[[think:2]][[say:one two]]")
        assert text_of(parts) == "one two"
        assert end_of(parts).usage == Usage(input_tokens=7, output_tokens=12)

    async def test_what_came_from_a_cache_was_input_too(self) -> None:
        usage = {"input_tokens": 7, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300}
        parts, _ = await reading({"type": "message_start", "message": {"usage": usage}}, END)
        assert end_of(parts).usage == Usage(input_tokens=327, output_tokens=3)

    async def test_what_a_failed_answer_cost_goes_with_its_error(self) -> None:
        _, error = await reading(START, delta("text_delta", text="so"))
        assert isinstance(error, ModelInterrupted)
        # The one token of output that stands at its start is no count.
        assert error.usage == Usage(input_tokens=7)

    @pytest.mark.parametrize(
        "event",
        [
            START,
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_start", "content_block": {"type": "tool_use", "input": {}, "text": "no"}},
            delta("thinking_delta", thinking="hm"),
            delta("signature_delta", signature="EqQB"),
            delta("input_json_delta", partial_json="{"),
            delta("text_delta", text=""),
            {"type": "content_block_stop", "index": 0},
            {"type": "an_event_of_the_future", "delta": {"type": "other_delta", "text": "no"}},
        ],
    )
    async def test_what_is_no_text_is_a_sign_of_life(self, event: object) -> None:
        parts, error = await reading(event, END, STOP)
        assert error is None
        assert parts[:-1] == [Thinking()]

    async def test_text_may_begin_with_its_block(self) -> None:
        block = {"type": "content_block_start", "content_block": {"type": "text", "text": "all"}}
        parts, _ = await reading(block, END)
        assert parts[:-1] == [Text("all")]

    async def test_an_event_without_a_type_is_a_bad_answer(self) -> None:
        _, error = await reading(START, {"choices": []})
        assert type(error) is ModelBadAnswer


def error(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "kind", "message", "meant"),
        [
            (400, "invalid_request_error", "prompt is too long: 201 tokens > 200 maximum", PromptTooLong),
            (400, "invalid_request_error", "input length and `max_tokens` exceed context limit", PromptTooLong),
            (400, "invalid_request_error", "Your credit balance is too low", ModelRefused),
            (401, "authentication_error", "invalid x-api-key", ModelRefused),
            (402, "billing_error", "no", ModelRefused),
            (413, "request_too_large", "no", PromptTooLong),
            (429, "rate_limit_error", "no", ModelUnavailable),
            (500, "api_error", "no", ModelUnavailable),
            (529, "overloaded_error", "Overloaded", ModelUnavailable),
        ],
    )
    async def test_an_error_is_the_same_by_its_status_and_in_the_middle(
        self, status: int, kind: str, message: str, meant: type[Exception]
    ) -> None:
        raw = json.dumps(error(kind, message)).encode()
        async with answering(whole(status, raw)) as url, talking_to(url) as model:
            parts, raised = await read(model, "hello")
        assert not parts
        assert type(raised) is meant
        assert f"{kind} {message}" in raised.detail
        parts, raised = await reading(START, delta("text_delta", text="so"), error(kind, message))
        assert text_of(parts) == "so"
        assert type(raised) is meant

    async def test_the_wish_to_wait_is_in_a_header(self, model: ClaudeMessages) -> None:
        _, raised = await read(model, "[[529::9]]")
        assert isinstance(raised, ModelUnavailable)
        assert raised.retry_after == 9


class TestCheck:
    async def test_a_model_that_is_offered_is_ok(self, model: ClaudeMessages, provider: FakeProvider) -> None:
        assert (await model.check()).check is ModelCheck.OK
        assert provider.ledger[0].path == f"/v1/models/{MODEL}"

    async def test_a_retired_model_is_missing_and_the_setting_is_named(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, "claude-retired") as model:
            health = await model.check()
        assert health.check is ModelCheck.MISSING
        assert "set LLM to another model" in health.detail

    async def test_a_bad_key_is_refused_and_the_variable_is_named(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, ANTHROPIC_API_KEY="invalid") as model:
            health = await model.check()
        assert health.check is ModelCheck.REFUSED
        assert "ANTHROPIC_API_KEY" in health.detail


class TestCreate:
    @pytest.mark.parametrize(
        ("variable", "environ"),
        [
            ("ANTHROPIC_API_KEY", {"ANTHROPIC_API_KEY": ""}),
            ("ANTHROPIC_API_KEY", {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "https://api.anthropic.com/v1/"}),
            ("ANTHROPIC_API_KEY", {"ANTHROPIC_API_KEY": "two\nlines"}),
            ("ANTHROPIC_BASE_URL", {"ANTHROPIC_BASE_URL": "localhost:80"}),
            ("ANTHROPIC_VERSION", {"ANTHROPIC_VERSION": "latest"}),
            ("ANTHROPIC_MAX_TOKENS", {"ANTHROPIC_MAX_TOKENS": "0"}),
            ("ANTHROPIC_MAX_TOKENS", {"ANTHROPIC_MAX_TOKENS": "many"}),
            ("MODEL_ANSWER_MAX", {"MODEL_ANSWER_MAX": "-1"}),
        ],
    )
    def test_what_is_missing_or_wrong_is_named(self, variable: str, environ: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=variable):
            claude_messages.create(MODEL, {"ANTHROPIC_API_KEY": KEY, **environ})

    @pytest.mark.parametrize("name", ["", "../files", "a b"])
    def test_a_name_that_would_change_the_address_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="LLM"):
            claude_messages.create(name, {"ANTHROPIC_API_KEY": KEY})

    def test_a_server_of_ones_own_needs_no_key(self) -> None:
        claude_messages.create("any", {"ANTHROPIC_BASE_URL": "http://localhost:11434"})

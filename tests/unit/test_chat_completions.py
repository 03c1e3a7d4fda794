"""OpenAI's wire format, and what compatible servers make of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.llm import chat_completions, chat_completions_format, http_model
from adapters.llm.chat_completions import ChatCompletions
from adapters.llm.chat_completions_format import Dialect
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
from tests.raw_http import answering, event_answer, whole, whole_event_answer

KEY = "sk-secret-key"
MODEL = "gpt-5.2"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def model(provider: FakeProvider) -> AsyncIterator[ChatCompletions]:
    async with talking_to(provider.url) as model:
        yield model


@asynccontextmanager
async def talking_to(url: str, name: str = MODEL, **environ: str) -> AsyncIterator[ChatCompletions]:
    model = chat_completions.create(name, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1", **environ})
    try:
        yield model
    finally:
        await model.aclose()


async def reading(*events: object) -> Any:
    """What is made of a stream of these events."""
    async with answering(whole_event_answer(*events)) as url, talking_to(url) as model:
        return await read(model, "hello")


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


THOUGHT = chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}])


def body_of(conversation: Conversation, model: str = MODEL, **dialect: bool) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(chat_completions_format.request(conversation, model, Dialect(**dialect)))
    return body


class TestRequest:
    def test_turns_keep_their_roles_and_parts(self) -> None:
        turns = (
            Turn(role=TurnRole.MODEL, parts=("lost",)),
            Turn(role=TurnRole.USER, parts=("Ann:", "one")),
            Turn(role=TurnRole.USER, parts=("", "two")),
            Turn(role=TurnRole.MODEL, parts=("three",)),
            Turn(role=TurnRole.MODEL, parts=(" \n",)),
            Turn(role=TurnRole.USER, parts=("four",)),
        )
        assert body_of(Conversation(turns=turns, system="Be brief.")) == {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Ann:"}, {"type": "text", "text": "one"}]},
                {"role": "user", "content": "two"},
                {"role": "assistant", "content": "three"},
                {"role": "user", "content": "four"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @pytest.mark.parametrize(
        ("base_url", "limit", "asks_for_counts"),
        [
            ("https://api.openai.com/v1", "max_completion_tokens", True),
            ("https://eu.api.openai.com/v1", "max_completion_tokens", True),
            ("https://us.openai.azure.com/openai/v1", "max_completion_tokens", True),
            ("http://localhost:11434/v1", "max_tokens", True),
            ("https://api.groq.com/openai/v1", "max_tokens", True),
            ("https://api.openai.com.example.org/v1", "max_tokens", True),
            ("https://api.mistral.ai/v1", "max_tokens", False),
        ],
    )
    def test_each_server_is_asked_in_words_that_it_knows(
        self, base_url: str, limit: str, asks_for_counts: bool
    ) -> None:
        model = chat_completions.create("m", {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base_url})
        url, raw = model._request(Conversation(turns=asking("hi").turns, max_output_tokens=64))
        body = json.loads(raw)
        assert url == f"{base_url}/chat/completions"
        assert {name: body[name] for name in body if name.startswith("max")} == {limit: 64}
        assert ("stream_options" in body) is asks_for_counts

    @pytest.mark.parametrize(
        ("name", "taken"),
        [
            ("gpt-4o", True),
            ("gpt-4.1-mini", True),
            ("gpt-35-turbo", True),
            ("gpt-5-chat-latest", True),
            ("gpt-oss-120b", True),
            ("openai/gpt-4o", True),
            ("olmo-3", True),
            ("o3-mini", False),
            ("gpt-5", False),
            ("gpt-5.2", False),
            ("openai/gpt-5-mini", False),
            ("gpt-10", False),
        ],
    )
    def test_the_temperature_goes_to_models_that_take_one(self, name: str, taken: bool) -> None:
        body = body_of(Conversation(turns=asking("hi").turns, temperature=0.3), name)
        assert body.get("temperature") == (0.3 if taken else None)

    async def test_the_key_is_in_a_header_and_nowhere_else(
        self, provider: FakeProvider, model: ChatCompletions
    ) -> None:
        await read(model, "hello")
        assert provider.ledger[0].path == "/v1/chat/completions"
        assert provider.ledger[0].has_key
        assert KEY not in json.dumps(provider.ledger[0].body)

    async def test_without_a_key_none_is_sent(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, OPENAI_API_KEY="") as model:
            await read(model, "hello")
        assert not provider.ledger[0].has_key


class TestAnswer:
    @pytest.mark.parametrize(
        ("word", "reason"),
        [
            ("stop", FinishReason.STOP),
            ("eos", FinishReason.STOP),
            ("length", FinishReason.LENGTH),
            ("model_length", FinishReason.LENGTH),
            ("content_filter", FinishReason.BLOCKED),
        ],
    )
    async def test_each_finish_reason_is_what_it_says(
        self, model: ChatCompletions, word: str, reason: FinishReason
    ) -> None:
        parts, error = await read(model, f"[[finish:{word}]]")
        assert error is None
        assert (end_of(parts).reason, end_of(parts).detail) == (reason, word)

    @pytest.mark.parametrize("word", ["tool_calls", "function_call", "error", "abort", "insufficient_system_resource"])
    async def test_a_model_that_stumbled_may_be_asked_again(self, model: ChatCompletions, word: str) -> None:
        _, error = await read(model, f"[[finish:{word}]]")
        assert isinstance(error, ModelInterrupted)
        assert word in error.detail

    @pytest.mark.parametrize("word", ["STOP", "a_reason_of_the_future"])
    async def test_an_unknown_finish_reason_is_no_end(self, model: ChatCompletions, word: str) -> None:
        _, error = await read(model, f"[[finish:{word}]]")
        assert type(error) is ModelBadAnswer
        assert word in error.detail

    async def test_counts_come_after_the_finish_reason_and_hold_the_thoughts(self, model: ChatCompletions) -> None:
        parts, _ = await read(model, "[[think:2]][[say:one two]]")
        assert parts[:2] == [Thinking(), Thinking()]
        assert end_of(parts).usage == Usage(input_tokens=7, output_tokens=12)

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param((chunk(content="all"), chunk("stop"), DONE), id="without counts"),
            pytest.param((chunk(content="all"), chunk("stop")), id="without [DONE]"),
            pytest.param((chunk(content="all"), DONE), id="without a finish reason"),
            pytest.param((chunk(content="all"), chunk("", content=""), DONE), id="with an empty one"),
            pytest.param((chunk("stop", content="all"), DONE), id="the reason with the text"),
            pytest.param((chunk(content="all"), chunk("stop"), chunk("stop"), DONE), id="the reason twice"),
            pytest.param((chunk(content="all"), chunk("stop"), {"choices": [], "usage": None}, DONE), id="null counts"),
            pytest.param(({"choices": []}, {"choices": None}, {}, chunk("stop", content="all")), id="no choices"),
            pytest.param((b": OPENROUTER PROCESSING\n\n", chunk("stop", content="all")), id="comments"),
            pytest.param((chunk(role="assistant", content=None), chunk("stop", content="all")), id="null content"),
            pytest.param(({"choices": [{"finish_reason": None}]}, chunk("stop", content="all")), id="no delta"),
            pytest.param((chunk(reasoning_content="hm"), chunk("stop", content="all")), id="reasoning_content"),
            pytest.param((chunk(reasoning="hm"), chunk("stop", content="all")), id="reasoning"),
            pytest.param(
                (chunk(content="<think>"), chunk(content="hm</thi"), chunk("stop", content="nk>\n\nall")),
                id="in the text",
            ),
            pytest.param((chunk(tool_calls=[{"index": 0}]), chunk("stop", content="all")), id="calls of tools"),
            pytest.param((chunk("stop", content=[{"type": "text", "text": "all"}]),), id="parts"),
            pytest.param((THOUGHT, chunk("stop", content="all")), id="thoughts in parts"),
        ],
    )
    async def test_what_servers_leave_out_or_add_does_not_matter(self, events: tuple[object, ...]) -> None:
        parts, error = await reading(*events)
        assert error is None
        assert [part for part in parts if isinstance(part, Text)] == [Text("all")]
        assert end_of(parts).reason is FinishReason.STOP

    @pytest.mark.parametrize("events", [(DONE,), (chunk(content="so"),), ({"choices": []}, DONE)])
    async def test_without_a_word_of_an_end_there_is_none(self, events: tuple[object, ...]) -> None:
        _, error = await reading(*events)
        assert isinstance(error, ModelInterrupted)

    async def test_a_refusal_is_blocked_and_no_text(self) -> None:
        parts, error = await reading(chunk(refusal="I can"), chunk(refusal="not."), chunk("stop"), DONE)
        assert error is None
        assert text_of(parts) == ""
        assert end_of(parts).reason is FinishReason.BLOCKED

    @pytest.mark.parametrize("hold", [False, True])
    async def test_after_the_finish_reason_the_connection_does_not_matter(
        self, hold: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_model, "LINGER_SECONDS", 0.0)
        raw = event_answer(chunk("stop", content="all"))
        async with answering(raw, hold=hold) as url, talking_to(url) as model:
            parts, error = await read(model, "hello")
        assert error is None
        assert text_of(parts) == "all"

    async def test_the_longest_answer_is_a_setting(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, MODEL_ANSWER_MAX="9") as model:
            _, error = await read(model, "[[say:1234567890]]")
        assert error is not None and "MODEL_ANSWER_MAX" in error.detail


def error_body(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, error_body("no", code="context_length_exceeded"), PromptTooLong),
            (400, error_body("no", code=400, type="exceed_context_size_error"), PromptTooLong),
            (400, b'{"object":"error","message":"the maximum context length is 4096","code":400}', PromptTooLong),
            (413, b"", PromptTooLong),
            (422, b'{"object":"error","message":{"detail":[{"type":"extra_forbidden"}]}}', ModelRefused),
            (400, b'{"error":"a text"}', ModelRefused),
            (400, b"<html>", ModelRefused),
            (402, error_body("no credits"), ModelRefused),
            (429, error_body("slow down", code="rate_limit_exceeded"), ModelUnavailable),
            (429, error_body("pay", code="insufficient_quota", type="insufficient_quota"), ModelRefused),
            (500, b"", ModelUnavailable),
            (503, b"", ModelUnavailable),
        ],
    )
    async def test_a_status_and_its_body_are_the_error_that_they_mean(
        self, status: int, body: bytes, kind: type[Exception]
    ) -> None:
        async with answering(whole(status, body)) as url, talking_to(url) as model:
            parts, error = await read(model, "hello")
        assert not parts
        assert type(error) is kind

    @pytest.mark.parametrize(
        ("event", "kind"),
        [
            ({"error": {"message": "no", "code": 429}}, ModelUnavailable),
            ({"error": {"message": "no", "code": "503"}}, ModelUnavailable),
            ({"error": {"message": "no", "code": None, "type": "server_error"}}, ModelUnavailable),
            ({"error": "a text"}, ModelUnavailable),
            ({"error": {"message": "no", "code": "context_length_exceeded"}}, PromptTooLong),
            ({"error": {"message": "no", "type": "invalid_request_error"}}, ModelRefused),
            ({"error": {"message": "no", "code": "insufficient_quota"}}, ModelRefused),
            ({"object": "error", "message": "no", "code": 400}, ModelRefused),
            ({**chunk("error"), "error": {"message": "gone", "code": 502}}, ModelUnavailable),
        ],
    )
    async def test_an_error_event_is_what_its_status_would_be(self, event: object, kind: type[Exception]) -> None:
        parts, error = await reading(chunk(content="so"), event)
        assert text_of(parts) == "so"
        assert type(error) is kind

    async def test_the_key_is_in_no_detail(self) -> None:
        async with answering(whole(401, error_body(f"bad key {KEY}"))) as url, talking_to(url) as model:
            _, error = await read(model, "hello")
        assert error is not None
        assert KEY not in error.detail


class TestCheck:
    async def test_a_model_that_is_offered_is_ok(self, model: ChatCompletions, provider: FakeProvider) -> None:
        assert (await model.check()).check is ModelCheck.OK
        assert provider.ledger[0].path == f"/v1/models/{MODEL}"

    @pytest.mark.parametrize(
        ("second", "check"),
        [
            (whole(200, b'{"object":"list","data":[{"id":"a/b"}]}'), ModelCheck.OK),
            (whole(200, b'{"data":[{"id":"a/b:latest"}]}'), ModelCheck.OK),
            (whole(200, b'{"data":[{"id":"a/c"}]}'), ModelCheck.MISSING),
            (whole(404, b""), ModelCheck.UNREACHABLE),
            (whole(200, b"<html>"), ModelCheck.UNREACHABLE),
            (whole(401, b""), ModelCheck.REFUSED),
        ],
    )
    async def test_where_one_model_is_not_described_the_list_is_asked(self, second: bytes, check: ModelCheck) -> None:
        async with answering(whole(404, b""), second) as url, talking_to(url, "a/b") as model:
            assert (await model.check()).check is check

    async def test_a_bad_key_is_refused_and_the_variable_is_named(self, provider: FakeProvider) -> None:
        async with talking_to(provider.url, OPENAI_API_KEY="invalid") as model:
            health = await model.check()
        assert health.check is ModelCheck.REFUSED
        assert "OPENAI_API_KEY" in health.detail


class TestCreate:
    @pytest.mark.parametrize(
        ("variable", "environ"),
        [
            ("OPENAI_API_KEY", {}),
            ("OPENAI_API_KEY", {"OPENAI_BASE_URL": "https://api.openai.com/v1/"}),
            ("OPENAI_API_KEY", {"OPENAI_API_KEY": "two\nlines"}),
            ("OPENAI_BASE_URL", {"OPENAI_BASE_URL": "localhost:11434/v1"}),
            ("OPENAI_BASE_URL", {"OPENAI_BASE_URL": "http://localhost/v1?api-version=1"}),
            ("MODEL_ANSWER_MAX", {"OPENAI_API_KEY": KEY, "MODEL_ANSWER_MAX": "-1"}),
        ],
    )
    def test_what_is_missing_or_wrong_is_named(self, variable: str, environ: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=variable):
            chat_completions.create(MODEL, environ)

    @pytest.mark.parametrize("name", ["", "..", ".hidden", "a b", "a\nb"])
    def test_a_name_that_no_server_can_have_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="LLM"):
            chat_completions.create(name, {"OPENAI_API_KEY": KEY})

    @pytest.mark.parametrize("name", ["llama3.2:3b", "meta-llama/Llama-3.3-70B", "@cf/meta/llama-3", "ft:gpt-4o:a::b"])
    def test_a_server_of_ones_own_needs_no_key(self, name: str) -> None:
        chat_completions.create(name, {"OPENAI_BASE_URL": "http://localhost:11434/v1"})

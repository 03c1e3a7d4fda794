"""Every language model of ours keeps the contract of the port."""

from collections.abc import AsyncIterator, Sequence

import pytest

from adapters.llm import chat_completions, claude_messages, echo, gemini, gemini_sdk
from adapters.llm.attempts import Attempts
from adapters.llm.deadlines import Deadlines
from chat_core.errors import (
    ModelBadAnswer,
    ModelInterrupted,
    ModelRefused,
    ModelUnavailable,
    PromptTooLong,
)
from chat_core.ports.language_model import (
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    Text,
    Thinking,
    Usage,
)
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.fake_provider.script import NASTY_TEXT
from chat_core.testing.language_model import FORGED, LanguageModelContract
from chat_core.testing.models import Gate, ScriptedModel, Step, answer
from chat_core.testing.provider_script import FakeProviderScript, ProviderScript, SeenRequest


class TestGemini(LanguageModelContract):
    @pytest.fixture
    async def provider(self) -> AsyncIterator[FakeProvider]:
        async with FakeProvider() as provider:
            yield provider

    @pytest.fixture
    def script(self, provider: FakeProvider) -> ProviderScript:
        return FakeProviderScript(provider)

    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        environ = {"GEMINI_API_KEY": "a-key", "GEMINI_BASE_URL": provider.url}
        model = gemini.create("gemini-3.8-flash", environ)
        yield model
        await model.aclose()


class TestGeminiSdk(TestGemini):
    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        model = gemini_sdk.create("gemini-3.8-flash", {"GEMINI_API_KEY": "a-key", "GEMINI_BASE_URL": provider.url})
        yield model
        await model.aclose()


class TestVertex(TestGemini):
    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        environ = {"GEMINI_API_KEY": "a-key", "GEMINI_BASE_URL": provider.url, "GOOGLE_GENAI_USE_VERTEXAI": "true"}
        model = gemini_sdk.create("gemini-3.8-flash", environ)
        yield model
        await model.aclose()


class TestChatCompletions(TestGemini):
    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        environ = {"OPENAI_API_KEY": "a-key", "OPENAI_BASE_URL": f"{provider.url}/v1"}
        model = chat_completions.create("gpt-5.2", environ)
        yield model
        await model.aclose()


class TestClaudeMessages(TestGemini):
    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        environ = {"ANTHROPIC_API_KEY": "a-key", "ANTHROPIC_BASE_URL": provider.url}
        model = claude_messages.create("claude-sonnet-5", environ)
        yield model
        await model.aclose()


class EchoScript(ProviderScript):
    def says(self, text: str) -> str | None:
        return text


class TestEcho(LanguageModelContract):
    @pytest.fixture
    def script(self) -> ProviderScript:
        return EchoScript()

    @pytest.fixture
    def model(self) -> LanguageModel:
        return echo.create("echo", {})


class StepsScript(ProviderScript):
    """Scripts the in-process double, by prompt."""

    def __init__(self) -> None:
        self._scripts: dict[str, list[Step]] = {FORGED: answer("done")}
        self.model = ScriptedModel(lambda conversation: self._scripts[conversation.turns[-1].parts[-1]])

    def _on(self, prompt: str, *steps: Step) -> str:
        self._scripts[prompt] = list(steps)
        return prompt

    def says(self, text: str) -> str | None:
        return self._on(f"say {text}", *answer(*text.split(" ", 1)[:1], " ", *text.split(" ", 1)[1:]))

    def says_nasty_text(self) -> tuple[str, str] | None:
        return self._on("nasty", *answer(NASTY_TEXT)), NASTY_TEXT

    def says_nothing(self) -> str | None:
        return self._on("nothing", *answer())

    def thinks_then_says(self, text: str) -> str | None:
        return self._on("think", Thinking(), *answer(text))

    def reaches_the_limit(self) -> str | None:
        return self._on("limit", Text("some"), End(reason=FinishReason.LENGTH, usage=Usage()))

    def blocks_the_prompt(self) -> str | None:
        return self._on("block", End(reason=FinishReason.BLOCKED))

    def blocks_the_answer(self) -> str | None:
        return self._on("block late", Text("some"), End(reason=FinishReason.BLOCKED))

    def is_away(self, retry_after: float) -> str | None:
        return self._on("away", ModelUnavailable(retry_after=retry_after))

    def refuses(self) -> str | None:
        return self._on("refuse", ModelRefused())

    def finds_it_too_long(self) -> str | None:
        return self._on("long", PromptTooLong())

    def fails_after_some_text(self) -> str | None:
        return self._on("fail", Text("some"), ModelUnavailable())

    def is_cut_after_some_text(self) -> str | None:
        return self._on("cut", Text("some"), ModelInterrupted())

    def ends_without_a_reason(self) -> str | None:
        return self._on("end", ModelInterrupted())

    def talks_garbage(self) -> Sequence[str]:
        return [self._on("garbage", ModelBadAnswer())]

    def falls_silent_after_some_text(self) -> str | None:
        return self._on("silent", Text("some"), Gate())

    def falls_silent_at_once(self) -> str | None:
        return self._on("silent at once", Gate())

    def requests(self) -> Sequence[SeenRequest] | None:
        return [_seen(conversation) for conversation in self.model.asked]

    async def all_connections_are_closed(self) -> bool | None:
        return self.model.open_streams == 0


def _seen(conversation: Conversation) -> SeenRequest:
    turns = [(turn.role.value, turn.parts) for turn in conversation.turns]
    return SeenRequest(turns=turns, system=conversation.system)


class TestScriptedModel(LanguageModelContract):
    @pytest.fixture
    def script(self) -> StepsScript:
        return StepsScript()

    @pytest.fixture
    def model(self, script: StepsScript) -> LanguageModel:
        return script.model


class TestDeadlines(TestGemini):
    """A wrapper that announces nothing keeps the contract of what it wraps."""

    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[LanguageModel]:
        environ = {"GEMINI_API_KEY": "a-key", "GEMINI_BASE_URL": provider.url}
        model = Deadlines(gemini.create("gemini-3.8-flash", environ))
        yield model
        await model.aclose()


def test_wrappers_offer_what_they_wrap() -> None:
    assert callable(Attempts(echo.create("", {}), provider="echo", model_name="echo").check)

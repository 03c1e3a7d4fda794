"""The providers themselves, where somebody gives a key for that: a few small requests, which cost something.

``TEST_GEMINI_API_KEY``, ``TEST_OPENAI_API_KEY`` and ``TEST_ANTHROPIC_API_KEY`` are these keys, and
``TEST_GEMINI_MODEL`` and its like name another model than the one of the README. The other settings are the service's.
"""

import os
from collections.abc import AsyncIterator

import pytest

from adapters.llm.registry import ModelName, Providers
from chat_core.ports.language_model import CheckableModel, ClosableModel, LanguageModel, ListableModel, ModelCheck
from chat_core.testing.language_model import LanguageModelContract
from chat_core.testing.provider_script import ProviderScript

#: The provider, whose key it takes, and the model of the README.
PROVIDERS = {
    "gemini": ("GEMINI", "gemini-3.8-flash"),
    "gemini-sdk": ("GEMINI", "gemini-3.8-flash"),
    "openai": ("OPENAI", "gpt-5.2"),
    "anthropic": ("ANTHROPIC", "claude-sonnet-5"),
}
#: The clauses that ask little, and nothing that a real provider does only when it is in trouble.
BASIC = (
    "test_a_stream_is_texts_and_thoughts_and_then_one_end",
    "test_usage_is_reported",
    "test_closing_the_model_is_harmless_to_repeat",
)

pytestmark = pytest.mark.slow


class Asking(ProviderScript):
    def says(self, text: str) -> str | None:
        return f"Repeat these words exactly, and write nothing else: {text}"


@pytest.fixture(params=PROVIDERS)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[LanguageModel]:
    owner, name = PROVIDERS[request.param]
    key = os.environ.get(f"TEST_{owner}_API_KEY")
    if not key:
        pytest.skip(f"TEST_{owner}_API_KEY is not set: {request.param} itself is not asked")
    name = os.environ.get(f"TEST_{owner}_MODEL", name)
    model = Providers().create(ModelName(request.param, name), {**os.environ, f"{owner}_API_KEY": key})
    yield model
    if isinstance(model, ClosableModel):
        await model.aclose()


@pytest.mark.parametrize("clause", BASIC)
async def test_it_keeps_the_basic_clauses(model: LanguageModel, clause: str):
    await getattr(LanguageModelContract(), clause)(model, Asking())


async def test_the_model_is_there_and_in_the_list(model: LanguageModel):
    assert isinstance(model, CheckableModel)
    assert (await model.check()).check is ModelCheck.OK
    assert isinstance(model, ListableModel)
    assert await model.models()

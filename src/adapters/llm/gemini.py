"""Google's Gemini, by its REST interface."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from adapters.llm import gemini_format, listing
from adapters.llm.http_model import HttpModel, base_url_of, key_of
from adapters.llm.transport import Limits
from chat_core.ports.language_model import ANY_MODEL, Conversation, OfferedModel

BASE_URL = "https://generativelanguage.googleapis.com"
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_THINKING = ("low", "medium", "high")


class Gemini(HttpModel):
    """One of Gemini's models."""

    label = "Gemini"
    key_variable = "GEMINI_API_KEY"

    def __init__(
        self,
        model: str,
        *,
        key: str,
        base_url: str = BASE_URL,
        thinking: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(
            provider="gemini",
            model=model,
            key=key,
            # In a header, for addresses are logged on the way.
            headers={"x-goog-api-key": key},
            read_error=gemini_format.read_error,
            limits=limits or Limits(),
        )
        self._thinking = thinking
        self._list_url = f"{base_url}/v1beta/models"
        self._url = f"{self._list_url}/{model}"

    def _request(self, conversation: Conversation) -> tuple[str, bytes]:
        body = gemini_format.request(conversation, self._model, self._thinking)
        return f"{self._url}:streamGenerateContent?alt=sse", body

    def _answer(self) -> gemini_format.GeminiAnswer:
        return gemini_format.GeminiAnswer(self._who, self._secret, self._limits.text_chars)

    async def _describe(self) -> None:
        await self._transport.get(self._url)

    async def _list(self) -> Sequence[OfferedModel]:
        async def page(token: str) -> tuple[Sequence[OfferedModel], str]:
            query = urlencode({"pageSize": 1000} | ({"pageToken": token} if token else {}))
            return gemini_format.read_models(await self._transport.read(f"{self._list_url}?{query}"), self._who)

        return await listing.pages(page, self._who)


def create(model: str, environ: Mapping[str, str], /) -> Gemini:
    """The ``LanguageModelFactory`` of Gemini.

    Reads ``GEMINI_API_KEY``; ``GEMINI_BASE_URL``, for a proxy or a double; ``GEMINI_THINKING``, which is ``low``,
    ``medium`` or ``high``, or the model's own choice where it is not set; and ``MODEL_ANSWER_MAX``.
    """
    model = model_of(model)
    key = key_of(environ, "GEMINI_API_KEY")
    if not key:
        raise ValueError("GEMINI_API_KEY is not set: Gemini needs a key")
    base_url = base_url_of(environ, "GEMINI_BASE_URL", BASE_URL)
    return Gemini(model, key=key, base_url=base_url, thinking=thinking_of(environ, model), limits=Limits.of(environ))


def model_of(model: str) -> str:
    """The model's name without the format's prefix. Raises ``ValueError`` for one that Gemini cannot have."""
    model = model.removeprefix("models/")
    if not _MODEL.fullmatch(model):
        raise ValueError(f"LLM names a model that Gemini cannot have: {model!r}")
    return model


def thinking_of(environ: Mapping[str, str], model: str) -> str | None:
    """``GEMINI_THINKING`` for this model. Raises ``ValueError``."""
    thinking = environ.get("GEMINI_THINKING", "").strip().lower() or None
    if thinking is not None and thinking not in _THINKING:
        raise ValueError(f"GEMINI_THINKING has to be one of {', '.join(_THINKING)}, or not set")
    if thinking is not None and model != ANY_MODEL and (gemini_format.generation(model) or (0, 0)) < (3, 0):
        raise ValueError(f"GEMINI_THINKING is not set for {model}: thinking levels came with Gemini 3")
    return thinking

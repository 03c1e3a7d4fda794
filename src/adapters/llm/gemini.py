"""Google's Gemini, by its REST interface."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import urlsplit

from adapters.llm import gemini_format
from adapters.llm.failures import NoSuchModel
from adapters.llm.transport import Limits, Transport
from chat_core.errors import ModelError, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import Conversation, LanguageModel, ModelCheck, ModelHealth, ReplyPart

BASE_URL = "https://generativelanguage.googleapis.com"
CHECK_SECONDS = 10.0
#: How long the body's end is waited for once the answer's has come: counts may follow it, and nothing else.
LINGER_SECONDS = 2.0
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_THINKING = ("low", "medium", "high")


class Gemini(LanguageModel):
    """One of Gemini's models."""

    def __init__(
        self,
        model: str,
        *,
        key: str,
        base_url: str = BASE_URL,
        thinking: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._model, self._thinking, self._secret = model, thinking, key
        self._who = f"gemini:{model}"
        self._url = f"{base_url}/v1beta/models/{model}"
        self._limits = limits or Limits()
        self._transport = Transport(
            who=self._who,
            # In a header, for addresses are logged on the way.
            headers={"x-goog-api-key": key, "content-type": "application/json"},
            secret=key,
            read_error=gemini_format.read_error,
            limits=self._limits,
        )

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        body = gemini_format.request(conversation, self._model, self._thinking)
        answer = gemini_format.Answer(self._who, self._secret, self._limits.text_chars)
        url = f"{self._url}:streamGenerateContent?alt=sse"
        try:
            async with aclosing(self._transport.events(url, body)) as events:
                while (data := await _next(events, answer.ended)) is not None:
                    for part in answer.take(data):
                        yield part
            end = answer.end()
        except ModelError as error:
            error.usage = answer.usage
            # Once the provider has said how the answer ended, what becomes of the connection does not matter.
            if not (answer.ended and isinstance(error, ModelUnavailable)):
                raise
            end = answer.end()
        yield end

    async def check(self) -> ModelHealth:
        """Ask for the model's description: answers nothing and costs nothing."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._transport.get(self._url)
        except NoSuchModel:
            return ModelHealth(
                check=ModelCheck.MISSING,
                detail=f"Gemini does not offer {self._model}: set LLM to another model",
            )
        except ModelRefused as error:
            return ModelHealth(check=ModelCheck.REFUSED, detail=f"Gemini does not take GEMINI_API_KEY: {error.detail}")
        except (ModelError, TimeoutError) as error:
            return ModelHealth(check=ModelCheck.UNREACHABLE, detail=str(error) or f"{self._who}: no answer")
        return ModelHealth(check=ModelCheck.OK)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _next(events: AsyncGenerator[bytes, None], ended: bool) -> bytes | None:
    if not ended:
        return await anext(events, None)
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            return await anext(events, None)
    except TimeoutError:
        return None


def create(model: str, environ: Mapping[str, str], /) -> Gemini:
    """The ``LanguageModelFactory`` of Gemini.

    Reads ``GEMINI_API_KEY``; ``GEMINI_BASE_URL``, for a proxy or a double; ``GEMINI_THINKING``, which is ``low``,
    ``medium`` or ``high``, or the model's own choice where it is not set; and ``MODEL_ANSWER_MAX``.
    """
    model = model.removeprefix("models/")
    if not _MODEL.fullmatch(model):
        raise ValueError(f"LLM names a model that Gemini cannot have: {model!r}")
    key = environ.get("GEMINI_API_KEY", "").strip()
    if not key:
        raise ValueError("GEMINI_API_KEY is not set: Gemini needs a key")
    if not _KEY.fullmatch(key):
        raise ValueError("GEMINI_API_KEY holds characters that no key has")
    base_url = environ.get("GEMINI_BASE_URL", "").strip().rstrip("/") or BASE_URL
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
        raise ValueError("GEMINI_BASE_URL has to begin with https:// or http:// and a host")
    thinking = environ.get("GEMINI_THINKING", "").strip().lower() or None
    if thinking is not None and thinking not in _THINKING:
        raise ValueError(f"GEMINI_THINKING has to be one of {', '.join(_THINKING)}, or not set")
    if thinking is not None and (gemini_format.generation(model) or (0, 0)) < (3, 0):
        raise ValueError(f"GEMINI_THINKING is not set for {model}: thinking levels came with Gemini 3")
    return Gemini(model, key=key, base_url=base_url, thinking=thinking, limits=Limits.of(environ))

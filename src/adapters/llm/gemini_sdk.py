"""Google's Gemini by Google's own library, ``google-genai``: for Vertex AI, and for whoever prefers it.

The extra ``gemini-sdk`` brings the library. The contract is that of ``gemini``, which is lighter, and speaks to the
Gemini API alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from google import genai
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai import errors, types

from adapters.llm import failures, gemini_format
from adapters.llm.answer import encode, turns_to_send
from adapters.llm.gemini import model_of, thinking_of
from adapters.llm.gemini_format import Candidate, Content, Event, Feedback, GeminiAnswer, Part, UsageMetadata
from adapters.llm.http_model import CHECK_SECONDS, base_url_of, key_of, unhealthy
from adapters.llm.sdk_transport import WatchedTransport, opened
from adapters.llm.transport import Limits
from chat_core.errors import ModelBadAnswer, ModelError, ModelInterrupted, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import (
    ANY_MODEL,
    Conversation,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    OfferedModel,
    ReplyPart,
)

_TRUE = frozenset({"1", "true", "yes", "on"})


class GeminiSdk(LanguageModel):
    """One of Gemini's models behind a client of ``google-genai``.

    The library's retries are off, so is its use of aiohttp, which has retries of its own. ``options`` are those of
    ``genai.Client`` that say whom it asks and as whom.
    """

    def __init__(
        self,
        model: str,
        *,
        options: Mapping[str, Any],
        api_version: str,
        base_url: str | None = None,
        thinking: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._model, self._thinking, self._limits = model, thinking, limits or Limits()
        self._who = "gemini-sdk" if model == ANY_MODEL else f"gemini-sdk:{model}"
        self._secret = str(options.get("api_key") or "")
        self._http = httpx2.AsyncClient(
            transport=WatchedTransport(self._who, self._limits.wire_bytes), trust_env=False, follow_redirects=False
        )
        self._client = genai.Client(
            **options,
            http_options=types.HttpOptions(
                base_url=base_url,
                api_version=api_version,
                httpx_async_client=self._http,
                retry_options=types.HttpRetryOptions(attempts=1),
                headers={"accept-encoding": "identity"},
            ),
        )
        self._closed = False

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        contents, config = self._request(conversation)
        answer = GeminiAnswer(self._who, self._secret, self._limits.text_chars)
        answering = False
        streams: list[httpx2.AsyncByteStream] = []
        try:
            async with self._typed(lambda: answering):
                token = opened.set(streams)
                try:
                    chunks = await self._client.aio.models.generate_content_stream(
                        model=self._model, contents=contents, config=config
                    )
                    chunk = await anext(chunks, None)
                finally:
                    opened.reset(token)
                    answering = bool(streams)
                while chunk is not None:
                    for part in answer.take_event(_event(chunk)):
                        yield part
                    chunk = await anext(chunks, None)
            end = answer.end()
        except ModelError as error:
            error.usage = answer.usage
            # Once the provider has said how the answer ended, what becomes of the connection does not matter.
            if not (answer.ended and isinstance(error, ModelUnavailable)):
                raise
            end = answer.end()
        finally:
            for stream in streams:
                await stream.aclose()
        yield end

    async def check(self) -> ModelHealth:
        """Ask for the model's description: answers nothing and costs nothing."""
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._typed():
                await self._client.aio.models.get(model=self._model)
        except (ModelError, TimeoutError) as error:
            return unhealthy(error, self._who, self._model, "Gemini", "its key or credentials")
        return ModelHealth(check=ModelCheck.OK)

    async def models(self) -> Sequence[OfferedModel]:
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._typed():
                pages = await self._client.aio.models.list(config=types.ListModelsConfig(page_size=1000))
                return [
                    OfferedModel(name=model.name.rpartition("/")[2])
                    async for model in pages
                    if model.name and (not model.supported_actions or "generateContent" in model.supported_actions)
                ]
        except TimeoutError as error:
            raise ModelUnavailable(f"{self._who}: no list of models within {CHECK_SECONDS:g} s") from error

    async def aclose(self) -> None:
        self._closed = True
        await self._http.aclose()
        self._client.close()

    def _request(self, conversation: Conversation) -> tuple[list[types.Content], types.GenerateContentConfig]:
        config = types.GenerateContentConfig(max_output_tokens=conversation.max_output_tokens)
        if conversation.temperature is not None and gemini_format.takes_temperature(self._model):
            config.temperature = conversation.temperature
        if (gemini_format.generation(self._model) or (0, 0)) >= (3, 0):
            level = types.ThinkingLevel(self._thinking.upper()) if self._thinking else None
            config.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_level=level)
        turns = turns_to_send(conversation)
        # The library would send what is no Unicode. This raises ``ModelRefused``.
        encode({"system": conversation.system, "turns": [parts for _, parts in turns]})
        if conversation.system:
            config.system_instruction = types.Content(parts=[types.Part(text=conversation.system)])
        contents = [
            types.Content(role=role.value, parts=[types.Part(text=part) for part in parts]) for role, parts in turns
        ]
        return contents, config

    @asynccontextmanager
    async def _typed(self, answering: Any = lambda: False) -> AsyncGenerator[None, None]:
        """Everything that the library and what it stands on raise, as the core's errors."""
        if self._closed:
            raise ModelUnavailable(f"{self._who}: the connections are closed")
        try:
            yield
        except errors.APIError as error:
            # An event of a good stream may be an error too, and has its status within it.
            refused = getattr(error.response, "status_code", 200) != 200
            raise self._of_status(error, answering() and not refused) from error
        except (httpx2.TransportError, httpx2.StreamError) as error:
            what = "the stream was cut" if answering() else "no answer"
            detail = failures.loggable(f"{type(error).__name__}: {error}", self._secret)
            kind = ModelInterrupted if answering() else ModelUnavailable
            raise kind(f"{self._who}: {what}: {detail}") from error
        except TransportError as error:
            raise ModelUnavailable(f"{self._who}: no credentials: {type(error).__name__}") from error
        except GoogleAuthError as error:
            detail = failures.loggable(str(error), self._secret)
            raise ModelRefused(f"{self._who}: no credentials: {detail}") from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # What the library's own reader stumbles over, in words that quote the answer.
            raise ModelBadAnswer(f"{self._who}: an event that cannot be read: {type(error).__name__}") from None

    def _of_status(self, error: errors.APIError, answering: bool) -> ModelError:
        body = gemini_format.read_error(msgspec.json.encode(error.details, enc_hook=repr))
        message = body.message or str(error.message or error.status or "")
        if answering:
            message = f"in the middle of the answer: {message}"
        said = failures.ErrorBody(message=failures.loggable(message, self._secret), retry_after=body.retry_after)
        headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
        status = error.code if error.code and 300 <= error.code < 600 else 500
        return failures.of_status(status, said, {} if answering else headers, self._who)


def _event(chunk: types.GenerateContentResponse) -> Event:
    """What the library read, in the format's own shape: then one place says what it means."""
    counted, feedback = chunk.usage_metadata, chunk.prompt_feedback
    return Event(
        candidates=[
            Candidate(
                content=Content(
                    [Part(part.text, part.thought) for part in (found.content and found.content.parts) or ()]
                ),
                finish_reason=found.finish_reason.value if found.finish_reason else None,
            )
            for found in chunk.candidates or ()
        ],
        prompt_feedback=Feedback(feedback.block_reason.value) if feedback and feedback.block_reason else None,
        usage_metadata=UsageMetadata(
            counted.prompt_token_count, counted.candidates_token_count, counted.thoughts_token_count
        )
        if counted
        else None,
    )


def create(model: str, environ: Mapping[str, str], /) -> GeminiSdk:
    """The ``LanguageModelFactory`` of Gemini by Google's library.

    Reads ``GEMINI_API_KEY``, ``GEMINI_BASE_URL``, ``GEMINI_THINKING`` and ``MODEL_ANSWER_MAX`` as ``gemini`` does. With
    ``GOOGLE_GENAI_USE_VERTEXAI`` it asks Vertex AI: as ``GOOGLE_CLOUD_PROJECT`` in ``GOOGLE_CLOUD_LOCATION``, else
    ``global``, with the credentials that Google's library finds, or else with the key.
    """
    model = model_of(model)
    key = key_of(environ, "GEMINI_API_KEY")
    vertex = environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").strip().lower() in _TRUE
    project = environ.get("GOOGLE_CLOUD_PROJECT", "").strip()
    options: dict[str, Any] = {"vertexai": vertex}
    if vertex and project:
        options |= {"project": project, "location": environ.get("GOOGLE_CLOUD_LOCATION", "").strip() or "global"}
    elif key:
        options["api_key"] = key
    elif vertex:
        raise ValueError("GOOGLE_CLOUD_PROJECT is not set: Vertex AI needs a project, or a key in GEMINI_API_KEY")
    else:
        raise ValueError("GEMINI_API_KEY is not set: Gemini needs a key")
    return GeminiSdk(
        model,
        options=options,
        api_version="v1beta1" if vertex else "v1beta",
        base_url=base_url_of(environ, "GEMINI_BASE_URL", "https://-") if environ.get("GEMINI_BASE_URL") else None,
        thinking=thinking_of(environ, model),
        limits=Limits.of(environ),
    )

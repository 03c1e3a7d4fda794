"""The adapter: one request of ``stream`` is one request to Acme."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from acme_provider import wire
from chat_core.errors import ModelBadAnswer, ModelError, ModelInterrupted, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import (
    Conversation,
    End,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    OfferedModel,
    ReplyPart,
)

PATIENCE = aiohttp.ClientTimeout(total=10)


class Acme(LanguageModel):
    def __init__(self, model: str, *, url: str, key: str) -> None:
        self._model, self._url = model, url
        self._headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        answer = wire.Answer()
        request = wire.request(conversation, self._model)
        async with self._asking("POST", "/chat/completions", request) as response:
            if response.content_type != "text/event-stream":
                raise ModelBadAnswer(f"acme: the answer is {response.content_type}")
            # Lines end at LF alone and are decoded whole, so that no code point is cut.
            async for line in response.content:
                for part in answer.take(line):
                    yield part
        if answer.reason is None:
            raise ModelInterrupted("acme: the stream ended without a reason")
        yield End(reason=answer.reason, usage=answer.usage)

    async def models(self) -> Sequence[OfferedModel]:
        async with self._asking("GET", "/models", None, PATIENCE) as response:
            return wire.models(await response.read())

    async def check(self) -> ModelHealth:
        try:
            offered = {model.name for model in await self.models()}
        except ModelRefused as error:
            return ModelHealth(check=ModelCheck.REFUSED, detail=f"Acme does not take ACME_KEY: {error.detail}")
        except ModelError as error:
            return ModelHealth(check=ModelCheck.UNREACHABLE, detail=error.detail)
        if self._model not in offered:
            return ModelHealth(check=ModelCheck.MISSING, detail=f"Acme has no model {self._model}: set LLM to another")
        return ModelHealth(check=ModelCheck.OK)

    async def aclose(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _asking(
        self, method: str, path: str, body: object, patience: aiohttp.ClientTimeout | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A good answer to a request. Leaving closes the connection, if anything of the answer is still to come."""
        answering = False
        try:
            async with self._open().request(method, self._url + path, json=body, timeout=patience) as response:
                answering = True
                if response.status != 200:
                    raise wire.refusal(response.status, await response.text(errors="replace"), response.headers)
                yield response
        except TimeoutError as error:
            raise ModelUnavailable("acme: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            kind = ModelInterrupted if answering else ModelUnavailable
            raise kind(f"acme: {type(error).__name__}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ModelUnavailable("acme: the connections are closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                # Answers may take minutes: deadlines are the service's business. So is how many run at once.
                timeout=aiohttp.ClientTimeout(total=None, connect=5),
                connector=aiohttp.TCPConnector(limit=0),
                read_bufsize=1 << 20,
            )
        return self._session

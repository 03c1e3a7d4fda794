"""A provider's model over HTTP: what is the same for all of them, whatever their format."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, closing
from urllib.parse import urlsplit

from adapters.llm.answer import Answer
from adapters.llm.failures import NoSuchModel, ReadError
from adapters.llm.transport import Limits, Transport
from chat_core.alarm import Alarm
from chat_core.errors import ModelError, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import (
    ANY_MODEL,
    Conversation,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    OfferedModel,
    ReplyPart,
)

CHECK_SECONDS = 10.0
#: How long the body's end is waited for once the answer's has come: counts may follow it, and nothing else.
LINGER_SECONDS = 2.0
_KEY = re.compile(r"[\x21-\x7e]+")


class HttpModel(LanguageModel, ABC):
    """One of a provider's models. ``label`` and ``key_variable`` are for whoever sets it up."""

    label: str
    key_variable: str

    def __init__(
        self, *, provider: str, model: str, key: str, headers: Mapping[str, str], read_error: ReadError, limits: Limits
    ) -> None:
        self._model, self._secret, self._limits = model, key, limits
        self._who = provider if model == ANY_MODEL else f"{provider}:{model}"
        self._transport = Transport(
            who=self._who,
            headers={**headers, "content-type": "application/json"},
            secret=key,
            read_error=read_error,
            limits=limits,
        )

    @abstractmethod
    def _request(self, conversation: Conversation) -> tuple[str, bytes]:
        """The address and the body of the request. Raises ``ModelRefused``."""

    @abstractmethod
    def _answer(self) -> Answer:
        """An answer that has not begun."""

    @abstractmethod
    async def _describe(self) -> None:
        """Ask for the model's description. Raises ``NoSuchModel`` and whatever ``Transport`` does."""

    @abstractmethod
    async def _list(self) -> Sequence[OfferedModel]:
        """Ask for the list of models. Raises whatever ``Transport`` does."""

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        url, body = self._request(conversation)
        answer = self._answer()
        try:
            async with aclosing(self._transport.events(url, body)) as events:
                with closing(Alarm()) as within:
                    while (data := await (_soon(events, within) if answer.ended else anext(events, None))) is not None:
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
                await self._describe()
        except (ModelError, TimeoutError) as error:
            return unhealthy(error, self._who, self._model, self.label, self.key_variable)
        return ModelHealth(check=ModelCheck.OK)

    async def models(self) -> Sequence[OfferedModel]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._list()
        except TimeoutError as error:
            raise ModelUnavailable(f"{self._who}: no list of models within {CHECK_SECONDS:g} s") from error

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _soon(events: AsyncGenerator[bytes, None], within: Alarm) -> bytes | None:
    try:
        async with within(LINGER_SECONDS):
            return await anext(events, None)
    except TimeoutError:
        return None


def unhealthy(error: ModelError | TimeoutError, who: str, model: str, label: str, key_variable: str) -> ModelHealth:
    """What an error on asking for a model's description says of it."""
    match error:
        case NoSuchModel():
            return ModelHealth(
                check=ModelCheck.MISSING, detail=f"{label} does not offer {model}: set LLM to another model"
            )
        case ModelRefused():
            return ModelHealth(check=ModelCheck.REFUSED, detail=f"{label} does not take {key_variable}: {error.detail}")
        case _:
            return ModelHealth(check=ModelCheck.UNREACHABLE, detail=str(error) or f"{who}: no answer")


def key_of(environ: Mapping[str, str], variable: str) -> str:
    """The key in this variable, or nothing. Raises ``ValueError`` for what no header can hold."""
    key = environ.get(variable, "").strip()
    if key and not _KEY.fullmatch(key):
        raise ValueError(f"{variable} holds characters that no key has")
    return key


def base_url_of(environ: Mapping[str, str], variable: str, default: str) -> str:
    """The address in this variable, without a slash at its end. Raises ``ValueError`` for what is none."""
    base_url = environ.get(variable, "").strip().rstrip("/") or default
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
        raise ValueError(f"{variable} has to begin with https:// or http:// and a host")
    return base_url

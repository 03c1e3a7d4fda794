"""The HTTP under a provider's own library: what it lets through is watched here."""

import codecs
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import httpx2

from adapters.llm.transport import CONNECT_SECONDS
from chat_core.errors import ModelBadAnswer

#: The streams that requests of the current context have opened, for a caller that closes them, if there is one: a
#: library's generator that is closed leaves the one inside it to the collector of garbage, and its connection open.
opened: ContextVar[list[httpx2.AsyncByteStream]] = ContextVar("opened")


class WatchedTransport(httpx2.AsyncHTTPTransport):
    """Connections without a limit of their own and with time-outs for connecting alone.

    Raises ``ModelBadAnswer`` for a good status whose answer is neither events nor JSON, bytes that are no UTF-8, which
    the library would replace, and more bytes than were agreed.
    """

    def __init__(self, who: str, wire_bytes: int) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=None, keepalive_expiry=30), trust_env=False)
        self._who, self._wire_bytes = who, wire_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # The library asks for no time-out at all where it is given none.
        request.extensions["timeout"] = {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None}
        response = await super().handle_async_request(request)
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if response.status_code == 200 and kind not in ("text/event-stream", "application/json"):
            await response.aclose()
            raise ModelBadAnswer(f"{self._who}: the answer is {kind or 'of no type'}, not a stream of events")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Watched(response.stream, self._who, self._wire_bytes)
            opened.get([]).append(response.stream)
        return response


class _Watched(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, who: str, wire_bytes: int) -> None:
        self._inner, self._who, self._left = inner, who, wire_bytes

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        async for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise ModelBadAnswer(f"{self._who}: the answer is longer on the wire than MODEL_ANSWER_MAX allows")
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                raise ModelBadAnswer(f"{self._who}: an event that cannot be read: not UTF-8") from None
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()

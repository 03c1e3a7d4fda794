"""HTTP to a provider: one session for each model, and typed errors for all that can happen on the way."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

# Loaded with the provider that needs it, when it is named: half a second that an echo does without, and that must not
# stop the loop at the first request.
import aiohttp
from aiohttp import ClientRequest, ClientResponse, ClientSession, StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from adapters.llm import failures, sse
from adapters.llm.failures import ReadError
from chat_core.errors import ModelBadAnswer, ModelError, ModelInterrupted, ModelUnavailable

#: Bytes of an error's body that are read.
ERROR_BODY_MAX = 65_536
CONNECT_SECONDS = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of an answer is taken before it is given up as ``ModelBadAnswer``."""

    text_chars: int = 400_000
    line_bytes: int = 1 << 20
    wire_bytes: int = 8 << 20

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Limits":
        """With ``MODEL_ANSWER_MAX`` characters of text, and as many bytes as these may take. Raises ``ValueError``."""
        plain = cls()
        raw = environ.get("MODEL_ANSWER_MAX", "").strip() or str(plain.text_chars)
        if not raw.isdecimal() or not 1 <= int(raw) <= 10_000_000:
            raise ValueError("MODEL_ANSWER_MAX has to be a number of characters, from 1 to 10000000")
        # Wrapped in its event, a short token takes some twenty times its own length.
        return cls(text_chars=int(raw), wire_bytes=max(plain.wire_bytes, 20 * int(raw)))


class _Prepared:
    """What a POST to one address begins with, up to the length of its body; ``request`` says where to connect to."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        loop = asyncio.get_running_loop()
        self.request = ClientRequest("POST", URL(url), headers=session.headers, loop=loop, session=session)
        headers = self.request.headers
        headers.pop("content-length", None)
        lines = [
            f"POST {self.request.url.raw_path_qs} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header has to be one line")
        self.head = "".join(f"{line}\r\n" for line in lines).encode() + b"content-length: "


class Transport:
    """Connections to one provider for one model.

    Nothing is opened before the first request. ``headers`` go with every request and hold ``secret``, which
    no error's detail repeats; ``who`` is the ``provider:model`` for these details.
    """

    def __init__(
        self, *, who: str, headers: Mapping[str, str], secret: str, read_error: ReadError, limits: Limits
    ) -> None:
        self._who, self._headers, self._secret = who, dict(headers), secret
        self._read_error, self._limits = read_error, limits
        self._session: ClientSession | None = None
        self._prepared: _Prepared | None = None
        self._closed = False

    async def events(self, url: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The data of the events that come for a POST. Closing it closes the connection.

        Raises ``ModelUnavailable`` before the provider answers, ``ModelInterrupted`` after, and what its status means.
        """
        connection, head, content = await self._post(url, body)
        try:
            if head.code != 200:
                raise await self._refusal(head.code, head.headers, content)
            kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                raise ModelBadAnswer(f"{self._who}: the answer is {kind or 'of no type'}, not a stream of events")
            events = sse.Events(line_bytes=self._limits.line_bytes, wire_bytes=self._limits.wire_bytes)
            try:
                while chunk := await content.readany():
                    for event in events.take(chunk):
                        yield event
            except (aiohttp.ClientError, OSError) as error:
                raise ModelInterrupted(self._because("the stream was cut", error)) from error
            for event in events.end():
                yield event
        finally:
            _leave(connection, content)

    async def get(self, url: str) -> None:
        """Ask for something and look at the status alone. Raises as ``events`` does."""
        async with self._get(url):
            pass

    async def read(self, url: str) -> bytes:
        """The body of what is asked for. Raises as ``events`` does."""
        body = bytearray()
        async with self._get(url) as response:
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > self._limits.wire_bytes:
                        raise ModelBadAnswer(f"{self._who}: the answer is longer than {self._limits.wire_bytes} bytes")
            except (aiohttp.ClientError, OSError) as error:
                raise ModelInterrupted(self._because("the answer was cut", error)) from error
        return bytes(body)

    async def aclose(self) -> None:
        """Close all connections. Later requests raise ``ModelUnavailable``."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, url: str, body: bytes) -> tuple[Connection, RawResponseMessage, StreamReader]:
        """Answers are asked for on a connection of aiohttp's, past its session: that makes up address, headers, cookies
        and body anew for each request, which takes longer than all the rest of it."""
        connector = cast("TCPConnector", self._open().connector)
        prepared = self._prepared
        if prepared is None or prepared.url != url:
            prepared = self._prepared = _Prepared(url, self._open())
        try:
            connection = await connector.connect(prepared.request, traces=[], timeout=_TIMEOUT)
            try:
                protocol = cast("ResponseHandler", connection.protocol)
                protocol.set_response_params(read_until_eof=True, auto_decompress=False)
                cast("asyncio.Transport", protocol.transport).write(prepared.head + b"%d\r\n\r\n" % len(body) + body)
                while True:
                    head, content = await protocol.read()
                    # What comes before the answer says nothing (RFC 9110, section 15.2).
                    if not 100 <= head.code < 200:
                        return connection, head, content
            except BaseException:
                connection.close()
                raise
        except (HttpProcessingError, aiohttp.ClientError, OSError) as error:
            raise self._unanswered(error) from error

    @asynccontextmanager
    async def _get(self, url: str) -> AsyncGenerator[ClientResponse, None]:
        session = self._open()
        try:
            response = await session.get(url, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise self._unanswered(error) from error
        try:
            if response.status != 200:
                raise await self._refusal(response.status, response.headers, response.content)
            yield response
        finally:
            _leave(response, response.content)

    async def _refusal(self, status: int, headers: Mapping[str, str], content: StreamReader) -> ModelError:
        found = self._read_error(await self._error_body(content))
        found = failures.ErrorBody(
            message=failures.loggable(found.message, self._secret), retry_after=found.retry_after
        )
        return failures.of_status(status, found, headers, self._who)

    async def _error_body(self, content: StreamReader) -> bytes:
        body = bytearray()
        try:
            async for chunk in content.iter_any():
                body += chunk
                if len(body) > ERROR_BODY_MAX:
                    break
        except (aiohttp.ClientError, OSError):
            # The status says enough.
            pass
        return bytes(body[:ERROR_BODY_MAX])

    def _open(self) -> ClientSession:
        if self._closed:
            raise ModelUnavailable(f"{self._who}: the connections are closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many may talk at once is for those who make replies to say; a second limit here would only queue.
                connector=TCPConnector(limit=0, keepalive_timeout=30),
                timeout=_TIMEOUT,
                # Compressed, a stream of small events comes in lumps, and a small body may grow without bounds.
                headers={**self._headers, "accept-encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                # Proxies from the environment would see the key.
                trust_env=False,
            )
        return self._session

    def _unanswered(self, error: Exception) -> ModelError:
        if isinstance(error, (HttpProcessingError, aiohttp.ClientResponseError)):
            return ModelBadAnswer(self._because("the answer is no HTTP", error))
        return ModelUnavailable(self._because("no answer", error))

    def _because(self, what: str, error: BaseException) -> str:
        reason = failures.loggable(f"{type(error).__name__}: {error}", self._secret)
        return f"{self._who}: {what}: {reason}"


def _leave(held: Connection | ClientResponse, content: StreamReader) -> None:
    """Back to the pool where it was read to its end; else nothing but closing it stops the provider."""
    if content.at_eof():
        held.release()
    else:
        held.close()

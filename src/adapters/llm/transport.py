"""HTTP to a provider: one session for each model, and typed errors for all that can happen on the way."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

# Loaded with the provider that needs it, when it is named: half a second that an echo does without, and that must not
# stop the loop at the first request.
import aiohttp
from aiohttp import ClientResponse, ClientSession

from adapters.llm import failures, sse
from adapters.llm.failures import ReadError
from chat_core.errors import ModelBadAnswer, ModelInterrupted, ModelUnavailable

#: Bytes of an error's body that are read.
ERROR_BODY_MAX = 65_536
CONNECT_SECONDS = 5.0


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
        self._closed = False

    async def events(self, url: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The data of the events that come for a POST. Closing it closes the connection.

        Raises ``ModelUnavailable`` before the provider answers, ``ModelInterrupted`` after, and what its status means.
        """
        async with self._request("POST", url, body) as response:
            if response.content_type != "text/event-stream":
                raise ModelBadAnswer(f"{self._who}: the answer is {response.content_type}, not a stream of events")
            chunks = response.content.iter_any()
            limits = self._limits
            try:
                async with aclosing(
                    sse.events(chunks, line_bytes=limits.line_bytes, wire_bytes=limits.wire_bytes)
                ) as found:
                    async for event in found:
                        yield event
            except (aiohttp.ClientError, OSError) as error:
                raise ModelInterrupted(self._because("the stream was cut", error)) from error

    async def get(self, url: str) -> None:
        """Ask for something and look at the status alone. Raises as ``events`` does."""
        async with self._request("GET", url, None):
            pass

    async def read(self, url: str) -> bytes:
        """The body of what is asked for. Raises as ``events`` does."""
        body = bytearray()
        async with self._request("GET", url, None) as response:
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

    @asynccontextmanager
    async def _request(self, method: str, url: str, body: bytes | None) -> AsyncGenerator[ClientResponse, None]:
        if self._closed:
            raise ModelUnavailable(f"{self._who}: the connections are closed")
        try:
            response = await self._open().request(method, url, data=body, allow_redirects=False)
        except aiohttp.ClientResponseError as error:
            raise ModelBadAnswer(self._because("the answer is no HTTP", error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(self._because("no answer", error)) from error
        try:
            if response.status != 200:
                found = self._read_error(await self._error_body(response))
                found = failures.ErrorBody(
                    message=failures.loggable(found.message, self._secret), retry_after=found.retry_after
                )
                raise failures.of_status(response.status, found, response.headers, self._who)
            yield response
        finally:
            # Back to the pool where it was read to its end; else nothing but closing it stops the provider.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _error_body(self, response: ClientResponse) -> bytes:
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > ERROR_BODY_MAX:
                    break
        except (aiohttp.ClientError, OSError):
            # The status says enough.
            pass
        return bytes(body[:ERROR_BODY_MAX])

    def _open(self) -> ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # How many may talk at once is for those who make replies to say; a second limit here would only queue.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
                # Compressed, a stream of small events comes in lumps, and a small body may grow without bounds.
                headers={**self._headers, "accept-encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                # Proxies from the environment would see the key.
                trust_env=False,
            )
        return self._session

    def _because(self, what: str, error: BaseException) -> str:
        reason = failures.loggable(f"{type(error).__name__}: {error}", self._secret)
        return f"{self._who}: {what}: {reason}"

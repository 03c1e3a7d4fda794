"""Requests to a provider as they are on the wire, against a server that plays a script of bytes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from adapters.llm.failures import ErrorBody
from adapters.llm.transport import Limits, Transport
from chat_core.errors import ModelBadAnswer, ModelError, ModelInterrupted, ModelUnavailable

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: a\n\n\r\n"
END = b"0\r\n\r\n"
FAILS = b"HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\nno"
#: At the end of an answer: the connection is closed behind it.
HANGS_UP = b"(hangs up)"


class Server:
    """Answers each request with the next of its answers."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked, self.closed = asyncio.Event(), asyncio.Event()
        self._answers = iter(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                self.asked.set()
                answer = next(self._answers)
                writer.write(answer.removesuffix(HANGS_UP))
                if answer.endswith(HANGS_UP):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes, user: str = "") -> AsyncIterator[tuple[Server, str, Transport]]:
    server = Server(answers)
    transport = Transport(
        who="p:m",
        headers={"x-key": "k-secret", "content-type": "application/json"},
        secret="k-secret",
        read_error=lambda body: ErrorBody(message=body.decode(), retry_after=None),
        limits=Limits(),
    )
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            yield server, f"http://{user}127.0.0.1:{port}/models/m:ask?alt=sse", transport
        finally:
            await transport.aclose()


async def events(transport: Transport, url: str, body: bytes = b"{}") -> list[bytes]:
    async with aclosing(transport.events(url, body)) as found:
        return [event async for event in found]


async def test_a_request_is_whole_and_says_everything_once() -> None:
    async with serving(STREAM + EVENT + END) as (server, url, transport):
        assert await events(transport, url, b'{"a":"\xc3\xa4"}') == [b"a"]
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert first == "POST /models/m:ask?alt=sse HTTP/1.1"
        assert len(headers) == len(lines)
        assert headers.pop("user-agent")
        assert headers == {
            "host": url.split("/")[2],
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "content-length": "10",
            "x-key": "k-secret",
        }
        assert body == b'{"a":"\xc3\xa4"}'


async def test_a_connection_that_was_read_to_its_end_is_used_again() -> None:
    async with serving(STREAM + EVENT + END, STREAM + END, FAILS, STREAM + END) as (server, url, transport):
        assert await events(transport, url) == [b"a"]
        assert await events(transport, url) == []
        with pytest.raises(ModelUnavailable, match="HTTP 500: no"):
            await events(transport, url)
        assert await events(transport, url.replace("models", "others")) == []
        assert server.connections == 1
        assert server.requests[3].startswith(b"POST /others/")


async def test_leaving_in_the_middle_closes_the_connection() -> None:
    async with serving(STREAM + EVENT) as (server, url, transport):
        async with aclosing(transport.events(url, b"{}")) as found:
            assert await anext(found) == b"a"
        await server.closed.wait()


async def test_leaving_before_the_answer_closes_the_connection() -> None:
    async with serving(b"") as (server, url, transport):
        asking = asyncio.create_task(events(transport, url))
        await server.asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        await server.closed.wait()


async def test_what_is_said_before_the_answer_is_passed_over() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with serving(hints + STREAM + EVENT + END) as (_, url, transport):
        assert await events(transport, url) == [b"a"]


async def test_a_user_in_the_address_is_told_as_a_header() -> None:
    async with serving(STREAM + END, user="ada:pass%20word@") as (server, url, transport):
        await events(transport, url)
        assert b"\r\nAuthorization: Basic YWRhOnBhc3Mgd29yZA==\r\n" in server.requests[0]
        assert b"ada" not in server.requests[0].split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("answer", "kind", "detail"),
    [
        (HANGS_UP, ModelUnavailable, "no answer"),
        (b"SSH-2.0-OpenSSH\r\n", ModelBadAnswer, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ModelBadAnswer, "the answer is of no type"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", ModelBadAnswer, "text/html"),
        (STREAM + EVENT + HANGS_UP, ModelInterrupted, "the stream was cut"),
    ],
)
async def test_what_goes_wrong_has_its_kind(answer: bytes, kind: type[ModelError], detail: str) -> None:
    async with serving(answer) as (_, url, transport):
        with pytest.raises(kind) as found:
            await events(transport, url)
        assert type(found.value) is kind
        assert detail in found.value.detail
        assert "k-secret" not in found.value.detail


async def test_nobody_listening_is_unavailable() -> None:
    async with serving() as (_, url, transport):
        with pytest.raises(ModelUnavailable, match="no answer"):
            await events(transport, url.replace("127.0.0.1", "127.255.255.254"))


async def test_once_closed_it_asks_nothing() -> None:
    async with serving() as (_, url, transport):
        await transport.aclose()
        with pytest.raises(ModelUnavailable, match="closed"):
            await events(transport, url)


async def test_a_header_of_two_lines_is_never_sent() -> None:
    transport = Transport(
        who="p:m",
        headers={"x-key": "k\r\nx-other: y"},
        secret="",
        read_error=lambda body: ErrorBody(message="", retry_after=None),
        limits=Limits(),
    )
    async with serving() as (server, url, _):
        with pytest.raises(ValueError, match="one line"):
            await events(transport, url)
        assert server.requests == []
        await transport.aclose()

"""Answers as they are on the wire, whichever way they were sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from entrypoints.container import memory_container
from entrypoints.http.guarded import GuardedProtocol
from tests.e2e.service import people, served

Answer = tuple[int, dict[str, str], bytes]


class Wire:
    """One connection, and what comes on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, *requests: bytes) -> None:
        self._writer.write(b"".join(requests))

    async def answer(self, *, content: bool = True) -> Answer:
        async with asyncio.timeout(15):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode()[:-4].split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            assert len(headers) == len(lines)
            body = await self._reader.readexactly(int(headers["content-length"])) if content else b""
            return int(first.split()[1]), headers, body

    async def rest(self) -> bytes:
        async with asyncio.timeout(15):
            return await self._reader.read()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def asking(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: test", *lines]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


async def test_every_answer_has_its_headers_once() -> None:
    async with served(memory_container()) as url, connected(url) as wire:
        for path in ("/health", "/auth/me", "/nowhere", "/docs", "/app"):
            wire.send(asking("GET", path, "X-Request-ID: mine"))
            status, headers, body = await wire.answer()
            assert status in (200, 401, 404)
            assert headers["x-request-id"] == "mine"
            assert int(headers["content-length"]) == len(body)
            assert {"date", "content-type", "cache-control", "content-security-policy", "referrer-policy"} <= set(
                headers
            )
            assert {"strict-transport-security", "x-content-type-options"} <= set(headers)


async def test_requests_that_come_at_once_are_answered_in_their_order() -> None:
    async with served(memory_container()) as url, people(url, "ada") as [ada], connected(url) as wire:
        token = f"Authorization: {ada.http.headers['Authorization']}"
        names = [f"room {number}" for number in range(5)]
        wire.send(
            *(asking("POST", "/rooms/", token, body=b'{"name": "%b"}' % name.encode()) for name in names),
            asking("HEAD", "/health"),
            asking("GET", "/auth/me", token),
        )
        for name in names:
            status, _, body = await wire.answer()
            assert (status, name.encode() in body) == (201, True)
        status, headers, _ = await wire.answer(content=False)
        assert (status, int(headers["content-length"]) > 0) == (200, True)
        status, _, body = await wire.answer()
        assert (status, b"ada" in body) == (200, True)


async def test_the_connection_ends_where_that_was_asked_for() -> None:
    async with served(memory_container()) as url, connected(url) as wire:
        wire.send(asking("GET", "/health"))
        _, headers, _ = await wire.answer()
        assert "connection" not in headers
        wire.send(asking("GET", "/health", "Connection: close"))
        _, headers, _ = await wire.answer()
        assert headers["connection"] == "close"
        assert await wire.rest() == b""
    async with served(memory_container()) as url, connected(url) as wire:
        wire.send(b"GET /health HTTP/1.0\r\nHost: test\r\n\r\n")
        assert re.match(rb"HTTP/1.1 200 OK\r\n(?s:.*)\r\n\r\n\{.*\}$", await wire.rest())


async def test_an_answer_of_known_length_is_sent_in_one_piece(monkeypatch) -> None:
    pieces: list[bytes] = []

    class Noting:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> object:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            pieces.append(data)
            self._transport.write(data)

    made = GuardedProtocol.connection_made

    def connection_made(self: GuardedProtocol, transport: asyncio.Transport) -> None:
        made(self, Noting(transport))  # type: ignore[arg-type]

    monkeypatch.setattr(GuardedProtocol, "connection_made", connection_made)
    async with served(memory_container()) as url, connected(url) as wire:
        wire.send(asking("GET", "/health"))
        _, _, body = await wire.answer()
        assert len(pieces) == 1
        assert pieces[0].endswith(b"\r\n\r\n" + body)


async def test_an_answer_before_its_request_has_come_whole_is_one_all_the_same() -> None:
    async with served(memory_container()) as url, connected(url) as wire:
        late = asking("POST", "/rooms/", body=b'{"name": "%b"}' % (b"a" * 20_000))
        wire.send(late[:500])
        status, _, _ = await wire.answer()
        assert status == 401
        wire.send(late[500:], asking("GET", "/health"))
        status, _, _ = await wire.answer()
        assert status == 200

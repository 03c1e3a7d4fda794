"""The HTTP of the fake provider: as little of HTTP/1.1 as real clients use."""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from types import TracebackType
from typing import Any, Self, TextIO, cast
from urllib.parse import parse_qsl

from chat_core.testing.fake_provider.formats import Format, Gemini, Json, OpenAI, Vertex, event
from chat_core.testing.fake_provider.ledger import Entry, Ledger, line
from chat_core.testing.fake_provider.messages_format import Anthropic
from chat_core.testing.fake_provider.script import Plan, has_marker, plan

# With what Vertex AI puts before it.
_GEMINI = re.compile(
    r"^/v1(?:beta1?)?/(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/\w+/)?models/([^/:?]+)(?::(\w+))?(?:\?|$)"
)
_REASONS = {200: "OK", 204: "No Content", 404: "Not Found"}
_MISSING = "models/{} is not found for API version v1beta, or is not supported for generateContent."


class _ClientLeft(Exception):
    """The client closed its connection."""


class FakeProvider:
    """The server, as an asynchronous context manager; ``url`` has no slash at the end.

    ``marks`` gives the markers of each request by its number, besides those in its prompt: a provider that is down.
    ``offers`` is what it lists: names of models, with the day on which each ends; ``None`` for a list that cannot be
    had. It answers with any model, listed or not, but for one whose name holds ``retired``, which does not exist. A key
    that holds ``invalid`` is refused, and so is no key.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        ledger_file: TextIO | None = None,
        *,
        marks: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._host, self._port, self._marks = host, port, marks
        self._connections: set[asyncio.Task[None]] = set()
        self.ledger = Ledger(ledger_file)
        self.url = ""
        self.offers: Mapping[str, date | None] | None = {"fake": None}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, self._port, backlog=4096)
        self.url = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for _ in range(4):
            # A connection that was just accepted takes a few turns of the loop to get its handler.
            await asyncio.sleep(0)
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._request(reader, writer):
                pass
        # What a client does to its connection is no failure of ours; and a cancelled handler has nobody to tell.
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                writer.transport.abort()
            self._connections.discard(task)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in head[1:] if row)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        if path == "/ledger":
            if method == "DELETE":
                self.ledger.clear()
            lines = "".join(map(line, self.ledger)).encode()
            _whole(writer, 200, lines, content_type="application/x-ndjson")
            return True
        body: Any = None
        with contextlib.suppress(ValueError):
            body = json.loads(raw) if raw else None
        entry = self.ledger.begin(method, path, headers, body)
        stream = _Stream(reader, writer, entry)
        try:
            key = "".join(headers.get(name, "") for name in ("x-goog-api-key", "authorization", "x-api-key"))
            await self._answer(entry, path, key, stream)
        except (_ClientLeft, OSError):
            stream.ended = "client-closed"
        finally:
            self.ledger.end(entry, stream.ended or str(entry.status))
        return not writer.is_closing() and stream.ended != "client-closed"

    async def _answer(self, entry: Entry, path: str, key: str, stream: "_Stream") -> None:
        body: Json = cast("Json", entry.body) if isinstance(entry.body, dict) else {}
        wire: Format = Gemini()
        match = _GEMINI.match(path)
        if match or entry.path.endswith("/models"):
            # Three formats share the addresses of the list and of a description.
            if "/publishers/" in path:
                wire = Vertex()
            elif "anthropic-version" in entry.headers:
                wire = Anthropic()
            elif key.startswith("Bearer ") or not entry.path.startswith("/v1"):
                wire = OpenAI()
        if match:
            entry.model, verb = match[1], match[2] or "get"
        elif entry.path.endswith(("/chat/completions", "/v1/messages")):
            wire = Anthropic() if entry.path.endswith("/messages") else OpenAI()
            entry.model = str(body.get("model", ""))
            verb = "streamGenerateContent" if body.get("stream") else "generateContent"
        elif entry.path.endswith("/models"):
            verb = "list"
        else:
            return stream.whole(404, wire.error(404, "no such path"))
        if not key or "invalid" in key:
            status, reason = (400, "API_KEY_INVALID") if key else (403, "")
            return stream.whole(status, wire.error(status, "API key not valid.", detail=reason))
        if verb == "list":
            if self.offers is None:
                return stream.whole(503, wire.error(503, "the list of models cannot be had"))
            return stream.whole(200, wire.models(self.offers, dict(parse_qsl(path.partition("?")[2]))))
        if "retired" in entry.model:
            return stream.whole(404, wire.error(404, _MISSING.format(entry.model)))
        if verb == "get":
            return stream.whole(200, wire.model(entry.model))
        entry.prompt = prompt = wire.prompt(body)
        if verb == "countTokens":
            return stream.whole(200, b'{"totalTokens":%d}' % (len(prompt) // 4 + 1))
        before = self.ledger.asked_before(prompt) if has_marker(prompt) else 0
        todo = plan(prompt + self._marks(entry.number), entry.number, before)
        if todo.status != 200:
            return stream.refuse(wire, todo)
        if verb == "generateContent" and not todo.fault:
            return stream.whole(200, wire.whole(todo, prompt))
        await stream.run(wire, todo, prompt)


class _Stream:
    """One answer on its way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, entry: Entry) -> None:
        self.reader, self.writer, self.entry = reader, writer, entry
        self.ended = ""

    def whole(self, status: int, body: bytes, headers: str = "", content_type: str = "application/json") -> None:
        self.entry.status = status
        _whole(self.writer, status, body, headers, content_type)

    def refuse(self, wire: Format, todo: Plan) -> None:
        message = f"the fake provider was asked for {todo.status}"
        if todo.too_long:
            message = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
        in_body = todo.retry_after if todo.retry_in_body else ""
        headers = f"retry-after: {todo.retry_after}\r\n" if todo.retry_after and not in_body else ""
        detail = "context_length_exceeded" if todo.too_long else ""
        self.whole(todo.status, wire.error(todo.status, message, in_body, detail), headers)

    async def run(self, wire: Format, todo: Plan, prompt: str) -> None:
        self.ended = todo.fault or "complete"
        if todo.fault == "html" and not todo.after:
            return self.whole(200, b"<!doctype html><p>It works!</p>", content_type="text/html")
        if todo.fault == "hang" and not todo.after:
            await self._hang()
        self.entry.status = 200
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if start := wire.start(prompt):
            await self._send(start, todo)
        for _ in range(todo.thoughts):
            await self._send(wire.thought(), todo)
        count = todo.after if todo.fault else len(todo.chunks)
        for index in range(count):
            await self._send(wire.text(todo, index), todo)
            self.entry.chunks += 1
        if todo.fault == "hang":
            await self._hang()
        elif todo.fault == "cut":
            await self.writer.drain()
            self.writer.close()
            return None
        elif todo.fault:
            await self._send(_fault(wire, todo), todo)
        else:
            await self._send(wire.finish(todo, prompt), todo)
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def _send(self, data: bytes, todo: Plan) -> None:
        if self.writer.is_closing() or self.reader.at_eof():
            raise _ClientLeft
        if todo.split_bytes:
            # Three bytes at a time: code points and line ends come in parts.
            for start in range(0, len(data), 3):
                self._chunk(data[start : start + 3])
                await asyncio.sleep(0)
        elif data:
            self._chunk(data)
        await self.writer.drain()
        if todo.delay:
            await self._pause(todo.delay)

    def _chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hang()

    async def _hang(self) -> None:
        # The one thing that a client can still do while it waits is to leave.
        await self.reader.read(1)
        raise _ClientLeft


def _fault(wire: Format, todo: Plan) -> bytes:
    match todo.fault:
        case "error":
            return wire.failure(todo.error_code, "the fake provider fails midway")
        case "html":
            return b"<!doctype html><p>It works!</p>\n\n"
        case "json":
            return b"data: {candidates: oops}\n\n"
        case "utf8":
            return event(
                {
                    "candidates": [{"content": {"parts": [{"text": "@"}]}}],
                    "choices": [{"delta": {"content": "@"}}],
                    "type": "content_block_delta",
                    "delta": {"type": "text_delta", "text": "@"},
                }
            ).replace(b"@", b"\xff\xfe")
        case "half":
            return b'data: {"candidates":[{"content":{"parts":[{"te'
        case "types":
            return wire.wrong_types()
        case _:
            return b""


def _whole(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: str = "",
    content_type: str = "application/json",
) -> None:
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Failure')}\r\ncontent-type: {content_type}\r\n{headers}"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

"""Answers to any request, byte for byte: what no double of a provider would say."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def answering(*raw: bytes, hold: bool = False) -> AsyncIterator[str]:
    """A server that answers one request for each connection, with these bytes in turn and then always the last of them.
    It then closes, or waits for the client to."""
    done: list[asyncio.Task[Any]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.append(task)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw[min(len(done), len(raw)) - 1])
        await writer.drain()
        while hold and await reader.read(65_536):
            pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*done)


def whole(status: int, body: bytes, headers: str = "") -> bytes:
    """An answer with its length, after which the connection is closed."""
    head = f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def event_answer(*events: object) -> bytes:
    """A stream of these events, verbatim where they are bytes, whose body does not end."""
    body = b"".join(
        event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n" for event in events
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (
        len(body),
        body,
    )


def whole_event_answer(*events: object) -> bytes:
    """The same with the body's proper end."""
    return event_answer(*events) + b"0\r\n\r\n"

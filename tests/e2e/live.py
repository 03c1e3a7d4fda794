"""Clients of live rooms: sockets and streams, read event by event."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import websockets
from httpx_sse import EventSource

from tests.e2e.service import Person

PATIENCE = 15.0


class Socket:
    """One WebSocket. What is no answer to a frame of ours is kept for ``event``; ``all`` is what came in all."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.raw = connection
        self._events: list[dict[str, Any]] = []
        self.all: list[dict[str, Any]] = []
        self._refs = 0

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            frame: dict[str, Any] = json.loads(await self.raw.recv())
        self.all.append(frame)
        return frame

    async def ask(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The answer to this frame."""
        self._refs += 1
        await self.raw.send(json.dumps({"type": type_, "ref": self._refs, **fields}))
        while True:
            frame = await self._next()
            if frame["type"] in ("ok", "error"):
                assert frame["ref"] == self._refs
                return frame
            self._events.append(frame)

    async def event(self, *kinds: str) -> dict[str, Any]:
        """The next event; of these kinds, or, where none are given, of those that have a place in the log."""
        while True:
            frame = self._events.pop(0) if self._events else await self._next()
            if frame["type"] in kinds or (not kinds and frame["seq"] is not None):
                return frame

    async def events_to(self, seq: int) -> list[dict[str, Any]]:
        """All up to this place."""
        found = [await self.event()]
        while found[-1]["seq"] < seq:
            found.append(await self.event())
        return found

    async def closed(self) -> int:
        """The code that it is closed with."""
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    self._events.append(json.loads(await self.raw.recv()))
            except websockets.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 1006


@asynccontextmanager
async def socket(person: Person, **more: Any) -> AsyncIterator[Socket]:
    """A socket of theirs."""
    url = str(person.http.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"
    headers = {"Authorization": person.http.headers["Authorization"]}
    async with websockets.connect(url, additional_headers=headers, max_size=None, compression=None, **more) as raw:
        yield Socket(raw)


class Stream:
    """One stream of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events = EventSource(response).aiter_sse()

    async def event(self, *kinds: str) -> dict[str, Any]:
        """The next event's data; of these kinds, or, where none are given, with an id."""
        async with asyncio.timeout(PATIENCE):
            async for found in self._events:
                data: dict[str, Any] = json.loads(found.data)
                # An event without an id has that of the one before it, as far as readers of streams are concerned.
                if found.event in kinds or (not kinds and data["seq"] is not None):
                    assert found.event == data["type"]
                    if data["seq"] is not None:
                        assert found.id == str(data["seq"])
                    return data
        raise EOFError

    async def events_to(self, seq: int) -> list[dict[str, Any]]:
        found = [await self.event()]
        while found[-1]["seq"] < seq:
            found.append(await self.event())
        return found

    async def ended(self) -> list[dict[str, Any]]:
        """What comes before its end."""
        found = []
        try:
            while True:
                found.append(await self.event())
        except EOFError:
            return found


@asynccontextmanager
async def stream(person: Person, room: str, **headers: str) -> AsyncIterator[Stream]:
    """A stream of this room."""
    query = f"?after={headers.pop('after')}" if "after" in headers else ""
    sent = {"Accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with person.http.stream("GET", f"/rooms/{room}/events{query}", headers=sent) as response:
        if response.status_code != 200:
            await response.aread()
        yield Stream(response)

"""People who watch: an answer by its ids, a room by its places, over as many connections as it takes."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from tests.faults.viewer_checkers import Shown

_PAUSE = 0.05
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=30)


class _Viewer:
    """Goes to the next process when a connection ends before it should, with the last id that it has."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], token: str, at: int) -> None:
        self._session, self._urls, self._token, self._at = session, list(urls), token, at
        self.connections = 0
        #: When the latest event came, on the monotonic clock.
        self.latest = 0.0
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not self.done:
            try:
                await self._connect(self._urls[self._at % len(self._urls)])
            except (aiohttp.ClientError, OSError, ValueError):
                pass
            if not self.done:
                self._at += 1
                await asyncio.sleep(_PAUSE)

    @property
    def done(self) -> bool:
        raise NotImplementedError

    async def _connect(self, url: str) -> None:
        raise NotImplementedError

    async def to_the_end(self, seconds: float = 60.0) -> None:
        """Raises ``TimeoutError`` where its end never comes."""
        assert self.task is not None
        async with asyncio.timeout(seconds):
            await asyncio.shield(self.task)

    async def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})

    async def _events(self, url: str, headers: dict[str, str], cut: int | None = None) -> AsyncIterator[dict[str, str]]:
        """Server-sent events, for ``cut`` bytes at the most: then the connection is dropped where it is."""
        sent = {"authorization": f"Bearer {self._token}", "accept": "text/event-stream", **headers}
        async with self._session.get(url, headers=sent, timeout=_TIMEOUT) as answer:
            answer.raise_for_status()
            self.connections += 1
            buffer = b""
            async for chunk in answer.content.iter_any():
                taken = chunk if cut is None else chunk[:cut]
                cut = None if cut is None else cut - len(taken)
                buffer += taken
                *blocks, buffer = buffer.split(b"\n\n")
                for block in blocks:
                    fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                    if "event" in fields:
                        self.latest = time.monotonic()
                        yield fields
                if cut == 0:
                    answer.close()
                    return


class ReplyViewer(_Viewer):
    """Watches one answer. ``cuts``: so many connections are dropped by the viewer itself, at any byte."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        token: str,
        reply_id: str,
        at: int = 0,
        *,
        cuts: int = 0,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(session, urls, token, at)
        self.reply_id, self.shown = reply_id, list[Shown]()
        self._cuts, self._rng = cuts, rng or random.Random(reply_id)

    @property
    def done(self) -> bool:
        return bool(self.shown) and self.shown[-1].name == "end"

    @property
    def text(self) -> str:
        text = ""
        for event in self.shown:
            text = "" if event.name == "reset" else text + event.text
        return text

    async def _connect(self, url: str) -> None:
        last = next((event.id for event in reversed(self.shown) if event.id), "")
        cut = None
        if self._cuts:
            self._cuts -= 1
            cut = self._rng.randint(1, 700)
            self._at += self._rng.randrange(2)
        headers = {"last-event-id": last} if last else {}
        async for event in self._events(f"{url}/replies/{self.reply_id}/events", headers, cut):
            text = json.loads(event["data"]).get("text", "") if event["event"] == "delta" else ""
            self.shown.append(Shown(event["event"], event.get("id", ""), text))
            if self.done:
                return


class RoomViewer(_Viewer):
    """Watches one room, as server-sent events or over a WebSocket, from its beginning until it is told to leave."""

    def __init__(
        self, session: aiohttp.ClientSession, urls: Sequence[str], token: str, room: str, at: int = 0, *, socket: bool
    ) -> None:
        super().__init__(session, urls, token, at)
        self.room, self.socket, self.seqs, self.codes = room, socket, list[int](), list[int]()

    @property
    def done(self) -> bool:
        return False

    async def _connect(self, url: str) -> None:
        await (self._by_socket(url) if self.socket else self._by_stream(url))

    def _take(self, seq: Any) -> None:
        if seq is not None:
            self.seqs.append(int(seq))

    async def _by_stream(self, url: str) -> None:
        after = self.seqs[-1] if self.seqs else 0
        async for event in self._events(f"{url}/rooms/{self.room}/events?after={after}", {}):
            self._take(event.get("id"))

    async def _by_socket(self, url: str) -> None:
        headers = {"authorization": f"Bearer {self._token}"}
        async with self._session.ws_connect(f"{url}/ws", headers=headers, timeout=_WS_TIMEOUT) as ws:
            self.connections += 1
            after = self.seqs[-1] if self.seqs else 0
            await ws.send_json({"type": "subscribe", "room_id": self.room, "after": after})
            async for frame in ws:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                self.latest = time.monotonic()
                self._take(json.loads(frame.data).get("seq"))
            if ws.close_code is not None:
                self.codes.append(ws.close_code)

    async def has(self, seq: int, seconds: float = 30.0) -> None:
        """Wait until it has seen this place."""
        async with asyncio.timeout(seconds):
            while not self.seqs or self.seqs[-1] < seq:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


_WS_TIMEOUT = aiohttp.ClientWSTimeout(ws_close=2)

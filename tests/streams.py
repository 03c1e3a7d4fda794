"""Following server-sent events as a client does: by its ids, over any number of connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse


@dataclass
class Seen:
    """What one viewer of a reply has seen so far, and where they would come back to."""

    events: list[ServerSentEvent] = field(default_factory=list)
    text: str = ""
    last_id: str = ""

    def take(self, event: ServerSentEvent) -> None:
        """Raises ``AssertionError`` where an id falls, or leaves one out without a reset."""
        if event.id and event.id != self.last_id:
            self._check(event)
            self.last_id = event.id
        self.events.append(event)
        if event.event == "delta":
            self.text += event.json()["text"]
        elif event.event == "reset":
            self.text = ""

    def _check(self, event: ServerSentEvent) -> None:
        epoch, offset = map(int, event.id.split("-"))
        before = tuple(map(int, self.last_id.split("-"))) if self.last_id else (epoch, offset - 1)
        assert (epoch, offset) > before, f"{event.id} after {self.last_id}"
        if event.event != "reset":
            assert (epoch, offset - 1) == before or (offset == 0 and not self.text), f"{event.id} after {self.last_id}"

    @property
    def names(self) -> list[str]:
        """The names of the events, each run of deltas as one."""
        names: list[str] = []
        for event in self.events:
            if event.event != "delta" or names[-1:] != ["delta"]:
                names.append(event.event)
        return names

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].event == "end"

    def data(self, name: str) -> Any:
        """The data of the only event of this name."""
        [event] = [event for event in self.events if event.event == name]
        return event.json()


@asynccontextmanager
async def sending(
    http: httpx.AsyncClient, room: str, content: str, m_id: str | None = None
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """The stream of a send, while it is entered."""
    body = {"content": content} if m_id is None else {"content": content, "m_id": m_id}
    async with aconnect_sse(http, "POST", f"/chat/{room}", json=body) as source:
        source.response.raise_for_status()
        yield source.aiter_sse()


@asynccontextmanager
async def following(
    http: httpx.AsyncClient, reply_id: str, last_id: str = ""
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """The stream of a reply, from its start or from behind an id."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with aconnect_sse(http, "GET", f"/replies/{reply_id}/events", headers=headers) as source:
        source.response.raise_for_status()
        yield source.aiter_sse()


async def streamed(http: httpx.AsyncClient, room: str, content: str, m_id: str | None = None) -> Seen:
    """All that a send streams."""
    seen = Seen()
    async with sending(http, room, content, m_id) as events:
        async for event in events:
            seen.take(event)
    return seen


async def resumed(http: httpx.AsyncClient, reply_id: str, seen: Seen | None = None, most: int | None = None) -> Seen:
    """Go on from where the viewer was, for ``most`` events or to the stream's end."""
    seen = seen or Seen()
    async with following(http, reply_id, seen.last_id) as events:
        async for event in events:
            seen.take(event)
            if most is not None and (most := most - 1) <= 0:
                break
    return seen

"""One stream or socket, as the hub sees it: who it belongs to, and what is to be sent to it."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from chat_core.domain.ids import RoomId
from chat_core.domain.user import Actor
from chat_core.use_cases.live.events import LiveEvent

if TYPE_CHECKING:
    from chat_core.use_cases.live.room import Subscription

#: What may wait to be sent to one client: more, and it is too slow.
FRAMES_MAX = 2_000
BYTES_MAX = 2 * 1024 * 1024

F = TypeVar("F", str, bytes)


class Ended(StrEnum):
    """Why nothing more is shown."""

    OUT = "out of the room"
    SESSION = "the session ended"
    DRAINING = "restarting"
    SLOW = "too slow"


class Connection(Generic[F]):
    """What is to be sent to one client, in its transport's form, and within bounds; one reader takes it out.

    ``encode`` makes that form. A client that does not keep up is ended, and comes back with its cursor.
    """

    __slots__ = ("_bytes", "_frames", "_items", "_news", "_room", "actor", "encode", "ended", "subscriptions")

    def __init__(
        self, actor: Actor, encode: Callable[[LiveEvent], F], *, frames: int = FRAMES_MAX, bytes_: int = BYTES_MAX
    ) -> None:
        self.actor = actor
        self.encode = encode
        self.ended: Ended | None = None
        self.subscriptions: dict[RoomId, Subscription] = {}
        self._frames, self._bytes = frames, bytes_
        self._items: list[F] = []
        self._room = bytes_
        self._news: asyncio.Future[None] | None = None

    def show(self, event: LiveEvent) -> None:
        """Send it, soon, unless this has ended."""
        self.put(event.form(self.encode))

    def put(self, item: F) -> None:
        """Send this, soon, unless this has ended."""
        if self.ended is not None:
            return
        self._items.append(item)
        self._room -= len(item)
        if len(self._items) > self._frames or self._room < 0:
            self.end(Ended.SLOW)
        self._wake()

    def end(self, reason: Ended) -> None:
        """Show nothing more. What waits is still sent where it was shown in good order."""
        if self.ended is None:
            self.ended = reason
            if reason in (Ended.SLOW, Ended.SESSION):
                self._items = []
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def take(self, seconds: float | None = None) -> list[F]:
        """All that waits, as soon as there is something; nothing after ``seconds``, or once this has ended."""
        if not self._items and self.ended is None:
            loop = asyncio.get_running_loop()
            self._news = loop.create_future()
            timer = loop.call_later(seconds, self._wake) if seconds is not None else None
            try:
                await self._news
            finally:
                self._news = None
                if timer is not None:
                    timer.cancel()
        items, self._items = self._items, []
        self._room = self._bytes
        return items

    @property
    def crowded(self) -> bool:
        """Whether half of what may wait does: who reads old events for it should pause."""
        return self._room < self._bytes // 2 or len(self._items) > self._frames // 2

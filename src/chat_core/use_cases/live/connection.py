"""One stream or socket, as the hub sees it: who it belongs to, and what is to be sent to it."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from chat_core.domain.ids import RoomId
from chat_core.domain.user import Actor
from chat_core.use_cases.live.events import LiveEvent

if TYPE_CHECKING:
    from chat_core.use_cases.live.room import Subscription

#: What may wait to be sent to one client: more, and it is too slow.
FRAMES_MAX = 2_000
BYTES_MAX = 2 * 1024 * 1024


class Ended(StrEnum):
    """Why nothing more is shown."""

    OUT = "out of the room"
    SESSION = "the session ended"
    DRAINING = "restarting"
    SLOW = "too slow"


class Connection:
    """What is to be sent to one client, in its transport's form, and within bounds; one reader takes it out.

    ``encode`` makes that form. ``at_once`` sends such items without waiting, where the transport takes them now, and
    says whether it did: then nobody has to be woken for it. A client that does not keep up is ended, and comes back
    with its cursor.
    """

    __slots__ = (
        "_at_once",
        "_bytes",
        "_emptied",
        "_frames",
        "_items",
        "_news",
        "_room",
        "_sending",
        "actor",
        "encode",
        "ended",
        "subscriptions",
    )

    def __init__(
        self,
        actor: Actor,
        encode: Callable[[LiveEvent], bytes],
        *,
        at_once: Callable[[Sequence[bytes]], bool] | None = None,
        frames: int = FRAMES_MAX,
        bytes_: int = BYTES_MAX,
    ) -> None:
        self.actor = actor
        self.encode = encode
        self._at_once = at_once
        self._sending = False
        self.ended: Ended | None = None
        self.subscriptions: dict[RoomId, Subscription] = {}
        self._frames, self._bytes = frames, bytes_
        self._items: list[bytes] = []
        self._room = bytes_
        self._news: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    def show(self, *events: LiveEvent) -> None:
        """Send them, soon, unless this has ended."""
        encode = self.encode
        self.put(*[event.form(encode) for event in events])

    def put(self, *items: bytes) -> None:
        """Send these, soon and in this order, unless this has ended."""
        if self.ended is not None:
            return
        if self._at_once is not None and not self._items and not self._sending and self._at_once(items):
            return
        self._items += items
        self._room -= sum(map(len, items))
        if len(self._items) > self._frames or self._room < 0:
            self.end(Ended.SLOW)
        self._wake()

    def end(self, reason: Ended) -> None:
        """Show nothing more. What waits is still sent where it was shown in good order."""
        if self.ended is None:
            self.ended = reason
            if reason in (Ended.SLOW, Ended.SESSION):
                self._items = []
            self._let_on()
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def take(self, seconds: float | None = None) -> list[bytes]:
        """All that waits, as soon as there is something; nothing after ``seconds``, or once this has ended. Until the
        next call it counts as being sent."""
        self._sending = False
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
        self._let_on()
        self._sending = bool(items)
        return items

    def _let_on(self) -> None:
        if self._emptied is not None:
            self._emptied.set_result(None)
            self._emptied = None

    def has_space_for(self, events: Sequence[LiveEvent]) -> bool:
        """Whether these would still leave half of it free."""
        fits = self._room - sum(event.weight for event in events) >= self._bytes // 2
        return fits and len(self._items) + len(events) <= self._frames // 2

    async def space(self) -> None:
        """Return once less than half of what may wait does, or once this has ended: for who reads old events for it."""
        while self.ended is None and (self._room < self._bytes // 2 or len(self._items) > self._frames // 2):
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

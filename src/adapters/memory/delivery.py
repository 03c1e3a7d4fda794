"""News of replies and of rooms within one process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part
from chat_core.ports.delivery import PartsWatch, ReplyFeed, RoomFeed, RoomNews, Watch

log = logging.getLogger(__name__)


class _MemoryWatch(Watch):
    def __init__(self) -> None:
        self.news = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return
        self.news.clear()


class MemoryReplyFeed(ReplyFeed):
    """Wakes those who watch in this process; what other processes announce is not heard."""

    def __init__(self) -> None:
        self._watches: dict[ReplyId, set[_MemoryWatch]] = {}

    async def announce(self, reply_id: ReplyId) -> None:
        for watch in self._watches.get(reply_id, ()):
            watch.news.set()

    @asynccontextmanager
    async def watch(self, reply_id: ReplyId) -> AsyncIterator[Watch]:
        watch = _MemoryWatch()
        watches = self._watches.setdefault(reply_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(reply_id, None)

    async def begin(self, reply_id: ReplyId, epoch: int) -> bool:
        return False

    async def append(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        return False

    async def end(self, reply_id: ReplyId) -> None:
        pass

    def follow(self, reply_id: ReplyId) -> AbstractAsyncContextManager[PartsWatch]:
        raise NotImplementedError


class MemoryRoomFeed(RoomFeed):
    """Tells those who listen in this process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[RoomNews], None]] = {}

    async def tell(self, news: RoomNews) -> None:
        self.spread(news)

    def spread(self, news: RoomNews) -> None:
        """Tell everyone here, at once."""
        for heard in list(self._listeners.values()):
            try:
                heard(news)
            except Exception:
                # It must not raise; where it does all the same, the others and the teller are not to suffer.
                log.exception("a listener for news of rooms failed")

    @contextmanager
    def listen(self, heard: Callable[[RoomNews], None]) -> Iterator[None]:
        key = object()
        self._listeners[key] = heard
        try:
            yield
        finally:
            del self._listeners[key]

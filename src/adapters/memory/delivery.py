"""News of replies within one process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part
from chat_core.ports.delivery import PartsWatch, ReplyFeed, Watch


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

"""News and parts of replies within one process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part, Place
from chat_core.ports.delivery import PartsWatch, ReplyFeed, Watch


class _News:
    """What ``asyncio.Event`` is, for one who waits at a time and not for ever: it takes one future and one timer."""

    def __init__(self) -> None:
        self.there = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self.there = True
        self._end()

    async def heard(self, seconds: float) -> bool:
        """Whether there was news within the seconds; it is then taken as heard."""
        if not self.there and seconds > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._end)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        there, self.there = self.there, False
        return there

    def _end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _MemoryWatch(Watch):
    def __init__(self) -> None:
        self.news = _News()
        self._called: Callable[[], None] | None = None

    async def wait(self, seconds: float) -> None:
        await self.news.heard(seconds)

    def call(self, heard: Callable[[], None]) -> None:
        self._called = heard
        if self.news.there:
            asyncio.get_running_loop().call_soon(self._call)

    def hear(self) -> None:
        self.news.set()
        self._call()

    def _call(self) -> None:
        called, self._called = self._called, None
        if called is not None:
            self.news.there = False
            called()

    def leave(self) -> None:
        self._called = None


class _Topic:
    """What is known here of one reply, for as long as somebody makes it or watches it here."""

    def __init__(self) -> None:
        self.watches: set[_MemoryWatch] = set()
        self.followers: set[_MemoryPartsWatch] = set()
        self.made_here = False
        self.epoch = 0
        self.request: tuple[str, str] | None = None
        # Of this epoch, from its first on and without a hole.
        self.parts: list[Part] = []

    @property
    def idle(self) -> bool:
        return not (self.watches or self.followers or self.made_here)

    def begin(self, epoch: int, request: tuple[str, str] | None) -> None:
        if epoch > self.epoch:
            self.epoch, self.request = epoch, request
            self.parts = []
            self._wake()

    def append(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.epoch == self.epoch and part.offset == len(self.parts) + 1:
                self.parts.append(part)
        self._wake()

    def _wake(self) -> None:
        for follower in self.followers:
            follower.news.set()


class _MemoryPartsWatch(PartsWatch):
    def __init__(self, topic: _Topic, comes: Callable[[], bool]) -> None:
        self._topic = topic
        self._comes = comes
        self.news = _News()
        self.announced = False

    @property
    def live(self) -> bool:
        return self._topic.made_here or self._comes()

    @property
    def epoch(self) -> int:
        return self._topic.epoch

    @property
    def request(self) -> tuple[str, str] | None:
        return self._topic.request

    def parts(self, after: Place) -> Sequence[Part]:
        return self._topic.parts[after.offset :] if after.epoch == self._topic.epoch else ()

    async def wait(self, seconds: float) -> bool:
        if not await self.news.heard(seconds):
            return False
        announced, self.announced = self.announced, False
        return announced


class MemoryReplyFeed(ReplyFeed):
    """Reaches those who watch in this process; what other processes announce and show is not heard.

    An adapter that reaches further tells it what came from there, by ``take``; ``comes`` says whether that works now.
    """

    def __init__(self) -> None:
        self._topics: dict[ReplyId, _Topic] = {}
        self.comes: Callable[[], bool] = lambda: False

    async def announce(self, reply_id: ReplyId) -> None:
        self.hear(reply_id)

    def hear(self, reply_id: ReplyId) -> None:
        """What was announced, here or elsewhere."""
        topic = self._topics.get(reply_id)
        if topic is not None:
            for watch in topic.watches:
                watch.hear()
            for follower in topic.followers:
                follower.announced = True
                follower.news.set()

    @asynccontextmanager
    async def watch(self, reply_id: ReplyId) -> AsyncIterator[Watch]:
        watch = _MemoryWatch()
        topic = self._topic(reply_id)
        topic.watches.add(watch)
        try:
            yield watch
        finally:
            topic.watches.discard(watch)
            watch.leave()
            self._tidy(reply_id, topic)

    async def begin(self, reply_id: ReplyId, epoch: int, request: tuple[str, str] | None = None) -> bool:
        topic = self._topic(reply_id)
        topic.made_here = True
        topic.begin(epoch, request)
        return False

    async def append(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        topic = self._topics.get(reply_id)
        if topic is not None:
            topic.append(parts)
            if topic.followers:
                # Those who follow show it before its maker goes on to its next piece of work.
                await asyncio.sleep(0)
        return False

    async def end(self, reply_id: ReplyId) -> None:
        topic = self._topics.get(reply_id)
        if topic is not None:
            topic.made_here = False
            self._tidy(reply_id, topic)

    @asynccontextmanager
    async def follow(self, reply_id: ReplyId) -> AsyncIterator[PartsWatch]:
        topic = self._topic(reply_id)
        follower = _MemoryPartsWatch(topic, self.comes)
        topic.followers.add(follower)
        try:
            yield follower
        finally:
            topic.followers.discard(follower)
            self._tidy(reply_id, topic)

    def take(
        self, reply_id: ReplyId, epoch: int, parts: Sequence[Part], request: tuple[str, str] | None = None
    ) -> None:
        """What another process has shown: an epoch that began, and the parts of it that came now."""
        topic = self._topics.get(reply_id)
        if topic is not None:
            topic.begin(epoch, request)
            topic.append(parts)

    def followed_from_elsewhere(self) -> Iterator[ReplyId]:
        """The replies that somebody here follows and that are not made here."""
        return (reply_id for reply_id, topic in self._topics.items() if topic.followers and not topic.made_here)

    def is_followed(self, reply_id: ReplyId) -> bool:
        topic = self._topics.get(reply_id)
        return topic is not None and bool(topic.followers)

    def _topic(self, reply_id: ReplyId) -> _Topic:
        return self._topics.setdefault(reply_id, _Topic())

    def _tidy(self, reply_id: ReplyId, topic: _Topic) -> None:
        if topic.idle and self._topics.get(reply_id) is topic:
            del self._topics[reply_id]

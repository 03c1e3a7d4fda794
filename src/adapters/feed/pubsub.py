"""News of replies, and signs of life of the workers, over Redis pub/sub: hints, and nothing but hints."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from uuid import UUID

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part
from chat_core.ports.delivery import PartsWatch, ReplyFeed, Watch

log = logging.getLogger(__name__)

_NEWS = "chat:replies"
_ALIVE = "chat:workers"
_ROOMS = "chat:rooms"
#: What a call to Redis may take, in seconds.
TIMEOUT = 0.2
#: A worker that was not heard of for this long, in seconds, is not counted on.
SILENCE = 5.0
#: How often a worker says that it is there, and a listener that Redis is, in seconds.
PULSE = 1.0
#: How long a process that starts waits for Redis, in seconds.
FIRST = 0.5


async def _nobody(_: ReplyId) -> None:
    pass


def _no_rooms(_: str) -> None:
    pass


class RedisLine:
    """One process's line to Redis: what it says and hears there. Reconnects by itself, for ever.

    ``heard`` is called with each reply that some process announces, ``of_rooms`` with the news that they tell of rooms.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        # A listener waits for as long as nothing is said; its pulse tells whether the line still stands.
        self._listener = redis.Redis.from_url(
            url, socket_timeout=PULSE * 3, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )
        self._monotonic = monotonic
        self._outbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue(maxsize=10_000)
        self._tasks: list[asyncio.Task[None]] = []
        self._worker_heard = monotonic()
        self._found = asyncio.Event()
        self.connected = False
        self.heard: Callable[[ReplyId], Awaitable[None]] = _nobody
        self.of_rooms: Callable[[str], None] = _no_rooms

    async def open(self, *, works: bool) -> None:
        """Begin to listen; with ``works``, say once a second that a worker is here.

        Waits a moment for Redis, so that the first replies of a process already go to the workers.
        """
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]
        if works:
            self._tasks.append(asyncio.create_task(self._pulse()))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self._found.wait()

    async def close(self) -> None:
        while running := [task for task in self._tasks if not task.done()]:
            # More than once: redis-py can turn a cancellation into an error of its own.
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=0.2)
        self._tasks = []
        for client in (self._client, self._listener):
            with suppress(RedisError, OSError):
                await client.aclose()

    @property
    def has_workers(self) -> bool:
        """Whether a worker was heard of within the last five seconds (in the first five, it is taken for granted)."""
        return self._monotonic() - self._worker_heard < SILENCE

    def say(self, reply_id: ReplyId) -> None:
        """Announce a reply to all processes, soon. What does not fit is dropped: it is a hint."""
        self._put(_NEWS, str(reply_id))

    def say_of_rooms(self, text: str) -> None:
        """The same with news of rooms."""
        self._put(_ROOMS, text)

    def _put(self, channel: str, text: str) -> None:
        if self.connected:
            with suppress(asyncio.QueueFull):
                self._outbox.put_nowait((channel, text))

    async def _speak(self) -> None:
        while True:
            batch = [await self._outbox.get()]
            while not self._outbox.empty() and len(batch) < 500:
                batch.append(self._outbox.get_nowait())
            try:
                async with self._client.pipeline(transaction=False) as pipe:
                    for channel, text in batch:
                        pipe.publish(channel, text)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                log.debug("an announcement was lost: %s", error)

    async def _pulse(self) -> None:
        while True:
            with suppress(asyncio.QueueFull):
                self._outbox.put_nowait((_ALIVE, "1"))
            await asyncio.sleep(PULSE)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._listener.pubsub() as pubsub:
                    await pubsub.subscribe(_NEWS, _ALIVE, _ROOMS)
                    await self._hear(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                if self.connected:
                    log.warning("Redis is away: %s", type(error).__name__)
            self.connected = False
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - no secret

    async def _hear(self, pubsub: "redis.client.PubSub") -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=PULSE)
            if message is None:
                # Silence: is the line still there? One that hangs does not answer a ping within the next pulse.
                if asked:
                    raise TimeoutError("no answer to a ping")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if not self.connected:
                self.connected = True
                self._found.set()
                log.info("Redis is there")
            if message["type"] == "message":
                await self._take(message["channel"], message["data"])

    async def _take(self, channel: bytes, data: bytes) -> None:
        if channel == _ALIVE.encode():
            self._worker_heard = self._monotonic()
            return
        if channel == _ROOMS.encode():
            self.of_rooms(data.decode(errors="replace"))
            return
        try:
            reply_id = ReplyId(UUID(data.decode()))
        except ValueError:
            return  # anybody who reaches Redis can write there
        await self.heard(reply_id)


class RedisReplyFeed(ReplyFeed):
    """What is announced in one process is heard in all that have the same Redis; in this one even without it.

    ``local`` is the feed within this process.
    """

    def __init__(self, local: ReplyFeed, line: RedisLine) -> None:
        self._local = local
        self._line = line
        line.heard = local.announce

    async def announce(self, reply_id: ReplyId) -> None:
        await self._local.announce(reply_id)
        self._line.say(reply_id)

    def watch(self, reply_id: ReplyId) -> AbstractAsyncContextManager[Watch]:
        return self._local.watch(reply_id)

    async def begin(self, reply_id: ReplyId, epoch: int) -> bool:
        return False

    async def append(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        return False

    async def end(self, reply_id: ReplyId) -> None:
        pass

    def follow(self, reply_id: ReplyId) -> AbstractAsyncContextManager[PartsWatch]:
        raise NotImplementedError

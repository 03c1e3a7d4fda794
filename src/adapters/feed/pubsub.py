"""News of replies, and signs of life of the workers, over Redis pub/sub: hints, and nothing but hints."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from adapters.feed.wire import MOST, Command, Order, Wire
from chat_core.domain.ids import ReplyId

log = logging.getLogger(__name__)

_NEWS = "chat:replies"
_ALIVE = "chat:workers"
_ROOMS = "chat:rooms"
_WANTED = "chat:wanted"
#: So many replies are named in one message.
_TOGETHER = 200
#: What a call to Redis may take, in seconds.
TIMEOUT = 0.2
#: A worker that was not heard of for this long, in seconds, is not counted on.
SILENCE = 5.0
#: How often a worker says that it is there, and a listener that Redis is, in seconds.
PULSE = 1.0
#: How long a process that starts waits for Redis, in seconds.
FIRST = 0.5
#: After a call that failed it is tried this often whether Redis answers again, in seconds.
REST = 0.5


def _nobody(_: ReplyId) -> None:
    pass


def _no_rooms(_: str) -> None:
    pass


def _not_wanted(_: Sequence[ReplyId]) -> None:
    pass


def _ids_in(data: bytes) -> list[ReplyId]:
    """Those in its lines, without what is none: anybody who reaches Redis can write there."""
    ids: list[ReplyId] = []
    for line in data.split(b"\n"):
        with suppress(ValueError):
            ids.append(ReplyId(UUID(line.decode())))
    return ids


class RedisLine:
    """One process's line to Redis: what it says and hears there. Reconnects by itself, for ever.

    ``heard`` is called with each reply that some process announces, ``of_rooms`` with the news that they tell of rooms,
    ``wanted`` with replies that somebody follows somewhere. A worker hears of no rooms: nobody has one open there.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wire = Wire(url, seconds=TIMEOUT, patience=TIMEOUT, closed=self._failed)
        self._ear = Wire(url, seconds=TIMEOUT, pushed=self._hear, closed=self._deaf)
        self._heard_at = 0.0
        self._doubt, self._lost, self._found = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._monotonic = monotonic
        self._news: list[ReplyId] = []
        #: What is to be said once the connection stands.
        self._early: list[Order] = []
        self._opening: asyncio.Task[None] | None = None
        #: There as long as a call failed and none has been answered since.
        self._trying: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._worker_heard = monotonic()
        self.connected = False
        self.heard: Callable[[ReplyId], None] = _nobody
        self.of_rooms: Callable[[str], None] = _no_rooms
        self.wanted: Callable[[Sequence[ReplyId]], None] = _not_wanted

    async def open(self, *, works: bool) -> None:
        """Begin to listen; with ``works``, say once a second that a worker is here.

        Waits a moment for Redis, so that the first replies of a process already go to the workers.
        """
        channels = [_NEWS, _ALIVE, _WANTED, *(() if works else (_ROOMS,))]
        self._tasks = [asyncio.create_task(self._listen(channels))]
        if works:
            self._tasks.append(asyncio.create_task(self._pulse()))
        # The first word of a process is not to wait for a connection either.
        self._opening = asyncio.create_task(self._open())
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self._found.wait()

    async def close(self) -> None:
        tasks = [task for task in (*self._tasks, self._opening, self._trying) if task is not None]
        while running := [task for task in tasks if not task.done()]:
            # More than once: redis-py can turn a cancellation into an error of its own.
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=0.2)
        self._tasks, self.connected = [], False
        self._fail_early(ConnectionError("the line is closed"))
        for wire in (self._wire, self._ear):
            await wire.end()

    @property
    def answers(self) -> bool:
        """Whether it stands, and no command failed since Redis last answered one."""
        return self.connected and self._trying is None

    @property
    def has_workers(self) -> bool:
        """Whether a worker was heard of within the last five seconds (in the first five, it is taken for granted)."""
        return self._monotonic() - self._worker_heard < SILENCE

    def say(self, reply_id: ReplyId) -> None:
        """Announce a reply to all processes, soon. What does not fit is dropped: it is a hint."""
        if not self._news and self.connected:
            # Those that are announced in the same moment are one message.
            asyncio.get_running_loop().call_soon(self._say)
        if self.connected and len(self._news) < _TOGETHER:
            self._news.append(reply_id)

    def _say(self) -> None:
        news, self._news = self._news, []
        self._put(_NEWS, "\n".join(map(str, news)))

    def say_of_rooms(self, text: str) -> None:
        """The same with news of rooms."""
        self._put(_ROOMS, text)

    def say_wanted(self, reply_ids: Sequence[ReplyId]) -> None:
        """Say that these are followed here, to whoever makes them."""
        for start in range(0, len(reply_ids), _TOGETHER):
            self._put(_WANTED, "\n".join(map(str, reply_ids[start : start + _TOGETHER])))

    def _put(self, channel: str, text: str) -> None:
        if self.connected:
            self.tell("PUBLISH", channel, text)

    def tell(self, *command: str | bytes | int) -> None:
        """Have a command carried out, soon, whose answer nobody needs. While Redis is away it is dropped."""
        self._send(Order((command,)))

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to these commands, in order; where Redis refuses one, its error stands in its place.

        What is asked at the same time travels together. Raises ``RedisError`` or ``OSError`` where Redis is away, at
        once where that is known; whether the commands were carried out is not known then.
        """
        return await self.post(*commands)

    def post(self, *commands: Command) -> "asyncio.Future[list[Any]]":
        """As ``ask``, for those who go on meanwhile."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._send(Order(commands, answer))
        return answer

    def _send(self, order: Order) -> None:
        try:
            if not self.answers:
                raise ConnectionError("Redis is away")
            if self._wire.is_open:
                self._wire.send(order)
                return
            if len(self._early) >= MOST:
                raise ConnectionError("Redis is too slow")
        except ConnectionError as error:
            order.fail(error)
            return
        self._early.append(order)
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            await self._wire.open()
        except (RedisError, OSError) as error:
            self._failed(error, len(self._early))
            self._fail_early(error)
            return
        early, self._early = self._early, []
        for order in early:
            self._send(order)

    def _fail_early(self, error: Exception) -> None:
        early, self._early = self._early, []
        for order in early:
            order.fail(error)

    def _failed(self, error: Exception, waited: int) -> None:
        # Redis hangs up on those that say nothing for a while; and a line that is closed has nothing to try again.
        if not waited or not self._tasks:
            return
        log.debug("Redis was not reached: %s", error)
        self._doubt.set()
        if self._trying is None:
            self._trying = asyncio.create_task(self._try_again())

    async def _try_again(self) -> None:
        # Those who ask meanwhile are not to wait for the same discovery, one after the other.
        while True:
            await asyncio.sleep(REST)
            with suppress(RedisError, OSError):
                await self._wire.ask(("PING",), seconds=TIMEOUT)
                self._trying = None
                return

    async def _pulse(self) -> None:
        await self._found.wait()
        while True:
            self.tell("PUBLISH", _ALIVE, "1")
            await asyncio.sleep(PULSE)

    async def _listen(self, channels: Sequence[str]) -> None:
        while True:
            self._lost.clear()
            try:
                await self._ear.open()
                self._ear.say(("SUBSCRIBE", *channels))
                await self._watch()
            except (RedisError, OSError) as error:
                log.debug("Redis is not heard: %s", error)
            self._ear.close()
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - no secret

    def _deaf(self, error: Exception, _: int) -> None:
        if self.connected:
            log.warning("Redis is away: %s", type(error).__name__)
        self.connected = False
        self._lost.set()
        self._doubt.set()

    async def _watch(self) -> None:
        """Until it is lost. Where it is silent, or a command was not answered: is it still there? One that hangs does
        not answer a ping within a pulse."""
        while not self._lost.is_set():
            since = self._heard_at
            with suppress(TimeoutError):
                async with asyncio.timeout(PULSE):
                    await self._doubt.wait()
            if not self._doubt.is_set() and self._heard_at > since:
                continue
            self._doubt.clear()
            since = self._heard_at
            self._ear.say(("PING",))
            with suppress(TimeoutError):
                async with asyncio.timeout(PULSE):
                    await self._lost.wait()
            if self._heard_at == since:
                return

    def _hear(self, said: Any) -> None:
        self._heard_at = self._monotonic()
        if not self.connected:
            self.connected = True
            self._found.set()
            log.info("Redis is there")
        # A list of its own kind, or in the elder protocol a plain one.
        if isinstance(said, list) and said[0] == b"message":
            self._take(said[1], said[2])

    def _take(self, channel: bytes, data: bytes) -> None:
        if channel == _ALIVE.encode():
            self._worker_heard = self._monotonic()
        elif channel == _ROOMS.encode():
            self.of_rooms(data.decode(errors="replace"))
        elif channel == _WANTED.encode():
            self.wanted(_ids_in(data))
        else:
            for reply_id in _ids_in(data):
                self.heard(reply_id)

"""One connection to Redis, without the client around it.

redis-py's connections open, log in and speak TLS; from then on their transport is read here. The client, with its
pools, retries and streams, takes 110 µs for two commands, and this 15. hiredis reads and writes the protocol.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import hiredis
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

Command = tuple[str | bytes | int, ...]

#: So many commands may wait for their answers.
MOST = 10_000
#: After this long, in seconds, it is looked once more whether an answer has come that is overdue: a process that was
#: busy until now has not read what is there.
_GRACE = 0.001
_MORE = object()

_pack: Callable[[Command], bytes] = cast("Any", hiredis.pack_command)


class Order:
    """Commands that were given together, and where their answers are waited for, if anywhere."""

    __slots__ = ("answer", "answers", "commands", "since")

    def __init__(
        self, commands: tuple[Command, ...], answer: "asyncio.Future[list[Any]] | None" = None, since: float = 0.0
    ) -> None:
        self.commands, self.answer, self.since = commands, answer, since
        self.answers: list[Any] = []

    def complete(self) -> None:
        """All of them are there."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(self.answers)

    def fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


class _Listener(asyncio.Protocol):
    """The end of one connection: what an earlier one still has to say is not taken for the next one's."""

    def __init__(self, heard: Callable[[bytes], None], lost: Callable[[Exception | None], None]) -> None:
        self.heard: Callable[[bytes], None] | None = heard
        self.lost: Callable[[Exception | None], None] | None = lost

    def leave(self) -> None:
        self.heard = self.lost = None

    def data_received(self, data: bytes) -> None:
        if self.heard is not None:
            self.heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost is not None:
            self.lost(exc)


class Wire:
    """Sends commands without waiting for the answers to earlier ones, which come in the same order.

    What is sent on a quiet connection goes at once, and what else is sent in the same moment together behind it. Where
    Redis refuses a command, its error stands in the place of the answer. Once it is ``closed``, by either side, or
    because an answer was not there after ``patience`` seconds, all that wait fail; it can be opened again. ``pushed``
    is told what comes that nobody waits for, ``closed`` why it is, and how many waited. ``seconds`` bounds how long it
    takes to connect.
    """

    def __init__(
        self,
        url: str,
        *,
        seconds: float,
        patience: float | None = None,
        pushed: Callable[[Any], None] | None = None,
        closed: Callable[[Exception, int], None] | None = None,
    ) -> None:
        pool: Any = redis.ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
        self._connection: Any = pool.make_connection()
        self._seconds, self._patience = seconds, patience
        self._pushed, self._closed = pushed, closed
        self._transport: asyncio.Transport | None = None
        self._listener: _Listener | None = None
        self._reader: Any = None
        self._waiting: deque[Order] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: Order | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def open(self) -> None:
        """Connect, where it is not. Raises ``RedisError`` or ``OSError``. Not to be called by two at once."""
        if self._transport is not None:
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._hang_up()
                await self._connection.connect()
        except BaseException:
            await self._hang_up()
            raise
        # redis-py's kinds of errors, and the way to its transport: it has no other door to either.
        parse_error = self._connection._parser.parse_error  # noqa: SLF001
        transport = self._connection._writer.transport  # noqa: SLF001
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=parse_error, notEnoughData=_MORE)
        if transport.is_closing():
            await self._hang_up()
            raise ConnectionError("Redis hung up")
        self._transport, self._listener = transport, _Listener(self._hear, self._lost)
        transport.set_protocol(self._listener)

    def send(self, order: Order) -> None:
        """Have the commands carried out. Raises ``ConnectionError`` where it is not open, or too much waits."""
        transport = self._transport
        if transport is None:
            raise ConnectionError("Redis is away")
        if len(self._waiting) >= MOST:
            raise ConnectionError("Redis is too slow")
        if not order.commands:
            order.complete()  # nothing would ever come for it, and all behind it would wait
            return
        packed = b"".join(map(_pack, order.commands))
        loop = asyncio.get_running_loop()
        order.since = loop.time()
        quiet = not self._waiting
        self._waiting.append(order)
        if self._timer is None and self._patience is not None:
            self._timer = loop.call_later(self._patience, self._look)
        if quiet:
            transport.write(packed)
            return
        if not self._unsent:
            loop.call_soon(self._flush)
        self._unsent.append(packed)

    def say(self, command: Command) -> None:
        """Send a command whose answer is ``pushed``, such as SUBSCRIBE, which gets several. Raises as ``send``."""
        if self._transport is None:
            raise ConnectionError("Redis is away")
        self._transport.write(_pack(command))

    async def ask(self, *commands: Command, seconds: float) -> list[Any]:
        """The answers to these commands, in order. Opens it.

        Raises ``RedisError`` or ``OSError`` (``TimeoutError`` after so many seconds), and is closed then.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.open()
                answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
                self.send(Order(commands, answer))
                return await answer
        except BaseException:
            # Whoever is the next to ask is not to wait behind what nobody waits for.
            self.close()
            raise

    def close(self, error: Exception | None = None) -> None:
        """Hang up. All that wait fail, with this error."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._listener is not None:
            self._listener.leave()
        transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = error or ConnectionError("the connection to Redis is closed")
        waiting, self._waiting = self._waiting, deque()
        self._unsent = []
        for order in waiting:
            order.fail(error)
        if self._closed is not None:
            self._closed(error, len(waiting))

    async def end(self) -> None:
        """Hang up, for good."""
        self.close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        # redis-py takes a connection whose transport is gone for one that stands.
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and unsent:
            self._transport.write(b"".join(unsent))

    def _look(self) -> None:
        """Whether the oldest answer is overdue."""
        self._timer = None
        if not self._waiting or self._patience is None:
            return
        loop, oldest = asyncio.get_running_loop(), self._waiting[0]
        left = oldest.since + self._patience - loop.time()
        if left <= 0 and self._overdue is oldest:
            self.close(TimeoutError("Redis did not answer"))
            return
        self._overdue = oldest if left <= 0 else None
        self._timer = loop.call_later(max(left, _GRACE), self._look)

    def _hear(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self._transport is not None and (said := self._reader.gets()) is not _MORE:
                self._take(said)
        except RedisError as error:
            self.close(error)

    def _lost(self, exc: Exception | None) -> None:
        self.close(exc if isinstance(exc, OSError) else ConnectionError("Redis hung up"))

    def _take(self, said: Any) -> None:
        if not self._waiting or isinstance(said, hiredis.PushNotification):
            if self._pushed is not None:
                self._pushed(said)
            return
        order = self._waiting[0]
        order.answers.append(said)
        if len(order.answers) == len(order.commands):
            self._waiting.popleft()
            order.complete()

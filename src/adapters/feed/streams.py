"""Parts of replies between processes: a Redis stream for each reply, whose ids are ``epoch-offset``.

Redis takes an id only where it is larger than all before it (XADD), which is what keeps a maker out whose reply another
one has taken over; and it appends only where the stream is still there (NOMKSTREAM), so that a stream which was lost is
noticed by its maker, who writes it anew, from its first part on.

Most answers nobody follows part by part. A stream is written once somebody elsewhere says that they do, and then from
the first part on; they go on saying so, so that one that was not heard costs a moment. The maker of a later epoch
writes its beginning all the same: it is what keeps the earlier one out.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol
from uuid import UUID, uuid4

from redis.exceptions import RedisError, ResponseError

from adapters.feed.pubsub import TIMEOUT, RedisLine
from adapters.feed.wire import Command, Wire
from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part
from chat_core.ports.delivery import PartsWatch, ReplyFeed, Watch

log = logging.getLogger(__name__)

#: A stream that nobody ends is gone after this long, in seconds: longer than any reply is in the making.
LIFE = 4000
#: One whose reply has its end, after this long: who comes later reads the stored text.
AFTERLIFE = 30
#: How long one blocking read lasts at the most, in seconds; also how often it is said again what is followed here.
BLOCK = 1.0
#: That somebody follows a reply counts for this long, in seconds, where it is not made here yet.
RECENT = 3 * BLOCK
#: So many of them are remembered at the most.
MOST = 10_000
#: Between two reads, in seconds: what comes meanwhile is read together.
BREATH = 0.005
#: While no more than so many are followed, their beginnings are read without it.
FEW = 4
#: A beginning that keeps no earlier maker out waits so long for the first parts, in seconds, to be written with them:
#: one trip less for each process, where the model is quick.
JOINED = 0.005

_TEXT, _RESET, _BEGIN = b"t", b"r", b"b"


class LocalReplyFeed(ReplyFeed, Protocol):
    """The feed within this process, which also takes what came from others."""

    comes: Callable[[], bool]

    def hear(self, reply_id: ReplyId) -> None: ...

    def take(
        self, reply_id: ReplyId, epoch: int, parts: Sequence[Part], request: tuple[str, str] | None = None
    ) -> None: ...

    def followed_from_elsewhere(self) -> Iterator[ReplyId]: ...

    def is_followed(self, reply_id: ReplyId) -> bool: ...


def _key(reply_id: ReplyId) -> str:
    return f"chat:reply:{reply_id}"


def _entry(part: Part) -> Command:
    field = (_RESET, b"") if part.text is None else (_TEXT, part.text)
    return (f"{part.epoch}-{part.offset}", *field)


class _Written:
    """What one maker here has brought to its stream: all up to the offset ``sent``."""

    def __init__(self, epoch: int, request: tuple[str, str] | None) -> None:
        self.epoch = epoch
        self.request = request
        self.sent = 0
        self.parts: list[Part] = []
        #: Another maker has the reply, and Redis takes nothing of this one any more.
        self.fenced = False
        #: Whether it is to have a stream, and has had one.
        self.wanted = epoch > 1
        self.begun = False
        #: Set once there are parts.
        self.some = asyncio.Event()
        self.lock = asyncio.Lock()


class RedisReplyFeed(ReplyFeed):
    """What is announced and shown in one process is heard in all that have the same Redis; here even without it."""

    far = True

    def __init__(
        self,
        local: LocalReplyFeed,
        line: RedisLine,
        reader: "StreamReader",
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self._line = line
        self._reader = reader
        self._monotonic = monotonic
        self._written: dict[ReplyId, _Written] = {}
        # Replies that somebody elsewhere follows and that are not made here yet, with when that was heard.
        self._wanted: OrderedDict[ReplyId, float] = OrderedDict()
        self._tasks: set[asyncio.Task[bool]] = set()
        line.heard = local.hear
        line.wanted = self._follows_elsewhere
        local.comes = lambda: line.connected

    async def announce(self, reply_id: ReplyId) -> None:
        await self._local.announce(reply_id)
        self._line.say(reply_id)

    def watch(self, reply_id: ReplyId) -> AbstractAsyncContextManager[Watch]:
        return self._local.watch(reply_id)

    async def begin(self, reply_id: ReplyId, epoch: int, request: tuple[str, str] | None = None) -> bool:
        await self._local.begin(reply_id, epoch, request)
        written = self._written[reply_id] = _Written(epoch, request)
        if self._wanted.pop(reply_id, None) is not None:
            written.wanted = True
        if written.wanted:
            return await self._open(reply_id, written)
        try:
            await self._line.ask(("PING",))
        except (RedisError, OSError):
            # By writing a stream its maker finds out when Redis is back.
            written.wanted = True
            return False
        return True

    async def append(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        await self._local.append(reply_id, parts)
        written = self._written.get(reply_id)
        if written is None:
            return False
        written.parts.extend(parts)
        written.some.set()
        if not written.wanted:
            return self._line.answers
        if not written.lock.locked():
            return await self._bring(reply_id, written)
        # Those who follow get it also where the maker goes on meanwhile.
        return await asyncio.shield(self._soon(self._bring(reply_id, written)))

    async def end(self, reply_id: ReplyId) -> None:
        await self._local.end(reply_id)
        written = self._written.pop(reply_id, None)
        if written is not None and written.wanted and not written.fenced and self._line.connected:
            self._line.tell("EXPIRE", _key(reply_id), AFTERLIFE)

    @asynccontextmanager
    async def follow(self, reply_id: ReplyId) -> AsyncIterator[PartsWatch]:
        try:
            async with self._local.follow(reply_id) as watch:
                self._reader.look()
                yield watch
        finally:
            if not self._local.is_followed(reply_id):
                self._reader.forget(reply_id)

    def _follows_elsewhere(self, reply_ids: Sequence[ReplyId]) -> None:
        now = self._monotonic()
        for reply_id in reply_ids:
            written = self._written.get(reply_id)
            if written is None:
                self._wanted[reply_id] = now
                self._wanted.move_to_end(reply_id)
            elif not written.wanted:
                written.wanted = True
                _ = self._soon(self._open(reply_id, written))
        while self._wanted and (len(self._wanted) > MOST or next(iter(self._wanted.values())) < now - RECENT):
            self._wanted.popitem(last=False)

    def _soon(self, bringing: Coroutine[Any, Any, bool]) -> "asyncio.Task[bool]":
        task = asyncio.get_running_loop().create_task(bringing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open(self, reply_id: ReplyId, written: _Written) -> bool:
        if written.epoch == 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(JOINED):
                    await written.some.wait()
        # One that has its end meanwhile leaves no stream behind: it is stored.
        return self._written.get(reply_id) is written and await self._bring(reply_id, written)

    async def _bring(self, reply_id: ReplyId, written: _Written) -> bool:
        async with written.lock:
            try:
                return written.fenced or await self._write(reply_id, written)
            except (RedisError, OSError) as error:
                log.debug("parts of a reply were not brought to Redis: %s", error)
                return False

    async def _write(self, reply_id: ReplyId, written: _Written) -> bool:
        key = _key(reply_id)
        if written.begun:
            new = written.parts[written.sent :]
            if not new:
                return True  # brought with those before it
            answers = await self._line.ask(*(("XADD", key, "NOMKSTREAM", *_entry(part)) for part in new))
            if None not in answers:
                return await self._taken(key, written, answers, written.sent + len(new))
        everything = (
            ("MULTI",),
            ("XADD", key, f"{written.epoch}-0", _BEGIN, ":".join(written.request or ())),
            *(("XADD", key, *_entry(part)) for part in written.parts),
            ("EXPIRE", key, LIFE),
            ("EXEC",),
        )
        count = len(written.parts)
        answers = await self._line.ask(*everything)
        written.begun = True
        return await self._taken(key, written, answers[-1] if isinstance(answers[-1], list) else answers, count)

    async def _taken(self, key: str, written: _Written, answers: Sequence[Any], sent: int) -> bool:
        """Note how far the stream has come, by what Redis said; and whether it is still ours."""
        if not any(isinstance(answer, ResponseError) for answer in answers):
            written.sent = sent
            return True
        # An id was not larger than the last: another maker's is there, or ours from a time whose answer was lost.
        (last,) = await self._line.ask(("XREVRANGE", key, "+", "-", "COUNT", 1))
        if not last or isinstance(last, ResponseError):
            return False
        epoch, offset = _place(last[0][0])
        if epoch > written.epoch:
            written.fenced = True
            return True
        written.sent = offset if epoch == written.epoch else 0
        return written.sent == len(written.parts)


def _place(id_: bytes) -> tuple[int, int]:
    epoch, _, offset = id_.partition(b"-")
    return int(epoch), int(offset)


def _request(named: bytes) -> tuple[str, str] | None:
    """Of the ``provider:model`` that a beginning names; a maker of an earlier version names none."""
    provider, _, model = named.decode(errors="replace").partition(":")
    return (provider, model) if provider and model else None


class StreamReader:
    """Reads the streams of all replies that are followed here, with one blocking read at a time."""

    def __init__(self, local: LocalReplyFeed, line: RedisLine, url: str) -> None:
        self._local = local
        self._line = line
        self._wire = Wire(url, seconds=TIMEOUT)
        # An entry in this stream of our own ends a blocking read that does not know yet what is to be read.
        self._bell = f"chat:bell:{uuid4()}"
        self._rung = b"0"
        self._seen: dict[ReplyId, bytes] = {}
        self._said = 0.0
        self._wanted = asyncio.Event()
        self._breath: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to read what others show, until it is closed; reconnects by itself."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        while self._task is not None and not self._task.done():
            # More than once: redis-py can turn a cancellation into an error of its own.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.2)
        await self._wire.end()

    def look(self) -> None:
        """Somebody follows one more reply."""
        new = [reply_id for reply_id in self._local.followed_from_elsewhere() if reply_id not in self._seen]
        if new:
            self._line.say_wanted(new)
            if self._breath is not None:
                # It is not reading, and will see by itself what is followed; of few the beginnings do not wait.
                if len(self._seen) + len(new) <= FEW and not self._breath.done():
                    self._breath.set_result(None)
            elif self._wanted.is_set() and self._line.connected:
                self._line.tell("XADD", self._bell, "MAXLEN", 1, "*", b"b", b"")
                self._line.tell("EXPIRE", self._bell, LIFE)
            self._wanted.set()

    def forget(self, reply_id: ReplyId) -> None:
        """Nobody here follows it any more: for whoever is the next to do so, it is read from its start."""
        self._seen.pop(reply_id, None)

    async def _run(self) -> None:
        while True:
            followed = list(self._local.followed_from_elsewhere())
            self._seen = {reply_id: self._seen.get(reply_id, b"0") for reply_id in followed}
            if not followed:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            if time.monotonic() - self._said >= BLOCK:
                self._said = time.monotonic()
                self._line.say_wanted(followed)
            try:
                if await self._read() or len(followed) > FEW:
                    await self._breathe()
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("streams were not read: %s", error)
                await asyncio.sleep(random.uniform(0.1, 0.3))  # noqa: S311 - no secret

    async def _breathe(self) -> None:
        self._breath = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([self._breath], timeout=BREATH)
        finally:
            self._breath = None

    async def _read(self) -> bool:
        """Whether there was any text: the beginning of an answer is no reason to wait for more."""
        asked, texts = dict(self._seen), False
        keys = [self._bell, *map(_key, asked)]
        command: Command = ("XREAD", "BLOCK", int(BLOCK * 1000), "STREAMS", *keys, self._rung, *asked.values())
        (found,) = await self._wire.ask(command, seconds=BLOCK + 1.0)
        if isinstance(found, Exception):
            raise found
        # A map, or in the elder protocol a list of pairs.
        for name, entries in dict(found or ()).items():
            if name == self._bell.encode():
                self._rung = entries[-1][0]
                continue
            reply_id = ReplyId(UUID(name.decode().removeprefix("chat:reply:")))
            if self._seen.get(reply_id) == asked[reply_id]:
                self._seen[reply_id] = entries[-1][0]
                texts = texts or any(_BEGIN not in fields for _, fields in entries)
                self._take(reply_id, entries)
        return texts

    def _take(self, reply_id: ReplyId, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
        by_epoch: dict[int, list[Part]] = {}
        requests: dict[int, tuple[str, str] | None] = {}
        for id_, pairs in entries:
            epoch, offset = _place(id_)
            parts = by_epoch.setdefault(epoch, [])
            fields = dict(zip(pairs[::2], pairs[1::2], strict=False))
            if offset:
                text = fields.get(_TEXT)
                parts.append(Part(epoch, offset, text.decode(errors="replace") if text is not None else None))
            else:
                requests[epoch] = _request(fields.get(_BEGIN, b""))
        for epoch, parts in sorted(by_epoch.items()):
            self._local.take(reply_id, epoch, parts, requests.get(epoch))

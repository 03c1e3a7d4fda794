"""Every adapter of the reply queue and of the feeds keeps the contract of its port."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.feed import streams
from adapters.feed.pubsub import RedisLine
from adapters.feed.rooms import RedisRoomFeed, read, written
from adapters.feed.streams import RedisReplyFeed, StreamReader
from adapters.memory.delivery import MemoryReplyFeed
from adapters.memory.room_feed import MemoryRoomFeed
from adapters.queue.broker import ListBroker, client
from adapters.queue.in_process import InProcessReplyQueue
from adapters.queue.remote import AGAIN, KEY, RemoteReplyQueue
from adapters.queue.worker import QueueWorker
from chat_core.domain.ids import RoomId, uuid7
from chat_core.domain.reply import Place
from chat_core.ports.delivery import LogGrew, ReplyFeed, ReplyQueue, RoomFeed
from chat_core.testing.delivery import Maker, Outage, ReplyQueueContract, a_reply
from chat_core.testing.models import Gate
from chat_core.testing.reply_feed import ReplyFeedContract, a_part
from chat_core.testing.room_feed import Heard, RoomFeedContract, any_news
from tests.faults.servers import Missing, Valkey


class TestInProcessReplyQueue(ReplyQueueContract):
    # With one at a time, the others really wait.
    @pytest.fixture(params=[200, 1])
    async def queue(self, maker: Maker, request: pytest.FixtureRequest) -> AsyncIterator[InProcessReplyQueue]:
        queue = InProcessReplyQueue(maker, maker.go_on, concurrency=request.param)
        yield queue
        await queue.close(10)


class TestMemoryReplyFeed(ReplyFeedContract):
    @pytest.fixture
    def feed(self) -> ReplyFeed:
        return MemoryReplyFeed()


class TestMemoryRoomFeed(RoomFeedContract):
    @pytest.fixture
    def room_feed(self) -> RoomFeed:
        return MemoryRoomFeed()


def _missing(error: Missing) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"no Valkey: {error}")
    pytest.skip(f"no Valkey: {error}")


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    try:
        server = Valkey(tmp_path)
    except Missing as error:
        _missing(error)
        raise
    await server.start()
    yield server
    await server.stop()


def url_of(valkey: Valkey) -> str:
    return f"redis://127.0.0.1:{valkey.port}/0"


@asynccontextmanager
async def away(valkey: Valkey) -> AsyncIterator[None]:
    valkey.kill()
    yield
    await valkey.start()


@asynccontextmanager
async def working(valkey: Valkey, maker: Maker, concurrency: int = 200) -> AsyncIterator[QueueWorker]:
    """A worker's side of the queue, in this process."""
    local = InProcessReplyQueue(maker, maker.go_on, concurrency=concurrency)
    worker = QueueWorker(ListBroker(url_of(valkey)), local, threads=2)
    await worker.open()
    yield worker
    await worker.close(2)
    await local.close(10)


@asynccontextmanager
async def remote_queue(
    valkey: Valkey, maker: Maker, worked: Callable[[], bool] = lambda: True, again: float = AGAIN
) -> AsyncIterator[RemoteReplyQueue]:
    """The senders' side of it; ``maker`` is theirs, for when it is no use."""
    here, line = InProcessReplyQueue(maker, maker.go_on), await line_to(valkey)
    yield RemoteReplyQueue(line.post, here, worked, again=again)
    await line.close()
    await here.close(10)


@pytest.mark.redis
class TestRemoteReplyQueue(ReplyQueueContract):
    @pytest.fixture
    def outage(self, valkey: Valkey) -> Outage:
        return partial(away, valkey)

    @pytest.fixture
    async def queue(self, valkey: Valkey, maker: Maker) -> AsyncIterator[RemoteReplyQueue]:
        async with working(valkey, maker), remote_queue(valkey, Maker(), again=0.0) as queue:
            yield queue


@pytest.mark.redis
async def test_with_redis_healthy_each_reply_starts_in_the_actor_once(valkey: Valkey):
    maker, elsewhere = Maker(), Maker()
    replies = [a_reply() for _ in range(50)]
    async with remote_queue(valkey, elsewhere) as queue, working(valkey, maker, concurrency=3) as worker:
        for reply_id in replies * 2:
            await queue.put(reply_id)
        await maker.has_made(*replies)
        assert worker.started == 50
    assert set(maker.made.values()) == {1}
    assert not elsewhere.made


@pytest.mark.redis
async def test_the_queue_holds_the_reply_s_id_and_nothing_else(valkey: Valkey):
    reply_id = a_reply()
    async with remote_queue(valkey, Maker()) as queue, asyncio.timeout(10):
        await queue.put(reply_id)
        with client(url_of(valkey), timeout=5) as redis:
            while not redis.exists(KEY):  # noqa: ASYNC110 - nobody says when a command has arrived
                await asyncio.sleep(0.005)
            assert redis.lrange(KEY, 0, -1) == [str(reply_id).encode()]


@pytest.mark.redis
async def test_what_a_worker_took_and_did_not_begin_goes_back_in_order(valkey: Valkey):
    maker = Maker()
    running, *others = [a_reply() for _ in range(6)]
    gate = maker.gates[running] = Gate()
    local = InProcessReplyQueue(maker, maker.go_on, concurrency=1)
    worker = QueueWorker(ListBroker(url_of(valkey)), local, threads=1)
    await worker.open()
    async with remote_queue(valkey, Maker()) as queue, asyncio.timeout(10):
        await queue.put(running)
        await gate.reached()
        for reply_id in others:
            await queue.put(reply_id)
        with client(url_of(valkey), timeout=5) as redis:
            while redis.lrange(KEY, 0, -1) != [str(reply_id).encode() for reply_id in others[2:]]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # one waits in the thread for its turn, and one for the thread
            await worker.close(0.1)
            assert redis.lrange(KEY, 0, -1) == [str(reply_id).encode() for reply_id in others[1:]]
    await local.close(0)


@pytest.mark.redis
@pytest.mark.parametrize("why", ["Redis is away", "Redis refuses", "nobody works"])
async def test_where_the_queue_is_no_use_the_reply_is_made_here(valkey: Valkey, why: str):
    maker = Maker()
    async with remote_queue(valkey, maker, lambda: why != "nobody works") as queue:
        if why == "Redis is away":
            valkey.kill()
        if why == "Redis refuses":
            with client(url_of(valkey), timeout=5) as redis:
                redis.set(KEY, "no list")
        first, second = a_reply(), a_reply()
        await queue.put(first)
        await queue.put(second)
        await maker.has_made(first, second)


def heard(line: RedisLine) -> bool:
    return line.connected


def counts(line: RedisLine) -> bool:
    return line.has_workers


async def line_to(valkey: Valkey, *, works: bool = False) -> RedisLine:
    line = RedisLine(url_of(valkey))
    await line.open(works=works)
    async with asyncio.timeout(10):
        while not heard(line):  # noqa: ASYNC110 - on a busy machine its own moment may not be enough
            await asyncio.sleep(0.005)
    return line


@asynccontextmanager
async def redis_feed(valkey: Valkey) -> AsyncIterator[tuple[RedisReplyFeed, RedisLine]]:
    """The feed of one process."""
    local, line = MemoryReplyFeed(), await line_to(valkey)
    reader = StreamReader(local, line, url_of(valkey))
    feed = RedisReplyFeed(local, line, reader)
    reader.open()
    yield feed, line
    await reader.close()
    await line.close()


@pytest.mark.redis
class TestRedisReplyFeed(ReplyFeedContract):
    @pytest.fixture
    def outage(self, valkey: Valkey) -> Outage:
        return partial(away, valkey)

    @pytest.fixture
    async def feed(self, valkey: Valkey) -> AsyncIterator[ReplyFeed]:
        async with redis_feed(valkey) as (feed, _):
            yield feed

    @pytest.fixture
    async def elsewhere(self, valkey: Valkey) -> AsyncIterator[ReplyFeed]:
        async with redis_feed(valkey) as (feed, _):
            yield feed


@pytest.mark.redis
class TestRedisRoomFeed(RoomFeedContract):
    @pytest.fixture
    def outage(self, valkey: Valkey) -> Outage:
        return partial(away, valkey)

    @pytest.fixture
    async def room_feed(self, valkey: Valkey) -> AsyncIterator[RoomFeed]:
        line = await line_to(valkey)
        yield RedisRoomFeed(MemoryRoomFeed(), line)
        await line.close()

    @pytest.fixture
    async def elsewhere(self, valkey: Valkey) -> AsyncIterator[RoomFeed]:
        line = await line_to(valkey)
        yield RedisRoomFeed(MemoryRoomFeed(), line)
        await line.close()


@pytest.mark.redis
async def test_what_somebody_else_writes_among_the_news_of_rooms_is_ignored(valkey: Valkey):
    line = await line_to(valkey)
    feed, heard = RedisRoomFeed(MemoryRoomFeed(), line), Heard()
    true = LogGrew(room_id=RoomId(uuid7()), seq=7)
    with feed.listen(heard), client(url_of(valkey), timeout=5) as redis:
        for text in (b"", b"\xff\xfe", b"nonsense", b"x\ng", b"x\ng123 4", b"x\n" + b"p" * 65 + b" +ann"):
            redis.publish("chat:rooms", text)
        redis.publish("chat:rooms", f"x\nnonsense\n{' '.join(written(true))}")
        await heard.hears(true)
    assert heard.news == [true]
    await line.close()


def test_news_of_rooms_are_read_as_they_were_written():
    for news in any_news():
        key, rest = written(news)
        assert read(f"{key} {rest}") == news
        for broken in (f"{key}0 {rest}", f"{key[:-1]} {rest}", f"{key} {rest}\x00", f"z{key[1:]} {rest}", key[:5]):
            assert read(broken) is None


@pytest.mark.redis
async def test_the_line_finds_redis_again_by_itself(valkey: Valkey):
    async with asyncio.timeout(20), redis_feed(valkey) as (feed, line), redis_feed(valkey) as (elsewhere, other):
        async with away(valkey):
            while heard(line):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        while not (heard(line) and heard(other)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        reply_id = a_reply()
        async with feed.watch(reply_id) as watch:
            await elsewhere.announce(reply_id)
            await watch.wait(3600)


@pytest.mark.redis
async def test_the_beginning_of_an_answer_does_not_wait_for_more_of_another(valkey: Valkey, monkeypatch: Any):
    """What is read together, so that many streams cost less, is what comes behind the first part."""
    monkeypatch.setattr(streams, "BREATH", 3600)
    async with asyncio.timeout(20), redis_feed(valkey) as (feed, _), redis_feed(valkey) as (elsewhere, _):
        for _ in range(10):
            reply_id = a_reply()
            async with feed.follow(reply_id) as watch:
                await elsewhere.begin(reply_id, 1)
                await elsewhere.append(reply_id, [a_part(1, 1)])
                while not watch.parts(Place(1, 0)):
                    await watch.wait(3600)


@pytest.mark.redis
async def test_the_beginning_of_an_answer_travels_with_its_first_part(valkey: Valkey, monkeypatch: Any):
    monkeypatch.setattr(streams, "JOINED", 3600)
    reply_id = a_reply()
    async with asyncio.timeout(20), redis_feed(valkey) as (feed, line):
        line.wanted([reply_id])
        beginning = asyncio.create_task(feed.begin(reply_id, 1))
        await asyncio.sleep(0)  # so that it is on its way
        with client(url_of(valkey), timeout=5) as redis:
            assert await feed.append(reply_id, [a_part(1, 1)])
            assert redis.xlen(f"chat:reply:{reply_id}") == 2
        assert await beginning


@pytest.mark.redis
async def test_what_redis_had_no_room_for_comes_later_and_leaves_no_hole(valkey: Valkey):
    reply_id = a_reply()
    async with asyncio.timeout(20), redis_feed(valkey) as (feed, _), redis_feed(valkey) as (elsewhere, _):
        with client(url_of(valkey), timeout=5) as redis:
            redis.config_set("maxmemory", "1")
            beginning = asyncio.create_task(elsewhere.begin(reply_id, 2))
            await asyncio.sleep(0)  # so that it is on its way
            assert not await elsewhere.append(reply_id, [a_part(2, 1)])
            assert not await beginning
            redis.config_set("maxmemory", "0")
        assert await elsewhere.append(reply_id, [a_part(2, 2)])
        async with feed.follow(reply_id) as watch:
            while watch.parts(Place(2, 0)) != [a_part(2, 1), a_part(2, 2)]:
                await watch.wait(3600)


@pytest.mark.redis
async def test_a_worker_that_falls_silent_is_not_counted_on(valkey: Valkey):
    now = 0.0
    listener = RedisLine(url_of(valkey), monotonic=lambda: now)
    assert counts(listener)  # taken for granted, until there was time to hear of one
    now = 6.0
    assert not counts(listener)
    await listener.open(works=False)
    worker = await line_to(valkey, works=True)
    async with asyncio.timeout(10):
        while not counts(listener):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await worker.close()
    now = 12.0
    assert not counts(listener)
    await listener.close()


async def test_no_more_are_made_at_once_than_was_said():
    maker = Maker()
    queue: ReplyQueue = InProcessReplyQueue(maker, maker.go_on, concurrency=1)
    first, second = a_reply(), a_reply()
    gates = maker.gates[first], maker.gates[second] = Gate(), Gate()
    await queue.put(first)
    await queue.put(second)
    await gates[0].reached()
    with pytest.raises(TimeoutError):
        await gates[1].reached(0)
    gates[0].open()
    await gates[1].reached()
    gates[1].open()
    await maker.has_made(first, second)


async def test_what_is_beyond_the_backlog_is_left_to_the_sweep():
    maker = Maker()
    queue = InProcessReplyQueue(maker, maker.go_on, concurrency=1, backlog=1)
    running, waiting, beyond = a_reply(), a_reply(), a_reply()
    gate = maker.gates[running] = Gate()
    for reply_id in (running, waiting, beyond):
        await queue.put(reply_id)
    assert queue.size == 2
    gate.open()
    await maker.has_made(running, waiting)
    await queue.close(10)
    assert set(maker.made) == {running, waiting}


async def test_closing_lets_what_runs_go_on_and_begins_nothing_new():
    maker = Maker()
    queue = InProcessReplyQueue(maker, maker.go_on, concurrency=1)
    running, waiting, late = a_reply(), a_reply(), a_reply()
    gate = maker.gates[running] = Gate()
    await queue.put(running)
    await queue.put(waiting)
    await gate.reached()
    gate.open()
    await queue.close(10)
    await queue.put(late)
    assert set(maker.made) == {running}


async def test_closing_cancels_what_takes_too_long():
    maker = Maker()
    queue = InProcessReplyQueue(maker, maker.go_on)
    reply_id = a_reply()
    gate = maker.gates[reply_id] = Gate()
    await queue.put(reply_id)
    await gate.reached()
    await queue.close(0)
    assert not maker.made
    assert queue.size == 0


async def test_a_closed_queue_holds_nothing():
    maker = Maker()
    queue = InProcessReplyQueue(maker, maker.go_on, concurrency=1)
    running, waiting = a_reply(), a_reply()
    gate = maker.gates[running] = Gate()
    await queue.put(running)
    await queue.put(waiting)
    gate.open()
    await queue.close(10)
    assert queue.size == 0

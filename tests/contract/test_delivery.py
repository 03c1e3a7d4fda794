"""Every adapter of the reply queue and the reply feed keeps the contract of its port."""

from collections.abc import AsyncIterator

import pytest

from adapters.memory.delivery import MemoryReplyFeed
from adapters.queue.in_process import InProcessReplyQueue
from chat_core.ports.delivery import ReplyFeed, ReplyQueue
from chat_core.testing.delivery import Maker, ReplyFeedContract, ReplyQueueContract, a_reply
from chat_core.testing.models import Gate


class TestInProcessReplyQueue(ReplyQueueContract):
    # With one at a time, the others really wait.
    @pytest.fixture(params=[200, 1])
    async def queue(self, maker: Maker, request: pytest.FixtureRequest) -> AsyncIterator[InProcessReplyQueue]:
        queue = InProcessReplyQueue(maker, concurrency=request.param)
        yield queue
        await queue.close(10)


class TestMemoryReplyFeed(ReplyFeedContract):
    @pytest.fixture
    def feed(self) -> ReplyFeed:
        return MemoryReplyFeed()


async def test_no_more_are_made_at_once_than_was_said():
    maker = Maker()
    queue: ReplyQueue = InProcessReplyQueue(maker, concurrency=1)
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
    queue = InProcessReplyQueue(maker, concurrency=1, backlog=1)
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
    queue = InProcessReplyQueue(maker, concurrency=1)
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
    queue = InProcessReplyQueue(maker)
    reply_id = a_reply()
    gate = maker.gates[reply_id] = Gate()
    await queue.put(reply_id)
    await gate.reached()
    await queue.close(0)
    assert not maker.made
    assert queue.size == 0


async def test_a_closed_queue_holds_nothing():
    maker = Maker()
    queue = InProcessReplyQueue(maker, concurrency=1)
    running, waiting = a_reply(), a_reply()
    gate = maker.gates[running] = Gate()
    await queue.put(running)
    await queue.put(waiting)
    gate.open()
    await queue.close(10)
    assert queue.size == 0

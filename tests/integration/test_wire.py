"""One connection to Redis: what is asked gets its own answer or an error, and soon."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import RedisError, ResponseError

from adapters.feed.pubsub import RedisLine
from adapters.feed.wire import Order, Wire
from adapters.queue.broker import client
from tests.contract.test_delivery import url_of, valkey
from tests.faults.servers import Valkey

__all__ = ["valkey"]

pytestmark = pytest.mark.redis

#: Longer than a wire waits, in milliseconds.
PAUSE = 600


class Wired:
    """A wire, and what it has told."""

    def __init__(self, valkey: Valkey) -> None:
        self.pushed: list[Any] = []
        self.closed: list[tuple[str, int]] = []
        self.wire = Wire(
            url_of(valkey),
            seconds=5.0,
            patience=0.2,
            pushed=self.pushed.append,
            closed=lambda error, waited: self.closed.append((type(error).__name__, waited)),
        )

    def post(self, *commands: Any) -> "asyncio.Future[list[Any]]":
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.wire.send(Order(commands, answer))
        return answer


@pytest.fixture
async def wired(valkey: Valkey) -> AsyncIterator[Wired]:
    wired = Wired(valkey)
    await wired.wire.open()
    yield wired
    await wired.wire.end()


async def test_each_gets_its_own_answers(wired: Wired):
    answers = [wired.post(("ECHO", f"{number}"), ("ECHO", b"\x00\xff")) for number in range(200)]
    answers += [wired.post(("ECHO", "x" * 1_000_000))]
    for number, answer in enumerate(answers[:-1]):
        assert await answer == [str(number).encode(), b"\x00\xff"]
    assert await answers[-1] == [b"x" * 1_000_000]


async def test_whoever_asks_nothing_is_in_nobody_s_way(wired: Wired):
    answers = [wired.post(("ECHO", "a")), wired.post(), wired.post(("ECHO", "b"))]
    assert [await answer for answer in answers] == [[b"a"], [], [b"b"]]


async def test_an_error_stands_in_the_place_of_its_answer(wired: Wired):
    [first, refused, last] = await wired.post(("ECHO", "a"), ("XADD", "k", "NOMKSTREAM"), ("ECHO", "b"))
    assert (first, last) == (b"a", b"b")
    assert isinstance(refused, ResponseError)


async def test_whoever_leaves_costs_nobody_else_an_answer(wired: Wired):
    answers = [wired.post(("ECHO", f"{number}")) for number in range(3)]
    answers[1].cancel()
    assert [await answers[0], await answers[2]] == [[b"0"], [b"2"]]


async def test_what_is_not_answered_in_time_fails_and_the_wire_with_it(wired: Wired):
    await wired.post(("CLIENT", "PAUSE", PAUSE))
    began = time.monotonic()
    late = [wired.post(("ECHO", "late")) for _ in range(2)]
    with pytest.raises(TimeoutError):
        await late[0]
    assert time.monotonic() - began < PAUSE / 1000
    assert isinstance(late[1].exception(), TimeoutError)
    assert wired.closed == [("TimeoutError", 2)]
    with pytest.raises(ConnectionError):
        wired.wire.send(Order((("PING",),)))
    # What the earlier connection would have said is not taken for what is asked on the next.
    await asyncio.sleep(PAUSE / 1000)
    await wired.wire.open()
    assert await wired.post(("ECHO", "new")) == [b"new"]


async def test_a_process_that_was_busy_meanwhile_still_reads_its_answers(wired: Wired):
    answer = wired.post(("ECHO", "a"))
    time.sleep(0.5)  # noqa: ASYNC251 - the loop is to be held up
    assert await answer == [b"a"]


async def test_all_who_wait_hear_that_it_was_cut(wired: Wired, valkey: Valkey):
    with client(url_of(valkey), timeout=5) as redis:
        [[number]] = [await wired.post(("CLIENT", "ID"))]
        answer = wired.post(("BLPOP", "nothing", 5))
        redis.execute_command("CLIENT", "KILL", "ID", number)
    with pytest.raises((RedisError, OSError)):
        await answer
    assert wired.closed == [("ConnectionError", 1)]


async def test_what_comes_unasked_is_told(wired: Wired, valkey: Valkey):
    wired.wire.say(("SUBSCRIBE", "news"))
    with client(url_of(valkey), timeout=5) as redis:
        async with asyncio.timeout(10):
            while not wired.pushed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            redis.publish("news", "hello")
            while len(wired.pushed) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert [list(said)[:2] for said in wired.pushed] == [[b"subscribe", b"news"], [b"message", b"news"]]


async def test_asking_gives_up_after_its_seconds_and_can_be_done_again(wired: Wired):
    with pytest.raises(TimeoutError):
        await wired.wire.ask(("BLPOP", "nothing", 5), seconds=0.05)
    assert await wired.wire.ask(("ECHO", "a"), ("ECHO", "b"), seconds=5) == [b"a", b"b"]


async def test_a_line_on_which_redis_hung_up_in_silence_is_as_good_as_before(valkey: Valkey):
    line = RedisLine(url_of(valkey))
    await line.open(works=False)
    [number] = await line.ask(("CLIENT", "ID"))
    with client(url_of(valkey), timeout=5) as redis:
        redis.execute_command("CLIENT", "KILL", "ID", number)
    async with asyncio.timeout(10):
        while line._wire.is_open:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert line.answers
    assert await line.ask(("ECHO", "a")) == [b"a"]
    await line.close()


async def test_a_line_that_was_not_answered_is_not_used_until_it_is_again(valkey: Valkey):
    line = RedisLine(url_of(valkey))
    await line.open(works=False)
    await line.ask(("CLIENT", "PAUSE", 3 * PAUSE))
    with pytest.raises(TimeoutError):
        await line.ask(("ECHO", "a"))
    began = time.monotonic()
    for _ in range(100):
        assert not line.answers
        with pytest.raises(ConnectionError):
            line.ask(("ECHO", "b")).send(None)  # at once: it has nothing to wait for
    async with asyncio.timeout(20):
        while not line.answers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert time.monotonic() - began > PAUSE / 1000
    assert await line.ask(("ECHO", "c")) == [b"c"]
    await line.close()


async def test_a_line_that_is_closed_while_something_waits_tries_nothing_again(valkey: Valkey):
    line = RedisLine(url_of(valkey))
    await line.open(works=False)
    before = asyncio.all_tasks()
    waiting = line.post(("BLPOP", "nothing", 5))
    await line.close()
    assert isinstance(waiting.exception(), ConnectionError)
    assert asyncio.all_tasks() <= before

"""Every adapter of rate limits keeps the one contract; the one on Redis also without Redis."""

from collections.abc import AsyncIterator

import pytest

from adapters.feed.pubsub import RedisLine
from adapters.limits.redis import RedisRateLimits
from adapters.memory.limits import MemoryRateLimits
from chat_core.ports.limits import Charge, RateLimits
from chat_core.testing.limits import FIVE, QUICK, TWO, RateLimitsContract
from tests.clocks import Seconds
from tests.contract.test_delivery import url_of, valkey
from tests.faults.servers import Valkey

__all__ = ["valkey"]


async def line_to(url: str) -> RedisLine:
    line = RedisLine(url)
    await line.open(works=False)
    return line


class TestMemoryLimits(RateLimitsContract):
    @pytest.fixture
    def limits(self) -> RateLimits:
        return MemoryRateLimits()


@pytest.mark.redis
class TestRedisLimits(RateLimitsContract):
    @pytest.fixture
    async def limits(self, valkey: Valkey) -> AsyncIterator[RateLimits]:
        line = await line_to(url_of(valkey))
        yield RedisRateLimits(line.ask, MemoryRateLimits())
        await line.close()


class TestRedisLimitsWithoutRedis(RateLimitsContract):
    @pytest.fixture
    async def limits(self) -> AsyncIterator[RateLimits]:
        line = await line_to("redis://127.0.0.1:1/0")
        yield RedisRateLimits(line.ask, MemoryRateLimits())
        await line.close()


@pytest.mark.redis
async def test_processes_share_what_is_in_redis(valkey: Valkey):
    lines = [await line_to(url_of(valkey)) for _ in range(3)]
    try:
        processes = [RedisRateLimits(line.ask, MemoryRateLimits()) for line in lines]
        taken = [(await processes[n % 3].take([Charge(FIVE, "ada")])).allowed for n in range(9)]
        assert taken == [True] * 5 + [False] * 4
    finally:
        for line in lines:
            await line.close()


@pytest.mark.redis
async def test_a_redis_that_lost_its_scripts_is_given_them_again(valkey: Valkey):
    line = await line_to(url_of(valkey))
    try:
        limits = RedisRateLimits(line.ask, MemoryRateLimits())
        assert (await limits.take([Charge(TWO, "ada")])).standings[0].left == 1
        await line.ask(("SCRIPT", "FLUSH"))
        assert (await limits.take([Charge(TWO, "ada")])).standings[0].left == 0
    finally:
        await line.close()


@pytest.mark.redis
async def test_a_bucket_is_gone_from_redis_when_it_would_be_full(valkey: Valkey):
    line = await line_to(url_of(valkey))
    try:
        limits = RedisRateLimits(line.ask, MemoryRateLimits())
        await limits.take([Charge(TWO, "ada"), Charge(QUICK, "ada", 0)])
        (keys,) = await line.ask(("KEYS", "chat:limit:*"))
        assert keys == [b"chat:limit:two:ada"]
        (left,) = await line.ask(("PTTL", keys[0]))
        assert 20_000_000 < left <= 25_000_000
    finally:
        await line.close()


async def test_memory_forgets_full_buckets_first_and_never_holds_too_many():
    clock = Seconds()
    limits = MemoryRateLimits(most=10, monotonic=clock)
    for number in range(10):
        await limits.take([Charge(QUICK, str(number))])
    clock.let_pass(1.0)
    await limits.take([Charge(TWO, "slow"), Charge(TWO, "slower")])
    assert len(limits) == 2
    assert not (await limits.take([Charge(TWO, "slow", 2)])).allowed
    for number in range(1000):
        await limits.take([Charge(TWO, f"other{number}")])
        assert len(limits) <= 10


async def test_time_gives_tokens_back_at_the_pace_of_the_limit():
    clock = Seconds()
    limits = MemoryRateLimits(monotonic=clock)
    for _ in range(2):
        await limits.take([Charge(TWO, "ada")])
    clock.let_pass(24_999.0)
    assert not (await limits.take([Charge(TWO, "ada")])).allowed
    clock.let_pass(2.0)
    assert [(await limits.take([Charge(TWO, "ada")])).allowed for _ in range(2)] == [True, False]

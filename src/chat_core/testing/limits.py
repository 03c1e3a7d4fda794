"""The contract of ``RateLimits``.

Subclass it in a module that pytest collects::

    class TestOurLimits(RateLimitsContract):
        @pytest.fixture
        def limits(self) -> RateLimits:
            return OurLimits(...)

No clause waits for a bucket to fill: those it fills are quick, and are asked until they give.
"""

import asyncio

import pytest

from chat_core.ports.limits import Charge, Limit, RateLimits
from chat_core.testing.contract import Contract

#: So slow that nothing comes back while a test runs.
FIVE = Limit("five", 5, 50_000.0)
TWO = Limit("two", 2, 50_000.0)
#: A token every millisecond.
QUICK = Limit("quick", 2, 0.002)


class RateLimitsContract(Contract):
    """What every adapter of ``RateLimits`` keeps."""

    @pytest.fixture
    def limits(self) -> RateLimits:
        raise NotImplementedError("override the fixture `limits`")

    async def test_a_bucket_gives_what_it_holds_and_no_more(self, limits: RateLimits):
        """Fix: start a bucket that nobody has touched as full, and refuse once it is empty."""
        taken = [await limits.take([Charge(FIVE, "ada")]) for _ in range(7)]
        assert [one.allowed for one in taken] == [True] * 5 + [False] * 2
        assert [one.standings[0].left for one in taken] == [4, 3, 2, 1, 0, 0, 0]

    async def test_everybody_and_every_limit_has_a_bucket_of_its_own(self, limits: RateLimits):
        """Fix: key a bucket by the limit's name and the person."""
        for _ in range(2):
            assert (await limits.take([Charge(TWO, "ada")])).allowed
        assert not (await limits.take([Charge(TWO, "ada")])).allowed
        assert (await limits.take([Charge(TWO, "bob")])).allowed
        assert (await limits.take([Charge(FIVE, "ada")])).allowed

    async def test_all_are_taken_or_none(self, limits: RateLimits):
        """Fix: look at every bucket before the first token is taken."""
        both = [Charge(FIVE, "ada"), Charge(TWO, "ada")]
        assert [(await limits.take(both)).allowed for _ in range(3)] == [True, True, False]
        refused = await limits.take(both)
        assert [standing.left for standing in refused.standings] == [3, 0]
        assert refused.standings[0].met == 0

    async def test_a_refusal_says_when_to_come_back(self, limits: RateLimits):
        """Fix: tell the seconds until the missing tokens are there, at the bucket's own pace."""
        for _ in range(2):
            await limits.take([Charge(TWO, "ada")])
        (standing,) = (await limits.take([Charge(TWO, "ada")])).standings
        assert 20_000 < standing.met <= 25_000
        assert 45_000 < standing.full <= 50_000

    async def test_a_bucket_fills_again(self, limits: RateLimits):
        """Fix: let tokens come back as time goes by, at most to the brim."""
        async with asyncio.timeout(10):
            for _ in range(20):
                while not (await limits.take([Charge(QUICK, "ada")])).allowed:  # noqa: ASYNC110 - time must pass
                    await asyncio.sleep(0)

    async def test_looking_takes_nothing(self, limits: RateLimits):
        """Fix: a cost of 0 is always met, and changes nothing."""
        for _ in range(3):
            (standing,) = (await limits.take([Charge(TWO, "ada", 0)])).standings
            assert (standing.left, standing.full) == (2, 0)
        for _ in range(2):
            await limits.take([Charge(TWO, "ada")])
        looked = await limits.take([Charge(TWO, "ada", 0)])
        assert looked.allowed
        assert looked.standings[0].left == 0

    async def test_what_is_put_back_can_be_taken_again_and_never_makes_more(self, limits: RateLimits):
        """Fix: a negative cost adds tokens, at most to the brim."""
        for _ in range(2):
            await limits.take([Charge(TWO, "ada")])
        await limits.take([Charge(TWO, "ada", -1)])
        assert [(await limits.take([Charge(TWO, "ada")])).allowed for _ in range(2)] == [True, False]
        await limits.take([Charge(TWO, "ada", -50)])
        assert [(await limits.take([Charge(TWO, "ada")])).allowed for _ in range(3)] == [True, True, False]

    async def test_those_who_come_at_once_get_no_more_together(self, limits: RateLimits):
        """Fix: make looking and taking one step, over all processes that share the buckets."""
        taken = await asyncio.gather(*(limits.take([Charge(FIVE, "crowd")]) for _ in range(50)))
        assert sum(one.allowed for one in taken) == 5

    async def test_names_are_taken_as_they_are(self, limits: RateLimits):
        """Fix: do not take apart, fold or cut what says whose bucket it is."""
        for whom in ("2001:db8::/64", "ada ", "Ada", "", "a:b", "á" * 200):
            assert (await limits.take([Charge(TWO, whom)])).standings[0].left == 1

"""The contract of ``ReplyQueue``; those of the feeds are in ``reply_feed`` and ``room_feed``.

Subclass them in a module that pytest collects::

    class TestOurQueue(ReplyQueueContract):
        @pytest.fixture
        async def queue(self, maker: Maker) -> AsyncIterator[ReplyQueue]:
            # So set up that what is put on it ends in `await maker(reply_id)`, and a job in `await maker.go_on(job)`.
            queue = OurQueue(...)
            yield queue
            await queue.close()

It carries hints: what it promises is little, and this suite asks for no more. That a reply is made once is the claim's
doing, not the queue's.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from chat_core.domain.ids import MessageId, ReplyId, RoomId, utc_now, uuid7
from chat_core.domain.reply import Reply
from chat_core.ports.delivery import Job, Prompt, ReplyQueue
from chat_core.ports.language_model import Conversation
from chat_core.testing.contract import Contract
from chat_core.testing.models import Gate
from chat_core.testing.optional import shown

#: Longer than anything here takes; the clauses wait for events, and this ends those that never come.
PATIENCE = 15.0

#: Makes what is behind the adapter unreachable, from when it is entered until it is left.
Outage = Callable[[], AbstractAsyncContextManager[object]]


def a_reply() -> ReplyId:
    """The id of a reply that nobody has heard of."""
    return ReplyId(uuid7())


def a_job() -> Job:
    """A reply that nobody has heard of, claimed."""
    at = utc_now()
    reply = Reply(
        id=a_reply(),
        room_id=RoomId(uuid7()),
        prompt_id=MessageId(uuid7()),
        asked_by=None,
        created_at=at,
        deadline_at=at + timedelta(minutes=1),
    )
    return Job(reply=reply.claimed(), prompt=Prompt(conversation=Conversation(turns=())))


class Maker:
    """What makes replies at the queue's other end: it counts them, and can be held up or made to fail."""

    def __init__(self) -> None:
        self.made: Counter[ReplyId] = Counter()
        self.gates: dict[ReplyId, Gate] = {}
        self.errors: dict[ReplyId, Exception] = {}
        self._news = asyncio.Condition()

    async def __call__(self, reply_id: ReplyId) -> None:
        if reply_id in self.gates:
            await self.gates[reply_id].pass_through()
        async with self._news:
            self.made[reply_id] += 1
            self._news.notify_all()
        if reply_id in self.errors:
            raise self.errors[reply_id]

    async def go_on(self, job: Job) -> None:
        """Make one that is claimed."""
        await self(job.reply.id)

    async def has_made(self, *reply_ids: ReplyId) -> None:
        """Return once each of them was made. Raises ``TimeoutError`` where that never happens."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: all(self.made[reply_id] for reply_id in reply_ids))


class ReplyQueueContract(Contract):
    """The clauses of ``ReplyQueue``. Override ``queue``, and ``outage`` where there is something that can be away."""

    @pytest.fixture
    def maker(self) -> Maker:
        """What the queue is to bring replies to."""
        return Maker()

    @pytest.fixture
    def queue(self, maker: Maker) -> ReplyQueue:
        """The adapter under test, with ``maker`` at its other end."""
        raise NotImplementedError("override the fixture `queue`")

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Makes unreachable what the queue is kept in."""
        return None

    async def test_what_is_put_is_made(self, queue: ReplyQueue, maker: Maker) -> None:
        """The id arrives as it was put, soon, and without anybody asking again."""
        reply_id = a_reply()
        await queue.put(reply_id)
        await maker.has_made(reply_id)
        assert set(maker.made) == {reply_id}

    async def test_of_many_each_is_made(self, queue: ReplyQueue, maker: Maker) -> None:
        """In what order, and how many at once, is the adapter's own affair; that each comes through is not."""
        replies = [a_reply() for _ in range(50)]
        await asyncio.gather(*(queue.put(reply_id) for reply_id in replies))
        await maker.has_made(*replies)
        assert set(maker.made) == set(replies)

    async def test_putting_does_not_wait_for_the_making(self, queue: ReplyQueue, maker: Maker) -> None:
        """``put`` asks; it returns although the answer takes its time. The sender is waiting for it with an open
        request, or does not want to wait at all."""
        reply_id = a_reply()
        gate = maker.gates[reply_id] = Gate()
        async with asyncio.timeout(PATIENCE):
            await queue.put(reply_id)
        await gate.reached()
        assert not maker.made
        gate.open()
        await maker.has_made(reply_id)

    async def test_putting_again_is_harmless(self, queue: ReplyQueue, maker: Maker) -> None:
        """A repeated send puts a reply again, and so does each sweep: before, while and after it is made. It is made
        at least once; more often is allowed, since the claim lets one maker in alone."""
        reply_id, last = a_reply(), a_reply()
        gate = maker.gates[reply_id] = Gate()
        await queue.put(reply_id)
        await queue.put(reply_id)
        await gate.reached()
        await queue.put(reply_id)
        gate.open()
        await maker.has_made(reply_id)
        await queue.put(reply_id)
        await queue.put(last)
        await maker.has_made(last)

    async def test_what_was_made_can_be_put_again(self, queue: ReplyQueue, maker: Maker) -> None:
        """A maker may have found the storage away: the sweep then puts the same id again, and it has to come through
        again. Do not remember ids for longer than they wait or are being made."""
        reply_id = a_reply()
        maker.errors[reply_id] = OSError("the storage is away")
        await queue.put(reply_id)
        await maker.has_made(reply_id)
        del maker.errors[reply_id]
        # Until the first making has wholly ended, a second put may be taken for a repeat.
        async with asyncio.timeout(PATIENCE):
            while maker.made[reply_id] < 2:
                await queue.put(reply_id)
                await asyncio.sleep(0)

    async def test_a_making_that_fails_stops_no_other(self, queue: ReplyQueue, maker: Maker) -> None:
        """Log what the maker raises, and go on with the next one. Whether the failed one comes again is the sweep's
        business: the row owns the job."""
        bad, good = a_reply(), a_reply()
        maker.errors[bad] = RuntimeError("this reply cannot be made")
        await queue.put(bad)
        await queue.put(good)
        await maker.has_made(bad, good)

    async def test_what_was_claimed_for_it_is_made_here(self, queue: ReplyQueue, maker: Maker) -> None:
        """Where ``makes_here`` says so, a job is begun at once, and made to its end beside the one who gave it. It
        needs no claim: whoever stored the reply has claimed it. Where it says no, nobody gives a job."""
        if not queue.makes_here:
            pytest.skip("this queue brings replies to other processes")
        job = a_job()
        async with asyncio.timeout(PATIENCE):
            await queue.make(job)
        await maker.has_made(job.reply.id)
        assert maker.made[job.reply.id] == 1

    async def test_putting_never_raises(self, queue: ReplyQueue, outage: Outage | None) -> None:
        """The message is stored when its reply is put on the queue: an error now would call a send a failure that was
        none. Catch what the broker's client raises, log it, and return soon; the sweep finds what was not put."""
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            await queue.put(a_reply())

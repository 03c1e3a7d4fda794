"""The contracts of ``ReplyQueue``, ``ReplyFeed`` and ``RoomFeed``.

Subclass them in a module that pytest collects::

    class TestOurQueue(ReplyQueueContract):
        @pytest.fixture
        async def queue(self, maker: Maker) -> AsyncIterator[ReplyQueue]:
            queue = OurQueue(...)  # so set up that what is put on it ends in `await maker(reply_id)`
            yield queue
            await queue.close()

The ports carry hints: what they promise is little, and these suites ask for no more. That a reply is made once is the
claim's doing, not the queue's; that a viewer misses nothing is the row's doing, not the feed's.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from chat_core.domain.ids import ReplyId, RoomId, UserId, uuid7
from chat_core.ports.delivery import (
    IsPresent,
    IsTyping,
    LogGrew,
    ReplyChanged,
    ReplyFeed,
    ReplyQueue,
    RoomFeed,
    RoomNews,
)
from chat_core.testing.models import Gate
from chat_core.testing.optional import shown

#: Longer than anything here takes; the clauses wait for events, and this ends those that never come.
PATIENCE = 15.0

#: Makes what is behind the adapter unreachable, from when it is entered until it is left.
Outage = Callable[[], AbstractAsyncContextManager[object]]


def a_reply() -> ReplyId:
    """The id of a reply that nobody has heard of."""
    return ReplyId(uuid7())


_ROOM, _USER, _REPLY = RoomId(uuid7()), UserId(uuid7()), ReplyId(uuid7())


def any_news() -> list[RoomNews]:
    """News of every kind."""
    return [
        LogGrew(room_id=_ROOM, seq=2**62),
        ReplyChanged(room_id=_ROOM, reply_id=_REPLY),
        IsTyping(room_id=_ROOM, user_id=_USER, username="a-b.c_D9"),
        IsPresent(room_id=_ROOM, user_id=_USER, username="ann", present=True),
        IsPresent(room_id=_ROOM, user_id=UserId(_REPLY), username="ben", present=False),
    ]


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.news: list[RoomNews] = []
        self._more = asyncio.Event()

    def __call__(self, news: RoomNews) -> None:
        self.news.append(news)
        self._more.set()

    async def hears(self, news: RoomNews) -> None:
        """Return once these were heard. Raises ``TimeoutError`` where they never are."""
        async with asyncio.timeout(PATIENCE):
            while news not in self.news:
                self._more.clear()
                await self._more.wait()


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

    async def has_made(self, *reply_ids: ReplyId) -> None:
        """Return once each of them was made. Raises ``TimeoutError`` where that never happens."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: all(self.made[reply_id] for reply_id in reply_ids))


class ReplyQueueContract:
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

    async def test_putting_never_raises(self, queue: ReplyQueue, outage: Outage | None) -> None:
        """The message is stored when its reply is put on the queue: an error now would call a send a failure that was
        none. Catch what the broker's client raises, log it, and return soon; the sweep finds what was not put."""
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            await queue.put(a_reply())


class ReplyFeedContract:
    """The clauses of ``ReplyFeed``. Override ``feed``, and the others where the adapter can show it."""

    @pytest.fixture
    def feed(self) -> ReplyFeed:
        """The adapter under test."""
        raise NotImplementedError("override the fixture `feed`")

    @pytest.fixture
    def elsewhere(self) -> ReplyFeed | None:
        """The same feed as another process has it."""
        return None

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Makes unreachable what the feed travels by."""
        return None

    async def test_an_announcement_ends_the_wait(self, feed: ReplyFeed) -> None:
        """``wait`` returns when the reply is announced, long before its time is over."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            waiting = asyncio.create_task(watch.wait(3600))
            await asyncio.sleep(0)  # so that it may be waiting already; the next clause has it otherwise
            await feed.announce(reply_id)
            await waiting

    async def test_an_announcement_before_the_wait_is_not_lost(self, feed: ReplyFeed) -> None:
        """The watch listens from when it is entered, not from when it is waited on: between the two its owner looks at
        the row, and what is announced meanwhile has to be heard. Enter only when the subscription stands."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            await feed.announce(reply_id)
            await watch.wait(3600)

    async def test_an_announcement_between_two_waits_is_not_lost(self, feed: ReplyFeed) -> None:
        """Keep the news until a wait has returned for it. Two announcements may be heard as one."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            for _ in range(3):
                await feed.announce(reply_id)
                await feed.announce(reply_id)
                await watch.wait(3600)

    async def test_a_cancelled_wait_loses_no_news(self, feed: ReplyFeed) -> None:
        """Who guards a reply waits for the news and for the answer at once, and drops the slower one. A wait that did
        not return has heard nothing: the next one does."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            waiting = asyncio.create_task(watch.wait(3600))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            await feed.announce(reply_id)
            await watch.wait(3600)
            # Cancelled in the moment of the news, too.
            waiting = asyncio.create_task(watch.wait(3600))
            await asyncio.sleep(0)
            await feed.announce(reply_id)
            waiting.cancel()
            done, _ = await asyncio.wait({waiting})
            if any(task.cancelled() for task in done):
                await watch.wait(3600)

    async def test_a_wait_without_news_ends(self, feed: ReplyFeed) -> None:
        """``wait`` returns after its seconds at the latest, and does not raise for it. None, and fewer, are no time."""
        async with asyncio.timeout(PATIENCE), feed.watch(a_reply()) as watch:
            await watch.wait(0.01)
            await watch.wait(0)
            await watch.wait(-1)

    async def test_everyone_who_watches_hears_it(self, feed: ReplyFeed) -> None:
        """News are for all, not for the first: the sender, a second tab and the maker itself may watch one reply."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
            watches = [await stack.enter_async_context(feed.watch(reply_id)) for _ in range(10)]
            waiting = [asyncio.create_task(watch.wait(3600)) for watch in watches[:5]]
            await asyncio.sleep(0)
            await feed.announce(reply_id)
            await asyncio.gather(*waiting, *(watch.wait(3600) for watch in watches[5:]))

    async def test_those_who_watch_another_reply_are_not_in_the_way(self, feed: ReplyFeed) -> None:
        """Each watch is for one reply; many are open at once, and leaving one leaves the others as they are."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            async with feed.watch(reply_id), feed.watch(a_reply()):
                pass
            await feed.announce(reply_id)
            await watch.wait(3600)

    async def test_a_reply_can_be_watched_again(self, feed: ReplyFeed) -> None:
        """Leaving a watch ends what belongs to it, also where it is left by an error or in the middle of a wait."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ZeroDivisionError):
                async with feed.watch(reply_id):
                    raise ZeroDivisionError
            async with feed.watch(reply_id) as watch:
                await feed.announce(reply_id)
                await watch.wait(3600)

    async def test_announcing_to_nobody_is_harmless(self, feed: ReplyFeed) -> None:
        """Most replies end with nobody there. ``announce`` never raises, before, between and after watches."""
        reply_id = a_reply()
        await feed.announce(reply_id)
        async with feed.watch(reply_id):
            pass
        await feed.announce(reply_id)

    async def test_news_from_another_process_are_heard(self, feed: ReplyFeed, elsewhere: ReplyFeed | None) -> None:
        """The maker and the viewer are seldom in the same process, once there is more than one."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.watch(reply_id) as watch:
            await shown(elsewhere, "elsewhere").announce(reply_id)
            await watch.wait(3600)

    async def test_announcing_never_raises(self, feed: ReplyFeed, outage: Outage | None) -> None:
        """The row is committed when it is announced: an error now would call a success a failure. Catch what the
        client raises, and return soon; those who watch look at the row by themselves from time to time."""
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            await feed.announce(a_reply())

    async def test_watching_goes_on_through_an_outage(self, feed: ReplyFeed, outage: Outage | None) -> None:
        """A watch that hears nothing is no error: it is entered, waits for its seconds, and is left, as always."""
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")(), feed.watch(a_reply()) as watch:
            await watch.wait(0.01)


class RoomFeedContract:
    """The clauses of ``RoomFeed``. Override ``room_feed``, and the others where the adapter can show it."""

    @pytest.fixture
    def room_feed(self) -> RoomFeed:
        """The adapter under test."""
        raise NotImplementedError("override the fixture `room_feed`")

    @pytest.fixture
    def elsewhere(self) -> RoomFeed | None:
        """The same feed as another process has it."""
        return None

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Makes unreachable what the feed travels by."""
        return None

    async def test_everyone_who_listens_hears_all_news(self, room_feed: RoomFeed) -> None:
        """In this process too, and just as they were told."""
        first, second = Heard(), Heard()
        with room_feed.listen(first), room_feed.listen(second):
            for news in any_news():
                await room_feed.tell(news)
            for news in any_news():
                await first.hears(news)
                await second.hears(news)

    async def test_who_has_left_hears_nothing(self, room_feed: RoomFeed) -> None:
        """Leaving one ends that one alone, also where it is left by an error."""
        gone, there = Heard(), Heard()
        news = any_news()[0]
        with room_feed.listen(there):
            with pytest.raises(ZeroDivisionError), room_feed.listen(gone):
                raise ZeroDivisionError
            await room_feed.tell(news)
            await there.hears(news)
        await room_feed.tell(news)
        assert not gone.news

    async def test_a_listener_that_raises_hurts_no_other(self, room_feed: RoomFeed) -> None:
        """It must not; where it does, it is logged, and neither the others nor the teller suffer."""

        def fails(_: RoomNews) -> None:
            raise ZeroDivisionError

        there = Heard()
        news = any_news()[0]
        with room_feed.listen(fails), room_feed.listen(there), room_feed.listen(fails):
            await room_feed.tell(news)
            await there.hears(news)

    async def test_telling_nobody_is_harmless(self, room_feed: RoomFeed) -> None:
        """Most rooms are open nowhere."""
        for news in any_news():
            await room_feed.tell(news)

    async def test_of_much_news_the_latest_arrives(self, room_feed: RoomFeed) -> None:
        """Earlier news of the same log may be left out; that it has come so far may not."""
        there, room_id = Heard(), RoomId(uuid7())
        with room_feed.listen(there):
            for seq in range(1, 501):
                await room_feed.tell(LogGrew(room_id=room_id, seq=seq))
            await there.hears(LogGrew(room_id=room_id, seq=500))

    async def test_news_from_another_process_are_heard(self, room_feed: RoomFeed, elsewhere: RoomFeed | None) -> None:
        """Of every kind, and just as they were told there."""
        there = Heard()
        with room_feed.listen(there):
            for news in any_news():
                await shown(elsewhere, "elsewhere").tell(news)
            for news in any_news():
                await there.hears(news)

    async def test_telling_never_raises(self, room_feed: RoomFeed, outage: Outage | None) -> None:
        """What it is about is committed. Those of this process hear it all the same; the others look for themselves."""
        there = Heard()
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            with room_feed.listen(there):
                for news in any_news():
                    await room_feed.tell(news)
                    await there.hears(news)

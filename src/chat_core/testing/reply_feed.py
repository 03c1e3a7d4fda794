"""The contract of ``ReplyFeed``. Subclass it in a module that pytest collects, and override ``feed``.

It carries hints: that a viewer misses nothing is the storage's doing, not the feed's. But what it shows of an answer is
in order and without a hole.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from chat_core.domain.reply import Part, Place
from chat_core.ports.delivery import PartsWatch, ReplyFeed
from chat_core.testing.contract import Contract
from chat_core.testing.delivery import PATIENCE, Outage, a_reply
from chat_core.testing.optional import shown
from chat_core.testing.samples import any_texts


class ReplyFeedContract(Contract):
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

    async def test_who_has_something_else_to_do_is_called(self, feed: ReplyFeed) -> None:
        """Once, by the next news or by those that came since the watch began; and not after it was left."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE):
            async with feed.watch(reply_id) as watch:
                for news_first in (True, False):
                    called: asyncio.Queue[bool] = asyncio.Queue()
                    if news_first:
                        await feed.announce(reply_id)
                    watch.call(lambda: called.put_nowait(True))  # noqa: B023 - it is called within its turn
                    if not news_first:
                        await feed.announce(reply_id)
                    await called.get()
                    await feed.announce(reply_id)
                    # All that was announced is heard now, and nobody was called for it.
                    await watch.wait(3600)
                    assert called.empty()
                watch.call(lambda: called.put_nowait(True))
            async with feed.watch(reply_id) as another:
                await feed.announce(reply_id)
                await another.wait(3600)
                assert called.empty()

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

    async def test_parts_that_are_appended_are_seen_by_those_who_follow(self, feed: ReplyFeed) -> None:
        """In order, from the first one on, also by who comes later; ``wait`` returns for each that is new."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as early:
            await feed.begin(reply_id, 1)
            for number in range(1, 4):
                await feed.append(reply_id, [a_part(1, number)])
                await _until(early, lambda number=number: len(early.parts(Place(1, 0))) == number)
            async with feed.follow(reply_id) as late:
                await _until(late, lambda: late.parts(Place(1, 1)) == [a_part(1, 2), a_part(1, 3)])
            assert early.parts(Place(1, 3)) == []
            await feed.end(reply_id)

    async def test_an_epoch_begins_with_the_maker_s_first_request(self, feed: ReplyFeed) -> None:
        """Whoever follows is told what it is, where that was said, and no more of it once a later epoch has begun."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            assert watch.request is None
            await feed.begin(reply_id, 1, ("provider", "a:model of-any/name"))
            await _until(watch, lambda: watch.epoch == 1)
            assert watch.request == ("provider", "a:model of-any/name")
            await feed.begin(reply_id, 2)
            await _until(watch, lambda: watch.epoch == 2)
            assert watch.request is None
            await feed.end(reply_id)

    async def test_a_part_may_say_to_forget(self, feed: ReplyFeed) -> None:
        """``text`` is ``None`` then, and it has an offset like any other. Texts of every kind come as they went."""
        reply_id = a_reply()
        parts = [*(Part(1, number, text) for number, text in enumerate(any_texts(8), 1) if text), Part(1, 9, None)]
        parts = [Part(1, number, part.text) for number, part in enumerate(parts, 1)]
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            await feed.begin(reply_id, 1)
            await feed.append(reply_id, parts)
            await _until(watch, lambda: watch.parts(Place(1, 0)) == parts)
            await feed.end(reply_id)

    async def test_parts_of_an_epoch_that_is_over_are_not_taken(self, feed: ReplyFeed) -> None:
        """A maker that lost its lease may go on for a while, and must not write into what its successor shows."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            await feed.begin(reply_id, 1)
            await feed.append(reply_id, [a_part(1, 1)])
            await feed.begin(reply_id, 2)
            await _until(watch, lambda: watch.epoch == 2)
            await feed.append(reply_id, [a_part(1, 2)])
            await feed.append(reply_id, [a_part(2, 1)])
            await _until(watch, lambda: watch.parts(Place(2, 0)) == [a_part(2, 1)])
            assert watch.parts(Place(1, 0)) == ()
            await feed.end(reply_id)

    async def test_whoever_follows_hears_that_the_row_changed(self, feed: ReplyFeed) -> None:
        """``wait`` says so, and tells it from new parts, which need no look at the row. It may say so twice."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            await feed.begin(reply_id, 1)
            await feed.append(reply_id, [a_part(1, 1)])
            assert not await watch.wait(0)
            await feed.announce(reply_id)
            while not await watch.wait(3600):
                pass
            await feed.end(reply_id)

    async def test_a_maker_s_own_process_is_live(self, feed: ReplyFeed) -> None:
        """Whoever follows a reply where it is made needs no look into the storage to see its parts."""
        reply_id = a_reply()
        async with feed.follow(reply_id) as watch:
            await feed.begin(reply_id, 1)
            assert watch.live
            await feed.end(reply_id)

    async def test_showing_parts_never_raises(self, feed: ReplyFeed, outage: Outage | None) -> None:
        """The answer goes on without its viewers. Say that they do not see it: then the storage carries the parts."""
        reply_id = a_reply()
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            assert not await feed.begin(reply_id, 1)
            assert not await feed.append(reply_id, [a_part(1, 1)])
            async with feed.follow(reply_id) as watch:
                assert watch.parts(Place(1, 0)) == [a_part(1, 1)]
            await feed.end(reply_id)

    async def test_parts_are_seen_on_another_process(self, feed: ReplyFeed, elsewhere: ReplyFeed | None) -> None:
        """Also by who comes when they were appended already; and whoever appends is told that they are."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            assert await other.begin(reply_id, 1, ("provider", "model"))
            assert await other.append(reply_id, [a_part(1, 1)])
            await _until(watch, lambda: watch.parts(Place(1, 0)) == [a_part(1, 1)])
            assert watch.request == ("provider", "model")
            async with feed.follow(a_reply()), feed.follow(reply_id) as late:
                assert await other.append(reply_id, [a_part(1, 2), a_part(1, 3)])
                await _until(late, lambda: len(late.parts(Place(1, 0))) == 3)
            await _until(watch, lambda: len(watch.parts(Place(1, 1))) == 2)
            await other.end(reply_id)

    async def test_parts_that_come_faster_than_they_are_brought_are_seen(
        self, feed: ReplyFeed, elsewhere: ReplyFeed | None
    ) -> None:
        """A maker may append the next part while the one before is on its way. What is brought together is brought
        once, each is told so, and none is in the way of what is said after it."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            assert await other.begin(reply_id, 1)
            await _until(watch, lambda: watch.epoch == 1)
            parts = [a_part(1, number) for number in range(1, 6)]
            assert all(await asyncio.gather(*(other.append(reply_id, [part]) for part in parts)))
            await _until(watch, lambda: watch.parts(Place(1, 0)) == parts)
            await other.announce(reply_id)
            while not await watch.wait(3600):
                pass
            await other.end(reply_id)

    async def test_a_maker_need_not_wait_until_its_epoch_has_begun(
        self, feed: ReplyFeed, elsewhere: ReplyFeed | None
    ) -> None:
        """``begin`` may take a while, and the first parts be there before it returns. They are part of the epoch."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            for epoch in (1, 2):
                parts = [a_part(epoch, number) for number in range(1, 4)]
                beginning = asyncio.create_task(other.begin(reply_id, epoch))
                await asyncio.sleep(0)  # so that it is on its way
                appending = [asyncio.create_task(other.append(reply_id, [part])) for part in parts]
                assert await beginning
                assert all(await asyncio.gather(*appending))
                await _until(watch, lambda epoch=epoch, parts=parts: watch.parts(Place(epoch, 0)) == parts)
            await other.end(reply_id)

    async def test_whoever_comes_back_sees_all_of_it(self, feed: ReplyFeed, elsewhere: ReplyFeed | None) -> None:
        """Those who left, and came back at once or after more was appended; the adapter may have forgotten what it
        knew for them, and has to bring it again."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE):
            await other.begin(reply_id, 1)
            for number in range(1, 6):
                await other.append(reply_id, [a_part(1, number)])
                for _ in range(3):
                    async with feed.follow(reply_id) as watch:
                        await _until(watch, lambda number=number: len(watch.parts(Place(1, 0))) == number)
            await other.end(reply_id)

    async def test_a_maker_elsewhere_is_fenced_by_a_later_epoch(
        self, feed: ReplyFeed, elsewhere: ReplyFeed | None
    ) -> None:
        """Once the later epoch has begun, on whichever process, nobody sees what the earlier one still appends."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            assert await other.begin(reply_id, 1)
            assert await other.append(reply_id, [a_part(1, 1)])
            assert await feed.begin(reply_id, 2)
            await other.append(reply_id, [a_part(1, 2)])
            await feed.append(reply_id, [a_part(2, 1)])
            await _until(watch, lambda: watch.parts(Place(2, 0)) == [a_part(2, 1)])
            async with other.follow(reply_id), AsyncExitStack() as stack:
                await other.end(reply_id)
                third = await stack.enter_async_context(other.follow(reply_id))
                await _until(third, lambda: third.parts(Place(2, 0)) == [a_part(2, 1)])
            await feed.end(reply_id)

    async def test_what_was_lost_is_written_anew(
        self, feed: ReplyFeed, elsewhere: ReplyFeed | None, outage: Outage | None
    ) -> None:
        """After an outage that left nothing behind, the next part brings all the earlier ones with it: there is never
        a hole, and the offsets stay what they were."""
        reply_id, other = a_reply(), shown(elsewhere, "elsewhere")
        async with asyncio.timeout(PATIENCE), feed.follow(reply_id) as watch:
            await other.begin(reply_id, 1)
            await other.append(reply_id, [a_part(1, 1), a_part(1, 2)])
            await _until(watch, lambda: len(watch.parts(Place(1, 0))) == 2)
            async with shown(outage, "outage")():
                assert not await other.append(reply_id, [a_part(1, 3)])
            number = 4
            while not await other.append(reply_id, [a_part(1, number)]):
                number += 1
                await asyncio.sleep(0.01)  # until the adapter has found its way back by itself
            everything = [a_part(1, offset) for offset in range(1, number + 1)]
            await _until(watch, lambda: watch.parts(Place(1, 0)) == everything)
            async with feed.follow(reply_id) as late:
                await _until(late, lambda: late.parts(Place(1, 0)) == everything)
            await other.end(reply_id)


def a_part(epoch: int, offset: int) -> Part:
    """Text that tells where it belongs."""
    return Part(epoch, offset, f"{epoch}-{offset} ")


async def _until(watch: PartsWatch, holds: Callable[[], bool]) -> None:
    """Wait on the watch until this holds: what ends no wait is not news."""
    while not holds():
        await watch.wait(PATIENCE)

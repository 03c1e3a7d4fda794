"""The contract of ``RoomFeed``. Subclass it in a module that pytest collects, and override ``room_feed``.

It carries hints: that a viewer misses nothing of a room is the log's doing, not the feed's.
"""

import asyncio

import pytest

from chat_core.domain.ids import ReplyId, RoomId, UserId, uuid7
from chat_core.ports.delivery import IsPresent, IsTyping, LogGrew, ReplyChanged, RoomFeed, RoomNews
from chat_core.testing.contract import Contract
from chat_core.testing.delivery import PATIENCE, Outage
from chat_core.testing.optional import shown

_ROOM, _USER, _REPLY = RoomId(uuid7()), UserId(uuid7()), ReplyId(uuid7())


def any_news() -> list[RoomNews]:
    """News of every kind."""
    return [
        LogGrew(room_id=_ROOM, seq=2**62),
        LogGrew(room_id=_ROOM, seq=2**62 + 1, moves_doors=False),
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


class RoomFeedContract(Contract):
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

    async def test_messages_do_not_stand_for_what_moves_doors(
        self, room_feed: RoomFeed, elsewhere: RoomFeed | None
    ) -> None:
        """Also where they are told in the same moment, and are further up in the log."""
        there, room_id = Heard(), RoomId(uuid7())
        told = [LogGrew(room_id=room_id, seq=5), LogGrew(room_id=room_id, seq=6, moves_doors=False)]
        with room_feed.listen(there):
            for news in told:
                await shown(elsewhere, "elsewhere").tell(news)
            for news in told:
                await there.hears(news)

    async def test_telling_never_raises(self, room_feed: RoomFeed, outage: Outage | None) -> None:
        """What it is about is committed. Those of this process hear it all the same; the others look for themselves."""
        there = Heard()
        async with asyncio.timeout(PATIENCE), shown(outage, "outage")():
            with room_feed.listen(there):
                for news in any_news():
                    await room_feed.tell(news)
                    await there.hears(news)

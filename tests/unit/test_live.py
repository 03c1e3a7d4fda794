"""The hub: one reader for each room, and everyone sees the log just as it is, for as long as they may."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from adapters.memory.room_feed import MemoryRoomFeed
from chat_core.domain.ids import RoomId
from chat_core.domain.room import Room, Visibility
from chat_core.domain.user import Actor
from chat_core.errors import CursorAhead, NotFound, Unavailable
from chat_core.ports.delivery import IsPresent, LogGrew, RoomFeed, RoomNews
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.live.connection import Connection, Ended
from chat_core.use_cases.live.events import LiveEvent
from chat_core.use_cases.live.hub import Hub
from entrypoints.http.live_forms import as_json
from tests.clocks import Seconds
from tests.world import World


class DeafFeed(MemoryRoomFeed):
    """Loses all news but those that the test tells."""

    async def tell(self, news: RoomNews) -> None:
        pass


def as_bytes(event: LiveEvent) -> bytes:
    return as_json(event) + b"\n"


class Viewer:
    """One connection, and what it was shown."""

    def __init__(self, hub: Hub, actor: Actor, encode: Callable[[LiveEvent], bytes] = as_bytes, **limits: Any) -> None:
        self.hub = hub
        self.connection = Connection(actor, encode, **limits)
        self.shown: list[dict[str, Any]] = []
        hub.connect(self.connection)

    async def opens(self, room: Room | RoomId, after: int | None = None) -> "Viewer":
        room_id = room.id if isinstance(room, Room) else room
        self.hub.start(await self.hub.subscribe(self.connection, room_id, after))
        return self

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.shown if event["seq"] is not None]

    async def _take(self) -> None:
        for item in await self.connection.take(1):
            self.shown.append(json.loads(item))

    async def sees(self, seq: int) -> list[int]:
        """All seqs, once this one was shown."""
        async with asyncio.timeout(10):
            while seq not in self.seqs:
                assert self.connection.ended is None, self.connection.ended
                await self._take()
        return self.seqs

    async def ended(self) -> Ended:
        async with asyncio.timeout(10):
            while self.connection.ended is None:
                await self._take()
        await self._take()
        return self.connection.ended

    def leaves(self) -> None:
        self.hub.leave(self.connection)


@contextmanager
def a_hub(world: World, feed: RoomFeed | None = None, **more: Any) -> Iterator[Hub]:
    """A hub of the world's; at the end nothing of it is left."""
    hub = Hub(world.uow, feed or world.container.room_feed(), **more)
    with hub.opened():
        yield hub
    assert not hub._rooms
    assert not hub._connections


async def test_what_is_said_is_shown_to_everyone_in_one_rendering(held):
    rendered = []

    def counting(event: LiveEvent) -> bytes:
        rendered.append(event)
        return as_bytes(event)

    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewers = [await Viewer(hub, who, counting).opens(room) for who in (ann, ben) for _ in range(50)]
        await held.say(ann, room, "hello")
        for viewer in viewers:
            assert await viewer.sees(1) == [1]
        assert len([event for event in rendered if event.seq == 1]) == 1


async def test_what_comes_together_is_written_together_to_everyone(held):
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    feed = DeafFeed()
    with a_hub(held, feed) as hub:
        written: list[list[bytes]] = []

        def at_once(items: Sequence[bytes]) -> bool:
            written.append(list(items))
            return True

        there = await Viewer(hub, ben).opens(room)
        for _ in range(3):
            await Viewer(hub, ann, at_once=at_once).opens(room)
        written.clear()
        for number in range(5):
            await held.say(ann, room, str(number))
        feed.spread(LogGrew(room_id=room.id, seq=5))
        await there.sees(5)
        assert [[json.loads(item)["seq"] for item in items] for items in written] == [[1, 2, 3, 4, 5]] * 3


async def test_the_log_is_read_once_for_everyone(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewers = [await Viewer(hub, ann).opens(room) for _ in range(20)]
        reads = held.uow.reads
        await held.say(ann, room, "hello")
        for viewer in viewers:
            await viewer.sees(1)
        assert held.uow.reads - reads <= 1


async def test_whenever_they_come_they_see_the_log_without_a_hole_and_nothing_twice(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewers: list[tuple[int, Viewer]] = []

        async def writes() -> None:
            for number in range(60):
                await held.say(ann, room, str(number))
                await asyncio.sleep(0)

        async def comes(number: int) -> None:
            for _ in range(number):
                await asyncio.sleep(0)
            last = (await held.stored_room(room)).last_seq
            after = random.randint(0, min(last, 179))
            viewers.append((after, await Viewer(hub, ann).opens(room, after)))

        await asyncio.gather(writes(), writes(), writes(), *(comes(number * 7) for number in range(60)))
        for after, viewer in viewers:
            assert await viewer.sees(180) == list(range(after + 1, 181))


async def test_who_comes_back_is_shown_no_text_that_was_deleted_or_changed_meanwhile(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        there = await Viewer(hub, ann).opens(room)
        kept, changed, deleted = [(await held.say(ann, room, text)).message for text in ("kept", "old", "secret")]
        await there.sees(3)
        where = {"actor": ann, "room_id": room.id}
        await held.container.edit_message()(**where, message_id=changed.id, content="new")
        await held.container.delete_message()(**where, message_id=deleted.id)
        await there.sees(5)
        back = await Viewer(hub, ann).opens(room, 0)
        await back.sees(5)
        texts = [event["data"]["content"] for event in back.shown if event["seq"] is not None]
        assert texts == [kept.content, "new", "", "new", ""]


async def test_without_a_cursor_it_begins_with_what_comes(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    await held.say(ann, room, "before")
    with a_hub(held) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        await held.say(ann, room, "after")
        assert await viewer.sees(2) == [2]


async def test_a_cursor_beyond_the_end_is_refused(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub, pytest.raises(CursorAhead):
        await Viewer(hub, ann).opens(room, 1)


async def test_lost_news_are_found_by_looking(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held, DeafFeed()) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        await held.say(ann, room, "unheard")
        assert viewer.seqs == []
        await hub.keep()
        assert await viewer.sees(1) == [1]


async def test_made_up_news_are_looked_through(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        await held.container.room_feed().tell(LogGrew(room_id=room.id, seq=10**15))
        await held.container.room_feed().tell(LogGrew(room_id=RoomId(uuid4()), seq=1))
        await held.say(ann, room, "true")
        assert await viewer.sees(1) == [1]
        await held.say(ann, room, "too")
        await hub.keep()
        assert await viewer.sees(2) == [1, 2]


async def test_while_the_storage_is_away_nothing_is_shown_and_nothing_is_lost(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held, DeafFeed()) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        await held.say(ann, room, "hello")
        held.uow.away = Unavailable()
        hub.heard(LogGrew(room_id=room.id, seq=1))
        await held.uow.turned_away.wait()
        with pytest.raises(Unavailable):
            await hub.keep()
        held.uow.away = None
        await hub.keep()
        assert await viewer.sees(1) == [1]


@pytest.mark.abuse("A37")
async def test_nothing_after_a_removal_is_shown_to_who_was_removed(held):
    """What is posted right after the removal was acknowledged."""
    ann, ben, cat = [await held.person(name) for name in ("ann", "ben", "cat")]
    room = await held.room(ann, private=True)
    add, remove = held.container.add_member(), held.container.remove_member()
    await add(actor=ann, room_id=room.id, username="cat")
    with a_hub(held) as hub:
        other = await Viewer(hub, cat, frames=10_000).opens(room)
        for trial in range(300):
            await add(actor=ann, room_id=room.id, username="ben")
            last = (await held.stored_room(room)).last_seq
            # Some come in the middle of it, with something to catch up with.
            viewer = Viewer(hub, ben)
            opening = asyncio.create_task(viewer.opens(room, max(0, last - trial % 7)))
            for _ in range(trial % 11):
                await asyncio.sleep(0)
            await remove(actor=ann, room_id=room.id, user_id=ben.user_id)
            removed_at = (await held.stored_room(room)).last_seq
            await held.say(ann, room, "secret")
            try:
                await opening
            except NotFound:
                pass
            else:
                assert await viewer.ended() is Ended.OUT
            assert all(seq < removed_at for seq in viewer.seqs)
            viewer.leaves()
        last = (await held.stored_room(room)).last_seq
        assert await other.sees(last) == list(range(2, last + 1))


async def test_who_comes_while_doors_are_looked_at_is_looked_at_too(held):
    """A viewer that joins between the look at the doors and the showing is not shown what it may not see."""
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    await held.say(ben, room, "here")
    with a_hub(held, DeafFeed()) as hub:
        await Viewer(hub, ann).opens(room)
        viewer = Viewer(hub, ben)
        subscription = await hub.subscribe(viewer.connection, room.id, None)
        await held.container.remove_member()(actor=ann, room_id=room.id, user_id=ben.user_id)
        await held.say(ann, room, "secret")
        hub.heard(LogGrew(room_id=room.id, seq=4))
        hub.start(subscription)
        assert await viewer.ended() is Ended.OUT
        assert viewer.seqs == []


async def test_leaving_by_oneself_closes_no_public_room(held):
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    await held.say(ben, room, "here")
    with a_hub(held) as hub:
        viewer = await Viewer(hub, ben).opens(room)
        await held.container.remove_member()(actor=ben, room_id=room.id, user_id=ben.user_id)
        await held.say(ann, room, "go on")
        assert await viewer.sees(4) == [3, 4]


async def test_a_room_made_private_ends_for_strangers_before_that_is_shown(held):
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    with a_hub(held, DeafFeed()) as hub:
        stranger, owner = await Viewer(hub, ben).opens(room), await Viewer(hub, ann).opens(room)
        await held.say(ann, room, "public")
        await held.container.update_room()(
            actor=ann, room_id=room.id, change=lambda room: replace(room, visibility=Visibility.PRIVATE)
        )
        await held.say(ann, room, "private")
        await hub.keep()
        assert await stranger.ended() is Ended.OUT
        assert stranger.seqs == [1]
        assert await owner.sees(3) == [1, 2, 3]


async def test_the_deletion_of_a_room_is_the_last_that_is_shown(held):
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    with a_hub(held, DeafFeed()) as hub:
        viewer = await Viewer(hub, ben).opens(room)
        await held.say(ann, room, "last words")
        await held.container.delete_room()(actor=ann, room_id=room.id)
        await hub.keep()
        assert await viewer.ended() is Ended.OUT
        assert [event["type"] for event in viewer.shown if event["seq"]] == ["message.created", "room.deleted"]


async def test_a_guard_ends_with_what_it_guards(held):
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    await held.say(ben, room, "here")
    with a_hub(held) as hub:
        async with hub.guard(ben, room.id) as guard, hub.guard(ann, room.id) as hers:
            await held.say(ann, room, "nothing special")
            waiting = asyncio.create_task(guard.wait())
            await held.container.remove_member()(actor=ann, room_id=room.id, user_id=ben.user_id)
            async with asyncio.timeout(10):
                assert await waiting is Ended.OUT
            assert hers.ended is None
        with pytest.raises(NotFound):
            async with hub.guard(ben, room.id):
                pass


async def test_for_messages_nobody_is_looked_at_who_is_not_shown_them(held):
    """There are many, and they close no door. Whether they were all that there was is looked at in the next round."""
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    await held.say(ben, room, "here")
    with a_hub(held, DeafFeed()) as hub:
        async with hub.guard(ben, room.id) as guard:
            await held.container.remove_member()(actor=ann, room_id=room.id, user_id=ben.user_id)
            reads = held.uow.reads
            hub.heard(LogGrew(room_id=room.id, seq=3, moves_doors=False))
            await asyncio.sleep(0)
            assert held.uow.reads == reads
            assert guard.ended is None
            await hub.keep()
            async with asyncio.timeout(10):
                assert await guard.wait() is Ended.OUT


async def test_what_came_while_somebody_had_not_begun_yet_is_shown_to_them(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewer = Viewer(hub, ann)
        subscription = await hub.subscribe(viewer.connection, room.id, None)
        await held.say(ann, room, "between")
        hub.start(subscription)
        assert await viewer.sees(1) == [1]


async def test_a_look_that_was_begun_comes_to_its_end(held):
    """A statement that is cut off costs its connection, and another one has to be opened."""
    ann = await held.person("ann")
    room = await held.room(ann)
    asked, answers, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow:
        @asynccontextmanager
        async def read(self) -> AsyncIterator[Any]:
            async with held.uow.read() as tx:
                asked.set()
                await answers.wait()
                yield tx
            ended.set()

    hub = Hub(cast("UnitOfWork", Slow()), DeafFeed())
    with hub.opened():
        async with asyncio.timeout(10):
            async with hub.guard(ann, room.id, since=1):
                hub.heard(LogGrew(room_id=room.id, seq=2))
                await asked.wait()
            answers.set()
            await ended.wait()


async def test_a_session_that_ended_ends_what_is_open(held):
    alive: set[UUID] = {uuid4(), uuid4()}
    first, second = alive
    ann = await held.person("ann")
    room = await held.room(ann)

    async def those(sessions: Any) -> set[UUID]:
        return alive & set(sessions)

    def of(session: UUID | None) -> Actor:
        return Actor(user_id=ann.user_id, username="ann", session_id=session)

    with a_hub(held, alive=those) as hub:
        viewers = [await Viewer(hub, of(session)).opens(room) for session in (first, second, None)]
        async with hub.guard(of(first), room.id) as guard:
            alive = {second}
            await hub.keep()
            assert await guard.wait() is Ended.SESSION
        assert [viewer.connection.ended for viewer in viewers] == [Ended.SESSION, None, None]


async def test_a_process_that_is_about_to_end_lets_go_and_takes_no_more(held):
    draining = False
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held, draining=lambda: draining) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        draining = True
        await hub.keep()
        assert await viewer.ended() is Ended.DRAINING
        with pytest.raises(Unavailable):
            Viewer(hub, ann)
        # Whoever follows an answer is let in, told of it, and may see it to its end.
        async with hub.guard(ann, room.id) as guard:
            await hub.keep()
            assert await guard.wait() is Ended.DRAINING


@pytest.mark.parametrize("limits", [{"frames": 20}, {"bytes_": 5_000}])
async def test_who_does_not_keep_up_is_cut_off_and_comes_back_with_its_cursor(held, limits):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        slow, quick = await Viewer(hub, ann, **limits).opens(room), await Viewer(hub, ann).opens(room)
        for number in range(1, 31):
            await held.say(ann, room, "hello")
            await quick.sees(number)
        assert slow.connection.ended is Ended.SLOW
        assert await slow.connection.take() == []
        slow.leaves()
        back = await Viewer(hub, ann, **limits).opens(room, 0)
        assert await back.sees(30) == list(range(1, 31))
        assert back.connection.ended is None


async def test_who_is_there_is_told_once_and_forgotten_in_time(held):
    clock = Seconds()
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ann)
    feed = held.container.room_feed()

    def here(viewer: Viewer) -> list[tuple[str, bool]]:
        return [
            (event["data"]["username"], event["data"]["present"])
            for event in viewer.shown
            if event["type"] == "presence"
        ]

    with a_hub(held, monotonic=clock) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        second = await Viewer(hub, ann).opens(room)
        await feed.tell(IsPresent(room_id=room.id, user_id=ben.user_id, username="ben", present=True))
        await feed.tell(IsPresent(room_id=room.id, user_id=ben.user_id, username="ben", present=True))
        second.leaves()
        await hub.keep()
        await viewer._take()
        assert here(viewer) == [("ann", True), ("ben", True)]
        clock.let_pass(49)
        await hub.keep()
        late = await Viewer(hub, ann).opens(room)
        await late._take()
        assert here(late) == [("ann", True), ("ben", True)]
        clock.let_pass(2)
        await hub.keep()
        await viewer._take()
        assert here(viewer)[2:] == [("ben", False)]


async def test_what_another_process_takes_for_gone_is_told_to_be_here(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    feed = held.container.room_feed()
    told: list[RoomNews] = []
    with a_hub(held) as hub:
        await Viewer(hub, ann).opens(room)
        await asyncio.sleep(0)
        with feed.listen(told.append):
            gone = IsPresent(room_id=room.id, user_id=ann.user_id, username="ann", present=False)
            await feed.tell(gone)
            async with asyncio.timeout(10):
                while len(told) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert told == [gone, IsPresent(room_id=room.id, user_id=ann.user_id, username="ann", present=True)]


async def test_every_change_of_a_room_is_told(held):
    told: list[RoomNews] = []
    ann = await held.person("ann")
    await held.person("ben")
    with held.container.room_feed().listen(told.append):
        room = await held.room(ann, mode="off")
        sent = await held.say(ann, room, "hello")
        where = {"actor": ann, "room_id": room.id}
        await held.container.edit_message()(**where, message_id=sent.message.id, content="changed")
        await held.container.delete_message()(**where, message_id=sent.message.id)
        await held.container.delete_message()(**where, message_id=sent.message.id)  # changes nothing
        added = await held.container.add_member()(**where, username="ben")
        await held.container.remove_member()(**where, user_id=added.user_id)
        await held.container.delete_room()(**where)
    # A message is sent, changed and deleted; somebody comes and is sent away; the room is deleted.
    moves_doors = [True, False, False, False, True, True, True]
    assert told == [LogGrew(room_id=room.id, seq=seq, moves_doors=moves) for seq, moves in enumerate(moves_doors, 1)]


async def test_where_a_log_has_lost_its_end_nobody_goes_on_as_if_nothing_were_missing(held):
    ann = await held.person("ann")
    room = await held.room(ann)
    with a_hub(held) as hub:
        viewer = await Viewer(hub, ann).opens(room)
        await held.say(ann, room, "lost")
        await viewer.sees(1)
        tables = held.uow._inner._tables
        tables.rooms[room.id] = replace(tables.rooms[room.id], last_seq=0)
        tables.places.clear()
        await hub.keep()
        assert await viewer.ended() is Ended.DRAINING
        with pytest.raises(CursorAhead):
            await Viewer(hub, ann).opens(room, 1)
        await held.say(ann, room, "new")
        assert await (await Viewer(hub, ann).opens(room, 0)).sees(1) == [1]

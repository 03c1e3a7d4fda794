"""Following a reply: every way it can go, from every place that a viewer may come back to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from adapters.memory.delivery import MemoryReplyFeed
from chat_core.domain.ids import ReplyId, uuid7
from chat_core.domain.message import MessageStatus
from chat_core.domain.reply import Place, Reply, ReplyStatus
from chat_core.errors import ModelInterrupted, NotFound, StorageUnavailable
from chat_core.ports.language_model import AttemptBegins, AttemptFailed, End, FinishReason, Text
from chat_core.testing.fake_provider.script import NASTY_TEXT
from chat_core.testing.models import Gate, Step, answer
from chat_core.use_cases.follow import Answered, Delta, Ended, FollowReply, Quiet, ReplyEvent, Reset
from chat_core.use_cases.parts import KeepParts, ShowParts
from chat_core.use_cases.replies import Ends
from tests.world import NewWorld, World

BEGINS = AttemptBegins(provider="gemini", model="flash")
STOP = End(reason=FinishReason.STOP)


@pytest.fixture
async def new_world() -> AsyncIterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(*scripts: list[Step]) -> World:
        world = World(*scripts, held=True)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.close()


def follower(world: World, **changes: object) -> FollowReply:
    known: FollowReply = world.container.follow_reply()
    return replace(known, **changes)  # type: ignore[arg-type]


async def followed(follow: FollowReply, reply: Reply, after: Place | None = None) -> list[ReplyEvent]:
    """All events to the end."""
    async with asyncio.timeout(10):
        return [event async for event in follow(reply_id=reply.id, after=after)]


class Viewer:
    """Somebody who follows a reply, and what they have seen of it so far."""

    def __init__(self, follow: FollowReply, reply: Reply, after: Place | None = None) -> None:
        self.events: list[ReplyEvent] = []
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._watch(follow, reply, after))

    async def _watch(self, follow: FollowReply, reply: Reply, after: Place | None) -> None:
        async with aclosing(follow(reply_id=reply.id, after=after)) as events:
            async for event in events:
                self.events.append(event)
                self._news.set()

    async def sees(self, text: str) -> None:
        """Return once that is the text."""
        async with asyncio.timeout(10):
            while text_of(self.events) != text:
                self._news.clear()
                await self._news.wait()

    async def to_the_end(self) -> list[ReplyEvent]:
        async with asyncio.timeout(10):
            await self.task
        return self.events


def text_of(events: list[ReplyEvent]) -> str:
    text = ""
    for event in events:
        text = text + event.text if isinstance(event, Delta) else "" if isinstance(event, Reset) else text
    return text


def places(events: list[ReplyEvent]) -> list[tuple[int, int]]:
    return [(event.place.epoch, event.place.offset) for event in events if not isinstance(event, Quiet)]


def kinds(events: list[ReplyEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def a_reply(world: World) -> Reply:
    ann = await world.person("ann")
    return await world.ask(ann, await world.room(ann), "hi")


async def wholly(world: World, reply: Reply, text: str) -> None:
    """Whoever comes after the end, from wherever, has the same events with the same ids, and the stored text."""
    events = await followed(follower(world), reply)
    assert text_of(events) == text
    for number, event in enumerate(events):
        assert not isinstance(event, Quiet)
        rest = await followed(follower(world), reply, event.place)
        if number < len(events) - 1:
            assert rest == events[number + 1 :], event


async def test_a_viewer_sees_the_text_while_it_is_made(new_world: NewWorld):
    gates = Gate(), Gate(), Gate()
    world = new_world([Text("Hel"), gates[0], Text("lo, "), gates[1], Text("you"), gates[2], STOP])
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    world.begin(reply)
    for gate, text in zip(gates, ("Hel", "Hello, ", "Hello, you"), strict=True):
        await viewer.sees(text)
        gate.open()
    events = await viewer.to_the_end()
    assert kinds(events) == ["Started", "Delta", "Delta", "Delta", "Answered", "Ended"]
    assert places(events) == [(1, number) for number in range(6)]
    [answered, ended] = events[-2:]
    assert isinstance(answered, Answered)
    assert answered.message.content == "Hello, you"
    assert isinstance(ended, Ended)
    assert ended.reply.status is ReplyStatus.COMPLETE
    await wholly(world, reply, "Hello, you")


async def test_a_viewer_who_comes_in_the_middle_sees_all_of_it(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("so far"), gate, Text(", and on"), STOP])
    reply = await a_reply(world)
    world.begin(reply)
    await gate.reached()
    early = Viewer(follower(world), reply)
    await early.sees("so far")
    late = Viewer(follower(world), reply, Place(1, 1))
    gate.open()
    assert text_of(await late.to_the_end()) == ", and on"
    assert text_of(await early.to_the_end()) == "so far, and on"


async def test_a_viewer_who_leaves_stops_nothing(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("a"), gate, Text("b"), STOP])
    reply = await a_reply(world)
    making = world.begin(reply)
    viewer = Viewer(follower(world), reply)
    await viewer.sees("a")
    viewer.task.cancel()
    gate.open()
    await making.end()
    assert (await world.reply(reply.id)).status is ReplyStatus.COMPLETE


async def test_of_nasty_text_every_byte_arrives(new_world: NewWorld):
    gates = [Gate() for _ in NASTY_TEXT]
    steps = [step for pair in zip(map(Text, NASTY_TEXT), gates, strict=True) for step in pair]
    world = new_world([*steps, STOP])
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    making = world.begin(reply)
    for gate in gates:
        gate.open()
    await making.end()
    assert text_of(await viewer.to_the_end()) == NASTY_TEXT
    await wholly(world, reply, NASTY_TEXT)


async def test_text_of_an_attempt_that_failed_is_taken_back(new_world: NewWorld):
    gate = Gate()
    world = new_world(
        [BEGINS, Text("wro"), gate, AttemptFailed(code="provider-unavailable"), BEGINS, Text("right"), STOP]
    )
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    world.begin(reply)
    await viewer.sees("wro")
    gate.open()
    events = await viewer.to_the_end()
    assert kinds(events) == ["Started", "Delta", "Reset", "Delta", "Answered", "Ended"]
    assert places(events) == [(1, number) for number in range(6)]
    assert text_of(events) == "right"
    later = await followed(follower(world), reply)
    assert kinds(later) == ["Started", "Reset", "Delta", "Answered", "Ended"]
    assert places(later) == [(1, 0), (1, 2), (1, 3), (1, 4), (1, 5)]
    assert text_of(await followed(follower(world), reply, Place(1, 1))) == "right"


async def test_a_new_maker_begins_anew(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("lost"), gate], answer("found"))
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    making = world.begin(reply)
    await viewer.sees("lost")
    world.clock.let_pass(60)
    await world.make(reply)
    gate.open()
    await making.end()
    events = await viewer.to_the_end()
    assert text_of(events) == "found"
    assert kinds(events)[:3] == ["Started", "Delta", "Reset"]
    assert places(events) == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
    # Whoever had something of the first epoch is told to forget it, and who had nothing is not.
    assert kinds(await followed(follower(world), reply, Place(1, 1))) == ["Reset", "Delta", "Answered", "Ended"]
    assert kinds(await followed(follower(world), reply, Place(1, 0))) == ["Delta", "Answered", "Ended"]


async def test_a_failure_takes_back_what_was_shown(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("half"), gate, ModelInterrupted()])
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    world.begin(reply)
    await viewer.sees("half")
    gate.open()
    events = await viewer.to_the_end()
    assert kinds(events) == ["Started", "Delta", "Reset", "Failed", "Ended"]
    assert places(events) == [(1, number) for number in range(5)]
    assert kinds(await followed(follower(world), reply, Place(1, 1))) == ["Reset", "Failed", "Ended"]
    assert kinds(await followed(follower(world), reply, Place(1, 2))) == ["Failed", "Ended"]
    assert kinds(await followed(follower(world), reply, Place(1, 3))) == ["Ended"]


async def test_a_reply_that_never_began_fails_in_order(new_world: NewWorld):
    world = new_world()
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await world.say(ann, room, "hi")
    assert sent.reply
    viewer = Viewer(follower(world), sent.reply)
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=sent.message.id)
    assert kinds(await viewer.to_the_end()) == ["Started", "Failed", "Ended"]


async def test_what_was_stopped_is_what_was_shown(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("so far"), gate])
    ann = await world.person("ann")
    reply = await world.ask(ann, await world.room(ann), "hi")
    viewer = Viewer(follower(world), reply)
    world.begin(reply)
    await viewer.sees("so far")
    await world.container.stop_reply()(actor=ann, reply_id=reply.id)
    events = await viewer.to_the_end()
    assert text_of(events) == "so far"
    assert isinstance(events[-2], Answered)
    await wholly(world, reply, "so far")


async def test_an_end_by_another_hand_takes_back_what_was_shown(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("never to be said"), gate])
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await world.say(ann, room, "hi")
    assert sent.reply
    viewer = Viewer(follower(world), sent.reply)
    making = world.begin(sent.reply)
    await viewer.sees("never to be said")
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=sent.message.id)
    events = await viewer.to_the_end()
    assert kinds(events) == ["Started", "Delta", "Reset", "Failed", "Ended"]
    gate.open()
    await making.end()


async def test_of_a_deleted_answer_nothing_is_shown(new_world: NewWorld):
    world = new_world(answer("a secret"))
    ann = await world.person("ann")
    room = await world.room(ann)
    reply = await world.make(await world.ask(ann, room, "hi"))
    assert reply.message_id
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=reply.message_id)
    for after in (None, Place(1, 0), Place(1, 1)):
        events = await followed(follower(world), reply, after)
        assert kinds(events)[-3:] == ["Reset", "Answered", "Ended"]
        assert not any(isinstance(event, Delta) for event in events)
        [answered] = [event for event in events if isinstance(event, Answered)]
        assert answered.message.status is MessageStatus.DELETED


async def test_a_place_that_never_was_leads_back_to_the_beginning(new_world: NewWorld):
    world = new_world(answer("text"))
    reply = await world.make(await a_reply(world))
    for after in (Place(7, 3), Place(1, 99)):
        events = await followed(follower(world), reply, after)
        assert kinds(events) == ["Reset", "Delta", "Answered", "Ended"]


async def test_an_answer_of_a_version_without_cuts_comes_in_one_part(new_world: NewWorld):
    world = new_world(answer("one ", "two"))
    reply = await world.make(await a_reply(world))
    tables = world.uow._inner._tables  # type: ignore[attr-defined]
    leased = tables.replies[reply.id]
    tables.replies[reply.id] = replace(leased, reply=replace(leased.reply, cuts=None))
    await wholly(world, reply, "one two")


async def test_later_text_is_joined_and_the_first_is_not(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("first"), gate, Text(" second"), Text(" third"), STOP])
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    world.begin(reply)
    await viewer.sees("first")
    gate.open()
    events = await viewer.to_the_end()
    assert [event.text for event in events if isinstance(event, Delta)] == ["first", " second third"]


def on_another_process(world: World, **changes: object) -> FollowReply:
    """Following with a feed of its own, which hears nothing of the maker: over the storage alone."""
    return follower(world, feed=MemoryReplyFeed(), ends=Ends(), poll_every=0.005, **changes)


async def keeping(world: World) -> Callable[[], Awaitable[None]]:
    keep: KeepParts = world.container.keep_parts()
    return keep


async def test_where_no_feed_reaches_the_storage_carries_the_parts(new_world: NewWorld):
    gates = Gate(), Gate(), Gate(), Gate()
    script: list[Step] = [
        BEGINS, Text("wrong"), gates[0], AttemptFailed(code="x"), BEGINS,
        Text("a"), gates[1], Text("b"), gates[2], Text("c"), gates[3], STOP,
    ]  # fmt: skip
    world = new_world(script)
    reply = await a_reply(world)
    here, there = Viewer(follower(world), reply), Viewer(on_another_process(world), reply)
    keep = await keeping(world)
    making = world.begin(reply)
    for gate, text in zip(gates, ("wrong", "a", "ab", "abc"), strict=True):
        await here.sees(text)
        await keep()
        await there.sees(text)
        gate.open()
    await making.end()
    assert (await there.to_the_end())[1:] == (await here.to_the_end())[1:]
    assert not world.container.uncarried().unkept()
    await world.container.drop_parts()()
    async with world.uow.read() as tx:
        assert not await tx.replies.parts(reply.id, Place(1, 0))
        assert not await tx.replies.spent_parts(10)


async def test_what_the_storage_could_not_keep_is_kept_later(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("text"), gate, STOP])
    reply = await a_reply(world)
    here, there = Viewer(follower(world), reply), Viewer(on_another_process(world), reply)
    keep = await keeping(world)
    world.begin(reply)
    await here.sees("text")
    world.uow.commit_errors.append(StorageUnavailable())
    with pytest.raises(StorageUnavailable):
        await keep()
    await keep()
    await there.sees("text")
    gate.open()
    assert text_of(await there.to_the_end()) == "text"


async def test_a_stream_waits_while_the_storage_is_away(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("a"), gate, Text("b"), STOP])
    reply = await a_reply(world)
    here, viewer = Viewer(follower(world), reply), Viewer(on_another_process(world), reply)
    making = world.begin(reply)
    await here.sees("a")
    await (await keeping(world))()
    await viewer.sees("a")
    world.uow.away = StorageUnavailable()
    world.uow.turned_away.clear()
    await world.uow.turned_away.wait()
    assert not viewer.task.done()
    world.uow.away = None
    gate.open()
    await making.end()
    assert text_of(await viewer.to_the_end()) == "ab"


async def test_the_end_of_a_reply_that_was_made_here_is_not_read_back(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("a"), gate, Text("b"), STOP])
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    making = world.begin(reply)
    await viewer.sees("a")
    reads = world.uow.reads
    gate.open()
    await making.end()
    *_, answered, ended = await viewer.to_the_end()
    assert world.uow.reads == reads
    assert isinstance(answered, Answered)
    assert isinstance(ended, Ended)
    # As one shows it who reads it.
    assert (await followed(on_another_process(world), reply))[-2:] == [answered, ended]


async def test_a_stream_that_begins_while_the_storage_is_away_says_so(new_world: NewWorld):
    world = new_world()
    reply = await a_reply(world)
    world.uow.away = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await followed(follower(world), reply)
    world.uow.away = None


async def test_there_is_nothing_to_follow_of_an_unknown_reply(new_world: NewWorld):
    world = new_world()
    reply = replace(await a_reply(world), id=ReplyId(uuid7()))
    with pytest.raises(NotFound):
        await followed(follower(world), reply)


async def test_a_stream_that_is_to_leave_ends_without_an_end(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("a"), gate, STOP])
    reply = await a_reply(world)
    world.begin(reply)
    await gate.reached()
    events: list[ReplyEvent] = []

    def leaves() -> bool:
        return any(isinstance(event, Delta) for event in events)

    async with asyncio.timeout(10):
        async for event in follower(world)(reply_id=reply.id, leave=leaves):
            events.append(event)
    assert kinds(events) == ["Started", "Delta"]


async def test_where_nothing_happens_that_is_said_now_and_then(new_world: NewWorld):
    world = new_world()
    reply = await a_reply(world)
    async with asyncio.timeout(10), aclosing(follower(world, quiet_after=0.0)(reply_id=reply.id)) as events:
        assert isinstance(await anext(events), Quiet)


async def test_every_place_of_a_long_answer_can_be_come_back_to(new_world: NewWorld):
    words = [f"{number} " for number in range(40)]
    gates = [Gate() for _ in words]
    world = new_world([*(step for pair in zip(map(Text, words), gates, strict=True) for step in pair), STOP])
    world.container.generate_reply.add_kwargs(show=replace(shower(world), joined_for=0.0))
    reply = await a_reply(world)
    viewer = Viewer(follower(world), reply)
    making = world.begin(reply)
    for number, gate in enumerate(gates, 1):
        await viewer.sees("".join(words[:number]))
        gate.open()
    await making.end()
    events = await viewer.to_the_end()
    assert places(events) == [(1, number) for number in range(len(words) + 3)]
    await wholly(world, reply, "".join(words))


def shower(world: World) -> ShowParts:
    known: ShowParts = world.container.show_parts()
    return known

"""Messages: sending them once, reading them in order, editing and deleting them."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from adapters.memory.storage import MemoryMessages
from chat_core.domain.ids import MessageId, utc_now
from chat_core.domain.message import MessageKind, MessageStatus, mentions_ai
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.room import Room
from chat_core.domain.user import Actor
from chat_core.errors import (
    Contention,
    Forbidden,
    Invalid,
    MessageIdReused,
    NotFound,
    OutcomeUnknown,
    RoomBusy,
    StorageUnavailable,
)
from chat_core.testing.models import Gate, answer
from chat_core.use_cases.sending import Sent
from tests.world import NewWorld, World


async def edit(world: World, actor: Actor, sent: Sent, content: str):
    return await world.container.edit_message()(
        actor=actor, room_id=sent.message.room_id, message_id=sent.message.id, content=content
    )


async def delete(world: World, actor: Actor, sent: Sent) -> None:
    await world.container.delete_message()(actor=actor, room_id=sent.message.room_id, message_id=sent.message.id)


async def page(world: World, actor: Actor, room: Room, limit: int = 3, **place: int) -> tuple[list[int], bool, bool]:
    found = await world.container.list_messages()(actor=actor, room_id=room.id, limit=limit, **place)
    return [message.seq for message in found.messages], found.has_older, found.has_newer


async def quiet(world: World, count: int = 0) -> tuple[Actor, Room]:
    """A room whose AI is off, with so many messages: at 2, 3 and so on."""
    ann = await world.person("ann")
    room = await world.room(ann, mode="off")
    for number in range(count):
        await world.say(ann, room, f"message {number}")
    return ann, room


async def test_a_message_is_stored_as_it_was_said(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    text = "  Grüße\n\t密 🫖 \u2028 <b>&amp;  "
    sent = await world.say(ann, room, text, "k-1")
    message = sent.message
    assert (message.content, message.m_id, message.seq) == (text, "k-1", 1)
    assert (message.user_id, message.username, message.room_id) == (ann.user_id, "ann", room.id)
    assert (message.kind, message.status) == (MessageKind.USER, MessageStatus.COMPLETE)
    assert not sent.replayed
    assert await world.message(message.id) == message


async def test_a_message_that_asks_gets_one_answer_after_it(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    answered = await world.answer_to(ann, room, "hi")
    assert answered.message is not None
    assert answered.message.content == "Hello."
    assert (answered.message.kind, answered.message.user_id) == (MessageKind.AI, None)
    assert answered.message.username == "AI Assistant"
    assert answered.message.reply_to == answered.reply.prompt_id
    assert [message.seq for message in await world.history(room)] == [1, 2]
    assert (await world.stored_room(room)).message_count == 2
    assert len(world.model.asked) == 1


@pytest.mark.parametrize("content", ["x", "x" * 32_000, "🫖" * 32_000, ".", "\u200b"])
async def test_a_text_has_1_to_32000_characters(world: World, content: str):
    ann, room = await quiet(world)
    assert (await world.say(ann, room, content)).message.content == content


@pytest.mark.parametrize("content", ["", " ", "\n\t \u00a0\u2003", "x" * 32_001, "a\x00b", "\x00"])
@pytest.mark.parametrize("deed", ["send", "edit"])
async def test_a_text_that_is_none_is_refused(world: World, content: str, deed: str):
    ann, room = await quiet(world)
    sent = await world.say(ann, room, "hello")
    log = await world.log(room)
    with pytest.raises(Invalid) as raised:
        await (edit(world, ann, sent, content) if deed == "edit" else world.say(ann, room, content))
    assert [fault.pointer for fault in raised.value.faults] == ["/content"]
    assert await world.log(room) == log


@pytest.mark.parametrize("m_id", ["a", "A-b_c:d.9", "x" * 128, "-", "123e4567-e89b-12d3-a456-426614174000"])
async def test_an_m_id_is_the_clients_own(world: World, m_id: str):
    ann, room = await quiet(world)
    assert (await world.say(ann, room, "hello", m_id)).message.m_id == m_id


@pytest.mark.parametrize("m_id", ["", " ", "x" * 129, "ä", "a b", "a\n", "a/b", "a\x00", "a;b", "٣"])
async def test_an_m_id_that_is_none_is_refused(world: World, m_id: str):
    ann, room = await quiet(world)
    with pytest.raises(Invalid) as raised:
        await world.say(ann, room, "hello", m_id)
    assert [fault.pointer for fault in raised.value.faults] == ["/m_id"]


async def test_without_an_m_id_each_send_is_a_message(world: World):
    ann, room = await quiet(world)
    sent = [await world.say(ann, room, "hello") for _ in range(3)]
    assert len({each.message.id for each in sent}) == 3
    assert len({each.message.m_id for each in sent}) == 3
    assert not any(each.replayed for each in sent)


async def test_a_repeat_gives_back_what_is_stored(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    first = await world.say(ann, room, "hi", "k")
    assert first.reply is not None
    await world.ended(first.reply.id)
    again = await world.say(ann, room, "hi", "k")
    assert again.replayed
    assert again.message == first.message
    assert again.reply is not None
    assert again.reply.id == first.reply.id
    assert again.reply.status is ReplyStatus.COMPLETE
    assert await world.log(room) == ["message.created"] * 2
    assert len(world.model.asked) == 1


async def test_a_repeat_while_the_answer_is_made_asks_for_no_other(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")])
    ann = await world.person("ann")
    room = await world.room(ann)
    first = await world.say(ann, room, "hi", "k")
    await gate.reached()
    again = await world.say(ann, room, "hi", "k")
    assert first.reply is not None
    assert again.reply is not None
    assert (again.replayed, again.reply.id, again.reply.status) == (True, first.reply.id, ReplyStatus.RUNNING)
    gate.open()
    await world.ended(first.reply.id)
    assert len(world.model.asked) == 1


async def test_a_repeat_asks_again_for_a_reply_that_the_queue_lost(held: World):
    ann = await held.person("ann")
    room = await held.room(ann)
    first = await held.say(ann, room, "hi", "k")
    assert first.reply is not None
    await held.say(ann, room, "hi", "k")
    assert held.queue.put_there == [first.reply.id, first.reply.id]
    await held.make(first.reply)
    await held.say(ann, room, "hi", "k")
    assert held.queue.put_there == [first.reply.id, first.reply.id]


async def test_of_many_repeats_at_once_one_is_stored(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await asyncio.gather(*(world.say(ann, room, "hi", "k") for _ in range(20)))
    assert len({each.message.id for each in sent}) == 1
    assert len({each.reply.id for each in sent if each.reply}) == 1
    assert [each.replayed for each in sent].count(False) == 1
    assert sent[0].reply is not None
    await world.ended(sent[0].reply.id)
    assert len(world.model.asked) == 1
    assert await world.log(room) == ["message.created"] * 2


async def test_of_two_writers_one_wins(world: World):
    ann, room = await quiet(world)
    done = await asyncio.gather(
        *(world.say(ann, room, f"text {number}", "k") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, Sent) for each in done) == 1
    assert sum(isinstance(each, MessageIdReused) for each in done) == 4
    assert len(await world.texts(room)) == 1


async def test_a_repeat_that_was_stored_between_look_and_insert_is_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    ann = await world.person("ann")
    room = await world.room(ann)
    first = await world.say(ann, room, "hi", "k")
    assert first.reply is not None
    await world.ended(first.reply.id)
    look = MemoryMessages.sent
    looks: list[bool] = []

    async def blind_at_first(messages: MemoryMessages, *key: Any) -> Any:
        looks.append(True)
        return None if len(looks) == 1 else await look(messages, *key)

    monkeypatch.setattr(MemoryMessages, "sent", blind_at_first)
    again = await world.say(ann, room, "hi", "k")
    assert (again.replayed, again.message) == (True, first.message)
    looks.clear()
    with pytest.raises(MessageIdReused):
        await world.say(ann, room, "something else", "k")
    assert await world.log(room) == ["message.created"] * 2


@pytest.mark.parametrize("other", ["hi ", "Hi", "hi\n", "something else", "h\u0069\u0301"])
async def test_other_content_under_the_same_m_id_is_refused(world: World, other: str):
    ann, room = await quiet(world)
    await world.say(ann, room, "hi", "k")
    with pytest.raises(MessageIdReused):
        await world.say(ann, room, other, "k")
    assert await world.texts(room) == ["hi"]


async def test_an_m_id_stands_for_the_first_text_after_an_edit(world: World):
    ann, room = await quiet(world)
    first = await world.say(ann, room, "hi", "k")
    await edit(world, ann, first, "edited")
    again = await world.say(ann, room, "hi", "k")
    assert again.replayed
    assert (again.message.id, again.message.content) == (first.message.id, "edited")
    with pytest.raises(MessageIdReused):
        await world.say(ann, room, "edited", "k")


async def test_an_m_id_stands_for_the_first_text_after_a_deletion(world: World):
    ann, room = await quiet(world)
    first = await world.say(ann, room, "hi", "k")
    await delete(world, ann, first)
    again = await world.say(ann, room, "hi", "k")
    assert again.replayed
    assert (again.message.id, again.message.content) == (first.message.id, "")
    assert again.message.status is MessageStatus.DELETED
    with pytest.raises(MessageIdReused):
        await world.say(ann, room, "other", "k")


async def test_an_m_id_is_unique_for_a_sender_in_a_room(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room, other = await world.room(ann, mode="off"), await world.room(ann, mode="off")
    sent = [
        await world.say(ann, room, "one", "k"),
        await world.say(bob, room, "two", "k"),
        await world.say(ann, other, "three", "k"),
    ]
    assert not any(each.replayed for each in sent)
    assert len({each.message.id for each in sent}) == 3


async def test_a_repeat_by_who_was_removed_finds_the_door_closed(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    await world.say(bob, room, "hi", "k")
    await world.container.remove_member()(actor=ann, room_id=room.id, user_id=bob.user_id)
    with pytest.raises(NotFound):
        await world.say(bob, room, "hi", "k")


async def test_of_many_messages_at_once_each_has_its_place(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    sent = await asyncio.gather(*(world.say((ann, bob)[number % 2], room, f"message {number}") for number in range(40)))
    assert len({each.message.seq for each in sent}) == 40
    assert len(await world.log(room)) == 42
    seqs = [message.seq for message in await world.history(room)]
    assert seqs == sorted(seqs)


async def test_what_is_undone_takes_no_place(world: World):
    ann, room = await quiet(world, 1)
    for error in (StorageUnavailable(), OutcomeUnknown()):
        world.uow.commit_errors = [error]
        with pytest.raises(type(error)):
            await world.say(ann, room, "lost")
    await world.say(ann, room, "kept")
    assert await world.texts(room) == ["message 0", "kept"]
    assert [message.seq for message in await world.history(room)] == [2, 3]


async def test_a_collision_is_tried_again_as_a_whole(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    ann, room = await quiet(world)
    world.uow.commit_errors = [Contention(), Contention(), Contention()]
    sent = await world.say(ann, room, "hello", "k")
    assert (sent.replayed, sent.message.seq) == (False, 2)
    assert await world.texts(room) == ["hello"]


async def test_a_collision_that_never_ends_is_told(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    ann, room = await quiet(world)
    world.uow.commit_errors = [Contention() for _ in range(4)]
    with pytest.raises(Contention):
        await world.say(ann, room, "hello")
    assert await world.texts(room) == []


async def test_a_message_is_stored_before_its_answer_is_asked_for(held: World):
    ann = await held.person("ann")
    room = await held.room(ann)
    reply = await held.ask(ann, room, "hi")
    assert (reply.status, reply.epoch, reply.attempts) == (ReplyStatus.QUEUED, 0, 0)
    assert held.queue.put_there == [reply.id]
    assert (await held.reply(reply.id)).prompt_id == (await held.history(room))[0].id
    assert held.model.asked == []


async def test_a_reply_has_until_its_deadline_from_the_send(held: World):
    ann = await held.person("ann")
    room = await held.room(ann)
    at = utc_now()
    send = replace(held.container.send_message(), deadline=60.0, now=lambda: at)
    sent = await send(actor=ann, room_id=room.id, content="hi")
    assert sent.reply is not None
    assert sent.reply.deadline_at == at + timedelta(seconds=60)


MENTIONS = ["@ai", "@AI what?", "hey @ai!", "(@ai)", "@ai, hi", "a\n@Ai\nb", "so @ai.", '"@ai"', "密 @ai 密", "@ai's"]
NO_MENTIONS = [
    "ai",
    "hello",
    "me@ai.example",
    "@aid",
    "@air",
    "@@ai",
    "x@ai",
    "@ai_bot",
    "@ai-bot",
    "@ ai",
    "@a i",
    ".@ai",
]


@pytest.mark.parametrize("text", MENTIONS)
async def test_a_room_that_waits_to_be_asked_answers_when_it_is_named(held: World, text: str):
    ann = await held.person("ann")
    room = await held.room(ann, mode="mention")
    assert (await held.say(ann, room, text)).reply is not None


@pytest.mark.parametrize("text", NO_MENTIONS)
async def test_a_room_that_waits_to_be_asked_is_silent_when_it_is_not_named(held: World, text: str):
    ann = await held.person("ann")
    room = await held.room(ann, mode="mention")
    assert (await held.say(ann, room, text)).reply is None
    assert held.queue.put_there == []


def test_a_mention_is_a_word_of_its_own():
    assert all(mentions_ai(text) for text in MENTIONS)
    assert not any(mentions_ai(text) for text in NO_MENTIONS)


async def test_a_room_whose_ai_is_off_never_asks(held: World):
    ann, room = await quiet(held)
    assert (await held.say(ann, room, "@ai hello?")).reply is None
    assert held.queue.put_there == []


async def test_a_repeat_in_another_mode_changes_nothing(held: World):
    ann, room = await quiet(held)
    await held.say(ann, room, "hi", "k")
    await held.set_ai(ann, room.id, mode="always")
    again = await held.say(ann, room, "hi", "k")
    assert (again.replayed, again.reply) == (True, None)


async def test_a_busy_room_lets_prompts_queue(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")])
    ann = await world.person("ann")
    room = await world.room(ann, busy="queue")
    replies = [await world.ask(ann, room, text) for text in ("one", "two", "three")]
    await gate.reached()
    gate.open()
    for reply in replies:
        assert (await world.ended(reply.id)).reply.status is ReplyStatus.COMPLETE
    assert len(world.model.asked) == 3
    assert len(await world.texts(room)) == 6


async def test_a_busy_room_refuses_where_it_was_told_to(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")])
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, busy="reject")
    reply = await world.ask(ann, room, "one")
    await gate.reached()
    log = await world.log(room)
    for actor in (ann, bob):
        with pytest.raises(RoomBusy):
            await world.say(actor, room, "two", "k")
    assert await world.log(room) == log
    assert [member.username for member in await world.container.list_members()(actor=ann, room_id=room.id)] == ["ann"]
    gate.open()
    await world.ended(reply.id)
    assert not (await world.say(ann, room, "two", "k")).replayed


async def test_a_busy_room_still_answers_repeats(held: World):
    ann = await held.person("ann")
    room = await held.room(ann, busy="reject")
    await held.say(ann, room, "one", "k")
    assert (await held.say(ann, room, "one", "k")).replayed


async def test_a_busy_room_takes_what_asks_for_no_answer(held: World):
    ann = await held.person("ann")
    room = await held.room(ann, busy="reject", mode="mention")
    await held.say(ann, room, "@ai one")
    assert (await held.say(ann, room, "thanks all")).reply is None
    with pytest.raises(RoomBusy):
        await held.say(ann, room, "@ai two")


async def test_a_busy_room_is_one_room(held: World):
    ann = await held.person("ann")
    room, other = await held.room(ann, busy="reject"), await held.room(ann, busy="reject")
    await held.ask(ann, room, "one")
    assert (await held.ask(ann, other, "two")).status is ReplyStatus.QUEUED


async def test_history_shows_the_newest_first_page(world: World):
    ann, room = await quiet(world, 5)  # at 2 to 6: the room's change has the first place
    assert await page(world, ann, room) == ([4, 5, 6], True, False)
    assert await page(world, ann, room, limit=5) == ([2, 3, 4, 5, 6], False, False)
    assert await page(world, ann, room, limit=200) == ([2, 3, 4, 5, 6], False, False)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (7, ([4, 5, 6], True, False)),
        (6, ([3, 4, 5], True, True)),
        (5, ([2, 3, 4], False, True)),
        (3, ([2], False, True)),
        (2, ([], False, True)),
        (1, ([], False, True)),
        (0, ([], False, True)),
        (10**12, ([4, 5, 6], True, False)),
    ],
)
async def test_history_before_a_place(world: World, before: int, expected: tuple[list[int], bool, bool]):
    ann, room = await quiet(world, 5)
    assert await page(world, ann, room, before=before) == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, ([2, 3, 4], False, True)),
        (1, ([2, 3, 4], False, True)),
        (2, ([3, 4, 5], True, True)),
        (3, ([4, 5, 6], True, False)),
        (5, ([6], True, False)),
        (6, ([], True, False)),
        (10**12, ([], True, False)),
    ],
)
async def test_history_after_a_place(world: World, after: int, expected: tuple[list[int], bool, bool]):
    ann, room = await quiet(world, 5)
    assert await page(world, ann, room, after=after) == expected


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (4, ([3, 4, 5], True, True)),
        (2, ([2, 3, 4], False, True)),
        (6, ([4, 5, 6], True, False)),
        (1, ([2, 3, 4], False, True)),
        (0, ([2, 3, 4], False, True)),
        (10**12, ([4, 5, 6], True, False)),
    ],
)
async def test_history_around_a_place(world: World, around: int, expected: tuple[list[int], bool, bool]):
    ann, room = await quiet(world, 5)
    assert await page(world, ann, room, around=around) == expected


@pytest.mark.parametrize("places", [{"before": 1, "after": 1}, {"before": 0, "around": 0}, {"after": 1, "around": 2}])
async def test_history_is_asked_for_by_one_place(world: World, places: dict[str, int]):
    ann, room = await quiet(world)
    with pytest.raises(Invalid):
        await page(world, ann, room, **places)


async def test_history_read_page_by_page_is_the_whole(world: World):
    ann, room = await quiet(world, 10)
    down: list[int] = []
    place = 10**9
    while True:
        seqs, has_older, _ = await page(world, ann, room, before=place)
        down = seqs + down
        if not has_older:
            break
        place = seqs[0]
    up: list[int] = []
    place = 0
    while True:
        seqs, _, has_newer = await page(world, ann, room, after=place)
        up += seqs
        if not has_newer:
            break
        place = seqs[-1]
    assert down == up == list(range(2, 12))


async def test_an_empty_history_is_an_empty_page(world: World):
    ann, room = await quiet(world)
    for place in ({}, {"before": 5}, {"after": 0}, {"around": 3}):
        assert await page(world, ann, room, **place) == ([], False, False)


async def test_an_edit_changes_the_text_and_nothing_else(world: World):
    ann, room = await quiet(world)
    sent = await world.say(ann, room, "helo", "k")
    edited = await edit(world, ann, sent, "hello")
    assert edited == replace(sent.message, content="hello", edited_at=edited.edited_at)
    assert edited.edited_at is not None
    assert await world.message(edited.id) == edited
    assert await world.log(room) == ["room.updated", "message.created", "message.edited"]
    assert (await world.stored_room(room)).message_count == 1


async def test_an_edit_asks_for_no_other_answer(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await world.say(ann, room, "hi")
    assert sent.reply is not None
    await world.ended(sent.reply.id)
    await edit(world, ann, sent, "hi there")
    assert len(world.model.asked) == 1


async def test_only_its_author_edits_a_message(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    of_bob = await world.say(bob, room, "mine")
    log = await world.log(room)
    with pytest.raises(Forbidden):
        await edit(world, ann, of_bob, "yours")
    assert await world.log(room) == log
    assert (await world.message(of_bob.message.id)).content == "mine"


async def test_nobody_edits_an_answer(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    answered = await world.answer_to(ann, room, "hi")
    assert answered.message is not None
    with pytest.raises(Forbidden):
        await edit(world, ann, Sent(message=answered.message, reply=None), "I am yours")


async def test_a_deleted_message_cannot_be_edited(world: World):
    ann, room = await quiet(world)
    sent = await world.say(ann, room, "hello")
    await delete(world, ann, sent)
    with pytest.raises(NotFound):
        await edit(world, ann, sent, "hello again")


async def test_who_was_removed_edits_and_deletes_no_more(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    sent = await world.say(bob, room, "mine")
    await world.container.remove_member()(actor=ann, room_id=room.id, user_id=bob.user_id)
    with pytest.raises(NotFound):
        await edit(world, bob, sent, "changed")
    with pytest.raises(NotFound):
        await delete(world, bob, sent)


@pytest.mark.parametrize("by", ["author", "owner"])
async def test_a_deleted_message_keeps_its_place_without_its_text(world: World, by: str):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    sent = await world.say(bob, room, "secret", "k")
    await delete(world, bob if by == "author" else ann, sent)
    left = await world.message(sent.message.id)
    assert (left.content, left.status) == ("", MessageStatus.DELETED)
    assert (left.seq, left.m_id, left.username) == (sent.message.seq, "k", "bob")
    assert [message.id for message in await world.history(room)] == [left.id]
    assert (await world.log(room))[-2:] == ["message.created", "message.deleted"]


async def test_a_deletion_may_be_repeated(world: World):
    ann, room = await quiet(world)
    sent = await world.say(ann, room, "secret")
    for _ in range(3):
        await delete(world, ann, sent)
    assert await world.log(room) == ["room.updated", "message.created", "message.deleted"]


async def test_an_owner_may_delete_an_answer(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann)
    answered = await world.answer_to(bob, room, "hi")
    assert answered.message is not None
    of_ai = Sent(message=answered.message, reply=None)
    with pytest.raises(Forbidden):
        await delete(world, bob, of_ai)
    await delete(world, ann, of_ai)
    assert await world.texts(room) == ["hi", ""]
    assert (await world.reply(answered.reply.id)).status is ReplyStatus.COMPLETE


async def test_others_delete_nothing(world: World):
    ann, bob, eve = [await world.person(name) for name in ("ann", "bob", "eve")]
    room = await world.room(ann, mode="off")
    sent = await world.say(bob, room, "mine")
    await world.say(eve, room, "hello")
    log = await world.log(room)
    with pytest.raises(Forbidden):
        await delete(world, eve, sent)
    assert await world.log(room) == log


async def test_deleting_a_prompt_cancels_an_answer_that_nobody_makes_yet(held: World):
    ann = await held.person("ann")
    room = await held.room(ann)
    sent = await held.say(ann, room, "hi")
    assert sent.reply is not None
    await delete(held, ann, sent)
    reply = await held.make(sent.reply)
    assert (reply.status, reply.error_code) == (ReplyStatus.CANCELLED, "cancelled")
    assert held.model.asked == []


async def test_deleting_a_prompt_leaves_its_finished_answer(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await world.say(ann, room, "hi")
    assert sent.reply is not None
    await world.ended(sent.reply.id)
    await delete(world, ann, sent)
    assert await world.texts(room) == ["", "Hello."]
    assert (await world.reply(sent.reply.id)).status is ReplyStatus.COMPLETE


async def test_a_message_that_is_not_there_cannot_be_deleted(world: World):
    ann, room = await quiet(world)
    with pytest.raises(NotFound):
        await world.container.delete_message()(actor=ann, room_id=room.id, message_id=MessageId(room.id))

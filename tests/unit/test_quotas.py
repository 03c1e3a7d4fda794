"""What one person may ask for, and what is said of what they have asked for."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chat_core.domain.ids import MessageId, utc_now, uuid7
from chat_core.domain.room import RoomAI
from chat_core.errors import NotFound, QuotaExceeded, TooManyReplies
from chat_core.ports.language_model import AttemptBegins, End, FinishReason, Text, Usage
from chat_core.testing.models import answer
from chat_core.use_cases.quotas import ANSWER_TOKENS, day_of, reserved_for
from chat_core.use_cases.tokens import TURN_TOKENS
from tests.world import NewWorld

LIMITED: dict[str, Any] = {"rate_limits": "on"}


# --- replies at once ---


async def test_one_person_has_so_many_replies_in_the_making(new_world: NewWorld):
    world = new_world(held=True, max_running_replies=3, **LIMITED)
    ann, bob = await world.person("ann"), await world.person("bob")
    rooms = [await world.room(ann) for _ in range(4)]
    replies = [await world.ask(ann, room, "hi") for room in rooms[:3]]
    with pytest.raises(TooManyReplies) as refusal:
        await world.ask(ann, rooms[3], "hi")
    assert refusal.value.retry_after > 0
    assert await world.history(rooms[3]) == []
    await world.ask(bob, rooms[3], "hi")
    await world.make(replies[0])
    await world.ask(ann, rooms[3], "hi")


async def test_of_any_number_of_sends_at_once_so_many_are_taken(new_world: NewWorld):
    world = new_world(held=True, max_running_replies=3, **LIMITED)
    ann = await world.person("ann")
    rooms = [await world.room(ann) for _ in range(12)]
    sent = await asyncio.gather(*(world.say(ann, room, "hi") for room in rooms), return_exceptions=True)
    assert sum(isinstance(one, TooManyReplies) for one in sent) == 9
    assert sum(not isinstance(one, BaseException) for one in sent) == 3


async def test_a_message_that_asks_for_nothing_is_not_counted(new_world: NewWorld):
    world = new_world(held=True, max_running_replies=1, **LIMITED)
    ann = await world.person("ann")
    room, quiet = await world.room(ann), await world.room(ann, mode="off")
    await world.ask(ann, room, "hi")
    await world.say(ann, quiet, "nobody asks")


async def test_a_repeat_is_not_counted(new_world: NewWorld):
    world = new_world(held=True, max_running_replies=1, **LIMITED)
    ann = await world.person("ann")
    room = await world.room(ann)
    first = await world.say(ann, room, "hi", "one")
    assert (await world.say(ann, room, "hi", "one")).message.id == first.message.id
    with pytest.raises(TooManyReplies):
        await world.say(ann, room, "hi", "two")


async def test_another_try_is_counted(new_world: NewWorld):
    world = new_world([RuntimeError("no")], held=True, max_running_replies=1, **LIMITED)
    ann = await world.person("ann")
    room = await world.room(ann)
    failed = await world.make(await world.ask(ann, room, "hi"))
    await world.ask(ann, room, "again")
    with pytest.raises(TooManyReplies):
        await world.container.retry_reply()(actor=ann, reply_id=failed.id)


async def test_without_limits_nobody_is_refused(new_world: NewWorld):
    world = new_world(held=True, max_running_replies=1, daily_token_limit=1, rate_limits="off")
    ann = await world.person("ann")
    room = await world.room(ann)
    for number in range(3):
        await world.ask(ann, room, f"message {number}")


# --- tokens in a day ---


def test_what_is_reserved_is_the_text_and_an_answer():
    assert reserved_for("x" * 30, RoomAI()) == 10 + TURN_TOKENS + ANSWER_TOKENS
    assert reserved_for("x" * 30, RoomAI(max_output_tokens=50)) == 10 + TURN_TOKENS + 50


async def test_the_tokens_of_a_day_are_bounded(new_world: NewWorld):
    usage = Usage(input_tokens=900, output_tokens=100)
    world = new_world(answer("Hello.", usage=usage), held=True, daily_token_limit=3000, **LIMITED)
    ann = await world.person("ann")
    room = await world.room(ann)
    await world.make(await world.ask(ann, room, "one"))
    await world.make(await world.ask(ann, room, "two"))
    # 2000 are used: there is no room for some 1009 more.
    with pytest.raises(QuotaExceeded) as refusal:
        await world.ask(ann, room, "three")
    assert "1000 of 3000 tokens are left" in refusal.value.detail
    assert 0 < refusal.value.retry_after <= 86_400
    assert len(await world.history(room)) == 4


async def test_what_is_reserved_is_settled_at_the_end(new_world: NewWorld):
    usage = Usage(input_tokens=1, output_tokens=1)
    world = new_world(answer("Hello.", usage=usage), held=True, daily_token_limit=1500, **LIMITED)
    ann = await world.person("ann")
    room, other = await world.room(ann), await world.room(ann)
    first = await world.ask(ann, room, "one")
    with pytest.raises(QuotaExceeded):
        await world.ask(ann, other, "two")
    await world.make(first)
    await world.ask(ann, other, "two")


async def test_a_new_day_begins_anew(new_world: NewWorld):
    usage = Usage(input_tokens=1000, output_tokens=1000)
    world = new_world(answer("Hello.", usage=usage), held=True, daily_token_limit=2000, **LIMITED)
    ann = await world.person("ann")
    room = await world.room(ann)
    await world.make(await world.ask(ann, room, "one"))
    send = world.container.send_message()
    with pytest.raises(QuotaExceeded):
        await send(actor=ann, room_id=room.id, content="two")
    tomorrow = replace(send, now=lambda: utc_now() + timedelta(days=1))
    assert (await tomorrow(actor=ann, room_id=room.id, content="two")).reply is not None


async def test_usage_says_what_was_used_and_what_is_left(new_world: NewWorld):
    spent = Usage(input_tokens=30, output_tokens=4)
    world = new_world(answer("Hello.", usage=spent), held=True, daily_token_limit=5000, **LIMITED)
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann)
    await world.make(await world.ask(ann, room, "one"))
    await world.make(await world.ask(ann, room, "two"))
    usage = await world.container.read_usage()(actor=ann)
    assert [(day.date, day.room_id, day.input_tokens, day.output_tokens) for day in usage.days] == [
        (utc_now().date(), room.id, 60, 8)
    ]
    assert (usage.limit, usage.used_today) == (5000, 68)
    assert usage.resets_at == day_of(utc_now()) + timedelta(days=1)
    await world.ask(ann, room, "three")
    assert (await world.container.read_usage()(actor=ann)).used_today > 1000
    nothing = await world.container.read_usage()(actor=bob)
    assert (nothing.days, nothing.used_today) == ([], 0)


# --- what an answer was made from ---


async def test_an_answer_tells_what_it_was_made_from(new_world: NewWorld):
    usage = Usage(input_tokens=9, output_tokens=2)
    script = [AttemptBegins(provider="acme", model="m"), Text("Yes."), End(reason=FinishReason.STOP, usage=usage)]
    world = new_world(script, held=True, context_messages=3)
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="mention")
    sent = [await world.say(bob, room, f"message {number}") for number in range(5)]
    await world.container.delete_message()(actor=bob, room_id=room.id, message_id=sent[4].message.id)
    reply = await world.make(await world.ask(ann, room, "@ai?"))
    assert reply.message_id is not None
    context = await world.container.read_context()(actor=bob, message_id=reply.message_id)
    assert context.message_ids == [sent[2].message.id, sent[3].message.id, reply.prompt_id]
    assert context.summary is None
    assert (context.reply.provider, context.reply.model) == ("acme", "m")
    [attempt] = context.attempts
    assert (attempt.outcome, attempt.input_tokens, attempt.output_tokens) == ("stop", 9, 2)


async def test_a_summary_that_is_void_shows_no_text(new_world: NewWorld):
    world = new_world(answer("Then."), answer("Notes."), answer("Yes."), held=True, context_messages=4)
    ann = await world.person("ann")
    room = await world.room(ann, mode="mention")
    sent = [await world.say(ann, room, f"message {number}") for number in range(5)]
    await world.make(await world.ask(ann, room, "@ai one"))
    await world.container.make_summaries()()
    reply = await world.make(await world.ask(ann, room, "@ai two"))
    assert reply.message_id is not None
    read = world.container.read_context()
    before = (await read(actor=ann, message_id=reply.message_id)).summary
    assert before is not None
    assert before.text == "Notes."
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=sent[0].message.id)
    after = (await read(actor=ann, message_id=reply.message_id)).summary
    assert after is not None
    assert (after.id, after.text) == (before.id, "")


async def test_what_was_made_of_others_words_is_for_those_in_the_room(new_world: NewWorld):
    world = new_world(held=True)
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, private=True)
    reply = await world.make(await world.ask(ann, room, "hi"))
    assert reply.message_id is not None
    read = world.container.read_context()
    for actor, message_id in (
        (eve, reply.message_id),
        (ann, reply.prompt_id),
        (ann, MessageId(uuid7())),
    ):
        with pytest.raises(NotFound):
            await read(actor=actor, message_id=message_id)

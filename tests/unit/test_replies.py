"""Making an answer: every way it can end, who may make it, what it costs, and waiting for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from adapters.memory.delivery import MemoryReplyFeed
from chat_core.domain.ids import ReplyId, utc_now, uuid7
from chat_core.domain.message import MessageStatus
from chat_core.domain.reply import REPLY_ERRORS, Reply, ReplyStatus, error_title
from chat_core.domain.room import Room
from chat_core.domain.user import Actor
from chat_core.errors import (
    ModelBadAnswer,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    NotFound,
    NotRetryable,
    PromptTooLong,
    StorageUnavailable,
)
from chat_core.ports.delivery import Watch
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    End,
    FinishReason,
    Text,
    Thinking,
    Usage,
)
from chat_core.testing.models import Gate, Step, answer
from chat_core.use_cases.drafts import ANSWER_MAX
from chat_core.use_cases.replies import AwaitReply, SweepReplies
from chat_core.use_cases.tokens import TURN_TOKENS
from tests.clocks import Seconds
from tests.world import NewWorld, World

BEGINS = AttemptBegins(provider="gemini", model="flash")
OTHER = AttemptBegins(provider="other", model="large")
STOP = End(reason=FinishReason.STOP, usage=Usage(input_tokens=7, output_tokens=3))
#: What a prompt of "hi" is estimated at.
ASKED = TURN_TOKENS + 1


async def asked(world: World, content: str = "hi", **ai: Any) -> tuple[Actor, Room, Reply]:
    """Ann, her room, and a reply to what she said in it."""
    ann = await world.person("ann")
    room = await world.room(ann, **ai)
    return ann, room, await world.ask(ann, room, content)


async def ending(new_world: NewWorld, *steps: Step) -> tuple[World, Room, Reply]:
    """How a reply ends whose model does this."""
    world = new_world(list(steps), held=True)
    _, room, reply = await asked(world)
    return world, room, await world.make(reply)


async def test_a_whole_answer_is_complete(new_world: NewWorld):
    world, room, reply = await ending(new_world, Thinking(), Text("Hel"), Text("lo."), STOP)
    assert (reply.status, reply.finish_reason, reply.error_code) == (ReplyStatus.COMPLETE, "stop", None)
    assert (reply.input_tokens, reply.output_tokens, reply.wasted_tokens) == (7, 3, 0)
    assert reply.finished_at is not None
    prompt, message = await world.history(room)
    assert (message.content, message.status) == ("Hello.", MessageStatus.COMPLETE)
    assert (message.id, message.reply_to, message.seq) == (reply.message_id, prompt.id, 2)


async def test_an_answer_at_the_length_limit_is_incomplete(new_world: NewWorld):
    world, room, reply = await ending(new_world, Text("Hel"), End(reason=FinishReason.LENGTH))
    assert (reply.status, reply.finish_reason) == (ReplyStatus.INCOMPLETE, "length")
    message = (await world.history(room))[-1]
    assert (message.content, message.status) == ("Hel", MessageStatus.INCOMPLETE)


@pytest.mark.parametrize("texts", [(), ("Some text",)])
async def test_a_blocked_answer_stores_nothing(new_world: NewWorld, texts: tuple[str, ...]):
    end = End(reason=FinishReason.BLOCKED, usage=Usage(input_tokens=7), detail="SAFETY")
    world, room, reply = await ending(new_world, *map(Text, texts), end)
    assert (reply.status, reply.finish_reason, reply.error_code) == (ReplyStatus.BLOCKED, "blocked", "blocked")
    assert (reply.message_id, reply.input_tokens) == (None, 7)
    assert await world.texts(room) == ["hi"]


@pytest.mark.parametrize("texts", [(), (" ",), ("\n", "\t "), ("\x00",), ("\ud800",)])
@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH])
async def test_an_answer_without_text_has_failed(new_world: NewWorld, texts: tuple[str, ...], reason: FinishReason):
    world, room, reply = await ending(new_world, Thinking(), *map(Text, texts), End(reason=reason))
    assert (reply.status, reply.error_code) == (ReplyStatus.FAILED, "empty-answer")
    assert await world.texts(room) == ["hi"]
    assert await world.log(room) == ["message.created"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelUnavailable("down", retry_after=7), "provider-unavailable"),
        (ModelTimedOut(), "provider-timeout"),
        (ModelInterrupted(), "provider-interrupted"),
        (ModelRefused("no key"), "provider-refused"),
        (PromptTooLong(), "prompt-too-long"),
        (ModelBadAnswer(), "provider-bad-response"),
        (ModelError(), "provider-error"),
        (RuntimeError("a fault of ours"), "internal-error"),
        (KeyError("candidates"), "internal-error"),
    ],
)
@pytest.mark.parametrize("texts", [(), ("Some text",)])
async def test_a_model_that_fails_stores_nothing(
    new_world: NewWorld, error: Exception, code: str, texts: tuple[str, ...]
):
    world, room, reply = await ending(new_world, *map(Text, texts), error)
    assert (reply.status, reply.error_code, reply.message_id) == (ReplyStatus.FAILED, code, None)
    assert error_title(code)
    assert await world.texts(room) == ["hi"]
    assert await world.log(room) == ["message.created"]


async def test_a_stream_without_an_end_has_failed(new_world: NewWorld):
    world, room, reply = await ending(new_world, Text("Some text"))
    assert (reply.status, reply.error_code) == (ReplyStatus.FAILED, "provider-error")
    assert await world.texts(room) == ["hi"]


async def test_what_comes_after_the_end_is_not_read(new_world: NewWorld):
    world, room, reply = await ending(new_world, Text("Hello."), STOP, Text(" And more."), RuntimeError())
    assert reply.status is ReplyStatus.COMPLETE
    assert await world.texts(room) == ["hi", "Hello."]


async def test_an_answer_that_is_too_long_is_given_up(new_world: NewWorld):
    never = Gate()
    world, room, reply = await ending(new_world, Text("x" * ANSWER_MAX), Text("x"), never, STOP)
    assert (reply.status, reply.error_code) == (ReplyStatus.FAILED, "answer-too-long")
    assert await world.texts(room) == ["hi"]
    assert world.model.open_streams == 0


async def test_an_answer_may_be_just_as_long_as_that(new_world: NewWorld):
    world, room, reply = await ending(new_world, Text("x" * ANSWER_MAX), STOP)
    assert reply.status is ReplyStatus.COMPLETE
    assert len((await world.texts(room))[-1]) == ANSWER_MAX


async def test_what_cannot_be_stored_is_left_out_of_an_answer(new_world: NewWorld):
    parts = ("He\x00l", "\x00", "lo\ud800", " \udc00🫖", "\u2028.")
    world, room, reply = await ending(new_world, *map(Text, parts), STOP)
    assert reply.status is ReplyStatus.COMPLETE
    assert (await world.texts(room))[-1] == "Hello 🫖\u2028."


def test_each_error_of_a_reply_has_a_title_of_its_own():
    codes = [*REPLY_ERRORS, "provider-timeout", "prompt-too-long", "provider-unavailable", "provider-refused"]
    assert len({error_title(code) for code in codes}) == len(codes)


# Attempts: the bill.


async def test_an_attempt_is_stored_before_the_provider_is_asked(new_world: NewWorld):
    gate = Gate()
    world = new_world([BEGINS, gate, Text("Hello."), STOP], held=True)
    _, _, reply = await asked(world)
    making = world.begin(reply)
    await gate.reached()
    [attempt] = await world.attempts(reply)
    assert (attempt.number, attempt.epoch, attempt.provider, attempt.model) == (1, 1, "gemini", "flash")
    assert (attempt.ended_at, attempt.outcome) == (None, None)
    running = await world.reply(reply.id)
    assert (running.status, running.attempts, running.provider) == (ReplyStatus.RUNNING, 1, "gemini")
    gate.open()
    await making.end()
    [attempt] = await world.attempts(reply)
    assert (attempt.outcome, attempt.input_tokens, attempt.output_tokens) == ("stop", 7, 3)
    assert attempt.ended_at is not None
    ended = await world.reply(reply.id)
    assert (ended.attempts, ended.provider, ended.model) == (1, "gemini", "flash")


async def test_an_attempt_that_failed_voids_its_text_and_is_paid_for(new_world: NewWorld):
    failed = AttemptFailed(code="provider-unavailable", usage=Usage(input_tokens=5, output_tokens=2))
    world, room, reply = await ending(
        new_world, BEGINS, Text("Void"), failed, BEGINS, Text("Void too"), AttemptFailed(code="provider-timeout"),
        OTHER, Text("Hello."), STOP,
    )  # fmt: skip
    assert (reply.status, reply.attempts, reply.provider, reply.model) == (ReplyStatus.COMPLETE, 3, "other", "large")
    assert (reply.input_tokens, reply.output_tokens, reply.wasted_tokens) == (7, 3, 5 + 2 + ASKED + 3)
    assert await world.texts(room) == ["hi", "Hello."]
    attempts = await world.attempts(reply)
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert [attempt.outcome for attempt in attempts] == ["provider-unavailable", "provider-timeout", "stop"]
    assert [attempt.input_tokens for attempt in attempts] == [5, ASKED, 7]
    assert all(attempt.ended_at for attempt in attempts)


async def test_the_row_of_each_further_attempt_comes_first_too(new_world: NewWorld):
    gates = Gate(), Gate()
    world = new_world(
        [BEGINS, gates[0], AttemptFailed(code="provider-timeout"), OTHER, gates[1], *answer("Hello.")], held=True
    )
    _, _, reply = await asked(world)
    world.begin(reply)
    for number, gate in enumerate(gates, 1):
        await gate.reached()
        assert len(await world.attempts(reply)) == number
        gate.open()
    await world.ended(reply.id)


async def test_a_failure_that_cost_something_is_paid_for(new_world: NewWorld):
    error = ModelInterrupted()
    error.usage = Usage(input_tokens=5, output_tokens=2)
    world, _, reply = await ending(new_world, BEGINS, Text("Some"), error)
    [attempt] = await world.attempts(reply)
    assert (attempt.outcome, attempt.input_tokens, attempt.output_tokens) == ("provider-interrupted", 5, 2)
    assert (reply.input_tokens, reply.output_tokens, reply.wasted_tokens) == (None, None, 7)


async def test_what_a_provider_counts_at_the_end_alone_is_estimated_where_the_end_does_not_come(new_world: NewWorld):
    cut = ModelInterrupted("cut")
    world, _, reply = await ending(new_world, BEGINS, Thinking(), Text("Some"), Text(" text."), cut)
    [attempt] = await world.attempts(reply)
    assert (attempt.input_tokens, attempt.output_tokens) == (ASKED, 4)
    assert reply.wasted_tokens == ASKED + 4


async def test_of_an_answer_that_is_stopped_what_was_not_counted_is_estimated(new_world: NewWorld):
    gate = Gate()
    so_far = Text(" text.", Usage(input_tokens=5))
    world = new_world([BEGINS, Text("Some"), so_far, gate, STOP], held=True)
    ann, _, reply = await asked(world)
    world.begin(reply)
    await gate.reached()
    await world.container.stop_reply()(actor=ann, reply_id=reply.id)
    stopped = await world.reply(reply.id)
    assert (stopped.status, stopped.finish_reason) == (ReplyStatus.INCOMPLETE, "stopped")
    assert (stopped.input_tokens, stopped.output_tokens) == (5, 4)


async def test_an_answer_whose_provider_counts_nothing_is_estimated(new_world: NewWorld):
    _, _, reply = await ending(new_world, BEGINS, Text("Hello."), End(reason=FinishReason.STOP))
    assert (reply.input_tokens, reply.output_tokens) == (ASKED, 2)


async def test_a_request_that_nothing_came_of_took_nothing(new_world: NewWorld):
    world, _, reply = await ending(new_world, BEGINS, ModelUnavailable("down"))
    [attempt] = await world.attempts(reply)
    assert (attempt.input_tokens, attempt.output_tokens, reply.wasted_tokens) == (None, None, 0)


async def test_a_failure_between_two_attempts_leaves_the_first_as_it_ended(new_world: NewWorld):
    failed = AttemptFailed(code="provider-timeout", usage=Usage(input_tokens=5, output_tokens=2))
    world, _, reply = await ending(new_world, BEGINS, failed, ModelUnavailable("no request is left"))
    [attempt] = await world.attempts(reply)
    assert (attempt.outcome, attempt.input_tokens) == ("provider-timeout", 5)
    assert (reply.error_code, reply.wasted_tokens) == ("provider-unavailable", 7)


async def test_the_attempts_of_an_earlier_maker_are_counted_on_and_told_to_the_model(new_world: NewWorld):
    gate = Gate()
    failed = AttemptFailed(code="provider-timeout", usage=Usage(input_tokens=5, output_tokens=2))
    world = new_world([BEGINS, failed, OTHER, gate], [BEGINS, Text("Hello."), STOP], held=True)
    _, _, reply = await asked(world)
    world.begin(reply, feed=MemoryReplyFeed())
    await gate.reached()
    world.clock.let_pass(16)
    made = await world.make(reply)
    assert (made.status, made.epoch, made.crashes, made.attempts) == (ReplyStatus.COMPLETE, 2, 1, 3)
    assert world.model.asked[1].attempts == ("gemini:flash", "other:large")
    assert [(attempt.number, attempt.epoch) for attempt in await world.attempts(reply)] == [(1, 1), (2, 1), (3, 2)]
    assert made.wasted_tokens == 7


async def test_a_maker_that_lost_its_lease_makes_no_further_attempt(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, BEGINS, Text("Too late"), STOP], [BEGINS, *answer("In time.")], held=True)
    _, room, reply = await asked(world)
    late = world.begin(reply, feed=MemoryReplyFeed())
    await gate.reached()
    world.clock.let_pass(16)
    await world.make(reply)
    gate.open()
    await late.end()
    assert [attempt.epoch for attempt in await world.attempts(reply)] == [2]
    assert await world.texts(room) == ["hi", "In time."]


# Who may make it.


async def test_a_reply_is_made_once_however_often_it_is_asked_for(new_world: NewWorld):
    world = new_world([BEGINS, *answer("Hello.")], held=True)
    _, room, reply = await asked(world)
    await asyncio.gather(*(world.maker()(reply.id) for _ in range(10)))
    await world.make(reply)
    assert len(world.model.asked) == 1
    assert await world.texts(room) == ["hi", "Hello."]


async def test_a_reply_that_does_not_exist_is_not_made(world: World):
    await world.maker()(ReplyId(uuid7()))
    assert world.model.asked == []


async def test_what_is_being_made_is_left_to_its_maker(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], held=True)
    _, _, reply = await asked(world)
    making = world.begin(reply)
    await gate.reached()
    again = await world.make(reply)
    assert (again.status, again.epoch, again.crashes) == (ReplyStatus.RUNNING, 1, 0)
    gate.open()
    await making.end()
    assert len(world.model.asked) == 1


async def test_a_maker_that_lost_its_lease_stores_nothing(new_world: NewWorld):
    gate = Gate()
    world = new_world([Text("From the first"), gate, STOP], [Text("From the second"), STOP], held=True)
    _, room, reply = await asked(world)
    late = world.begin(reply, feed=MemoryReplyFeed())
    await gate.reached()
    world.clock.let_pass(16)
    made = await world.make(reply)
    gate.open()
    await late.end()
    assert (await world.reply(reply.id)) == made
    assert (made.epoch, made.crashes) == (2, 1)
    assert await world.texts(room) == ["hi", "From the second"]
    assert await world.log(room) == ["message.created"] * 2


async def test_a_maker_that_hears_of_its_lost_lease_closes_the_models_stream(new_world: NewWorld):
    never = Gate()
    world = new_world([Text("From the first"), never, STOP], [Text("From the second"), STOP], held=True)
    _, room, reply = await asked(world)
    late = world.begin(reply)
    await never.reached()
    world.clock.let_pass(16)
    await world.make(reply)
    await late.end()
    assert world.model.open_streams == 0
    assert await world.texts(room) == ["hi", "From the second"]


async def test_a_reply_that_kills_its_makers_is_given_up(new_world: NewWorld):
    # Each of these makers hangs, as one that was killed does for those who look from outside.
    gates = [Gate() for _ in range(3)]
    world = new_world(*([BEGINS, gate, STOP] for gate in gates), held=True)
    _, room, reply = await asked(world)
    for crashes, gate in enumerate(gates):
        world.begin(reply, feed=MemoryReplyFeed())
        await gate.reached()
        assert (await world.reply(reply.id)).crashes == crashes
        world.clock.let_pass(16)
    given_up = await world.make(reply)
    assert (given_up.status, given_up.error_code, given_up.crashes) == (ReplyStatus.FAILED, "poison", 3)
    assert len(world.model.asked) == 3
    assert await world.texts(room) == ["hi"]


async def test_a_reply_past_its_deadline_has_expired(held: World):
    _, room, reply = await asked(held)
    made = await held.make(reply, later=901)
    assert (made.status, made.error_code) == (ReplyStatus.FAILED, "expired")
    assert held.model.asked == []
    assert await held.texts(room) == ["hi"]


async def test_a_model_has_its_time_or_what_is_left_of_the_deadline(held: World):
    ann, room, reply = await asked(held)
    await held.make(reply)
    await held.make(await held.ask(ann, room, "hi again"), later=800)
    assert held.model.asked[0].seconds_left == 300
    left = held.model.asked[1].seconds_left
    assert left is not None
    assert 0 < left <= 100


async def test_who_makes_an_answer_keeps_its_lease(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], held=True)
    _, _, reply = await asked(world)
    making = world.begin(reply, lease=0.03)  # for the heart's beat; the lease itself runs by the world's clock
    await gate.reached()
    for _ in range(5):
        world.clock.let_pass(0.02)
        await world.uow.commits_reach(world.uow.commits + 2)
        async with world.uow.read() as tx:
            assert await tx.replies.due(10) == []
    gate.open()
    await making.end()
    ended = await world.reply(reply.id)
    assert (ended.status, ended.epoch, ended.crashes) == (ReplyStatus.COMPLETE, 1, 0)


async def test_an_answer_outlives_a_storage_that_is_away_for_a_while(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], held=True)
    _, room, reply = await asked(world)
    making = world.begin(reply)
    await gate.reached()
    world.uow.away = StorageUnavailable()
    await world.container.feed().announce(reply.id)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not making.task.done()
    world.uow.away = None
    gate.open()
    await making.end()
    assert await world.texts(room) == ["hi", "Hello."]


async def test_an_answer_that_cannot_be_stored_at_once_is_kept_until_it_can(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], held=True)
    _, room, reply = await asked(world)
    making = world.begin(reply)
    await gate.reached()
    world.uow.away = StorageUnavailable()
    gate.open()
    async with asyncio.timeout(10):
        await world.uow.turned_away.wait()
    assert not making.task.done()
    world.uow.away = None
    await making.end()
    assert (await world.reply(reply.id)).status is ReplyStatus.COMPLETE
    assert await world.texts(room) == ["hi", "Hello."]
    assert len(world.model.asked) == 1


async def test_an_answer_that_cannot_be_stored_by_its_deadline_is_given_up(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], held=True)
    _, _, reply = await asked(world)
    times = iter([utc_now()])
    late = utc_now() + timedelta(seconds=1000)
    making = asyncio.create_task(replace(world.maker(), now=lambda: next(times, late))(reply.id))
    await gate.reached()
    world.uow.away = StorageUnavailable()
    gate.open()
    with pytest.raises(StorageUnavailable):
        await making
    world.uow.away = None
    world.clock.let_pass(16)
    assert (await world.make(reply, later=1000)).error_code == "expired"


async def test_a_maker_that_is_cancelled_hands_its_reply_over(new_world: NewWorld):
    never = Gate()
    world = new_world([BEGINS, Text("Some"), never, STOP], [BEGINS, *answer("Hello.")], held=True)
    _, room, reply = await asked(world)
    making = world.begin(reply)
    await never.reached()
    making.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making.end()
    assert world.model.open_streams == 0
    handed_over = await world.reply(reply.id)
    assert (handed_over.status, handed_over.crashes) == (ReplyStatus.QUEUED, 0)
    made = await world.make(reply)
    assert (made.status, made.crashes, made.attempts) == (ReplyStatus.COMPLETE, 0, 2)
    assert await world.texts(room) == ["hi", "Hello."]


# Stopping it, and trying it again.


@pytest.mark.parametrize(
    ("texts", "status", "stored"),
    [(("Some ", "text"), ReplyStatus.INCOMPLETE, ["hi", "Some text"]), ((), ReplyStatus.CANCELLED, ["hi"])],
)
async def test_a_stopped_answer_keeps_the_text_so_far(
    new_world: NewWorld, texts: tuple[str, ...], status: ReplyStatus, stored: list[str]
):
    never = Gate()
    world = new_world([BEGINS, *map(Text, texts), never, STOP])
    ann, room, reply = await asked(world)
    await never.reached()
    for _ in range(2):
        answered = await world.container.stop_reply()(actor=ann, reply_id=reply.id)
        assert (answered.reply.status, answered.reply.finish_reason) == (status, "stopped")
    assert await world.texts(room) == stored
    [attempt] = await world.attempts(reply)
    assert attempt.outcome == "stopped"
    assert world.model.open_streams == 0


async def test_an_answer_that_was_stopped_before_it_began_is_never_asked_for(held: World):
    ann, room, reply = await asked(held)
    stop = held.container.stop_reply()
    assert (await stop(actor=ann, reply_id=reply.id)).reply.status is ReplyStatus.CANCELLED
    await held.make(reply)
    assert held.model.asked == []
    assert await held.texts(room) == ["hi"]


async def test_a_finished_answer_is_not_changed_by_a_stop(held: World):
    ann, _, reply = await asked(held)
    made = await held.make(reply)
    assert (await held.container.stop_reply()(actor=ann, reply_id=reply.id)).reply == made


@pytest.mark.parametrize("deed", ["read_reply", "stop_reply", "retry_reply"])
async def test_the_replies_of_a_closed_room_are_not_there(held: World, deed: str):
    ann, eve = await held.person("ann"), await held.person("eve")
    reply = await held.ask(ann, await held.room(ann, private=True), "hi")
    act = getattr(held.container, deed)()
    for actor, reply_id in ((eve, reply.id), (ann, ReplyId(uuid7()))):
        with pytest.raises(NotFound):
            await act(actor=actor, reply_id=reply_id)
    assert not (await held.reply(reply.id)).stop_requested


async def test_a_failed_answer_can_be_tried_again(new_world: NewWorld):
    world = new_world([ModelRefused()], answer("Hello."), held=True)
    ann, room, reply = await asked(world)
    failed = await world.make(reply)
    retry = world.container.retry_reply()
    again = await retry(actor=ann, reply_id=reply.id)
    assert (again.try_number, again.prompt_id, again.status) == (2, reply.prompt_id, ReplyStatus.QUEUED)
    assert await retry(actor=ann, reply_id=reply.id) == again
    await world.make(again)
    assert await world.reply(reply.id) == failed
    assert await world.texts(room) == ["hi", "Hello."]
    with pytest.raises(NotRetryable):
        await retry(actor=ann, reply_id=again.id)


async def test_of_many_who_try_again_at_once_one_does(new_world: NewWorld):
    world = new_world([ModelRefused()], held=True)
    ann, _, reply = await asked(world)
    await world.make(reply)
    retry = world.container.retry_reply()
    tries = await asyncio.gather(*(retry(actor=ann, reply_id=reply.id) for _ in range(10)))
    assert len({each.id for each in tries}) == 1


async def test_an_answer_in_the_making_cannot_be_tried_again(held: World):
    ann, _, reply = await asked(held)
    with pytest.raises(NotRetryable):
        await held.container.retry_reply()(actor=ann, reply_id=reply.id)


async def test_an_answer_to_a_deleted_prompt_cannot_be_tried_again(held: World):
    ann, room, reply = await asked(held)
    await held.container.delete_message()(actor=ann, room_id=room.id, message_id=reply.prompt_id)
    with pytest.raises(NotRetryable):
        await held.container.retry_reply()(actor=ann, reply_id=reply.id)


# What happens to the prompt or the room meanwhile.


async def test_deleting_the_prompt_closes_the_models_stream(new_world: NewWorld):
    never = Gate()
    world = new_world([BEGINS, Text("Some"), never, STOP])
    ann, room, reply = await asked(world)
    await never.reached()
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=reply.prompt_id)
    ended = await world.ended(reply.id)
    assert (ended.reply.status, ended.reply.error_code) == (ReplyStatus.CANCELLED, "cancelled")
    await world.container.local_queue().close(10)
    assert world.model.open_streams == 0
    assert await world.texts(room) == [""]
    assert await world.log(room) == ["message.created", "message.deleted"]


async def test_deleting_the_room_closes_the_models_stream(new_world: NewWorld):
    never = Gate()
    world = new_world([Text("Some"), never, STOP])
    ann, room, reply = await asked(world)
    await never.reached()
    await world.container.delete_room()(actor=ann, room_id=room.id)
    assert (await world.ended(reply.id)).reply.status is ReplyStatus.CANCELLED
    await world.container.local_queue().close(10)
    assert world.model.open_streams == 0
    assert await world.log(room) == ["message.created", "room.deleted"]


@pytest.mark.parametrize("what", ["prompt", "room"])
async def test_a_maker_that_does_not_hear_of_the_deletion_stores_nothing_either(new_world: NewWorld, what: str):
    gate = Gate()
    world = new_world([Text("Too late"), gate, STOP], held=True)
    ann, room, reply = await asked(world)
    making = world.begin(reply, feed=MemoryReplyFeed())
    await gate.reached()
    if what == "prompt":
        await world.container.delete_message()(actor=ann, room_id=room.id, message_id=reply.prompt_id)
    else:
        await world.container.delete_room()(actor=ann, room_id=room.id)
    log = await world.log(room)
    gate.open()
    await making.end()
    assert (await world.reply(reply.id)).status is ReplyStatus.CANCELLED
    assert await world.log(room) == log


async def test_the_answer_to_a_room_that_was_deleted_before_is_not_made(held: World):
    ann, room, reply = await asked(held)
    await held.container.delete_room()(actor=ann, room_id=room.id)
    assert (await held.make(reply)).status is ReplyStatus.CANCELLED
    assert held.model.asked == []


async def test_a_final_status_never_changes(new_world: NewWorld):
    world = new_world(answer("Hello."), held=True)
    ann, room, reply = await asked(world)
    made = await world.make(reply)
    world.clock.let_pass(1000)
    await world.make(reply, later=10_000)
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=reply.prompt_id)
    assert await world.reply(reply.id) == made


# No transaction is open while anybody waits.


async def test_no_transaction_is_open_while_the_model_is_asked(new_world: NewWorld):
    gates = [Gate() for _ in range(4)]
    failed = AttemptFailed(code="provider-timeout")
    world = new_world(
        [gates[0], BEGINS, gates[1], Text("Void"), failed, BEGINS, gates[2], Text("Hel"), gates[3], *answer("lo.")]
    )
    await asked(world)
    for gate in gates:
        await gate.reached()
        assert world.uow.open == 0
        gate.open()


async def test_no_transaction_is_open_while_somebody_waits_for_an_answer(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")])
    _, _, reply = await asked(world)
    await gate.reached()
    waiting = asyncio.create_task(world.ended(reply.id))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.uow.open == 0
    gate.open()
    assert (await waiting).message is not None


# Waiting for it.


class ClockedFeed(MemoryReplyFeed):
    """A feed on which no news ever come, and on which waiting takes a clock's time and none of ours."""

    def __init__(self, clock: Seconds) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.in_the_third_wait: Callable[[], Awaitable[object]] | None = None
        self._clock = clock

    @asynccontextmanager
    async def watch(self, reply_id: ReplyId) -> AsyncIterator[Watch]:
        feed = self

        class Waiting(Watch):
            async def wait(self, seconds: float) -> None:
                feed.waits.append(seconds)
                feed._clock.let_pass(seconds)
                if len(feed.waits) == 3 and feed.in_the_third_wait is not None:
                    await feed.in_the_third_wait()

            def call(self, heard: Callable[[], None]) -> None:
                """There never is any news."""

        yield Waiting()


def awaiting(world: World) -> tuple[AwaitReply, ClockedFeed, Seconds]:
    clock = Seconds()
    feed = ClockedFeed(clock)
    return AwaitReply(uow=world.uow, feed=feed, monotonic=clock), feed, clock


async def test_a_final_reply_is_not_waited_for(held: World):
    _, _, reply = await asked(held)
    await held.make(reply)
    await_reply, feed, _ = awaiting(held)
    answered = await await_reply(reply_id=reply.id, seconds=3600)
    assert answered.message is not None
    assert (answered.message.content, answered.reply.status) == ("Hello.", ReplyStatus.COMPLETE)
    assert feed.waits == []


@pytest.mark.parametrize("seconds", [0, -1, 0.2, 2, 50])
async def test_a_reply_is_waited_for_so_long_and_no_longer(held: World, seconds: float):
    _, _, reply = await asked(held)
    await_reply, feed, clock = awaiting(held)
    begun = clock()
    answered = await await_reply(reply_id=reply.id, seconds=seconds)
    assert (answered.message, answered.reply.status) == (None, ReplyStatus.QUEUED)
    assert clock() - begun == pytest.approx(max(seconds, 0))
    assert all(0 < wait <= await_reply.look_every for wait in feed.waits)


async def test_a_reply_whose_news_are_lost_is_found_by_looking(held: World):
    _, _, reply = await asked(held)
    await_reply, feed, _ = awaiting(held)
    feed.in_the_third_wait = lambda: held.make(reply)
    answered = await await_reply(reply_id=reply.id, seconds=50)
    assert answered.reply.status is ReplyStatus.COMPLETE
    assert len(feed.waits) == 3


async def test_news_end_the_wait(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")])
    _, _, reply = await asked(world)
    await_reply = replace(world.container.await_reply(), look_every=3600.0)
    waiting = [asyncio.create_task(await_reply(reply_id=reply.id, seconds=3600)) for _ in range(5)]
    await gate.reached()
    gate.open()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*waiting)
    assert {each.message.content for each in answers if each.message} == {"Hello."}


async def test_a_reply_that_does_not_exist_is_not_waited_for(world: World):
    with pytest.raises(NotFound):
        await world.container.await_reply()(reply_id=ReplyId(uuid7()), seconds=3600)


async def test_the_text_can_be_read_when_the_wait_is_over(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    for number in range(5):
        answered = await world.answer_to(ann, room, f"message {number}")
        assert answered.message in await world.history(room)


# Sweeping up.


async def test_the_sweep_puts_what_nobody_makes_on_the_queue(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("Hello.")], answer("Hello."), held=True)
    ann, room, running = await asked(world)
    world.begin(running, feed=MemoryReplyFeed())
    await gate.reached()
    done = await world.ask(ann, room, "two")
    await world.make(done)
    waiting = await world.ask(ann, room, "three")
    sweep = world.container.sweep_replies()
    world.queue.put_there.clear()
    assert await sweep() == 0, "what was just queued is on its way"
    world.clock.let_pass(3)
    assert await sweep() == 1
    assert world.queue.put_there == [waiting.id]
    world.queue.put_there.clear()
    world.clock.let_pass(16)
    assert await sweep() == 2
    assert world.queue.put_there == [running.id, waiting.id]


async def test_the_sweep_takes_the_oldest_first_and_not_all_at_once(held: World):
    ann = await held.person("ann")
    room = await held.room(ann)
    replies = [await held.ask(ann, room, f"message {number}") for number in range(5)]
    held.queue.put_there.clear()
    held.clock.let_pass(3)
    assert await SweepReplies(uow=held.uow, queue=held.queue, limit=3)() == 3
    assert held.queue.put_there == [reply.id for reply in replies[:3]]


async def test_there_is_nothing_to_sweep_where_all_is_done(held: World):
    _, _, reply = await asked(held)
    await held.make(reply)
    held.queue.put_there.clear()
    assert await held.container.sweep_replies()() == 0
    assert held.queue.put_there == []


async def test_a_lost_queue_costs_time_and_no_answer(new_world: NewWorld):
    world = new_world(answer("Hello."), held=True)
    _, room, _ = await asked(world)
    world.queue.put_there.clear()
    world.clock.let_pass(3)
    await world.container.sweep_replies()()
    for reply_id in world.queue.put_there:
        await world.maker()(reply_id)
    assert await world.texts(room) == ["hi", "Hello."]


async def test_answers_to_several_prompts_take_places_as_they_are_stored(new_world: NewWorld):
    first, second = Gate(), Gate()
    world = new_world([first, *answer("One.")], [second, *answer("Two.")])
    ann, room, one = await asked(world)
    await first.reached()
    two = await world.ask(ann, room, "and this?")
    await second.reached()
    second.open()
    await world.ended(two.id)
    first.open()
    await world.ended(one.id)
    assert await world.texts(room) == ["hi", "and this?", "Two.", "One."]
    seqs = [message.seq for message in await world.history(room)]
    assert all(later == earlier + 1 for earlier, later in pairwise(seqs))

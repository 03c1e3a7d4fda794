"""How much a prompt holds: tokens, a window, and a summary of what fell out."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from chat_core.domain.ids import RoomId, SummaryId, uuid7
from chat_core.domain.message import Message, MessageKind, Said
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.room import Room, RoomAI
from chat_core.domain.summary import SUMMARY_MAX, Summary, SummaryStatus
from chat_core.domain.user import Actor
from chat_core.errors import ModelUnavailable
from chat_core.ports.language_model import AttemptBegins, Conversation, End, FinishReason, Text, TurnRole, Usage
from chat_core.ports.storage import Context
from chat_core.testing.models import Gate, answer
from chat_core.testing.samples import a_message, a_room, a_user
from chat_core.use_cases.prompts import SUMMARY_SAYS, Budget, Prompts
from chat_core.use_cases.summaries import ASKS, FAILURES_MAX, AskedSummaries, MakeSummaries
from chat_core.use_cases.tokens import Scale, tokens_in, tokens_of
from tests.world import NewWorld, World

USER = a_user()
ROOM = a_room(USER)


def said(count: int, size: int = 300, people: int = 1) -> list[Said]:
    """So many messages of about ``size`` characters, a third as many tokens; ``people`` write in turn."""
    users = [USER, *(a_user() for _ in range(people - 1))]
    return [
        Said.of(a_message(ROOM, users[seq % people], seq, f"{seq} ".ljust(size, "x"))) for seq in range(1, count + 1)
    ]


def a_summary(up_to: int, text: str) -> Summary:
    return Summary(id=SummaryId(uuid7()), room_id=ROOM.id, up_to=up_to, created_at=ROOM.created_at).made(text)


def seqs_of(budget: Budget, messages: list[Said], ai: RoomAI | None = None, scale: Scale | None = None) -> list[int]:
    prompts = Prompts(budget=budget, scale=scale or Scale())
    return list(prompts.prompt(Context(messages=messages), ai or RoomAI(), seconds_left=1.0).sources.seqs)


# --- the estimate ---


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("four", 2), ("twelve chars", 4), ("漢字", 2), ("😀", 2), ("\udc80", 1)]
)
def test_a_token_is_three_bytes_of_utf_8(text: str, tokens: int):
    assert tokens_in(text) == tokens


def test_what_a_provider_counts_corrects_the_estimate():
    scale = Scale()
    assert scale.of("acme:m") == 1.0
    scale.learn("acme:m", 100, 150)
    assert scale.of("acme:m") == 1.5
    assert scale.of("acme:other") == 1.0


def test_a_higher_count_counts_at_once_and_a_lower_one_little_by_little():
    scale = Scale()
    scale.learn(None, 100, 200)
    scale.learn(None, 100, 100)
    assert 1.5 < scale.of(None) < 2.0


def test_a_count_that_cannot_be_is_taken_with_care():
    scale = Scale()
    for estimated, counted in ((100, 0), (0, 100), (-1, 5)):
        scale.learn(None, estimated, counted)
    assert scale.of(None) == 1.0
    scale.learn(None, 1, 1_000_000)
    assert scale.of(None) == 3.0


# --- what fits ---


def test_the_latest_messages_that_fit_are_in_it():
    assert seqs_of(Budget(tokens=500), said(20)) == [17, 18, 19, 20]


def test_the_system_text_takes_its_share():
    assert seqs_of(Budget(tokens=500), said(20), RoomAI(system_prompt="x" * 600)) == [19, 20]


def test_the_message_to_be_answered_is_in_it_whole_whatever_it_takes():
    assert seqs_of(Budget(tokens=500), said(3, size=9000)) == [3]


def test_a_model_whose_tokens_are_smaller_is_shown_less():
    scale = Scale()
    scale.learn(None, 100, 200)
    assert seqs_of(Budget(tokens=500), said(20), scale=scale) == [19, 20]


def test_a_window_leaves_room_for_the_answer():
    # Of 1000 tokens 750 are left for the prompt, or 500 where the room wants that long an answer.
    assert len(seqs_of(Budget(window=1000), said(20))) == 6
    assert len(seqs_of(Budget(window=1000), said(20), RoomAI(max_output_tokens=9000))) == 4


@pytest.mark.parametrize("size", [1, 30, 300, 3000])
@pytest.mark.parametrize("people", [1, 2, 5])
@pytest.mark.parametrize("summary", [None, "What they said. " * 20])
@pytest.mark.parametrize("tokens", [500, 2000, 16_000])
def test_a_prompt_of_several_messages_never_has_more_tokens_than_its_budget(
    size: int, people: int, summary: str | None, tokens: int
):
    context = Context(messages=said(200, size, people), summary=a_summary(5, summary) if summary else None)
    prompt = Prompts(budget=Budget(tokens=tokens, messages=200)).prompt(context, RoomAI(), seconds_left=1.0)
    assert len(prompt.sources.seqs) == 1 or tokens_of(prompt.conversation) <= tokens


@pytest.mark.parametrize("people", [1, 2, 5])
def test_what_names_authors_and_explains_a_summary_does_not_make_a_prompt_too_long(people: int):
    context = Context(messages=said(40, 20, people), summary=a_summary(1, "They counted. " * 20))
    prompt = Prompts(budget=Budget(window=1000)).prompt(context, RoomAI(), seconds_left=1.0)
    assert (prompt.too_long, prompt.tokens <= 750) == (False, True)


def test_a_summary_that_leaves_no_place_for_messages_stands_aside():
    context = Context(messages=said(20), summary=a_summary(18, "x" * SUMMARY_MAX))
    prompt = Prompts(budget=Budget(window=1000)).prompt(context, RoomAI(), seconds_left=1.0)
    assert (prompt.sources.summary_id, prompt.too_long) == (None, False)
    assert len(prompt.sources.seqs) == 6


def test_an_answer_whose_question_fell_out_is_not_in_it_nor_among_what_it_was_made_from():
    messages = said(4)
    messages[1] = messages[1]._replace(user_id=None, kind=MessageKind.AI)
    prompt = Prompts(budget=Budget(tokens=500, messages=3)).prompt(
        Context(messages=messages[1:]), RoomAI(), seconds_left=1.0
    )
    assert prompt.sources.seqs == (3, 4)
    assert [turn.role for turn in prompt.conversation.turns] == [TurnRole.USER, TurnRole.USER]
    with_notes = Context(messages=messages[1:], summary=a_summary(1, "They counted."))
    assert Prompts().prompt(with_notes, RoomAI(), seconds_left=1.0).sources.seqs == (2, 3, 4)


async def test_a_prompt_that_is_more_than_the_model_takes_is_not_sent(new_world: NewWorld):
    world = new_world(held=True, context_window=1000)
    ann = await world.person("ann")
    room = await world.room(ann)
    reply = await world.make(await world.ask(ann, room, "x" * 6000))
    assert (reply.status, reply.error_code) == (ReplyStatus.FAILED, "prompt-too-long")
    assert world.model.asked == []


async def test_a_prompt_costs_the_same_however_long_the_room(new_world: NewWorld):
    sizes = []
    for count in (100, 1000):
        world = new_world(held=True)
        ann = await world.person("ann")
        room = await world.room(ann, mode="mention")
        for number in range(count):
            await world.say(ann, room, f"message {number:06}")
        await world.make(await world.ask(ann, room, "@ai"))
        sizes.append(tokens_of(world.model.asked[0]))
    assert sizes[0] == sizes[1]


# --- summaries ---


def summarising(world: World) -> World:
    """A world whose budget asks for summaries: a scripted model counts as an AI."""
    assert world.container.budget().summaries
    return world


def maker(world: World, **changes: Any) -> MakeSummaries:
    known: MakeSummaries = world.container.make_summaries()
    return replace(known, **changes)


async def long_talk(world: World, *, messages: int = 10, **ai: Any) -> tuple[Actor, Room, list[Message]]:
    """A room in which so many messages were said, the last one an answer; its budget is ten messages."""
    ann = await world.person("ann")
    room = await world.room(ann, mode="mention", **ai)
    for number in range(messages - 1):
        await world.say(ann, room, f"message {number}")
    await world.make(await world.ask(ann, room, "@ai and now?"))
    return ann, room, await world.history(room)


async def summary_of(world: World, room: Room) -> Summary | None:
    async with world.uow.read() as tx:
        return (await tx.messages.context(room.id, 10_000, 1)).summary


def texts(conversation: Conversation) -> list[str]:
    return [turn.parts[-1] for turn in conversation.turns]


async def test_what_falls_out_is_summarised_beside_the_answers(new_world: NewWorld):
    world = summarising(new_world(answer("Then."), answer("They counted."), held=True, context_messages=10))
    _ann, room, history = await long_talk(world)
    assert await maker(world)() == 1
    summary = await summary_of(world, room)
    assert summary is not None
    assert (summary.text, summary.status) == ("They counted.", SummaryStatus.READY)
    # Half of the ten stays as it is.
    assert summary.up_to == history[4].seq
    asked = world.model.asked[1]
    assert texts(asked) == [f"message {number}" for number in range(5)] + [ASKS]
    assert asked.system is not None
    assert "notes" in asked.system


async def test_a_later_prompt_holds_the_summary_and_what_was_said_since(new_world: NewWorld):
    world = new_world(answer("Then."), answer("They counted."), answer("Later."), held=True, context_messages=10)
    ann, room, _ = await long_talk(world, system_prompt="Be brief.")
    await maker(world)()
    await world.make(await world.ask(ann, room, "@ai go on"))
    asked = world.model.asked[2]
    assert texts(asked) == [
        "They counted.",
        *(f"message {number}" for number in range(5, 9)),
        "@ai and now?",
        "Then.",
        "@ai go on",
    ]
    assert asked.turns[0].parts[0].endswith(SUMMARY_SAYS)
    assert asked.system is not None
    assert asked.system.startswith("Be brief.\n\n")


async def test_a_summary_goes_on_from_the_one_before(new_world: NewWorld):
    world = new_world(answer("Then."), answer("First notes."), answer("So."), answer("Second notes."),
                      held=True, context_messages=10)  # fmt: skip
    ann, room, _ = await long_talk(world)
    await maker(world)()
    for number in range(9):
        await world.say(ann, room, f"more {number}")
    await world.make(await world.ask(ann, room, "@ai again"))
    assert await maker(world)() == 1
    asked = texts(world.model.asked[3])
    assert asked[0] == "First notes."
    assert asked[-1] == ASKS
    assert "message 0" not in asked
    summary = await summary_of(world, room)
    assert summary is not None
    assert summary.text == "Second notes."


async def test_a_summary_is_asked_for_within_a_small_window(new_world: NewWorld):
    world = new_world(answer("Then."), answer("Notes."), held=True, context_messages=10, context_window=2000)
    await long_talk(world)
    assert await maker(world)() == 1
    asked = world.model.asked[1]
    assert texts(asked) == [f"message {number}" for number in range(5)] + [ASKS]
    assert asked.max_output_tokens is not None
    assert tokens_of(asked) + asked.max_output_tokens <= 2000
    assert asked.system is not None
    assert "at most 200 words" in asked.system


async def test_a_short_talk_is_not_summarised(new_world: NewWorld):
    world = summarising(new_world(held=True, context_messages=20))
    await long_talk(world)
    assert await maker(world)() == 0


async def test_without_summaries_none_is_asked_for(new_world: NewWorld):
    world = new_world(held=True, context_messages=10, summaries=False)
    await long_talk(world)
    assert await maker(world)() == 0


async def test_a_send_does_not_wait_for_a_summary(new_world: NewWorld):
    gate = Gate()
    world = new_world(answer("Then."), [gate, *answer("Notes.")], answer("At once."), held=True, context_messages=10)
    ann, room, _ = await long_talk(world)
    making = asyncio.create_task(maker(world)())
    await gate.reached()
    reply = await world.make(await world.ask(ann, room, "@ai quick"))
    assert reply.status is ReplyStatus.COMPLETE
    gate.open()
    assert await making == 1


@pytest.mark.parametrize("deed", ["edit", "delete"])
async def test_a_summary_that_drew_on_what_was_changed_is_not_used_and_is_made_anew(new_world: NewWorld, deed: str):
    world = new_world(answer("Then."), answer("Ann's secret."), answer("So."), answer("New notes."),
                      held=True, context_messages=10)  # fmt: skip
    ann, room, history = await long_talk(world)
    await maker(world)()
    changed = history[2].id
    if deed == "edit":
        await world.container.edit_message()(actor=ann, room_id=room.id, message_id=changed, content="something else")
    else:
        await world.container.delete_message()(actor=ann, room_id=room.id, message_id=changed)
    assert await summary_of(world, room) is None
    await world.make(await world.ask(ann, room, "@ai go on"))
    assert "secret" not in str(world.model.asked[2])
    assert await maker(world)() == 1
    assert "message 2" not in texts(world.model.asked[3])
    summary = await summary_of(world, room)
    assert summary is not None
    assert summary.text == "New notes."


async def test_a_message_that_is_deleted_while_it_is_summarised_leaves_no_trace(new_world: NewWorld):
    gate = Gate()
    world = new_world(answer("Then."), [gate, *answer("Ann's secret.")], held=True, context_messages=10)
    ann, room, history = await long_talk(world)
    making = asyncio.create_task(maker(world)())
    await gate.reached()
    await world.container.delete_message()(actor=ann, room_id=room.id, message_id=history[2].id)
    gate.open()
    assert await making == 0
    assert await summary_of(world, room) is None


async def test_whoever_ends_their_account_is_in_no_summary_any_more(new_world: NewWorld):
    world = new_world(answer("Then."), answer("Bob said it."), held=True, context_messages=10)
    bob = await world.person("bob")
    _ann, room, _ = await long_talk(world)
    await world.say(bob, room, "I am here")
    await maker(world)()
    assert await summary_of(world, room) is not None
    await world.container.end_account()(actor=bob, password="correct-horse")
    assert await summary_of(world, room) is None


async def test_a_request_for_a_summary_is_stored_before_it_is_made(new_world: NewWorld):
    gate = Gate()
    usage = Usage(input_tokens=50, output_tokens=5)
    script = [
        AttemptBegins(provider="acme", model="m"),
        gate,
        Text("Notes."),
        End(reason=FinishReason.STOP, usage=usage),
    ]
    world = new_world(answer("Then."), script, held=True, context_messages=10)
    _, room, _ = await long_talk(world)
    making = asyncio.create_task(maker(world)())
    await gate.reached()
    async with world.uow.read() as tx:
        [held] = world.uow._inner._tables.summaries.values()  # type: ignore[attr-defined]
        stored = await tx.summaries.get(held.summary.id)
    assert stored is not None
    assert (stored.requests, stored.provider, stored.model) == (1, "acme", "m")
    gate.open()
    await making
    summary = await summary_of(world, room)
    assert summary is not None
    assert (summary.input_tokens, summary.output_tokens) == (50, 5)


async def test_a_summary_that_fails_is_tried_again_later_and_given_up_in_the_end(new_world: NewWorld):
    world = new_world(answer("Then."), [ModelUnavailable("away")], held=True, context_messages=10)
    await long_talk(world)
    make = maker(world)
    for number in range(FAILURES_MAX):
        assert await make() == 0
        assert len(world.model.asked) == 2 + number
        assert await make() == 0
        assert len(world.model.asked) == 2 + number, "it is not asked again at once"
        world.clock.let_pass(make.patience * 2**number)
    assert await make() == 0
    assert len(world.model.asked) == 1 + FAILURES_MAX


@pytest.mark.parametrize("script", [answer("   "), [End(reason=FinishReason.BLOCKED)]])
async def test_no_summary_is_no_summary(new_world: NewWorld, script: Any):
    world = new_world(answer("Then."), script, held=True, context_messages=10)
    _, room, _ = await long_talk(world)
    assert await maker(world)() == 0
    assert await summary_of(world, room) is None


async def test_a_summary_is_cut_where_it_is_too_long(new_world: NewWorld):
    world = new_world(answer("Then."), answer("n" * 20_000), held=True, context_messages=10)
    _, room, _ = await long_talk(world)
    await maker(world)()
    summary = await summary_of(world, room)
    assert summary is not None
    assert len(summary.text) == SUMMARY_MAX


async def test_one_who_is_cut_off_hands_the_summary_over(new_world: NewWorld):
    gate = Gate()
    world = new_world(answer("Then."), [gate, *answer("Never.")], answer("Notes."), held=True, context_messages=10)
    _, room, _ = await long_talk(world)
    making = asyncio.create_task(maker(world)())
    await gate.reached()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await maker(world)() == 1
    summary = await summary_of(world, room)
    assert summary is not None
    assert summary.text == "Notes."


async def test_a_summary_that_is_on_its_way_is_asked_for_once():
    now = [0.0]
    asked = AskedSummaries(seconds=5.0, monotonic=lambda: now[0])
    room, other, made = RoomId(uuid7()), RoomId(uuid7()), SummaryId(uuid7())
    assert asked.first(room, None)
    assert not asked.first(room, None)
    assert asked.first(other, None)
    assert asked.first(room, made)
    now[0] = 5.0
    assert asked.first(room, made)
    asked.made(room)
    assert asked.first(room, made)

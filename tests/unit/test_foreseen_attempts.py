"""The first request of a reply, on the bill before it is announced."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import pytest
from dependency_injector import providers

from chat_core.domain.reply import ReplyStatus
from chat_core.errors import ModelRefused
from chat_core.ports.language_model import (
    AttemptBegins,
    Conversation,
    End,
    FinishReason,
    ForeseeableModel,
    LanguageModel,
    ReplyPart,
    Text,
    Usage,
)
from chat_core.testing.models import ScriptedModel
from tests.world import World

FORESEEN, OTHER = AttemptBegins(provider="gemini", model="flash"), AttemptBegins(provider="openai", model="large")
STOP = End(reason=FinishReason.STOP, usage=Usage(input_tokens=1, output_tokens=1))


class Foreseeing(LanguageModel, ForeseeableModel):
    def __init__(self, *script: ReplyPart | Exception) -> None:
        self.scripted = ScriptedModel(list(script))

    def foresee(self, conversation: Conversation, /) -> AttemptBegins | None:
        return FORESEEN

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        async for part in self.scripted.stream(conversation):
            yield part


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()


async def answered(world: World, *script: ReplyPart | Exception, at_once: bool):
    """The reply and its attempts, made by a model that was taken to ask ``FORESEEN`` first."""
    model = Foreseeing(*script)
    world.container.model.override(providers.Object(model))
    ann = await world.person("ann")
    room = await world.room(ann)
    sent = await world.container.send_message()(actor=ann, room_id=room.id, content="hi", at_once=at_once)
    assert sent.reply is not None
    reply = (await world.ended(sent.reply.id)).reply
    return sent.reply, reply, await world.attempts(reply)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_as_foreseen_is_on_the_bill_once(world, at_once):
    sent, reply, attempts = await answered(world, FORESEEN, Text("hello"), STOP, at_once=at_once)
    assert reply.status is ReplyStatus.COMPLETE
    assert [(attempt.number, attempt.provider, attempt.outcome) for attempt in attempts] == [(1, "gemini", "stop")]
    assert (reply.attempts, reply.provider, reply.model) == (1, "gemini", "flash")
    assert (sent.status is ReplyStatus.RUNNING) == at_once


@pytest.mark.parametrize("at_once", [True, False])
async def test_one_that_was_not_foreseen_gets_a_row_of_its_own(world, at_once):
    _, reply, attempts = await answered(world, OTHER, Text("hello"), STOP, at_once=at_once)
    assert [(attempt.provider, attempt.outcome) for attempt in attempts] == [("gemini", "not-made"), ("openai", "stop")]
    assert (reply.attempts, reply.provider) == (2, "openai")


@pytest.mark.parametrize("at_once", [True, False])
async def test_where_none_is_made_after_all_its_row_says_why(world, at_once):
    _, reply, attempts = await answered(world, ModelRefused("no"), at_once=at_once)
    assert reply.status is ReplyStatus.FAILED
    assert [(attempt.provider, attempt.outcome) for attempt in attempts] == [("gemini", "provider-refused")]
    assert all(attempt.ended_at is not None for attempt in attempts)


async def test_the_second_request_of_a_reply_is_not_foreseen(world):
    held = World(held=True)
    model = Foreseeing(FORESEEN, Text("hello"), STOP)
    ann = await held.person("ann")
    reply = await held.ask(ann, await held.room(ann), "hi")
    maker = replace(held.maker(lease=0.0), model=model)
    await maker._claim(reply.id)
    await replace(maker, lease=15.0)(reply.id)
    assert [(attempt.number, attempt.epoch, attempt.outcome) for attempt in await held.attempts(reply)] == [
        (1, 1, None),
        (2, 2, "stop"),
    ]
    await held.close()

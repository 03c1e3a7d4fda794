"""The limit to streams at once: first come, first served, and nobody waits for ever."""

import asyncio
from contextlib import aclosing

import pytest

from adapters.llm.attempts import Attempts
from adapters.llm.limit import Slots
from chat_core.errors import ModelError, ModelUnavailable
from chat_core.ports.language_model import AttemptFailed, Conversation, LanguageModel, ReplyPart
from chat_core.testing.models import Gate, ScriptedModel, Step, answer
from chat_core.testing.reading import streaming
from tests.unit.test_model_wrappers import ASKED, BEGINS, Clock, attempts, parts_of

GOOD = answer("good")


def limited(model: ScriptedModel, slots: Slots, clock: Clock | None = None) -> Attempts:
    return attempts(model, clock, slots=slots)


Result = tuple[list[ReplyPart], ModelError | None]


async def waits(model: LanguageModel, slots: Slots, conversation: Conversation = ASKED) -> "asyncio.Task[Result]":
    """A reader of the model that stands in line."""
    task = asyncio.create_task(parts_of(model, conversation))
    await has_waiting(slots, slots.waiting + 1)
    return task


async def has_waiting(slots: Slots, number: int) -> None:
    async with asyncio.timeout(10):
        while slots.waiting < number:  # noqa: ASYNC110 - nothing in it tells who stands in line
            await asyncio.sleep(0)


async def test_no_more_streams_are_open_at_once_than_there_are_slots() -> None:
    gate = Gate()
    inner, slots = ScriptedModel([gate, *GOOD]), Slots(2)
    model = limited(inner, slots)
    tasks = [asyncio.create_task(parts_of(model)) for _ in range(2)]
    tasks += [await waits(model, slots), await waits(model, slots)]
    assert (inner.open_streams, slots.waiting) == (2, 2)
    gate.open()
    assert [await task for task in tasks] == [([BEGINS, *GOOD], None)] * 4
    assert (slots.free, slots.waiting) == (2, 0)


async def test_they_come_in_the_order_in_which_they_stood_in_line() -> None:
    slots = Slots(1)
    assert await slots.take()
    order: list[str] = []

    def telling(name: str) -> Attempts:
        def script(_: Conversation) -> list[Step]:
            order.append(name)
            return GOOD

        return limited(ScriptedModel(script), slots)

    tasks = [await waits(telling(name), slots) for name in "abcd"]
    slots.give_back()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "d"]


async def test_nothing_is_announced_while_it_waits() -> None:
    slots, inner = Slots(1), ScriptedModel(GOOD)
    assert await slots.take()
    async with aclosing(streaming(limited(inner, slots), ASKED)) as stream:
        first = asyncio.ensure_future(anext(stream))
        await has_waiting(slots, 1)
        assert not first.done()
        assert inner.asked == []
        slots.give_back()
        assert await first == BEGINS


async def test_a_line_that_is_full_sends_the_next_away_at_once() -> None:
    slots, inner = Slots(1, waiting_most=1), ScriptedModel(GOOD)
    assert await slots.take()
    task = await waits(limited(inner, slots), slots)
    parts, error = await parts_of(limited(inner, slots))
    assert parts == []
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == 1.0
    assert "p:m is busy" in error.detail and "LLM_CONCURRENCY" in error.detail
    slots.give_back()
    assert (await task)[1] is None


def test_the_line_is_four_times_as_long_as_there_are_slots() -> None:
    assert Slots(3)._waiting_most == 12


async def test_waiting_is_counted_against_the_time_that_is_left() -> None:
    clock, slots, inner = Clock(), Slots(1), ScriptedModel(GOOD)
    assert await slots.take()
    task = await waits(limited(inner, slots, clock), slots)
    clock.time += 20
    slots.give_back()
    await task
    assert [conversation.seconds_left for conversation in inner.asked] == [40.0]


async def test_without_a_turn_in_the_time_that_is_left_it_is_busy() -> None:
    slots, inner = Slots(1), ScriptedModel(GOOD)
    assert await slots.take()
    parts, error = await parts_of(limited(inner, slots), Conversation(turns=ASKED.turns, seconds_left=0.0))
    assert parts == []
    assert type(error) is ModelUnavailable
    assert (inner.asked, slots.waiting, slots.free) == ([], 0, 0)


async def test_one_that_is_cancelled_leaves_the_line() -> None:
    slots, inner = Slots(1), ScriptedModel(GOOD)
    assert await slots.take()
    leaving, staying = await waits(limited(inner, slots), slots), await waits(limited(inner, slots), slots)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert slots.waiting == 1
    slots.give_back()
    assert (await staying)[1] is None
    assert (slots.free, slots.waiting, len(inner.asked)) == (1, 0, 1)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_turn_that_comes_as_one_is_cancelled_goes_to_the_next(cancelled_first: bool) -> None:
    slots, inner = Slots(1), ScriptedModel(GOOD)
    assert await slots.take()
    leaving, staying = await waits(limited(inner, slots), slots), await waits(limited(inner, slots), slots)
    if cancelled_first:
        leaving.cancel()
        slots.give_back()
    else:
        slots.give_back()
        leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await staying)[1] is None
    assert (slots.free, slots.waiting, len(inner.asked)) == (1, 0, 1)


async def test_between_two_attempts_it_keeps_no_slot() -> None:
    slots, inner = Slots(1), ScriptedModel([ModelUnavailable("away")], GOOD)
    free: list[int] = []
    async with aclosing(limited(inner, slots).stream(ASKED)) as stream:
        async for part in stream:
            if part == BEGINS or isinstance(part, AttemptFailed):
                free.append(slots.free)
    assert free == [0, 1, 0]
    assert slots.free == 1


@pytest.mark.parametrize("step", [ModelUnavailable(), ModelError(), RuntimeError(), Gate()])
async def test_however_a_stream_ends_its_slot_comes_back(step: Step) -> None:
    slots, inner = Slots(1), ScriptedModel([*GOOD[:1], step])
    stream = limited(inner, slots).stream(ASKED)
    assert [await anext(stream), await anext(stream)] == [BEGINS, GOOD[0]]
    assert slots.free == 0
    await stream.aclose()
    assert (slots.free, inner.open_streams) == (1, 0)
    if not isinstance(step, Gate):
        try:
            await parts_of(limited(inner, slots))
        except RuntimeError:
            pass
        assert (slots.free, inner.open_streams) == (1, 0)

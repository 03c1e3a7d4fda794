"""The circuit breaker: what opens it, what does not, and what it lets through when."""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import pytest

from adapters.llm.attempts import Attempts
from adapters.llm.breaker import Circuit
from adapters.llm.chain import Chain
from adapters.llm.limit import Slots
from chat_core.errors import (
    ModelBadAnswer,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    PromptTooLong,
)
from chat_core.ports.language_model import AttemptBegins, AttemptFailed, End, FinishReason, LanguageModel, Text
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import _check_model, build_model
from entrypoints.settings import Settings
from tests.unit.test_model_wrappers import ASKED, BEGINS, Clock, attempts, parts_of

DOWN = [ModelUnavailable("away")]
GOOD = answer("good")


class Tried:
    """A model that follows its scripts, one request for each stream, behind a breaker whose clock we hold."""

    def __init__(self, *scripts: Any, requests_max: int = 1) -> None:
        self.clock = Clock()
        self.inner = ScriptedModel(*scripts)
        self.circuit = Circuit("p:m", clock=self.clock, uniform=lambda low, high: high)
        self.model = attempts(self.inner, self.clock, requests_max=requests_max, circuit=self.circuit)

    async def ask(self, times: int = 1) -> ModelError | None:
        error = None
        for _ in range(times):
            _, error = await parts_of(self.model)
        return error

    @property
    def made(self) -> int:
        return len(self.inner.asked)


async def open_one(*then: Any) -> Tried:
    tried = Tried(*[DOWN] * 5, *then)
    await tried.ask(5)
    assert tried.circuit.is_open
    return tried


@pytest.mark.parametrize("kind", [ModelUnavailable, ModelTimedOut, ModelInterrupted, ModelBadAnswer])
async def test_five_failures_in_a_row_open_it(kind: type[ModelError]) -> None:
    tried = Tried([kind()])
    await tried.ask(4)
    assert not tried.circuit.is_open
    await tried.ask()
    assert tried.circuit.is_open


async def test_half_of_the_last_twenty_open_it_though_never_five_are_in_a_row() -> None:
    tried = Tried(*[DOWN, GOOD] * 20)
    await tried.ask(19)
    assert not tried.circuit.is_open
    await tried.ask(2)
    assert tried.circuit.is_open


async def test_fewer_than_half_do_not() -> None:
    tried = Tried(*[DOWN, GOOD, GOOD] * 30)
    await tried.ask(90)
    assert not tried.circuit.is_open


@pytest.mark.parametrize(
    "answered",
    [[ModelRefused()], [PromptTooLong()], [End(reason=FinishReason.BLOCKED)], [Text("a"), *answer()]],
)
async def test_refusals_and_blocks_are_answers(answered: Any) -> None:
    tried = Tried(answered)
    await tried.ask(30)
    assert tried.made == 30
    mixed = Tried(*[DOWN] * 4, answered, *[DOWN] * 4, GOOD)
    await mixed.ask(9)
    assert not mixed.circuit.is_open


async def test_streams_that_are_closed_before_their_end_are_no_failures() -> None:
    tried = Tried([Text("some"), Gate()])
    for _ in range(30):
        async with aclosing(tried.model.stream(ASKED)) as stream:
            assert [await anext(stream), await anext(stream)] == [BEGINS, Text("some")]
    assert not tried.circuit.is_open
    assert tried.inner.open_streams == 0


async def test_our_own_faults_are_no_failures_of_the_model() -> None:
    tried = Tried([RuntimeError("ours")])
    for _ in range(30):
        with pytest.raises(RuntimeError):
            await tried.ask()
    assert not tried.circuit.is_open


async def test_open_it_raises_at_once_and_announces_nothing() -> None:
    tried = await open_one(GOOD)
    tried.clock.time += 4
    parts, error = await parts_of(tried.model)
    assert parts == []
    assert type(error) is ModelUnavailable
    assert error.retry_after == 6.0
    assert tried.made == 5


async def test_every_request_of_a_stream_counts_and_none_is_tried_again_once_it_is_open() -> None:
    tried = Tried(DOWN, requests_max=3)
    await tried.ask()
    assert (tried.made, tried.clock.sleeps) == (3, [0.5, 1.0])
    parts, error = await parts_of(tried.model)
    failed = AttemptFailed(code="provider-unavailable", detail="away")
    assert parts == [BEGINS, failed, BEGINS, failed]
    assert error is not None and "circuit is open" in error.detail
    assert (tried.made, tried.clock.sleeps) == (5, [0.5, 1.0, 0.5])


async def test_after_its_cool_down_one_probe_closes_it() -> None:
    gate = Gate()
    tried = await open_one([gate, *GOOD], GOOD)
    tried.clock.time += 10
    async with aclosing(tried.model.stream(ASKED)) as probe:
        assert await anext(probe) == BEGINS
        beside, error = await parts_of(tried.model)
        assert beside == []
        assert isinstance(error, ModelUnavailable) and error.retry_after == 1.0
        gate.open()
        assert [part async for part in probe] == GOOD
    assert not tried.circuit.is_open
    assert await tried.ask() is None


async def test_a_probe_that_fails_doubles_the_cool_down_up_to_a_minute() -> None:
    tried = await open_one()
    waits: list[float | None] = []
    for _ in range(5):
        error = await tried.ask()
        assert isinstance(error, ModelUnavailable)
        waits.append(error.retry_after)
        tried.clock.time += error.retry_after or 0
        await tried.ask()
    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert tried.made == 10


async def test_once_it_was_closed_the_cool_down_is_short_again() -> None:
    tried = await open_one(DOWN, GOOD, DOWN)
    tried.clock.time += 10
    await tried.ask()
    tried.clock.time += 20
    await tried.ask()
    assert not tried.circuit.is_open
    error = await tried.ask(6)
    assert isinstance(error, ModelUnavailable) and error.retry_after == 10.0


async def test_a_probe_whose_reader_leaves_makes_room_for_the_next() -> None:
    tried = await open_one([Text("some"), Gate()], GOOD)
    tried.clock.time += 10
    stream = tried.model.stream(ASKED)
    assert [await anext(stream), await anext(stream)] == [BEGINS, Text("some")]
    await stream.aclose()
    assert tried.circuit.is_open
    assert await tried.ask() is None
    assert not tried.circuit.is_open


async def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    fine, broken = Gate(), Gate()
    tried = Tried([fine, *GOOD], [broken, ModelUnavailable()], DOWN)
    async with aclosing(tried.model.stream(ASKED)) as one, aclosing(tried.model.stream(ASKED)) as two:
        # Begun, in the order of the scripts; neither has an outcome yet.
        assert [await anext(one), await anext(two)] == [BEGINS, BEGINS]
        fine.open()
        first = await anext(one)
        broken.open()
        await tried.ask(5)
        assert first == Text("good")
        assert tried.circuit.is_open
        assert [part async for part in one] == GOOD[1:]
        assert tried.circuit.is_open
        with pytest.raises(ModelUnavailable):
            await anext(two)
    error = await tried.ask()
    assert isinstance(error, ModelUnavailable) and error.retry_after == 10.0


async def test_many_processes_do_not_probe_at_the_same_time() -> None:
    asked: list[tuple[float, float]] = []

    def low(least: float, most: float) -> float:
        asked.append((least, most))
        return least

    circuit = Circuit("p:m", clock=Clock(), uniform=low)
    for _ in range(5):
        circuit.failed(circuit.begin())
    with pytest.raises(ModelUnavailable) as raised:
        circuit.begin()
    assert raised.value.retry_after == 8.0
    assert asked == [(0.8, 1.0)]


async def test_it_is_logged_once_that_it_opens_and_once_that_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="adapters.llm.breaker"):
        tried = await open_one(DOWN, DOWN, GOOD)
        for wait in (0, 10, 20, 40):
            tried.clock.time += wait
            await tried.ask(3)
    opened, closed = (record.getMessage() for record in caplog.records if record.name == "adapters.llm.breaker")
    assert "p:m keeps failing (5 in a row" in opened and "LLM" in opened
    assert "p:m answers again" in closed and "LLM" in closed


async def test_in_a_chain_the_next_model_is_asked_at_once() -> None:
    tried = await open_one()
    clock, second = tried.clock, ScriptedModel(GOOD)
    chain = Chain([tried.model, attempts(second, clock, provider="q")], clock=clock)
    parts, error = await parts_of(chain)
    assert error is None
    # Nothing was begun that could have failed.
    assert parts == [AttemptBegins(provider="q", model="m"), *GOOD]
    assert (tried.made, clock.sleeps) == (5, [])


async def test_a_failure_that_opens_it_is_told_once_to_the_chain() -> None:
    tried = Tried(DOWN, requests_max=3)
    await tried.ask()
    tried.circuit.failed(tried.circuit.begin())
    chain = Chain([tried.model, attempts(ScriptedModel(GOOD), tried.clock, provider="q")], clock=tried.clock)
    parts, _ = await parts_of(chain)
    failed = AttemptFailed(code="provider-unavailable", detail="away")
    assert parts == [BEGINS, failed, AttemptBegins(provider="q", model="m"), *GOOD]


async def test_what_stood_in_line_is_not_asked_when_it_has_opened_meanwhile() -> None:
    clock, slots, inner = Clock(), Slots(1), ScriptedModel(GOOD)
    circuit = Circuit("p:m", clock=clock, uniform=lambda low, high: high)
    model: LanguageModel = attempts(inner, clock, circuit=circuit, slots=slots)
    assert await slots.take()
    era = circuit.begin()

    def opens(_: float | None) -> Any:
        # The place where it waits: the circuit opens, and then its turn comes.
        for _ in range(5):
            circuit.failed(era)
        slots.give_back()
        return asyncio.timeout(None)

    waiting = attempts(inner, clock, circuit=circuit, slots=slots, timeout=opens)
    parts, error = await parts_of(waiting)
    assert parts == []
    assert isinstance(error, ModelUnavailable)
    assert (inner.asked, slots.free) == ([], 1)
    _, error = await parts_of(model)
    assert isinstance(error, ModelUnavailable)


async def test_readiness_says_which_circuit_is_open() -> None:
    model = build_model(Settings(llm="gemini:m", environ={"GEMINI_API_KEY": "k"}))
    link = model._own._models[0]
    assert isinstance(link, Attempts)
    assert (await _check_model(model)).status == "ok"
    assert link._circuit is not None
    for _ in range(5):
        link._circuit.failed(link._circuit.begin())
    part = await _check_model(model)
    assert (part.status, part.detail) == ("down", "failing: gemini:m (circuit open)")


async def test_a_model_has_one_circuit_in_all_chains() -> None:
    environ = {"GEMINI_API_KEY": "k"}
    model = build_model(Settings(llm="gemini:a,gemini:b", llm_offered=("gemini:b",), environ=environ))
    in_chain, offered = model._own._models[1], model._by_name["gemini:b"]._models[0]
    assert isinstance(in_chain, Attempts)
    assert isinstance(offered, Attempts)
    assert in_chain._circuit is offered._circuit

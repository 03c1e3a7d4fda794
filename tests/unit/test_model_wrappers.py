"""Deadlines, attempts, chains and choices, without a network and without waiting."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.llm.attempts import Attempts, Record
from adapters.llm.budget import RetryBudget
from adapters.llm.chain import Chain
from adapters.llm.choice import Choice
from adapters.llm.deadlines import Deadlines
from adapters.llm.registry import ModelName, Providers, build
from chat_core.errors import (
    ModelBadAnswer,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    PromptTooLong,
)
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    ModelCheck,
    ReplyPart,
    Text,
    Thinking,
    Turn,
    TurnRole,
    Usage,
)
from chat_core.testing.models import Gate, ScriptedModel, answer
from chat_core.testing.reading import streaming

ASKED = Conversation(turns=(Turn(role=TurnRole.USER, parts=("a secret plan",)),), seconds_left=60.0)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Clock:
    """Time that passes when it is told to; a sleep takes none."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds


def attempts(model: LanguageModel, clock: Clock | None = None, provider: str = "p", **more: Any) -> Attempts:
    clock = clock or Clock()
    return Attempts(
        model,
        provider=provider,
        model_name="m",
        clock=clock,
        sleep=clock.sleep,
        uniform=lambda low, high: high,
        now=lambda: NOW,
        **more,
    )


async def parts_of(
    model: LanguageModel, conversation: Conversation = ASKED
) -> tuple[list[ReplyPart], ModelError | None]:
    parts: list[ReplyPart] = []
    try:
        async with aclosing(streaming(model, conversation)) as stream:
            async for part in stream:
                parts.append(part)
    except ModelError as error:
        return parts, error
    return parts, None


BEGINS = AttemptBegins(provider="p", model="m")


class TestDeadlines:
    async def test_silence_ends_the_stream_and_closes_the_inner_one(self) -> None:
        inner = ScriptedModel([Text("some"), Gate()])
        parts, error = await parts_of(Deadlines(inner, timeout=lambda seconds: asyncio.timeout(0)))
        assert parts == [Text("some")]
        assert isinstance(error, ModelTimedOut)
        assert error.detail == "no part for 20 s"
        assert inner.open_streams == 0

    async def test_the_first_part_has_a_limit_of_its_own(self) -> None:
        waits: list[float] = []

        def timeout(seconds: float) -> asyncio.Timeout:
            waits.append(seconds)
            return asyncio.timeout(None)

        await parts_of(Deadlines(ScriptedModel(answer("a", "b")), first=60, silence=5, clock=Clock(), timeout=timeout))
        assert waits == [60.0, 5.0, 5.0]

    async def test_every_part_is_waited_for_anew(self) -> None:
        waits: list[float] = []

        def timeout(seconds: float) -> asyncio.Timeout:
            waits.append(seconds)
            return asyncio.timeout(None)

        clock = Clock()
        inner = ScriptedModel([Thinking(), Thinking(), *answer("ok")])
        async with aclosing(Deadlines(inner, clock=clock, timeout=timeout).stream(ASKED)) as stream:
            async for _ in stream:
                clock.time += 15
        assert waits == [20.0, 20.0, 20.0, 15.0]

    async def test_the_whole_has_a_limit_whatever_comes(self) -> None:
        clock = Clock()
        inner = ScriptedModel([Thinking()] * 100)
        count = 0
        with pytest.raises(ModelTimedOut, match="no end after 60 s"):
            async with aclosing(Deadlines(inner, clock=clock).stream(ASKED)) as stream:
                async for _ in stream:
                    count += 1
                    clock.time += 19
        assert count == 4
        assert inner.open_streams == 0

    async def test_closing_it_closes_the_inner_stream(self) -> None:
        inner = ScriptedModel([Text("some"), Gate()])
        stream = Deadlines(inner).stream(ASKED)
        await anext(stream)
        await stream.aclose()
        assert inner.open_streams == 0


class TestAttempts:
    async def test_a_request_is_announced_before_it_is_made(self) -> None:
        inner = ScriptedModel()
        stream = attempts(inner).stream(ASKED)
        assert await anext(stream) == BEGINS
        assert inner.asked == []
        await stream.aclose()
        assert inner.asked == []

    @pytest.mark.parametrize("kind", [ModelUnavailable, ModelTimedOut, ModelInterrupted])
    async def test_what_may_work_later_is_tried_again(self, kind: type[ModelUnavailable]) -> None:
        broken = kind("why")
        broken.usage = Usage(input_tokens=3)
        clock = Clock()
        parts, error = await parts_of(attempts(ScriptedModel([Text("so"), broken], answer("good")), clock))
        assert error is None
        failed = AttemptFailed(code=kind.code, usage=Usage(input_tokens=3), detail="why")
        assert parts == [BEGINS, Text("so"), failed, BEGINS, *answer("good")]
        assert clock.sleeps == [0.5]

    async def test_there_are_three_requests_and_no_more(self) -> None:
        inner, clock = ScriptedModel([ModelUnavailable("last")]), Clock()
        parts, error = await parts_of(attempts(inner, clock))
        assert [part for part in parts if isinstance(part, AttemptBegins)] == [BEGINS] * 3
        assert isinstance(error, ModelUnavailable)
        assert not isinstance(parts[-1], AttemptFailed)
        assert len(inner.asked) == 3
        assert clock.sleeps == [0.5, 1.0]

    async def test_requests_of_earlier_makers_count_for_their_provider(self) -> None:
        inner = ScriptedModel([ModelUnavailable()])
        earlier = ("p:m", "p:other", "q:m", "q:m")
        await parts_of(attempts(inner), Conversation(turns=ASKED.turns, attempts=earlier))
        assert len(inner.asked) == 1

    async def test_with_no_request_left_none_is_made_or_announced(self) -> None:
        inner = ScriptedModel()
        parts, error = await parts_of(attempts(inner), Conversation(turns=ASKED.turns, attempts=("p:m",) * 3))
        assert parts == []
        assert isinstance(error, ModelUnavailable)
        assert inner.asked == []

    @pytest.mark.parametrize("kind", [ModelRefused, PromptTooLong, ModelBadAnswer])
    async def test_what_will_not_change_is_raised_at_once(self, kind: type[ModelError]) -> None:
        inner = ScriptedModel([kind()])
        parts, error = await parts_of(attempts(inner))
        assert parts == [BEGINS]
        assert type(error) is kind

    async def test_the_provider_says_how_long_to_wait(self) -> None:
        clock = Clock()
        inner = ScriptedModel([ModelUnavailable(retry_after=7)], answer("good"))
        _, error = await parts_of(attempts(inner, clock))
        assert error is None
        assert clock.sleeps == [7.5]

    async def test_a_wait_beyond_the_time_that_is_left_is_not_begun(self) -> None:
        clock = Clock()
        inner = ScriptedModel([ModelUnavailable(retry_after=60)])
        parts, error = await parts_of(attempts(inner, clock))
        assert isinstance(error, ModelUnavailable)
        assert parts == [BEGINS]
        assert clock.sleeps == []

    async def test_each_request_is_told_the_time_that_is_left(self) -> None:
        inner = ScriptedModel([ModelUnavailable(retry_after=9.5)], answer("good"))
        await parts_of(attempts(inner))
        assert [conversation.seconds_left for conversation in inner.asked] == [60.0, 50.0]

    async def test_an_empty_answer_passes(self) -> None:
        parts, error = await parts_of(attempts(ScriptedModel(answer())))
        assert error is None
        assert parts == [BEGINS, *answer()]

    async def test_closing_it_closes_the_inner_stream(self) -> None:
        inner = ScriptedModel([Text("some"), Gate()])
        stream = attempts(Deadlines(inner)).stream(ASKED)
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        assert inner.opened == 1
        assert inner.open_streams == 0

    async def test_cancelling_a_wait_ends_it(self) -> None:
        gate = Gate()
        inner = ScriptedModel([ModelUnavailable()])
        model = Attempts(inner, provider="p", model_name="m", sleep=lambda seconds: gate.pass_through())
        task = asyncio.create_task(parts_of(model))
        await gate.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inner.opened == 1

    async def test_it_remembers_how_the_last_requests_went(self) -> None:
        model = attempts(ScriptedModel([ModelUnavailable()], [ModelTimedOut()], answer("good"), [ModelRefused()]))
        assert model.health == Record()
        await parts_of(model)
        assert (model.health.last_success, model.health.last_code) == (NOW, "provider-timeout")
        assert model.health.consecutive_failures == 0
        await parts_of(model)
        assert (model.health.last_failure, model.health.last_code) == (NOW, "provider-refused")
        assert model.health.consecutive_failures == 1

    async def test_a_success_counts_for_a_reader_who_leaves_at_the_end(self) -> None:
        model = attempts(ScriptedModel([ModelRefused()], answer("good")))
        await parts_of(model)
        async with aclosing(model.stream(ASKED)) as stream:
            async for part in stream:
                if isinstance(part, End):
                    break
        assert (model.health.last_success, model.health.consecutive_failures) == (NOW, 0)

    async def test_the_log_says_what_to_change_and_nothing_that_was_said(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            await parts_of(attempts(ScriptedModel([ModelRefused("p:m: HTTP 404")])))
        assert "p:m failed (provider-refused, 1 in a row): p:m: HTTP 404" in caplog.text
        assert "LLM" in caplog.text
        assert "secret plan" not in caplog.text


class TestRetryBudget:
    def test_retries_are_a_fifth_of_the_requests_and_ten_more(self) -> None:
        budget = RetryBudget(clock=Clock())
        assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]
        for _ in range(10):
            budget.count_request()
        assert [budget.take_retry() for _ in range(3)] == [True, True, False]

    def test_a_minute_later_it_is_fresh(self) -> None:
        clock = Clock()
        budget = RetryBudget(clock=clock)
        for _ in range(10):
            budget.take_retry()
        clock.time += 59
        assert not budget.take_retry()
        clock.time += 1
        assert budget.take_retry()

    def test_it_keeps_no_more_for_many_requests_than_for_few(self) -> None:
        clock = Clock()
        budget = RetryBudget(clock=clock)
        for _ in range(1000):
            clock.time += 1
            for _ in range(5):
                budget.count_request()
        assert len(budget._seconds) == 60
        assert sum(budget.take_retry() for _ in range(1000)) == 10 + 60

    async def test_in_an_outage_there_is_hardly_more_than_what_was_asked_for(self) -> None:
        clock, inner = Clock(), ScriptedModel([ModelUnavailable("away")])
        model = attempts(inner, clock, budget=RetryBudget(clock=lambda: 0.0))
        for _ in range(100):
            await parts_of(model)
        parts, error = await parts_of(model)
        assert len(inner.asked) == 131
        # When it is used up the error is raised, and nothing is waited for.
        assert parts == [BEGINS]
        assert error is not None and error.detail == "away"

    async def test_what_is_answered_uses_nothing_up(self) -> None:
        budget = RetryBudget(clock=Clock())
        model = attempts(ScriptedModel(), budget=budget)
        for _ in range(50):
            await parts_of(model)
        assert sum(budget.take_retry() for _ in range(100)) == 20


class TestChain:
    async def test_the_next_model_takes_over(self) -> None:
        first, second = ScriptedModel([Text("so"), ModelInterrupted("cut")]), ScriptedModel(answer("good"))
        chain = Chain([attempts(first, requests_max=1), attempts(second, provider="q")])
        parts, error = await parts_of(chain)
        assert error is None
        failed = AttemptFailed(code="provider-interrupted", detail="cut")
        begins = AttemptBegins(provider="q", model="m")
        assert parts == [BEGINS, Text("so"), failed, begins, *answer("good")]

    async def test_it_may_be_told_to_take_over_only_before_there_is_text(self) -> None:
        second = ScriptedModel(answer("good"))
        cut = ScriptedModel([Text("so"), ModelInterrupted("cut")])
        chain = Chain([attempts(cut, requests_max=1), attempts(second, provider="q")], midway=False)
        parts, error = await parts_of(chain)
        assert parts == [BEGINS, Text("so")]
        assert isinstance(error, ModelInterrupted)
        assert second.asked == []
        early = ScriptedModel([ModelInterrupted("cut")])
        chain = Chain([attempts(early, requests_max=1), attempts(second, provider="q")], midway=False)
        parts, error = await parts_of(chain)
        assert error is None
        assert parts[-2:] == answer("good")

    @pytest.mark.parametrize("kind", [ModelRefused, ModelBadAnswer])
    async def test_it_takes_over_from_one_that_refuses_or_cannot_be_read_too(self, kind: type[ModelError]) -> None:
        chain = Chain([attempts(ScriptedModel([kind()])), attempts(ScriptedModel(answer("good")), provider="q")])
        parts, error = await parts_of(chain)
        assert error is None
        assert parts[-2:] == answer("good")

    async def test_a_prompt_that_is_too_long_is_raised_at_once(self) -> None:
        second = ScriptedModel()
        _, error = await parts_of(Chain([attempts(ScriptedModel([PromptTooLong()])), attempts(second, provider="q")]))
        assert type(error) is PromptTooLong
        assert second.asked == []

    async def test_two_models_of_one_provider_share_its_requests(self) -> None:
        first, second = ScriptedModel([ModelUnavailable()]), ScriptedModel([ModelUnavailable("the end")])
        _, error = await parts_of(Chain([attempts(first, requests_max=1), attempts(second)]))
        assert error is not None and error.detail == "the end"
        assert (len(first.asked), len(second.asked)) == (1, 2)

    async def test_a_model_without_requests_left_is_passed_over_in_silence(self) -> None:
        first, second = ScriptedModel(), ScriptedModel(answer("good"))
        chain = Chain([attempts(first, requests_max=1), attempts(second, provider="q")])
        parts, _ = await parts_of(chain, Conversation(turns=ASKED.turns, attempts=("p:m",)))
        assert parts == [AttemptBegins(provider="q", model="m"), *answer("good")]
        assert first.asked == []

    async def test_all_share_the_time(self) -> None:
        clock = Clock()

        def slow(conversation: Conversation) -> Iterable[ModelError]:
            clock.time += 25
            return [ModelUnavailable()]

        second = ScriptedModel(answer("good"))
        chain = Chain(
            [attempts(ScriptedModel(slow), clock, requests_max=1), attempts(second, clock, provider="q")],
            clock=clock,
        )
        await parts_of(chain)
        assert second.asked[0].seconds_left == 35.0

    async def test_health_is_told_for_each(self) -> None:
        chain = Chain([attempts(ScriptedModel()), attempts(ScriptedModel(), provider="q")])
        await parts_of(chain)
        assert [record.last_success for record in chain.health.values()] == [NOW, None]
        assert list(chain.health) == ["p:m", "q:m"]


class TestChoice:
    async def test_the_room_chooses_among_what_is_offered(self) -> None:
        own, other = ScriptedModel(), ScriptedModel()
        choice = Choice(Chain([attempts(own)]), {"q:m": Chain([attempts(other, provider="q")])})
        assert choice.offered == ("p:m", "q:m")
        await parts_of(choice, Conversation(turns=ASKED.turns, model="q:m"))
        assert (len(own.asked), len(other.asked)) == (0, 1)
        await parts_of(choice)
        await parts_of(choice, Conversation(turns=ASKED.turns, model="p:m"))
        assert (len(own.asked), len(other.asked)) == (2, 1)

    async def test_what_is_not_offered_is_refused_without_a_request(self) -> None:
        own = ScriptedModel()
        choice = Choice(Chain([attempts(own)]), {})
        _, error = await parts_of(choice, Conversation(turns=ASKED.turns, model="x:y"))
        assert isinstance(error, ModelRefused)
        assert own.asked == []


@dataclass
class Point:
    name: str
    loaded: int = 0

    def load(self) -> Any:
        self.loaded += 1
        return lambda model, environ: ScriptedModel(answer(f"{self.name} {model}"))


class TestRegistry:
    def providers(self, *points: Point) -> Providers:
        return Providers(lambda: points)

    async def test_only_the_provider_that_is_named_is_loaded(self) -> None:
        one, two = Point("one"), Point("two")
        providers = self.providers(two, one)
        assert providers.installed() == ("one", "two")
        model = build("one:a:b", {}, providers=providers)
        parts, _ = await parts_of(model)
        assert parts[:2] == [AttemptBegins(provider="one", model="a:b"), Text("one a:b")]
        assert (one.loaded, two.loaded) == (1, 0)

    async def test_an_unknown_provider_is_refused_with_the_names_of_those_there_are(self) -> None:
        with pytest.raises(ValueError, match=r"LLM names the provider 'three'.*installed: one, two"):
            build("three:x", {}, providers=self.providers(Point("two"), Point("one")))

    @pytest.mark.parametrize("llm", ["", " , ", ":model"])
    async def test_what_names_no_model_is_refused(self, llm: str) -> None:
        with pytest.raises(ValueError, match=r"gemini:gemini-3\.8-flash"):
            build(llm, {}, providers=self.providers(Point("one")))

    async def test_a_list_is_a_chain_and_the_rest_is_offered(self) -> None:
        providers = self.providers(Point("one"), Point("two"))
        model = build("one:a, two:b", {}, offered=["one:c", "one:a"], providers=providers)
        assert list(model.health) == ["one:a", "two:b", "one:c"]
        assert model.offered == ("one:a", "one:c")

    def test_a_provider_with_one_model_needs_no_model_name(self) -> None:
        assert ModelName.parse("echo") == ModelName("echo", "")
        model = build("echo", {}, providers=self.providers(Point("echo")))
        assert list(model.health) == ["echo:echo"]

    async def test_what_is_built_can_be_asked_and_closed(self) -> None:
        model = build("one:a", {}, providers=self.providers(Point("one")))
        assert (await model.check()).check is ModelCheck.UNKNOWN
        await model.aclose()
        await model.aclose()


def test_a_part_is_what_it_says() -> None:
    steps: Sequence[object] = answer("a")
    assert steps == [Text("a"), End(reason=FinishReason.STOP, usage=Usage(input_tokens=7, output_tokens=1))]

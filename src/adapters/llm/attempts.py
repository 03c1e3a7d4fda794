"""Requests that are tried again, each announced before it is made; and a record of how the last ones went.

What decides whether, and when, a request is made is asked here and not by layers around it: each part of an answer
passes each layer.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from adapters.llm.breaker import Circuit
from adapters.llm.budget import RetryBudget
from adapters.llm.limit import Slots
from adapters.llm.wrapping import Wrapper
from chat_core.errors import ModelBadAnswer, ModelError, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    Conversation,
    End,
    LanguageModel,
    ReplyPart,
)
from chat_core.values import value

REQUESTS_MAX = 3
BACKOFF_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 8.0
TOTAL_SECONDS = 300.0
#: What is asked of whoever finds it busy.
BUSY_SECONDS = 1.0

_log = logging.getLogger(__name__)


@value(kw_only=True)
class Record:
    """How a model's requests went of late: what readiness goes by, without asking the provider anything."""

    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_code: str | None = None
    consecutive_failures: int = 0
    circuit_open: bool = False


class _Permit:
    """To make one request; it holds a slot, and owes the circuit a word on how the request went."""

    __slots__ = ("_circuit", "_era", "_slots")

    def __init__(self, circuit: Circuit | None, slots: Slots | None) -> None:
        """Has the slot already; gives it back where the circuit refuses."""
        self._circuit, self._slots = circuit, slots
        self._era: int | None = None
        if circuit is not None:
            try:
                self._era = circuit.begin()
            except ModelUnavailable:
                self.end()
                raise

    def answered(self) -> None:
        self._settle(Circuit.answered)

    def failed(self, error: ModelError) -> None:
        if isinstance(error, (ModelUnavailable, ModelBadAnswer)):
            self._settle(Circuit.failed)
        elif isinstance(error, ModelRefused):
            self._settle(Circuit.answered)

    def end(self) -> None:
        self._settle(Circuit.left)
        if self._slots is not None:
            self._slots.give_back()

    def _settle(self, tell: Callable[[Circuit, int], None]) -> None:
        if self._circuit is not None and self._era is not None:
            tell(self._circuit, self._era)
            self._era = None


class Attempts(Wrapper):
    """Yields ``AttemptBegins`` before each request and makes it when the next part is asked for.

    After ``ModelUnavailable`` and its kinds, also in the middle, ``AttemptFailed`` follows and then another request: at
    most ``requests_max`` to ``provider``, counted with those in ``conversation.attempts``. Between two it waits for as
    long as the provider wished, and a random while on top that grows from one to the next (full jitter). Where the wait
    would be longer than ``seconds_left``, no request is left, or ``budget`` is used up, the last error is raised. Other
    errors are raised at once. An end without text is no failure here.

    Before a request is announced, and so while it is on no bill, it waits for one of ``slots``, which it has until it
    has ended, and then ``circuit`` has to let it: for one that stood in line goes by how the model is when its turn
    comes. Where either does not, ``ModelUnavailable`` is raised, so that the next model of a chain may help. Of a
    request ``ModelUnavailable`` and its kinds and ``ModelBadAnswer`` speak against the model; a block and a refusal are
    answers; a stream that is closed before its end is neither.

    ``clock`` gives seconds, ``now`` the time of day for the record, ``uniform`` a random number between two;
    ``timeout`` is what ``asyncio.timeout`` is.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        provider: str,
        model_name: str,
        requests_max: int = REQUESTS_MAX,
        budget: RetryBudget | None = None,
        circuit: Circuit | None = None,
        slots: Slots | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
    ) -> None:
        super().__init__(model)
        self.provider, self.model_name = provider, model_name
        self._requests_max = requests_max
        self._budget = budget or RetryBudget()
        self._circuit, self._slots = circuit, slots
        self._clock, self._sleep, self._uniform, self._now, self._timeout = clock, sleep, uniform, now, timeout
        self._record = Record()

    @property
    def name(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model_name}"

    @property
    def ready(self) -> bool:
        """Whether a request would be made at once."""
        return not self._is_open and (self._slots is None or self._slots.free > 0)

    @property
    def health(self) -> Record:
        return replace(self._record, circuit_open=self._is_open)

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        # Before anything stands in line for a model that is not asked.
        self._refuse_if_open()
        clock = self._clock or asyncio.get_running_loop().time
        left = TOTAL_SECONDS if conversation.seconds_left is None else conversation.seconds_left
        end = clock() + left
        made = sum(name.partition(":")[0] == self.provider for name in conversation.attempts)
        if made >= self._requests_max:
            raise ModelUnavailable(f"{self.name}: no request is left of {self._requests_max}")
        tries = 0
        while True:
            made, tries = made + 1, tries + 1
            permit = await self._permit(end - clock())
            try:
                yield AttemptBegins(provider=self.provider, model=self.model_name)
                if tries == 1:
                    self._budget.count_request()
                async with aclosing(self._begin(replace(conversation, seconds_left=end - clock()))) as parts:
                    async for part in parts:
                        if isinstance(part, End):
                            # Now, for a reader that has the end asks for nothing more.
                            self._succeeded()
                            permit.answered()
                        yield part
                return
            except ModelError as error:
                self._failed(error)
                permit.failed(error)
                if not isinstance(error, ModelUnavailable) or made >= self._requests_max:
                    raise
                wait = error.retry_after or 0.0
                wait += self._uniform(0.0, min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2 ** (tries - 1)))
                if wait >= end - clock() or not self._budget.take_retry():
                    raise
                failed = AttemptFailed(code=error.code, usage=error.usage, detail=error.detail)
            finally:
                # The provider's connection is closed by now: until then the slot is in use.
                permit.end()
            yield failed
            # Where this failure opened it there is nothing to wait for: the next model is asked at once.
            self._refuse_if_open()
            await self._sleep(wait)

    @property
    def _is_open(self) -> bool:
        return self._circuit is not None and self._circuit.is_open

    def _refuse_if_open(self) -> None:
        if self._circuit is not None:
            self._circuit.refuse_if_open()

    async def _permit(self, seconds: float) -> _Permit:
        slots = self._slots
        if slots is not None and not (seconds > 0 and slots.take_at_once()):
            try:
                async with self._timeout(seconds):
                    taken = await slots.take()
            except TimeoutError as error:
                raise self._busy("no turn within the time that was left") from error
            if not taken:
                raise self._busy("too many wait for it")
        return _Permit(self._circuit, slots)

    def _busy(self, why: str) -> ModelUnavailable:
        return ModelUnavailable(f"{self.name} is busy: {why} (LLM_CONCURRENCY)", retry_after=BUSY_SECONDS)

    def _succeeded(self) -> None:
        known = self._record
        self._record = Record(last_success=self._now(), last_failure=known.last_failure, last_code=known.last_code)

    def _failed(self, error: ModelError) -> None:
        self._record = replace(
            self._record,
            last_failure=self._now(),
            last_code=error.code,
            consecutive_failures=self._record.consecutive_failures + 1,
        )
        _log.warning(
            "%s failed (%s, %d in a row): %s; another model can be set with LLM",
            self.name,
            error.code,
            self._record.consecutive_failures,
            error.detail,
        )

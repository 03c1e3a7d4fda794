"""Requests that are tried again, each announced before it is made; and a record of how the last ones went."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from adapters.llm.budget import RetryBudget
from adapters.llm.wrapping import Wrapper
from chat_core.errors import ModelError, ModelUnavailable
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

_log = logging.getLogger(__name__)


@value(kw_only=True)
class Record:
    """How a model's requests went of late: what readiness goes by, without asking the provider anything."""

    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_code: str | None = None
    consecutive_failures: int = 0
    circuit_open: bool = False


class Attempts(Wrapper):
    """Yields ``AttemptBegins`` before each request and makes it when the next part is asked for.

    After ``ModelUnavailable`` and its kinds, also in the middle, ``AttemptFailed`` follows and then another request: at
    most ``requests_max`` to ``provider``, counted with those in ``conversation.attempts``. Between two it waits for as
    long as the provider wished, and a random while on top that grows from one to the next (full jitter). Where the wait
    would be longer than ``seconds_left``, no request is left, or ``budget`` is used up, the last error is raised. Other
    errors are raised at once. An end without text is no failure here.

    ``clock`` gives seconds, ``now`` the time of day for the record, ``uniform`` a random number between two.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        provider: str,
        model_name: str,
        requests_max: int = REQUESTS_MAX,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(model)
        self.provider, self.model_name = provider, model_name
        self._requests_max = requests_max
        self._budget = budget or RetryBudget()
        self._clock, self._sleep, self._uniform, self._now = clock, sleep, uniform, now
        self._record = Record()

    @property
    def name(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model_name}"

    @property
    def ready(self) -> bool:
        return True

    @property
    def health(self) -> Record:
        return self._record

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        clock = self._clock or asyncio.get_running_loop().time
        left = TOTAL_SECONDS if conversation.seconds_left is None else conversation.seconds_left
        end = clock() + left
        made = sum(name.partition(":")[0] == self.provider for name in conversation.attempts)
        if made >= self._requests_max:
            raise ModelUnavailable(f"{self.name}: no request is left of {self._requests_max}")
        tries = 0
        while True:
            made, tries = made + 1, tries + 1
            yield AttemptBegins(provider=self.provider, model=self.model_name)
            if tries == 1:
                self._budget.count_request()
            try:
                async with aclosing(self._begin(replace(conversation, seconds_left=end - clock()))) as parts:
                    async for part in parts:
                        if isinstance(part, End):
                            # Now, for a reader that has the end asks for nothing more.
                            self._succeeded()
                        yield part
            except ModelError as error:
                self._failed(error)
                if not isinstance(error, ModelUnavailable) or made >= self._requests_max:
                    raise
                wait = error.retry_after or 0.0
                wait += self._uniform(0.0, min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2 ** (tries - 1)))
                if wait >= end - clock() or not self._budget.take_retry():
                    raise
                failed = AttemptFailed(code=error.code, usage=error.usage, detail=error.detail)
            else:
                return
            yield failed
            await self._sleep(wait)

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

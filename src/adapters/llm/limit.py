"""No more streams of one model at once than are good for it and for us."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from adapters.llm.links import AroundLink, Link
from chat_core.errors import ModelUnavailable
from chat_core.ports.language_model import AttemptBegins, AttemptFailed, Conversation, ReplyPart

CONCURRENCY = 256
#: How many may wait for each one that streams: about as many as get their turn within the time of a few answers.
WAITING_PER_STREAM = 4
RETRY_AFTER_SECONDS = 1.0


class Slots:
    """At most ``most`` are taken at once; at most ``waiting_most`` wait for one, first come, first served."""

    def __init__(self, most: int = CONCURRENCY, waiting_most: int | None = None) -> None:
        self._free = most
        self._waiting_most = WAITING_PER_STREAM * most if waiting_most is None else waiting_most
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        return self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self) -> bool:
        """Take one, as soon as it is one's turn; ``False``, at once, where too many wait already.

        Cancelled, it has left the line and taken nothing.
        """
        if self._free:
            # Then nobody waits: what is given back goes to the first in line and is free only without one.
            self._free -= 1
            return True
        if len(self._waiting) >= self._waiting_most:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                # Its turn came in the same moment: the next one gets it.
                self.give_back()
            raise
        return True

    def give_back(self) -> None:
        """Give one back: to the first in line, if there is anybody."""
        while self._waiting:
            turn = self._waiting.popleft()
            # One that was cancelled may not have had the time to leave.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class ConcurrencyLimit(AroundLink):
    """Passes a request on as soon as it has a slot; it gives it back when the request has ended, and keeps none between
    two attempts.

    Raises ``ModelUnavailable`` where too many wait, or where its turn does not come within ``seconds_left``, so that
    the next model of a chain may help. The wait is before ``AttemptBegins`` is passed on: what waits is on no bill.

    ``clock`` gives seconds; ``timeout`` is what ``asyncio.timeout`` is.
    """

    def __init__(
        self,
        model: Link,
        slots: Slots | None = None,
        *,
        clock: Callable[[], float] | None = None,
        timeout: Callable[[float | None], asyncio.Timeout] = asyncio.timeout,
    ) -> None:
        super().__init__(model)
        self._slots = slots or Slots()
        self._clock, self._timeout = clock, timeout

    @property
    def ready(self) -> bool:
        return self._slots.free > 0 and self._link.ready

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        clock = self._clock or asyncio.get_running_loop().time
        left = conversation.seconds_left
        end = None if left is None else clock() + left
        has_slot = False
        try:
            # Closed before the slot is given back: until then the provider's connection is open.
            async with aclosing(self._begin(conversation)) as parts:
                async for part in parts:
                    if isinstance(part, AttemptBegins):
                        await self._wait(None if end is None else end - clock())
                        has_slot = True
                    elif isinstance(part, AttemptFailed) and has_slot:
                        has_slot = False
                        self._slots.give_back()
                    yield part
        finally:
            if has_slot:
                self._slots.give_back()

    async def _wait(self, seconds: float | None) -> None:
        if self._slots.free and (seconds is None or seconds > 0):
            await self._slots.take()
            return
        try:
            async with self._timeout(seconds):
                taken = await self._slots.take()
        except TimeoutError as error:
            raise self._busy("no turn within the time that was left") from error
        if not taken:
            raise self._busy("too many wait for it")

    def _busy(self, why: str) -> ModelUnavailable:
        return ModelUnavailable(f"{self.name} is busy: {why} (LLM_CONCURRENCY)", retry_after=RETRY_AFTER_SECONDS)

"""No answer takes for ever: a limit to a provider's silence, and one to the whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, closing

from adapters.llm.wrapping import Wrapper
from chat_core.alarm import Alarm
from chat_core.errors import ModelTimedOut
from chat_core.ports.language_model import Conversation, End, LanguageModel, ReplyPart

FIRST_SECONDS = 20.0
SILENCE_SECONDS = 20.0
TOTAL_SECONDS = 300.0


class Deadlines(Wrapper):
    """Raises ``ModelTimedOut`` after ``silence`` seconds without a part of any kind (``first``, before the first one),
    or when the time is up.

    The time is the conversation's ``seconds_left``, or ``total``. It runs while the provider is waited for and while
    the reader is busy with a part; silence is the provider's alone. Either way the inner stream is closed at once.
    ``clock`` gives seconds; ``timeout`` is one like ``asyncio.timeout``.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        first: float = FIRST_SECONDS,
        silence: float = SILENCE_SECONDS,
        total: float = TOTAL_SECONDS,
        clock: Callable[[], float] | None = None,
        timeout: Callable[[float], AbstractAsyncContextManager[object]] | None = None,
    ) -> None:
        super().__init__(model)
        self._first, self._silence, self._total = first, silence, total
        self._clock, self._timeout = clock, timeout

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        clock = self._clock or asyncio.get_running_loop().time
        left = self._total if conversation.seconds_left is None else conversation.seconds_left
        end, silence = clock() + left, self._first
        with closing(Alarm()) as alarm:
            within = self._timeout or alarm
            async with aclosing(self._begin(conversation)) as parts:
                while True:
                    wait = min(silence, end - clock())
                    if wait <= 0:
                        raise ModelTimedOut(f"no end after {left:g} s")
                    try:
                        async with within(wait):
                            part = await anext(parts, None)
                    except TimeoutError as error:
                        what = "no part for" if wait == silence else "no end after"
                        raise ModelTimedOut(f"{what} {wait if wait == silence else left:g} s") from error
                    silence = self._silence
                    if part is None:
                        return
                    yield part
                    if isinstance(part, End):
                        # What it took the reader to store the end is not the provider's delay.
                        return

"""A language model for the tests of use cases: it does what its script says, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from chat_core.ports.language_model import (
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    ReplyPart,
    Text,
    Usage,
)


class Gate:
    """A place in a script where the stream waits, so that a test can look around while it does."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self, seconds: float = 10.0) -> None:
        """Return once a stream waits here, or has passed. Raises ``TimeoutError`` after ``seconds``."""
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    def open(self) -> None:
        """Let all streams pass, from now on."""
        self._opened.set()

    async def pass_through(self) -> None:
        """What the stream does here."""
        self._reached.set()
        await self._opened.wait()


#: A part is yielded, an error raised, a gate or an event waited for.
Step = ReplyPart | BaseException | Gate | asyncio.Event
#: The steps of one stream, or what makes them of the conversation.
Script = Sequence[Step] | Callable[[Conversation], Iterable[Step]]


def answer(*texts: str, usage: Usage | None = None) -> list[Step]:
    """The steps of a good answer in these pieces."""
    usage = usage or Usage(input_tokens=7, output_tokens=len(texts))
    return [*map(Text, texts), End(reason=FinishReason.STOP, usage=usage)]


class ScriptedModel(LanguageModel):
    """Each stream follows the next script; the last one is for all that follow. Without any, the answer is "Hello.".

    ``asked`` holds the conversations in the order of their requests. ``opened`` counts the streams that were begun and
    ``closed`` those that have ended, in whatever way; a test that leaks one finds them unequal.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts or (answer("Hello", "."),)
        self.asked: list[Conversation] = []
        self.opened = 0
        self.closed = 0

    @property
    def open_streams(self) -> int:
        return self.opened - self.closed

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        script = self._scripts[min(self.opened, len(self._scripts) - 1)]
        self.asked.append(conversation)
        self.opened += 1
        try:
            for step in script(conversation) if callable(script) else script:
                match step:
                    case BaseException():
                        raise step
                    case Gate():
                        await step.pass_through()
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        yield step
        finally:
            self.closed += 1

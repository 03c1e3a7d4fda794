"""A model that needs no key and is no AI: it repeats what it is told. For a first try, and without a network."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence

from chat_core.ports.language_model import (
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    OfferedModel,
    ReplyPart,
    Text,
    Usage,
)

_WORDS = re.compile(r"\s*\S+|\s+")
_OPENING = "(echo, no AI) You said:"


class Echo(LanguageModel):
    """Answers with the prompt, word by word; a token is a word."""

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay

    async def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        said = conversation.turns[-1].parts[-1] if conversation.turns else ""
        words = _WORDS.findall(f"{_OPENING} {said}")
        limit = conversation.max_output_tokens
        given = words if limit is None else words[:limit]
        for word in given:
            # Even without a delay others have their turn between two words, as they do with a network.
            await asyncio.sleep(self._delay)
            yield Text(word)
        counted = (word for turn in conversation.turns for part in turn.parts for word in part.split())
        usage = Usage(input_tokens=max(sum(1 for _ in counted), 1), output_tokens=len(given))
        whole = len(given) == len(words)
        yield End(reason=FinishReason.STOP if whole else FinishReason.LENGTH, usage=usage)

    @property
    def notice(self) -> str:
        return "The answers are echoes: set LLM for those of an AI"

    async def check(self) -> ModelHealth:
        return ModelHealth(check=ModelCheck.NO_AI, detail=self.notice)

    async def models(self) -> Sequence[OfferedModel]:
        return (OfferedModel(name="echo"),)


def create(model: str, environ: Mapping[str, str], /) -> Echo:
    """The ``LanguageModelFactory``. Any model name will do. ``ECHO_DELAY_MS``, 0 to 1000, passes between two words."""
    raw = environ.get("ECHO_DELAY_MS", "").strip() or "0"
    if not raw.isdecimal() or int(raw) > 1000:
        raise ValueError("ECHO_DELAY_MS has to be a number of milliseconds, from 0 to 1000")
    return Echo(delay=int(raw) / 1000)

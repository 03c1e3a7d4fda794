"""How the contract suite reads a stream: to its end or its error, in bounded time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar, cast

import pytest

from chat_core.errors import ModelError
from chat_core.ports.language_model import (
    Conversation,
    End,
    LanguageModel,
    ReplyPart,
    Text,
    Turn,
    TurnRole,
)

_T = TypeVar("_T")


def asking(prompt: str, system: str | None = None) -> Conversation:
    """A conversation of one turn."""
    return Conversation(turns=(Turn(role=TurnRole.USER, parts=(prompt,)),), system=system)


def streaming(model: LanguageModel, conversation: Conversation) -> AsyncGenerator[ReplyPart, None]:
    """The model's stream as what it has to be in order to be closable: an asynchronous generator."""
    stream = model.stream(conversation)
    assert hasattr(stream, "aclose"), "stream() must return an asynchronous generator, or something else with aclose()"
    return cast("AsyncGenerator[ReplyPart, None]", stream)


async def read(model: LanguageModel, prompt: str) -> tuple[Sequence[ReplyPart], ModelError | None]:
    """Every part that came, and the error that came after them."""
    parts: list[ReplyPart] = []
    try:
        async with asyncio.timeout(15), aclosing(streaming(model, asking(prompt))) as stream:
            async for part in stream:
                parts.append(part)
    except ModelError as error:
        return parts, error
    return parts, None


def text_of(parts: Sequence[ReplyPart]) -> str:
    """The text of the answer."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def end_of(parts: Sequence[ReplyPart]) -> End:
    """The end, which has to be the last part."""
    assert parts and isinstance(parts[-1], End), f"the last part has to be the End; it came to {parts[-3:]}"
    return parts[-1]


def scripted(value: _T | None) -> _T:
    """The value, where the script offers it; else the clause is skipped."""
    if value is None:
        pytest.skip("this provider's script does not offer it")
    return value

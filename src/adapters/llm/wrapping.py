"""What every wrapper does with the parts of the port that it has nothing to add to."""

from collections.abc import AsyncGenerator
from typing import cast

from chat_core.ports.language_model import (
    CheckableModel,
    ClosableModel,
    Conversation,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    NotableModel,
    ReplyPart,
)


class Wrapper(LanguageModel):
    """A LanguageModel around a LanguageModel: ``check`` and ``aclose`` go to the one inside, where it has them."""

    def __init__(self, model: LanguageModel) -> None:
        self._inner = model

    async def check(self) -> ModelHealth:
        if isinstance(self._inner, CheckableModel):
            return await self._inner.check()
        return ModelHealth(check=ModelCheck.UNKNOWN, detail="this provider's adapter has no way to ask")

    @property
    def notice(self) -> str | None:
        return self._inner.notice if isinstance(self._inner, NotableModel) else None

    async def aclose(self) -> None:
        if isinstance(self._inner, ClosableModel):
            await self._inner.aclose()

    def _begin(self, conversation: Conversation) -> AsyncGenerator[ReplyPart, None]:
        # The port promises that closing the iterator closes the connection: it is a generator, or looks like one.
        return cast("AsyncGenerator[ReplyPart, None]", self._inner.stream(conversation))

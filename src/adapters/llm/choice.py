"""The service's model, and the others that a room may choose."""

from collections.abc import AsyncGenerator, Mapping, Sequence

from adapters.llm.attempts import Record
from adapters.llm.chain import Chain
from chat_core.errors import ModelRefused
from chat_core.ports.language_model import (
    AttemptBegins,
    Conversation,
    ForeseeableModel,
    LanguageModel,
    ModelHealth,
    ReplyPart,
)


class Choice(LanguageModel, ForeseeableModel):
    """Asks the model that ``conversation.model`` names, or the service's own.

    Raises ``ModelRefused`` for one that is not offered: a room outlives the list that its model was chosen from.
    ``check`` is about the service's own model.
    """

    def __init__(self, own: Chain, others: Mapping[str, Chain]) -> None:
        self._own = own
        self._by_name = {**others, own.name: own}

    @property
    def offered(self) -> tuple[str, ...]:
        """The names that a room may choose from, the service's own first."""
        return (self._own.name, *(name for name in self._by_name if name != self._own.name))

    @property
    def health(self) -> Mapping[str, Record]:
        """For each ``provider:model``, the service's own first, how its last requests went."""
        records = dict(self._own.health)
        for chain in self._by_name.values():
            for name, record in chain.health.items():
                records.setdefault(name, record)
        return records

    def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        name = conversation.model or self._own.name
        chain = self._by_name.get(name)
        return _not_offered(name) if chain is None else chain.stream(conversation)

    def foresee(self, conversation: Conversation, /) -> AttemptBegins | None:
        chain = self._by_name.get(conversation.model or self._own.name)
        return None if chain is None else chain.foresee(conversation)

    async def check(self) -> ModelHealth:
        return await self._own.check()

    @property
    def notice(self) -> str | None:
        return self._own.notice

    async def aclose(self) -> None:
        for chain in self._by_name.values():
            await chain.aclose()


async def _not_offered(name: str, parts: Sequence[ReplyPart] = ()) -> AsyncGenerator[ReplyPart, None]:
    for part in parts:
        yield part
    raise ModelRefused(f"the room's model {name!r} is not offered: choose another, or add it to LLM_OFFERED")

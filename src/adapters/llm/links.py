"""A model in a chain: it has a name and a record, whatever is wrapped around it."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Protocol

from adapters.llm.attempts import Record
from adapters.llm.wrapping import Wrapper
from chat_core.ports.language_model import (
    CheckableModel,
    ClosableModel,
    Conversation,
    LanguageModel,
    NotableModel,
    ReplyPart,
)


class Link(LanguageModel, CheckableModel, NotableModel, ClosableModel, Protocol):
    """A language model that announces its requests, and remembers how they went."""

    @property
    @abstractmethod
    def name(self) -> str:
        """``provider:model``."""
        ...

    @property
    @abstractmethod
    def health(self) -> Record: ...

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether a request would be made at once."""
        ...

    @abstractmethod
    def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]: ...


class AroundLink(Wrapper):
    """A link around a link, of the same name.

    It reads the announcements of the one inside. An ``AttemptBegins`` that it does not pass on is a request that is
    not made, so this is where a request can be held back, or up, without a trace on the bill.
    """

    def __init__(self, model: Link) -> None:
        super().__init__(model)
        self._link = model

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def health(self) -> Record:
        return self._link.health

    @property
    def ready(self) -> bool:
        return self._link.ready

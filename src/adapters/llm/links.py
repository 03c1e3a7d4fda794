"""A model in a chain: it has a name and a record, whatever is wrapped around it."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Protocol

from adapters.llm.attempts import Record
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

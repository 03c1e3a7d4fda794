"""What an AI is to this product: something that streams an answer to a conversation."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from chat_core.values import value


class TurnRole(StrEnum):
    USER = "user"
    MODEL = "model"


@value(kw_only=True)
class Turn:
    """One message of the conversation. Its text is the last part, verbatim; a part before it may say who wrote it.

    An adapter keeps turns and parts apart, in whatever way its provider's format has for that: a text must not be
    able to pass for another turn.
    """

    role: TurnRole
    parts: tuple[str, ...]


@value(kw_only=True)
class Conversation:
    """What the model is asked: the room's system text and its latest turns, the prompt last.

    ``model`` is the ``provider:model`` that the room chose, ``None`` for the service's own choice. ``seconds_left`` is
    how long the whole answer may take. ``attempts`` are the ``provider:model`` of requests that were made for the same
    reply before.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    model: str | None = None
    seconds_left: float | None = None
    attempts: tuple[str, ...] = ()


@value()
class Text:
    """Text of the answer, to append. Never empty. ``usage`` is what the provider has counted so far, if it says so."""

    text: str
    usage: "Usage | None" = None


@value()
class Thinking:
    """The model works, without text for the answer: a sign of life, and nothing else."""


class FinishReason(StrEnum):
    """Why the provider ended: done, at the length limit, or because it will not answer this."""

    STOP = "stop"
    LENGTH = "length"
    BLOCKED = "blocked"


@value(kw_only=True)
class Usage:
    """Tokens as the provider counted them; those spent on thinking are output."""

    input_tokens: int = 0
    output_tokens: int = 0


@value(kw_only=True)
class End:
    """The provider's own end of the answer. ``detail`` is its word for the reason, for the log."""

    reason: FinishReason
    usage: Usage | None = None
    detail: str = ""


@value(kw_only=True)
class AttemptBegins:
    """A request to a provider is made as soon as the consumer asks for the next part, and not before."""

    provider: str
    model: str


@value(kw_only=True)
class AttemptFailed:
    """The request ended in an error; another follows. The text so far is void."""

    code: str
    usage: Usage | None = None
    detail: str = ""


ReplyPart = Text | Thinking | End | AttemptBegins | AttemptFailed


class LanguageModel(Protocol):
    """Streams an answer.

    A provider's adapter yields any number of ``Text`` and ``Thinking``, then exactly one ``End``, and nothing after
    it. Wrappers, which are LanguageModels around a LanguageModel, also yield ``AttemptBegins`` before each request
    and ``AttemptFailed`` after one that is to be followed by another.
    """

    @abstractmethod
    def stream(self, conversation: Conversation, /) -> AsyncIterator[ReplyPart]:
        """The answer to the conversation, part by part, as the provider gives it.

        No request is made before the first part is asked for. Any number of streams may run at once. Closing the
        iterator, or cancelling the task that reads it, closes the provider's connection. Raises ``ModelUnavailable``
        (with the provider's ``retry_after`` in seconds, where it said so), ``ModelTimedOut``, ``ModelInterrupted``
        (the stream ended without the provider's own end), ``ModelRefused``, ``PromptTooLong`` or ``ModelBadAnswer``;
        a failure is never given as text.
        """
        ...


class ModelCheck(StrEnum):
    """What a provider says of a model: offered; answers that are no AI's; not offered; not for us; no word; or it
    cannot be asked, because its adapter has no ``check``."""

    OK = "ok"
    NO_AI = "no-ai"
    MISSING = "missing"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


@value(kw_only=True)
class ModelHealth:
    """Whether the provider offers the model; ``detail`` says what to change where it does not."""

    check: ModelCheck
    detail: str = ""


@runtime_checkable
class CheckableModel(Protocol):
    """A language model that can say, without answering anything, whether its provider still offers it."""

    @abstractmethod
    async def check(self) -> ModelHealth:
        """Ask the provider. Takes at most 10 seconds; never raises for what the provider does."""
        ...


#: The model that a factory is asked for where only the list of its provider's models is wanted. No factory refuses it.
ANY_MODEL: Final = "any"


@value(kw_only=True)
class OfferedModel:
    """One of a provider's models: ``name`` is what stands behind the colon in ``LLM=provider:model``. ``ends`` is the
    day on which the provider stops answering with it; ``None`` where it does not say."""

    name: str
    ends: date | None = None


@runtime_checkable
class ListableModel(Protocol):
    """A language model that can say which models its provider offers, whichever of them it is itself."""

    @abstractmethod
    async def models(self) -> Sequence[OfferedModel]:
        """The models that can answer a conversation, in the provider's order. Takes at most 10 seconds, and costs
        nothing. Raises ``ModelError``."""
        ...


@runtime_checkable
class NotableModel(Protocol):
    """A language model that people should know something of before they ask it: that it is no AI, for one."""

    @property
    @abstractmethod
    def notice(self) -> str | None:
        """A sentence for the log and for readiness, by which nobody is asked anything; ``None``: nothing to say."""
        ...


@runtime_checkable
class ClosableModel(Protocol):
    """A language model that holds connections."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close them. Harmless to repeat; no stream is begun after it."""
        ...


@runtime_checkable
class ForeseeableModel(Protocol):
    """A language model that can say whom it would ask, so that the request can be on the bill a little earlier."""

    @abstractmethod
    def foresee(self, conversation: Conversation, /) -> AttemptBegins | None:
        """Whose request a stream that begins now makes first, as things stand; ``None`` where it would not be made at
        once. Asks nobody; what the stream then announces is what counts."""
        ...


class LanguageModelFactory(Protocol):
    """What an entry point in the group ``chat_core.language_models`` names: makes the model of one provider."""

    def __call__(self, model: str, environ: Mapping[str, str], /) -> LanguageModel:
        """The model of this name, configured by variables of the environment (``environ``: read nothing else).

        Makes no request and opens no connection. Raises ``ValueError``, with a sentence that names the variable,
        where something that it needs is missing or wrong. ``ANY_MODEL`` is taken for a name, to list the others by.
        """
        ...

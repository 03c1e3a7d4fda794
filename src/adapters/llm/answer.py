"""What the formats share: how a conversation is prepared for them, and how an answer is kept as it comes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from adapters.llm import failures
from adapters.llm.failures import ErrorBody
from chat_core.errors import ModelBadAnswer, ModelError, ModelInterrupted, ModelRefused
from chat_core.ports.language_model import Conversation, End, FinishReason, Text, Thinking, TurnRole, Usage

_Event = TypeVar("_Event")


def turns_to_send(conversation: Conversation) -> list[tuple[TurnRole, tuple[str, ...]]]:
    """The turns with their parts, apart from blank ones, which some refuse. Raises ``ModelRefused`` where none is left.

    Turns keep their roles and parts; several of one role in a row are fine. A conversation has to begin with a user, so
    answers whose question was left out are left out too: words that nobody said are not put in their place.
    """
    turns: list[tuple[TurnRole, tuple[str, ...]]] = []
    for turn in conversation.turns:
        parts = turn.parts
        if not all(map(str.strip, parts)):
            parts = tuple(filter(str.strip, parts))
        if parts and (turns or turn.role is TurnRole.USER):
            turns.append((turn.role, parts))
    if not turns:
        raise ModelRefused("the conversation holds no user's turn")
    return turns


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises ``ModelRefused`` for text that is no Unicode."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise ModelRefused("the conversation holds half of a surrogate pair") from error


class Answer(ABC):
    """One answer as it comes. ``usage`` is the latest that was said.

    ``reasons`` are the provider's words for a known end. ``stumbles`` are those for a model that lost its way: no
    answer, but the next draw is often a good one.
    """

    reasons: Mapping[str, FinishReason]
    stumbles: frozenset[str]

    def __init__(self, who: str, secret: str, text_max: int) -> None:
        self._who, self._secret = who, secret
        self._text_left = text_max
        self._end: tuple[FinishReason, str] | None = None
        self.usage: Usage | None = None

    @property
    def ended(self) -> bool:
        """Whether the provider has said how it ended."""
        return self._end is not None

    @abstractmethod
    def take(self, data: bytes) -> Iterator[Text | Thinking]:
        """The parts of one event. Raises ``ModelBadAnswer``, and the error that an event may hold."""

    def end(self) -> End:
        """The end. Raises ``ModelInterrupted`` where the provider has not said how it ended."""
        if self._end is None:
            raise ModelInterrupted(f"{self._who}: the stream ended without a finish reason")
        reason, word = self._end
        return End(reason=reason, usage=self.usage, detail=word)

    def _read(self, decoder: msgspec.json.Decoder[_Event], data: bytes) -> _Event:
        try:
            return decoder.decode(data)
        except ValueError as error:
            # msgspec's words name the place and the type, and quote nothing. UnicodeDecodeError holds all of the bytes.
            why = str(error) if isinstance(error, msgspec.MsgspecError) else "not UTF-8"
            raise ModelBadAnswer(f"{self._who}: an event that cannot be read: {why}") from None

    def _text(self, text: str) -> Text:
        self._text_left -= len(text)
        if self._text_left < 0:
            raise ModelBadAnswer(f"{self._who}: the answer is longer than MODEL_ANSWER_MAX allows")
        return Text(text, self.usage)

    def _finish(self, word: str) -> None:
        shown = failures.loggable(word, self._secret)
        if word in self.stumbles:
            raise ModelInterrupted(f"{self._who}: the model broke off: {shown}")
        if word not in self.reasons:
            # Nobody knows whether the text is whole, nor whether asking again would help: it is not paid for again.
            raise ModelBadAnswer(f"{self._who}: finish reason {shown}, which is not known here")
        self._end = (self.reasons[word], word)

    def _error(self, status: int | None, body: ErrorBody) -> ModelError:
        """The error that an event holds, as what its status would be; 500 stands in for one that is none."""
        message = failures.loggable(body.message, self._secret)
        said = ErrorBody(message=f"in the middle of the answer: {message}", retry_after=body.retry_after)
        return failures.of_status(status if status and 400 <= status < 600 else 500, said, {}, self._who)

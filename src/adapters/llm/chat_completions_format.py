"""The wire format of OpenAI's ``chat/completions``, and what servers that are compatible with it leave out or add."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from adapters.llm import listing
from adapters.llm.answer import Answer, encode, turns_to_send
from adapters.llm.failures import ErrorBody
from adapters.llm.inline_thoughts import InlineThoughts
from chat_core.errors import ModelError
from chat_core.ports.language_model import Conversation, FinishReason, OfferedModel, Text, Thinking, TurnRole, Usage

_REASONS = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,  # Together
    "[DONE]": FinishReason.STOP,  # where no reason came before it
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,  # Mistral: the context is full
    "content_filter": FinishReason.BLOCKED,
}
#: We offer no tools, so a call of one is a slip. The others are words for a server that failed and knows it.
_STUMBLES = frozenset({"tool_calls", "function_call", "error", "abort", "insufficient_system_resource"})
#: What the status would have been of an error that comes in the middle, by its type or code.
_STATUSES = {
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
}
# The last part of a name, for a gateway writes `openai/gpt-5`.
_REASONING = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|[12]\d))(?!\d)(?!.*-chat)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server has to be told in its own way."""

    #: OpenAI's reasoning models refuse ``max_tokens``, the older name. Other servers know the older one for certain;
    #: of the newer one some say that it is unknown, and some silently ignore it.
    max_completion_tokens: bool = False
    #: Without it most count nothing. Mistral refuses it, and counts unasked.
    stream_options: bool = True


class _ContentPart(msgspec.Struct):
    type: str | None = None
    text: str | None = None


class _Delta(msgspec.Struct):
    content: str | list[_ContentPart] | None = None  # parts: Mistral's models that think
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Error(msgspec.Struct):
    message: Any = None
    type: Any = None
    code: Any = None


class _Chunk(msgspec.Struct):
    """One event; fields that are not named here, reasoning and calls of tools among them, are ignored."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None
    object: str | None = None
    message: Any = None
    type: Any = None
    code: Any = None


class _ErrorDocument(msgspec.Struct):
    error: _Error | str | None = None
    message: Any = None
    detail: Any = None
    type: Any = None
    code: Any = None


class _Model(msgspec.Struct):
    """One of a list. Everybody has a word of their own for the day of a model's end."""

    id: str
    shutdown_date: Any = None  # OpenAI
    expiration_date: Any = None  # OpenRouter
    deprecation: Any = None  # Mistral, as a time; Azure, as {"inference": seconds}
    deprecated: Any = None  # a day with some, `true` with others


class _Models(msgspec.Struct):
    data: list[_Model]


_chunk = msgspec.json.Decoder(_Chunk)
_errors = msgspec.json.Decoder(_ErrorDocument)
_models: msgspec.json.Decoder[_Models | list[_Model]]
# A bare list: Together.
_models = msgspec.json.Decoder(_Models | list[_Model])


def takes_temperature(model: str) -> bool:
    """OpenAI's reasoning models refuse any but their own, or do so unless told not to reason. By their names: a
    temperature without effect is better than replies that all fail."""
    return not _REASONING.match(model)


def request(conversation: Conversation, model: str, dialect: Dialect) -> bytes:
    """The body. Raises ``ModelRefused`` where there is nothing to ask."""
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for role, parts in turns_to_send(conversation):
        # A plain text where there is but one: templates of some servers know nothing else.
        content = parts[0] if len(parts) == 1 else [{"type": "text", "text": part} for part in parts]
        messages.append({"role": "user" if role is TurnRole.USER else "assistant", "content": content})
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
    if conversation.temperature is not None and takes_temperature(model):
        body["temperature"] = conversation.temperature
    if conversation.max_output_tokens is not None:
        name = "max_completion_tokens" if dialect.max_completion_tokens else "max_tokens"
        body[name] = conversation.max_output_tokens
    return encode(body)


def read_error(body: bytes) -> ErrorBody:
    """The message of an error's body, with its type and code before it; empty where it cannot be read."""
    try:
        found = _errors.decode(body)
    except ValueError:
        return ErrorBody()
    if found.error is not None:
        return _body(found.error)
    return _body(_Error(message=found.message or found.detail, type=found.type, code=found.code))


def read_models(body: bytes, who: str) -> Sequence[OfferedModel]:
    """The models of a list, with those that make no text, for the format tells them not apart. Raises
    ``ModelBadAnswer``."""
    found = listing.read(_models, body, who)
    return [
        OfferedModel(name=model.id, ends=_end_of(model)) for model in (found if isinstance(found, list) else found.data)
    ]


def _end_of(model: _Model) -> date | None:
    words = (model.shutdown_date, model.expiration_date, model.deprecation, model.deprecated)
    return next((day for day in map(listing.day_of, words) if day is not None), None)


def _body(error: _Error | str) -> ErrorBody:
    if isinstance(error, str):
        return ErrorBody(message=error)
    # Messages are objects with some.
    words = (error.type, error.code, error.message)
    return ErrorBody(message=" ".join(str(word) for word in words if word not in (None, "")))


def _status(error: _Error | str) -> int | None:
    if isinstance(error, str):
        return None
    for word in (error.code, error.type):
        if isinstance(word, int):
            return word
        if isinstance(word, str):
            status = int(word) if word.isdecimal() and len(word) == 3 else _STATUSES.get(word)
            if status is not None:
                return status
    return None


class ChatCompletionsAnswer(Answer):
    reasons = _REASONS
    stumbles = _STUMBLES

    def __init__(self, who: str, secret: str, text_max: int) -> None:
        super().__init__(who, secret, text_max)
        self._begun = self._refused = False
        self._inline = InlineThoughts()

    def take(self, data: bytes) -> Iterator[Text | Thinking]:
        if data == b"[DONE]":
            # Some servers give no finish reason. This is no less their word for a whole answer, if there is one.
            if self._begun and not self.ended:
                yield from self._rest()
                self._finish("[DONE]")
            return
        chunk = self._read(_chunk, data)
        if (error := self._error_in(chunk)) is not None:
            raise error
        if chunk.usage is not None:
            # Tokens of reasoning are among those of the completion.
            tokens = (chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
            self.usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1])
        choice = chunk.choices[0] if chunk.choices else None
        if choice is None:
            if not self.ended:
                yield Thinking()
            return
        self._begun = True
        texts = False
        delta = choice.delta or _Delta()
        self._refused = self._refused or bool(delta.refusal)
        for piece in _texts(delta):
            if text := self._inline.said(piece):
                texts = True
                yield self._text(text)
        # A finish reason that is said twice, as with the counts, is no new end.
        if choice.finish_reason and not self.ended:
            yield from self._rest()
            self._finish(choice.finish_reason)
        elif not texts and not self.ended:
            yield Thinking()

    def _rest(self) -> Iterator[Text]:
        if rest := self._inline.rest():
            yield self._text(rest)

    def _finish(self, word: str) -> None:
        super()._finish(word)
        if self._refused:
            # A refusal stops of its own accord. Its words are not the answer.
            self._end = (FinishReason.BLOCKED, f"{word}, with a refusal")

    def _error_in(self, chunk: _Chunk) -> ModelError | None:
        error = chunk.error
        if error is None and chunk.object == "error":
            error = _Error(message=chunk.message, type=chunk.type, code=chunk.code)
        return None if error is None else self._error(_status(error), _body(error))


def _texts(delta: _Delta) -> Iterator[str]:
    if isinstance(delta.content, str):
        if delta.content:
            yield delta.content
        return
    for part in delta.content or ():
        if part.type == "text" and part.text:
            yield part.text

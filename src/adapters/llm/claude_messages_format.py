"""The wire format of Anthropic's ``v1/messages``: what is asked, and how to read what comes back."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from adapters.llm import listing
from adapters.llm.answer import Answer, encode, turns_to_send
from adapters.llm.failures import ErrorBody
from chat_core.errors import ModelBadAnswer
from chat_core.ports.language_model import Conversation, FinishReason, OfferedModel, Text, Thinking, TurnRole, Usage

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.BLOCKED,
}
#: Both are about tools, and we offer none.
_STUMBLES = frozenset({"tool_use", "pause_turn"})
#: What the status would have been of an error that comes in the middle.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_GENERATION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[.-](\d{1,2}))?(?![\d.])")


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Piece(msgspec.Struct):
    """A content block as it begins, a delta of one, or the message's: thoughts, signatures and input for tools stay
    unread."""

    type: str | None = None
    text: str | None = None
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    message: str | None = None


class _Event(msgspec.Struct):
    """One event, by its own ``type``, which says the same as the name before it; unknown fields are ignored."""

    type: str | None = None
    message: _Message | None = None
    content_block: _Piece | None = None
    delta: _Piece | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _ErrorDocument(msgspec.Struct):
    error: _Error


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


_event = msgspec.json.Decoder(_Event)
_errors = msgspec.json.Decoder(_ErrorDocument)

_models = msgspec.json.Decoder(_Models)


def takes_temperature(model: str) -> bool:
    """Sampling parameters are refused with a 400 from Claude Opus 4.7 on. A Claude without a number is one of the
    latest; what is no Claude, behind another base URL, takes them."""
    if not model.startswith("claude-"):
        return True
    match = _GENERATION.match(model)
    return match is not None and (int(match[1]), int(match[2] or 0)) < (4, 7)


def request(conversation: Conversation, model: str, max_tokens: int) -> bytes:
    """The body; ``max_tokens`` is for a conversation without a limit. Raises ``ModelRefused``."""
    messages = [
        {
            "role": "user" if role is TurnRole.USER else "assistant",
            "content": [{"type": "text", "text": part} for part in parts],
        }
        for role, parts in turns_to_send(conversation)
    ]
    limit = max_tokens if conversation.max_output_tokens is None else conversation.max_output_tokens
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": messages, "stream": True}
    if conversation.system:
        body["system"] = conversation.system
    if conversation.temperature is not None and takes_temperature(model):
        # Rooms may go to 2, as other providers do; here 1 is the most.
        body["temperature"] = min(conversation.temperature, 1.0)
    return encode(body)


def read_error(body: bytes) -> ErrorBody:
    """The message of an error's body, with its type before it; empty where it is not Anthropic's."""
    try:
        return _body(_errors.decode(body).error)
    except ValueError:
        return ErrorBody()


def read_models(body: bytes, who: str) -> tuple[Sequence[OfferedModel], str]:
    """The models of one page, and the last one's name where more follow. The format has no word for a model's end."""
    found = listing.read(_models, body, who)
    return [OfferedModel(name=model.id) for model in found.data], (found.last_id or "") if found.has_more else ""


def _body(error: _Error) -> ErrorBody:
    return ErrorBody(message=f"{error.type or ''} {error.message or ''}".strip())


class ClaudeMessagesAnswer(Answer):
    reasons = _REASONS
    stumbles = _STUMBLES

    def take(self, data: bytes) -> Iterator[Text | Thinking]:
        event = self._read(_event, data)
        if event.error is not None:
            raise self._error(_STATUSES.get(event.error.type or ""), _body(event.error))
        if not event.type:
            raise ModelBadAnswer(f"{self._who}: an event without a type")
        if event.message is not None and event.message.usage is not None:
            # A token or two of output stand in it before there is any: no count of what is to come.
            event.message.usage.output_tokens = None
        self._count(event.message.usage if event.message else event.usage)
        piece = event.content_block or event.delta or _Piece()
        if piece.text and piece.type in ("text", "text_delta"):
            yield self._text(piece.text)
        elif event.type == "message_delta" and piece.stop_reason:
            self._finish(piece.stop_reason)
        elif not self.ended:
            # Pings too: where thoughts are not shown, nothing else comes for as long as they take.
            yield Thinking()

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        # The counts are totals so far; an event leaves out what it has no news of.
        before = self.usage or Usage()
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        self.usage = Usage(
            input_tokens=before.input_tokens if usage.input_tokens is None else usage.input_tokens + cached,
            output_tokens=before.output_tokens if usage.output_tokens is None else usage.output_tokens,
        )

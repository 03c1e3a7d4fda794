"""Acme's format: chat completions as server-sent events. What comes from outside is believed in nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chat_core.errors import ModelBadAnswer, ModelError, ModelRefused, ModelUnavailable, PromptTooLong
from chat_core.ports.language_model import (
    Conversation,
    FinishReason,
    OfferedModel,
    Text,
    Thinking,
    TurnRole,
    Usage,
)

REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "content_filter": FinishReason.BLOCKED}
_SLIPS = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def request(conversation: Conversation, model: str) -> dict[str, Any]:
    """Turns and parts stay apart, so that no message can pass for another turn."""
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for turn in conversation.turns:
        role = "assistant" if turn.role is TurnRole.MODEL else "user"
        messages.append({"role": role, "content": [{"type": "text", "text": part} for part in turn.parts]})
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    body["stream_options"] = {"include_usage": True}
    if conversation.temperature is not None:
        body["temperature"] = conversation.temperature
    if conversation.max_output_tokens is not None:
        body["max_tokens"] = conversation.max_output_tokens
    return body


class Answer:
    """One answer as it comes: a new one for each stream, for many run at once."""

    def __init__(self) -> None:
        self.reason: FinishReason | None = None
        self.usage: Usage | None = None

    def take(self, line: bytes) -> Iterator[Text | Thinking]:
        """The parts of one line."""
        line = line.strip()
        if not line or line.startswith(b":") or line == b"data: [DONE]":
            return
        if not line.startswith(b"data:"):
            raise ModelBadAnswer("acme: the answer holds a line that is no event")
        try:
            event = json.loads(line.removeprefix(b"data:"))
            if "error" in event:
                raise ModelUnavailable(f"acme: an error within the stream: {str(event['error'])[:200]}")
            if event.get("usage"):
                counts = event["usage"]
                self.usage = Usage(
                    input_tokens=int(counts["prompt_tokens"]), output_tokens=int(counts["completion_tokens"])
                )
            for choice in event["choices"][:1]:
                if choice["finish_reason"] is not None:
                    self.reason = REASONS[choice["finish_reason"]]
                text = choice["delta"].get("content") or ""
                if not isinstance(text, str):
                    raise TypeError
                if text:
                    yield Text(text)
                elif choice["delta"].get("reasoning_content"):
                    yield Thinking()
        except _SLIPS as error:
            raise ModelBadAnswer(f"acme: an event that cannot be read: {type(error).__name__}") from error


def models(body: bytes) -> Sequence[OfferedModel]:
    """The models of Acme's list, which has no word for their ends."""
    try:
        return [OfferedModel(name=str(model["id"])) for model in json.loads(body)["data"]]
    except _SLIPS as error:
        raise ModelBadAnswer("acme: the list of models cannot be read") from error


def refusal(status: int, body: str, headers: Mapping[str, str]) -> ModelError:
    """The typed error of a status: what may work later, and what never will."""
    detail = f"acme: HTTP {status}: {body[:200]}"
    if "context_length_exceeded" in body:
        return PromptTooLong(detail)
    if status in (408, 429) or status >= 500:
        wish = headers.get("Retry-After", "")
        return ModelUnavailable(detail, retry_after=float(wish) if wish.isdecimal() else None)
    return ModelRefused(detail)

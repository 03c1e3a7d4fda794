"""The wire format of Gemini's ``generateContent``, ``v1beta``: what is asked, and how to read what comes back."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from adapters.llm import failures, listing
from adapters.llm.answer import Answer, encode, turns_to_send
from adapters.llm.failures import ErrorBody
from chat_core.ports.language_model import Conversation, FinishReason, OfferedModel, Text, Thinking, Usage

_REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ),
        FinishReason.BLOCKED,
    ),
}
_STUMBLES = frozenset(
    {"OTHER", "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"}
)
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?(?:-|$)")


class Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None


class Content(msgspec.Struct, rename="camel"):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None


class Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class UsageMetadata(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Error(msgspec.Struct, rename="camel"):
    code: int | None = None
    message: str | None = None
    status: str | None = None
    details: list[dict[str, Any]] | None = None


class Event(msgspec.Struct, rename="camel"):
    """One event; fields that are not named here are ignored, for they come and go."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: UsageMetadata | None = None
    error: _Error | None = None


class _ErrorDocument(msgspec.Struct, rename="camel"):
    error: _Error


class _Model(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: list[str] | None = None


class _Models(msgspec.Struct, rename="camel"):
    models: list[_Model] = []
    next_page_token: str = ""


_event = msgspec.json.Decoder(Event)
_errors: msgspec.json.Decoder[_ErrorDocument | list[_ErrorDocument]]
_errors = msgspec.json.Decoder(_ErrorDocument | list[_ErrorDocument])

_models = msgspec.json.Decoder(_Models)


def generation(model: str) -> tuple[int, int] | None:
    """The (major, minor) of a model's name. Names without a number are aliases of the latest: higher than any. ``None``
    for a model that is no Gemini."""
    if not model.startswith("gemini-"):
        return None
    match = _GENERATION.match(model)
    return (int(match[1]), int(match[2] or 0)) if match else (1_000, 0)


def takes_temperature(model: str) -> bool:
    """Sampling parameters are deprecated from 3.6 on (and in 3.5 Flash-Lite), some of these refuse them with a 400."""
    made = generation(model)
    return made is None or (made < (3, 6) and not model.startswith("gemini-3.5-flash-lite"))


def request(conversation: Conversation, model: str, thinking: str | None) -> bytes:
    """The body. Raises ``ModelRefused`` where there is nothing that Gemini would take."""
    turns = turns_to_send(conversation)
    # Nearly all have one part, and a comprehension is a call.
    contents = [
        {"role": role, "parts": [{"text": parts[0]}] if len(parts) == 1 else [{"text": part} for part in parts]}
        for role, parts in turns
    ]
    config: dict[str, Any] = {}
    if conversation.temperature is not None and takes_temperature(model):
        config["temperature"] = conversation.temperature
    if conversation.max_output_tokens is not None:
        config["maxOutputTokens"] = conversation.max_output_tokens
    if (generation(model) or (0, 0)) >= (3, 0):
        # Without its thoughts a model that thinks for long is silent, and cannot be told from one that hangs.
        config["thinkingConfig"] = {"includeThoughts": True} | ({"thinkingLevel": thinking} if thinking else {})
    body: dict[str, Any] = {"contents": contents}
    if conversation.system:
        body["systemInstruction"] = {"parts": [{"text": conversation.system}]}
    if config:
        body["generationConfig"] = config
    return encode(body)


def read_error(body: bytes) -> ErrorBody:
    """The message and wished delay of an error's body; empty where it is not Gemini's."""
    try:
        found = _errors.decode(body)
    except ValueError:
        return ErrorBody()
    documents = found if isinstance(found, list) else [found]
    return _body(documents[0].error) if documents else ErrorBody()


def read_models(body: bytes, who: str) -> tuple[Sequence[OfferedModel], str]:
    """The models of one page that generate text, and the next one's token. The format has no word for an end."""
    found = listing.read(_models, body, who)
    offered = [
        OfferedModel(name=model.name.removeprefix("models/"))
        for model in found.models
        if model.supported_generation_methods is None or "generateContent" in model.supported_generation_methods
    ]
    return offered, found.next_page_token


def _body(error: _Error) -> ErrorBody:
    message = f"{error.status or ''} {error.message or ''}".strip()
    wish: float | None = None
    for detail in error.details or ():
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            wish = failures.seconds_of(delay.removesuffix("s"))
        if detail.get("reason") == "API_KEY_INVALID":
            message += " (set GEMINI_API_KEY to a key that is valid)"
    return ErrorBody(message=message, retry_after=wish)


class GeminiAnswer(Answer):
    reasons = _REASONS
    stumbles = _STUMBLES

    def take(self, data: bytes) -> Iterator[Text | Thinking]:
        return self.take_event(self._read(_event, data))

    def take_event(self, event: Event) -> Iterator[Text | Thinking]:
        """The parts of an event that was read. Raises as ``take`` does."""
        if event.error is not None:
            raise self._error(event.error.code, _body(event.error))
        self._count(event.usage_metadata)
        texts = False
        candidate = event.candidates[0] if event.candidates else Candidate()
        for part in (candidate.content and candidate.content.parts) or ():
            if part.text and not part.thought:
                texts = True
                yield self._text(part.text)
        feedback = event.prompt_feedback and event.prompt_feedback.block_reason
        if candidate.finish_reason not in (None, "", "FINISH_REASON_UNSPECIFIED"):
            self._finish(candidate.finish_reason or "")
        elif feedback and feedback != "BLOCK_REASON_UNSPECIFIED":
            self._end = (FinishReason.BLOCKED, f"prompt: {feedback}")
        elif not texts:
            yield Thinking()

    def _count(self, usage: UsageMetadata | None) -> None:
        if usage is not None:
            output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            # The counts are totals so far. An event that leaves one out takes nothing back.
            before = self.usage or Usage()
            self.usage = Usage(
                input_tokens=usage.prompt_token_count or before.input_tokens,
                output_tokens=max(output, before.output_tokens),
            )

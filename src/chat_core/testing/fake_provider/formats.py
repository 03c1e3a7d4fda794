"""The wire formats that the fake provider speaks, as logged from the providers' own libraries."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar, cast

from chat_core.testing.fake_provider.script import Plan

Json = dict[str, Any]
#: Models on one page of a list, so that a list of three takes two requests.
PAGE = 2


def dumps(value: Json) -> bytes:
    # Not escaped: U+2028 and its like stand raw in a real provider's JSON too.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Format(ABC):
    """How one provider writes. Every method gives the bytes of a whole SSE event or body."""

    @abstractmethod
    def prompt(self, body: Json) -> str:
        """The last user text."""

    def start(self, prompt: str) -> bytes:
        """The events before the first thought or text."""
        return b""

    @abstractmethod
    def text(self, plan: Plan, index: int) -> bytes:
        """The event of one piece of text."""

    @abstractmethod
    def thought(self) -> bytes:
        """An event that holds a thought and no text."""

    @abstractmethod
    def finish(self, plan: Plan, prompt: str) -> bytes:
        """The events after the last text."""

    @abstractmethod
    def whole(self, plan: Plan, prompt: str) -> bytes:
        """The body of an answer that is not streamed."""

    @abstractmethod
    def error(self, code: int, message: str, retry_after: str = "", detail: str = "") -> bytes:
        """The body of an error."""

    def failure(self, code: int, message: str) -> bytes:
        """The event of an error in the middle."""
        return b"data: " + self.error(code, message) + b"\r\n\r\n"

    @abstractmethod
    def model(self, name: str) -> bytes:
        """The description of a model."""

    @abstractmethod
    def models(self, offers: Mapping[str, date | None], query: Mapping[str, str]) -> bytes:
        """The list of models, with the days on which they end, where the format has a word for that."""

    @abstractmethod
    def wrong_types(self) -> bytes:
        """JSON of the wrong shape."""


def event(value: Json) -> bytes:
    return b"data: " + dumps(value) + b"\r\n\r\n"


def tokens(text: str) -> int:
    return len(text) // 4 + 1


class Gemini(Format):
    _WORDS: ClassVar = {"stop": "STOP", "length": "MAX_TOKENS", "blocked": "SAFETY", "blocked-prompt": ""}

    def __init__(self) -> None:
        self._prompt_tokens = 0

    def start(self, prompt: str) -> bytes:
        self._prompt_tokens = tokens(prompt)
        return b""

    def prompt(self, body: Json) -> str:
        for content in reversed(cast("list[Json]", body.get("contents") or [])):
            if content.get("role", "user") == "user":
                return str(content["parts"][-1].get("text", ""))
        return ""

    def text(self, plan: Plan, index: int) -> bytes:
        part = {"text": plan.chunks[index]}
        candidates = [{"content": {"parts": [part], "role": "model"}, "index": 0}]
        # The real one counts along, on every event.
        usage = {"promptTokenCount": self._prompt_tokens, "candidatesTokenCount": index + 1}
        return event({"candidates": candidates, "usageMetadata": usage})

    def thought(self) -> bytes:
        part = {"text": "**Pondering the question**", "thought": True}
        return event({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]})

    def finish(self, plan: Plan, prompt: str) -> bytes:
        return event(self._last(plan, prompt, {"parts": [{"text": ""}], "role": "model"}))

    def whole(self, plan: Plan, prompt: str) -> bytes:
        return dumps(self._last(plan, prompt, {"parts": [{"text": "".join(plan.chunks)}], "role": "model"}))

    def _last(self, plan: Plan, prompt: str, content: Json) -> Json:
        usage: Json = {"promptTokenCount": tokens(prompt), "candidatesTokenCount": len(plan.chunks)}
        if plan.thoughts:
            usage["thoughtsTokenCount"] = plan.thoughts * 5
        usage["totalTokenCount"] = sum(cast("dict[str, int]", usage).values())
        rest: Json = {"usageMetadata": usage, "modelVersion": "fake", "responseId": "fake"}
        if plan.finish == "blocked-prompt":
            return {"promptFeedback": {"blockReason": "SAFETY"}, **rest}
        reason = plan.finish_word or self._WORDS[plan.finish]
        candidate: Json = {"finishReason": reason, "index": 0}
        if plan.finish != "blocked":
            candidate["content"] = content
        return {"candidates": [candidate], **rest}

    def error(self, code: int, message: str, retry_after: str = "", detail: str = "") -> bytes:
        words = {
            400: "INVALID_ARGUMENT",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
        }
        error: Json = {"code": code, "message": message, "status": words.get(code, "UNAVAILABLE")}
        if retry_after:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            error["details"] = [{"@type": kind, "retryDelay": f"{retry_after}s"}]
        elif detail:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": detail}]
        return dumps({"error": error})

    def model(self, name: str) -> bytes:
        return dumps({"name": f"models/{name}"})

    def models(self, offers: Mapping[str, date | None], query: Mapping[str, str]) -> bytes:
        begin = int(query.get("pageToken", "0"))
        names = [*offers][begin : begin + PAGE]
        methods = ["generateContent", "countTokens"]
        listed: list[Json] = [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in names]
        if begin + PAGE < len(offers):
            return dumps({"models": listed, "nextPageToken": str(begin + PAGE)})
        # The real one lists among its models what embeds, draws and speaks.
        embedding = {"name": "models/fake-embedding", "supportedGenerationMethods": ["embedContent"]}
        return dumps({"models": [*listed, embedding]})

    def wrong_types(self) -> bytes:
        return event({"candidates": [{"content": {"parts": [{"text": 42}]}, "finishReason": ["STOP"]}]})


class Vertex(Gemini):
    """Gemini as Vertex AI has it: the same, but for its list."""

    def models(self, offers: Mapping[str, date | None], query: Mapping[str, str]) -> bytes:
        begin = int(query.get("pageToken", "0"))
        listed = [{"name": f"publishers/google/models/{name}"} for name in [*offers][begin : begin + PAGE]]
        more = {"nextPageToken": str(begin + PAGE)} if begin + PAGE < len(offers) else {}
        return dumps({"publisherModels": listed, **more})


def last_user_text(body: Json) -> str:
    """The last text of the last user's message; a content is a text, or parts that hold one each."""
    for message in reversed(cast("list[Json]", body.get("messages") or [])):
        if message.get("role") == "user":
            content = message.get("content")
            parts = cast("list[Json]", content) if isinstance(content, list) else [{"text": content}]
            return str(parts[-1].get("text") or "")
    return ""


class OpenAI(Format):
    _WORDS: ClassVar = {
        "stop": "stop",
        "length": "length",
        "blocked": "content_filter",
        "blocked-prompt": "content_filter",
    }

    def prompt(self, body: Json) -> str:
        return last_user_text(body)

    def text(self, plan: Plan, index: int) -> bytes:
        return self._chunk({"content": plan.chunks[index]}, None)

    def thought(self) -> bytes:
        return self._chunk({"reasoning_content": "Pondering"}, None)

    def finish(self, plan: Plan, prompt: str) -> bytes:
        last: Json = {"object": "chat.completion.chunk", "choices": [], "usage": self._usage(plan, prompt)}
        reason = plan.finish_word or self._WORDS[plan.finish]
        return self._chunk({}, reason) + event(last) + b"data: [DONE]\n\n"

    def whole(self, plan: Plan, prompt: str) -> bytes:
        message = {"role": "assistant", "content": "".join(plan.chunks)}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": plan.finish_word or self._WORDS[plan.finish],
        }
        return dumps({"object": "chat.completion", "choices": [choice], "usage": self._usage(plan, prompt)})

    def _chunk(self, delta: Json, reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return event({"object": "chat.completion.chunk", "choices": [choice]})

    def _usage(self, plan: Plan, prompt: str) -> Json:
        output = len(plan.chunks) + plan.thoughts * 5
        return {"prompt_tokens": tokens(prompt), "completion_tokens": output}

    def error(self, code: int, message: str, retry_after: str = "", detail: str = "") -> bytes:
        return dumps({"error": {"message": message, "type": "error", "code": detail or str(code)}})

    def model(self, name: str) -> bytes:
        return dumps({"id": name, "object": "model"})

    def models(self, offers: Mapping[str, date | None], query: Mapping[str, str]) -> bytes:
        listed = [
            {"id": name, "object": "model", "owned_by": "fake", "shutdown_date": ends.isoformat() if ends else None}
            for name, ends in offers.items()
        ]
        return dumps({"object": "list", "data": listed})

    def wrong_types(self) -> bytes:
        return event({"choices": [{"delta": {"content": 42}, "finish_reason": ["stop"]}]})

"""Anthropic's wire format, as its library reads it: the only one of ours whose events have names and blocks."""

from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar

from chat_core.testing.fake_provider.formats import PAGE, Format, Json, dumps, event, last_user_text, tokens
from chat_core.testing.fake_provider.script import Plan


class Anthropic(Format):
    _WORDS: ClassVar = {"stop": "end_turn", "length": "max_tokens", "blocked": "refusal", "blocked-prompt": "refusal"}
    _ERRORS: ClassVar = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }

    def __init__(self) -> None:
        self._block = ""
        self._index = -1

    def prompt(self, body: Json) -> str:
        return last_user_text(body)

    def start(self, prompt: str) -> bytes:
        usage = {"input_tokens": tokens(prompt), "cache_read_input_tokens": 0, "output_tokens": 1}
        message: Json = {"id": "msg_fake", "type": "message", "role": "assistant", "content": [], "usage": usage}
        return self._event("message_start", message={**message, "stop_reason": None}) + self._event("ping")

    def text(self, plan: Plan, index: int) -> bytes:
        return self._delta("text", {"type": "text_delta", "text": plan.chunks[index]})

    def thought(self) -> bytes:
        return self._delta("thinking", {"type": "thinking_delta", "thinking": "Pondering"})

    def finish(self, plan: Plan, prompt: str) -> bytes:
        delta = {"stop_reason": plan.finish_word or self._WORDS[plan.finish], "stop_sequence": None}
        usage = {"output_tokens": self._output(plan)}
        last = self._event("message_delta", delta=delta, usage=usage) + self._event("message_stop")
        return self._stop() + last

    def whole(self, plan: Plan, prompt: str) -> bytes:
        return dumps(
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "text", "text": "".join(plan.chunks)}],
                "stop_reason": plan.finish_word or self._WORDS[plan.finish],
                "usage": {"input_tokens": tokens(prompt), "output_tokens": self._output(plan)},
            }
        )

    def error(self, code: int, message: str, retry_after: str = "", detail: str = "") -> bytes:
        if detail == "context_length_exceeded":
            message = "prompt is too long: 2000000 tokens > 1000000 maximum"
        error = {"type": self._ERRORS.get(code, "api_error"), "message": message}
        return dumps({"type": "error", "error": error, "request_id": "req_fake"})

    def failure(self, code: int, message: str) -> bytes:
        return b"event: error\n" + super().failure(code, message)

    def model(self, name: str) -> bytes:
        return dumps({"type": "model", "id": name, "display_name": name})

    def models(self, offers: Mapping[str, date | None], query: Mapping[str, str]) -> bytes:
        names = [*offers]
        begin = names.index(query["after_id"]) + 1 if query.get("after_id") in offers else 0
        page = names[begin : begin + PAGE]
        listed = [{"type": "model", "id": name, "display_name": name} for name in page]
        more: Json = {"has_more": begin + PAGE < len(names), "last_id": page[-1] if page else None}
        return dumps({"data": listed, **more})

    def wrong_types(self) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": 42})

    def _delta(self, block: str, delta: Json) -> bytes:
        before = b""
        if block != self._block:
            before, self._block = self._stop(), block
            self._index += 1
            start = {"type": block, block: ""}
            before += self._event("content_block_start", index=self._index, content_block=start)
        return before + self._event("content_block_delta", index=self._index, delta=delta)

    def _stop(self) -> bytes:
        return self._event("content_block_stop", index=self._index) if self._block else b""

    def _event(self, kind: str, **more: Any) -> bytes:
        return b"event: %b\n" % kind.encode() + event({"type": kind, **more})

    def _output(self, plan: Plan) -> int:
        return len(plan.chunks) + plan.thoughts * 5

"""An answer that is being written, and what its end makes of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from chat_core.domain.reply import Attempt, ReplyStatus
from chat_core.ports.language_model import End, FinishReason, Text, Usage

#: An answer longer than this is given up: nobody reads it, and every later prompt would carry it.
ANSWER_MAX = 200_000


class AnswerTooLong(Exception):
    """The answer has more than ``ANSWER_MAX`` characters."""


@dataclass(slots=True)
class Draft:
    """What one maker has of an answer so far."""

    number: int
    parts: list[str] = field(default_factory=list[str])
    length: int = 0
    attempt: Attempt | None = None
    usage: Usage | None = None
    wasted: int = 0

    def append(self, part: Text) -> None:
        """Raises ``AnswerTooLong`` where it outgrows all bounds."""
        # A NUL cannot be stored, and half a surrogate pair is no text: neither is worth the answer around it.
        clean = part.text.replace("\x00", "").encode("utf-8", "ignore").decode()
        self.parts.append(clean)
        self.length += len(clean)
        self.usage = part.usage or self.usage
        if self.length > ANSWER_MAX:
            raise AnswerTooLong

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def forget(self, usage: Usage | None) -> None:
        """The text so far is void, and what it cost is wasted."""
        usage = usage or self.usage
        if usage is not None:
            self.wasted += usage.input_tokens + usage.output_tokens
        self.parts.clear()
        self.length, self.usage = 0, None

    def end_attempt(self, outcome: str, at: datetime, usage: Usage | None) -> None:
        """Note how the request ended, where that is not known yet."""
        self.usage = usage or self.usage
        if self.attempt is not None and self.attempt.ended_at is None:
            self.attempt = replace(
                self.attempt,
                ended_at=at,
                outcome=outcome,
                input_tokens=self.usage.input_tokens if self.usage else None,
                output_tokens=self.usage.output_tokens if self.usage else None,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The end of a reply, before it is stored."""

    status: ReplyStatus
    reason: str | None = None
    error_code: str | None = None
    text: str | None = None


def verdict_of(end: End, text: str) -> Verdict:
    """What the provider's own end makes of the text that came before it."""
    if end.reason is FinishReason.BLOCKED:
        return Verdict(status=ReplyStatus.BLOCKED, reason=end.reason, error_code="blocked")
    if not text.strip():
        return Verdict(status=ReplyStatus.FAILED, reason=end.reason, error_code="empty-answer")
    status = ReplyStatus.COMPLETE if end.reason is FinishReason.STOP else ReplyStatus.INCOMPLETE
    return Verdict(status=status, reason=end.reason, text=text)


def verdict_of_stop(text: str) -> Verdict:
    """What a wish to stop makes of the text so far."""
    if not text.strip():
        return Verdict(status=ReplyStatus.CANCELLED, reason="stopped", error_code="cancelled")
    return Verdict(status=ReplyStatus.INCOMPLETE, reason="stopped", text=text)

"""An answer that is being written, and what its end makes of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from chat_core.domain.reply import Attempt, Cuts, Part, ReplyStatus
from chat_core.ports.language_model import End, FinishReason, Text, Usage
from chat_core.use_cases.tokens import tokens_in
from chat_core.values import value

#: An answer longer than this is given up: nobody reads it, and every later prompt would carry it.
ANSWER_MAX = 200_000


class AnswerTooLong(Exception):
    """The answer has more than ``ANSWER_MAX`` characters."""


@dataclass(slots=True)
class Draft:
    """What one maker has of an answer so far: text, and the parts of its epoch that it was cut into.

    ``prompt_tokens`` is what the prompt is taken to have, where its provider does not say.
    """

    epoch: int
    number: int
    parts: list[Part] = field(default_factory=list[Part])
    attempt: Attempt | None = None
    usage: Usage | None = None
    wasted: int = 0
    prompt_tokens: int = 0
    #: Whether a request was announced in this epoch.
    asked: bool = False
    #: Whether anything came of the one under way, if only a thought.
    heard: bool = False
    #: Set when there is something to cut.
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    #: Called when that is so for the first time.
    on_fresh: Callable[[], None] | None = None
    _uncut: list[str] = field(default_factory=list[str])
    _base: int = 0
    _given: int = 0
    _length: int = 0

    def append(self, part: Text) -> None:
        """Raises ``AnswerTooLong`` where it outgrows all bounds."""
        # A NUL cannot be stored, and half a surrogate pair is no text: neither is worth the answer around it.
        clean = part.text.replace("\x00", "").encode("utf-8", "ignore").decode()
        self.usage = part.usage or self.usage
        self.heard = True
        if clean:
            self._uncut.append(clean)
            self._length += len(clean)
            self._freshen()
        if self._length > ANSWER_MAX:
            raise AnswerTooLong

    def _freshen(self) -> None:
        self.fresh.set()
        if self.on_fresh is not None:
            self.on_fresh()

    @property
    def text(self) -> str:
        return "".join([*(part.text or "" for part in self.parts[self._base :]), *self._uncut])

    def cut(self) -> list[Part]:
        """Make one part of the text that came since the last cut, and give all that are new since then."""
        self.fresh.clear()
        if self._uncut:
            self.parts.append(Part(self.epoch, len(self.parts) + 1, "".join(self._uncut)))
            self._uncut.clear()
        new = self.parts[self._given :]
        self._given = len(self.parts)
        return new

    @property
    def cuts(self) -> Cuts:
        return Cuts(self._base, tuple(len(part.text or "") for part in self.parts[self._base :]))

    def forget(self) -> None:
        """The text of the request that has ended is void, and what it cost is wasted."""
        if self.usage is not None:
            self.wasted += self.usage.input_tokens + self.usage.output_tokens
        self.unsay()
        self.usage, self.heard = None, False

    def unsay(self) -> None:
        """The text so far is not part of the answer, also for those who have seen it."""
        self._uncut.clear()
        self._length = 0
        if len(self.parts) > self._base:
            self.parts.append(Part(self.epoch, len(self.parts) + 1, None))
            self._base = len(self.parts)
            self._freshen()

    def end_attempt(self, outcome: str, at: datetime, usage: Usage | None) -> None:
        """Note how the request ended, where that is not known yet.

        What its provider has not counted is estimated, once anything came of it: many count at the end alone, which
        an answer that is stopped or cut never reaches, and some not at all.
        """
        usage = usage or self.usage
        if self.heard:
            usage = usage or Usage()
            usage = Usage(
                input_tokens=usage.input_tokens or self.prompt_tokens,
                output_tokens=usage.output_tokens or tokens_in(self.text),
            )
        self.usage = usage
        if self.attempt is not None and self.attempt.ended_at is None:
            self.attempt = replace(
                self.attempt,
                ended_at=at,
                outcome=outcome,
                input_tokens=self.usage.input_tokens if self.usage else None,
                output_tokens=self.usage.output_tokens if self.usage else None,
            )


@value(kw_only=True)
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

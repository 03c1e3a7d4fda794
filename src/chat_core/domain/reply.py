"""The life of an answer: ``queued -> running -> complete | incomplete | failed | blocked | cancelled``."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from chat_core import errors
from chat_core.domain.ids import MessageId, ReplyId, RoomId, SummaryId, UserId
from chat_core.values import value

#: Attempts at one provider, over the whole life of a reply, retries and crashes taken together.
ATTEMPTS_MAX = 3
#: Claims of an expired lease before a reply is given up as one that kills its makers.
CRASHES_MAX = 3


class ReplyStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (ReplyStatus.QUEUED, ReplyStatus.RUNNING)


#: What a reply's ``error.code`` may be, beyond the codes of ``ModelError``, and the constant title of each.
REPLY_ERRORS = {
    "blocked": "The AI's provider blocked this",
    "cancelled": "The reply was stopped",
    "empty-answer": "The AI gave no text",
    "expired": "The reply was not made in time",
    "answer-too-long": "The AI's answer was too long",
    "poison": "The reply was given up after repeated crashes",
    "internal-error": "Something went wrong while the reply was made",
}


def error_title(code: str) -> str:
    """The constant title of a reply's error code."""
    if code in REPLY_ERRORS:
        return REPLY_ERRORS[code]
    kinds: list[type[errors.ModelError]] = [errors.ModelError]
    for kind in kinds:
        if kind.code == code:
            return kind.title
        kinds.extend(kind.__subclasses__())
    return errors.ModelError.title


@value(order=True)
class Place:
    """A place in the stream of a reply: an epoch, and how many of its parts came before or at it."""

    epoch: int
    offset: int


@value()
class Part:
    """A piece of an answer in the making: text to append, or ``None``: forget the text so far.

    The parts of an epoch are numbered 1, 2, 3 ... by ``offset``.
    """

    epoch: int
    offset: int
    text: str | None

    @property
    def place(self) -> Place:
        return Place(self.epoch, self.offset)


@value()
class Cuts:
    """How a stored answer was cut into parts in its last epoch, so that it can be streamed again just as it was.

    The text is what came after the part ``base`` (0, or the last one that said to forget), cut by ``lengths`` in
    characters.
    """

    base: int
    lengths: tuple[int, ...]

    @property
    def last(self) -> int:
        """The offset of the last part."""
        return self.base + len(self.lengths)


@value(kw_only=True)
class Sources:
    """What an answer was made from: the places of the messages in its prompt, in order, the summary of what was said
    before them, and the ``provider:model`` that was asked for (``None``: a model without a name)."""

    seqs: tuple[int, ...]
    summary_id: SummaryId | None = None
    model: str | None = None


@value(kw_only=True)
class Reply:
    """One try at answering one prompt.

    ``epoch`` is raised by every claim and fences out earlier makers. ``attempts`` counts requests to providers;
    ``crashes`` counts claims of an expired lease. Token counts are those of the answer; ``wasted_tokens`` those of
    attempts that were lost. ``reserved_tokens`` stand in for them until it ends, and where the provider counted none.
    ``cuts`` and ``sources`` are there once its maker has ended it.
    """

    id: ReplyId
    room_id: RoomId
    prompt_id: MessageId
    asked_by: UserId | None
    created_at: datetime
    deadline_at: datetime
    try_number: int = 1
    status: ReplyStatus = ReplyStatus.QUEUED
    epoch: int = 0
    attempts: int = 0
    crashes: int = 0
    stop_requested: bool = False
    message_id: MessageId | None = None
    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    wasted_tokens: int = 0
    finished_at: datetime | None = None
    cuts: Cuts | None = None
    sources: Sources | None = None
    reserved_tokens: int = 0

    @property
    def final(self) -> bool:
        return self.status.final

    def claimed(self) -> "Reply":
        """By a new maker, whose epoch no earlier one has."""
        crashes = self.crashes + (self.status is ReplyStatus.RUNNING)
        return replace(self, status=ReplyStatus.RUNNING, epoch=self.epoch + 1, crashes=crashes)

    def may_be_made(self, at: datetime) -> bool:
        """Whether whoever has claimed it may still ask for an answer."""
        return not self.stop_requested and self.crashes < CRASHES_MAX and at < self.deadline_at

    def first_attempt(self, provider: str, model: str, at: datetime) -> "Attempt":
        return Attempt(reply_id=self.id, number=1, epoch=self.epoch, provider=provider, model=model, started_at=at)

    def asks(self, attempt: "Attempt") -> "Reply":
        """With a request to a provider that is about to be made."""
        return replace(self, attempts=attempt.number, provider=attempt.provider, model=attempt.model)

    def ended(
        self,
        status: ReplyStatus,
        at: datetime,
        *,
        error_code: str | None = None,
        finish_reason: str | None = None,
        message_id: MessageId | None = None,
        **made: Any,
    ) -> "Reply":
        """With its final status, which never changes again. ``made`` is what else its maker has to say of it."""
        return replace(
            self,
            status=status,
            finished_at=at,
            error_code=error_code,
            finish_reason=finish_reason,
            message_id=message_id,
            **made,
        )


@value(kw_only=True)
class Attempt:
    """One request to a provider, stored before it is made: the bill."""

    reply_id: ReplyId
    number: int
    epoch: int
    provider: str
    model: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

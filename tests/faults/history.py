"""What a run leaves behind: what every client call saw, what the provider was asked, and how everything ended."""

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["open", "ok", "refused", "unknown"]
Kind = Literal["send", "read", "reply", "other"]

FINAL_STATUSES = frozenset({"complete", "incomplete", "failed", "blocked", "cancelled"})


@dataclass(slots=True, kw_only=True)
class Call:
    """One HTTP call. ``begun`` and ``ended`` are seconds of one monotonic clock; ``ended`` is ``None`` while it runs.

    ``ok`` is a 2xx that was received whole, ``refused`` any other status, ``unknown`` no answer: it may have been done.
    A read shows the messages after ``after`` as (seq, id); ``to_end`` says that there were none beyond them.
    """

    number: int
    kind: Kind
    process: str
    begun: float
    ended: float | None = None
    outcome: Outcome = "open"
    status: int | None = None
    code: str = ""
    user_id: str = ""
    room_id: str = ""
    m_id: str = ""
    content: str = ""
    message_id: str = ""
    seq: int = 0
    reply_id: str = ""
    reply_status: str = ""
    replayed: bool = False
    after: int = 0
    shown: tuple[tuple[int, str], ...] = ()
    to_end: bool = False
    retry_after: str = ""
    body: Any = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.room_id, self.user_id, self.m_id

    @property
    def ended_at(self) -> float:
        """When its answer was there; never, where there was none."""
        return float("inf") if self.ended is None else self.ended

    @property
    def seconds(self) -> float:
        return self.ended_at - self.begun

    def __str__(self) -> str:
        ended = "" if self.ended is None else f"{self.ended:.3f}"
        told = " ".join(
            f"{name}={value}"
            for name in ("status", "code", "m_id", "message_id", "seq", "reply_id", "reply_status")
            if (value := getattr(self, name))
        )
        return f"#{self.number} {self.kind} by {self.process} {self.begun:.3f}..{ended} {self.outcome} {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    id: str
    room_id: str
    seq: int
    m_id: str
    user_id: str | None
    content: str
    is_ai: bool = False
    reply_to: str | None = None
    status: str = "complete"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.room_id, self.user_id or "", self.m_id


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    id: str
    room_id: str
    prompt_id: str
    status: str
    epoch: int = 1
    attempts: int = 1
    crashes: int = 0
    try_number: int = 1
    message_id: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    reply_id: str
    number: int
    epoch: int
    provider: str = "gemini"
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that reached the provider. ``text`` is what it sent; ``answered`` how it ended (see the ledger)."""

    number: int
    prompt: str
    text: str = ""
    answered: str = "complete"
    at: float = 0.0


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """Everything that is stored, read after the faults are over. ``last_seqs`` and ``entries`` are by room."""

    messages: list[StoredMessage] = field(default_factory=list)
    replies: list[StoredReply] = field(default_factory=list)
    attempts: list[StoredAttempt] = field(default_factory=list)
    last_seqs: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    entries: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be: which check saw it, a sentence, and the lines that show it."""

    check: str
    what: str
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"{self.check}: {self.what}", *self.evidence))

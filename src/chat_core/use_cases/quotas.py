"""What one person may ask for at once, and in a day."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from chat_core.domain.ids import UserId
from chat_core.domain.room import RoomAI
from chat_core.errors import QuotaExceeded, TooManyReplies
from chat_core.ports.storage import Load, Transaction
from chat_core.use_cases.tokens import TURN_TOKENS, tokens_in

#: What is reserved for an answer whose length the room does not bound.
ANSWER_TOKENS = 1_000
#: After so many seconds somebody may well have a place again.
_SOON = 2.0


def day_of(at: datetime) -> datetime:
    """When the day of this moment began, in UTC."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def reserved_for(content: str, ai: RoomAI) -> int:
    """Tokens that an answer to this is taken to need before anybody has counted: an estimate."""
    return tokens_in(content) + TURN_TOKENS + (ai.max_output_tokens or ANSWER_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """``running``: replies of one person that are not final, at most; ``daily_tokens``: tokens for a day (UTC), at
    most. ``None``: no bound."""

    running: int | None = None
    daily_tokens: int | None = None

    @property
    def bounded(self) -> bool:
        return self.running is not None or self.daily_tokens is not None

    async def check(
        self, tx: Transaction, user_id: UserId, tokens: int, at: datetime, *, counted: bool = False
    ) -> None:
        """Whether this person may ask for one more answer, for which so many tokens are reserved. ``counted``: that
        answer is among those that are stored already.

        Nobody else's answer to this question about the same person counts in between, until ``tx`` ends. Raises
        ``TooManyReplies``, ``QuotaExceeded``.
        """
        if not self.bounded:
            return
        limit, today = self.daily_tokens, day_of(at)
        load = await tx.replies.load_of(user_id, today if limit is not None else None)
        if counted:
            load = Load(unfinished=load.unfinished - 1, tokens=load.tokens - (tokens if limit is not None else 0))
        if self.running is not None and load.unfinished >= self.running:
            raise TooManyReplies(
                f"{load.unfinished} answers of at most {self.running} are being made for you: wait, or stop one.",
                retry_after=_SOON,
            )
        if limit is not None and load.tokens + tokens > limit:
            resets_at = today + timedelta(days=1)
            left = max(0, limit - load.tokens)
            raise QuotaExceeded(
                f"{left} of {limit} tokens are left today, and this needs about {tokens}; the count begins anew at "
                f"{resets_at:%Y-%m-%dT%H:%M:%SZ}.",
                retry_after=(resets_at - at).total_seconds(),
            )

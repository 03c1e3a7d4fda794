"""What somebody's answers took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chat_core.domain.ids import utc_now
from chat_core.domain.user import Actor
from chat_core.ports.storage import DayUsage, UnitOfWork
from chat_core.use_cases.quotas import Quotas, day_of

#: How far back it goes, in days.
DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens by day and room, latest day first; and today's (UTC), with what is reserved, against the limit."""

    days: Sequence[DayUsage]
    limit: int | None
    used_today: int
    resets_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadUsage:
    """The tokens of the answers that somebody asked for in the last ``DAYS`` days, today among them."""

    uow: UnitOfWork
    quotas: Quotas
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor) -> Usage:
        today = day_of(self.now())
        async with self.uow.read() as tx:
            days = await tx.replies.usage_of(actor.user_id, today - timedelta(days=DAYS - 1))
            used = await tx.replies.tokens_of(actor.user_id, today)
        return Usage(days=days, limit=self.quotas.daily_tokens, used_today=used, resets_at=today + timedelta(days=1))

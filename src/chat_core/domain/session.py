"""Sessions: from a log-in to its end, and the secrets that go with them."""

import hashlib
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from chat_core.domain.ids import UserId
from chat_core.values import value

#: A session ends so long after its log-in, whatever is done with it ...
LIFETIME = timedelta(days=30)
#: ... and so long after its last refresh.
IDLE = timedelta(days=14)
#: Within this time of being spent, a refresh token that comes again is taken for one that raced: two windows of one
#: browser, or a client that never saw the answer. Later it is taken for a stolen one.
RACE = timedelta(seconds=10)
USER_AGENT_MAX = 256


@value(kw_only=True)
class Session:
    """What a log-in began. ``last_used_at`` is the moment of the last refresh, or of the log-in."""

    id: UUID
    user_id: UserId
    user_agent: str | None
    created_at: datetime
    last_used_at: datetime

    @property
    def expires_at(self) -> datetime:
        """When it ends unless it is used before."""
        return min(self.created_at + LIFETIME, self.last_used_at + IDLE)

    def live(self, at: datetime) -> bool:
        """Whether it has not expired."""
        return at < self.expires_at

    def used(self, at: datetime) -> "Session":
        return replace(self, last_used_at=at)


def new_secret() -> str:
    """256 random bits, in characters that are legal in a URL and in an HTTP token (RFC 9110, section 5.6.2)."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is stored of a secret: so many random bits need neither salt nor a slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def tidy_user_agent(text: str | None) -> str | None:
    """The part of a ``User-Agent`` that is kept: printable, and not too long."""
    kept = "".join(character for character in (text or "") if character.isprintable())
    return kept[:USER_AGENT_MAX].strip() or None

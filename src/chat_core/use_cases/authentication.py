"""Knowing who asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chat_core.domain.ids import UserId, utc_now
from chat_core.domain.user import Actor, User
from chat_core.errors import NotAuthenticated
from chat_core.ports.security import Tokens
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.turns import Turns


@dataclass(frozen=True, slots=True)
class Seen:
    """Whose session this is; ``None``: it is not live, and a session that is over does not come back."""

    user: User | None


class RecentSessions:
    """Sessions that were looked at within the last second: what ends one, or an account, takes hold within that."""

    def __init__(self, seconds: float = 1.0, most: int = 10_000, monotonic: Callable[[], float] = time.monotonic):
        self.monotonic = monotonic
        self._seconds, self._most = seconds, most
        self._seen: dict[UUID, tuple[float, Seen]] = {}

    def get(self, session_id: UUID) -> Seen | None:
        until, seen = self._seen.get(session_id, (0.0, None))
        return seen if self.monotonic() < until else None

    def put(self, session_id: UUID, seen: Seen, asked: float) -> None:
        """``asked``: when the look began, by ``monotonic``. What it saw was so then, and perhaps no longer."""
        if len(self._seen) >= self._most:
            self._seen.clear()
        self._seen[session_id] = (asked + self._seconds, seen)

    def forget(self, session_id: UUID) -> None:
        """Look anew, for what this process itself has ended: it need not wait."""
        self._seen.pop(session_id, None)

    def forget_account(self, user_id: UserId) -> None:
        """As ``forget``, for all sessions of an account."""
        for session_id, (_, seen) in list(self._seen.items()):
            if seen.user is not None and seen.user.id == user_id:
                del self._seen[session_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """Whose token this is, and of which session. Raises ``NotAuthenticated``, one error for all causes.

    The storage is asked at most once a second for each session.
    """

    uow: UnitOfWork
    tokens: Tokens
    recent: RecentSessions = field(default_factory=RecentSessions)
    turns: Turns = field(default_factory=Turns)
    now: Callable[[], datetime] = utc_now

    async def __call__(self, token: str) -> Actor:
        claims = self.tokens.read(token)
        user = await self.account(claims.session_id)
        if user.id != claims.user_id:
            raise NotAuthenticated
        return Actor(user_id=user.id, username=user.username, session_id=claims.session_id)

    async def account(self, session_id: UUID | None) -> User:
        """Whose session this is, as the account is or was within the last second."""
        if session_id is None:
            raise NotAuthenticated
        seen = self.recent.get(session_id)
        if seen is None:
            # Of those who come at once, the first looks for all.
            async with self.turns(session_id):
                seen = self.recent.get(session_id) or await self._look(session_id)
        if seen.user is None:
            raise NotAuthenticated
        return seen.user

    async def _look(self, session_id: UUID) -> Seen:
        asked = self.recent.monotonic()
        async with self.uow.read() as tx:
            found = await tx.sessions.get(session_id)
        seen = Seen(found.user if found is not None and found.session.live(self.now()) else None)
        self.recent.put(session_id, seen, asked)
        return seen

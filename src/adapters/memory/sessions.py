"""Sessions, their refresh tokens and tickets, in dictionaries."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from chat_core.domain.ids import UserId, utc_now
from chat_core.domain.session import Session
from chat_core.domain.user import User
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import Presented, SessionOf, Sessions

V = TypeVar("V")
K = TypeVar("K")


class _Table(Generic[K, V]):
    """What is committed, and over it what this transaction has changed; ``None`` is what it has dropped."""

    def __init__(self, committed: dict[K, V]) -> None:
        self._committed = committed
        self._changed: dict[K, V | None] = {}

    def get(self, key: K) -> V | None:
        return self._changed[key] if key in self._changed else self._committed.get(key)

    def put(self, key: K, value: V) -> None:
        self._changed[key] = value

    def drop(self, key: K) -> None:
        self._changed[key] = None

    def items(self) -> Iterator[tuple[K, V]]:
        for key in [*self._committed, *(key for key in self._changed if key not in self._committed)]:
            value = self.get(key)
            if value is not None:
                yield key, value

    def commit(self) -> None:
        for key, value in self._changed.items():
            if value is None:
                self._committed.pop(key, None)
            else:
                self._committed[key] = value
        self._changed = {}


@dataclass(frozen=True, slots=True)
class _RefreshToken:
    session_id: UUID
    spent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Ticket:
    session_id: UUID
    until: float


@dataclass(frozen=True, slots=True)
class SessionTables:
    """What is committed."""

    sessions: dict[UUID, Session] = field(default_factory=dict)
    refresh_tokens: dict[bytes, _RefreshToken] = field(default_factory=dict)
    tickets: dict[bytes, _Ticket] = field(default_factory=dict)


class MemorySessions(Sessions):
    """``user_of`` finds an account that was not ended; tickets live by ``monotonic``."""

    def __init__(
        self,
        tables: SessionTables,
        user_of: Callable[[UserId], Awaitable[User | None]],
        monotonic: Callable[[], float],
    ) -> None:
        self._user_of, self._monotonic = user_of, monotonic
        self._sessions = _Table(tables.sessions)
        self._refresh_tokens = _Table(tables.refresh_tokens)
        self._tickets = _Table(tables.tickets)
        self.changed = (self._sessions, self._refresh_tokens, self._tickets)

    async def add(self, session: Session, refresh: bytes) -> None:
        if await self._user_of(session.user_id) is None:
            raise NotAuthenticated
        self._sessions.put(session.id, session)
        self._refresh_tokens.put(refresh, _RefreshToken(session.id))

    async def get(self, session_id: UUID) -> SessionOf | None:
        session = self._sessions.get(session_id)
        user = await self._user_of(session.user_id) if session else None
        return SessionOf(session=session, user=user) if session and user else None

    async def of_user(self, user_id: UserId) -> Sequence[Session]:
        found = [session for _, session in self._sessions.items() if session.user_id == user_id]
        return sorted(found, key=lambda session: (session.last_used_at, session.id), reverse=True)

    async def present(self, refresh: bytes) -> Presented | None:
        token = self._refresh_tokens.get(refresh)
        found = await self.get(token.session_id) if token else None
        if token is None or found is None:
            return None
        return Presented(session=found.session, user=found.user, spent_at=token.spent_at)

    async def rotate(self, session: Session, spent: bytes, refresh: bytes) -> None:
        self._sessions.put(session.id, session)
        self._refresh_tokens.put(spent, _RefreshToken(session.id, session.last_used_at))
        self._refresh_tokens.put(refresh, _RefreshToken(session.id))

    async def end(self, session_id: UUID, user_id: UserId) -> bool:
        session = self._sessions.get(session_id)
        if session is None or session.user_id != user_id:
            return False
        self._drop(session_id)
        return True

    def _drop(self, session_id: UUID) -> None:
        self._sessions.drop(session_id)
        for digest, token in list(self._refresh_tokens.items()):
            if token.session_id == session_id:
                self._refresh_tokens.drop(digest)
        for digest, ticket in list(self._tickets.items()):
            if ticket.session_id == session_id:
                self._tickets.drop(digest)

    async def end_others(self, user_id: UserId, but: UUID | None) -> None:
        for session in await self.of_user(user_id):
            if session.id != but:
                self._drop(session.id)

    async def alive(self, session_ids: Sequence[UUID]) -> set[UUID]:
        at = utc_now()
        found = [await self.get(session_id) for session_id in session_ids]
        return {known.session.id for known in found if known is not None and known.session.live(at)}

    async def add_ticket(self, ticket: bytes, session_id: UUID, seconds: float) -> None:
        if self._sessions.get(session_id) is None:
            raise NotAuthenticated
        self._tickets.put(ticket, _Ticket(session_id, self._monotonic() + seconds))

    async def take_ticket(self, ticket: bytes) -> UUID | None:
        found = self._tickets.get(ticket)
        if found is None or found.until <= self._monotonic():
            return None
        self._tickets.drop(ticket)
        return found.session_id

    async def tidy(self, at: datetime, limit: int) -> None:
        expired = [session.id for _, session in self._sessions.items() if not session.live(at)]
        for session_id in expired[:limit]:
            self._drop(session_id)
        stale = [digest for digest, ticket in self._tickets.items() if ticket.until <= self._monotonic()]
        for digest in stale[:limit]:
            self._tickets.drop(digest)

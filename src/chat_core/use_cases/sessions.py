"""Going on with sessions, ending them, and the tickets that stand in for a token."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chat_core.domain.ids import utc_now
from chat_core.domain.session import RACE, Session, digest, new_secret
from chat_core.domain.user import Actor, User
from chat_core.errors import NotAuthenticated, NotFound, RefreshRaced
from chat_core.ports.security import Claims, Tokens
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.accounts import TIDIED, LoggedIn
from chat_core.use_cases.authentication import RecentSessions
from chat_core.use_cases.transactions import again_on_contention

log = logging.getLogger(__name__)

#: How long a ticket may be used, in seconds.
TICKET_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Go on with a session: a new access token, and a new refresh token instead of the old one, which is spent.

    Raises ``RefreshRaced`` for one that was spent just now, and then changes nothing: the new one is with whoever
    spent it. Raises ``NotAuthenticated`` for one that was never issued, or whose session is over; also for one that
    was spent earlier, which two must have had, and then the whole session ends.
    """

    uow: UnitOfWork
    tokens: Tokens
    recent: RecentSessions
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, refresh_token: str) -> LoggedIn:
        new_token = new_secret()
        user, session = await self._rotate(digest(refresh_token), digest(new_token))
        token = self.tokens.issue(Claims(user_id=user.id, session_id=session.id))
        return LoggedIn(user=user, session=session, token=token, refresh_token=new_token)

    @again_on_contention
    async def _rotate(self, old: bytes, new: bytes) -> tuple[User, Session]:
        async with self.uow() as tx:
            presented = await tx.sessions.present(old)
            if presented is None:
                raise NotAuthenticated
            at, session, spent_at = self.now(), presented.session, presented.spent_at
            if spent_at is not None and at - spent_at <= RACE:
                raise RefreshRaced
            if spent_at is None and session.live(at):
                session = session.used(at)
                await tx.sessions.rotate(session, old, new)
                await tx.commit()
                return presented.user, session
            await tx.sessions.end(session.id, session.user_id)
            await tx.commit()
        self.recent.forget(session.id)
        if spent_at is not None:
            log.warning(
                "a spent refresh token was used again: its session has been ended",
                extra={"session_id": str(session.id), "user_id": str(session.user_id)},
            )
        raise NotAuthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class AliveSessions:
    """Those of these sessions that are not over: for streams, which outlast the token that opened them."""

    uow: UnitOfWork

    async def __call__(self, session_ids: Sequence[UUID]) -> set[UUID]:
        async with self.uow.read() as tx:
            return await tx.sessions.alive(session_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSessions:
    """The person's live sessions, last used first."""

    uow: UnitOfWork
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor) -> Sequence[Session]:
        async with self.uow.read() as tx:
            found = await tx.sessions.of_user(actor.user_id)
        at = self.now()
        return [session for session in found if session.live(at)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSession:
    """End one of the person's own sessions, with its tokens and tickets. Raises ``NotFound`` for any other."""

    uow: UnitOfWork
    recent: RecentSessions

    async def __call__(self, *, actor: Actor, session_id: UUID) -> None:
        if not await self._end(actor, session_id):
            raise NotFound
        self.recent.forget(session_id)

    @again_on_contention
    async def _end(self, actor: Actor, session_id: UUID) -> bool:
        async with self.uow() as tx:
            ended = await tx.sessions.end(session_id, actor.user_id)
            await tx.commit()
        return ended


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOut:
    """End the session that asks; where it is over already, so much the better."""

    uow: UnitOfWork
    recent: RecentSessions

    async def __call__(self, *, actor: Actor) -> None:
        if actor.session_id is None:
            return
        await self._end(actor, actor.session_id)
        self.recent.forget(actor.session_id)

    @again_on_contention
    async def _end(self, actor: Actor, session_id: UUID) -> None:
        async with self.uow() as tx:
            await tx.sessions.end(session_id, actor.user_id)
            await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A secret that stands in for a token once, and its life in seconds."""

    text: str
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueTicket:
    """A ticket for the session that asks, for where no header can be sent. Raises ``NotAuthenticated``."""

    uow: UnitOfWork
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor) -> Ticket:
        if actor.session_id is None:
            raise NotAuthenticated
        text = new_secret()
        await self._store(digest(text), actor.session_id)
        return Ticket(text=text, expires_in=TICKET_SECONDS)

    @again_on_contention
    async def _store(self, ticket: bytes, session_id: UUID) -> None:
        async with self.uow() as tx:
            await tx.sessions.tidy(self.now(), TIDIED)
            await tx.sessions.add_ticket(ticket, session_id, TICKET_SECONDS)
            await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemTicket:
    """Whose ticket this is; it is spent by that. Raises ``NotAuthenticated``: unknown, spent, expired, session over."""

    uow: UnitOfWork
    now: Callable[[], datetime] = utc_now

    @again_on_contention
    async def __call__(self, *, ticket: str) -> Actor:
        async with self.uow() as tx:
            session_id = await tx.sessions.take_ticket(digest(ticket))
            found = await tx.sessions.get(session_id) if session_id is not None else None
            await tx.commit()
        if found is None or not found.session.live(self.now()):
            raise NotAuthenticated
        return Actor(user_id=found.user.id, username=found.user.username, session_id=found.session.id)

"""Sessions, their refresh tokens and tickets. A session that ends is deleted, and what belongs to it goes along."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from adapters.sql.clock import database_now_ms
from adapters.sql.compiled import Row
from adapters.sql.failures import points_nowhere
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import refresh_tokens, sessions, users, ws_tickets
from adapters.sql.users import user_of
from chat_core.domain.ids import UserId, utc_now
from chat_core.domain.session import Session
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import Presented, SessionOf, Sessions

_THIS = sessions.c.id == sa.bindparam("of_session")
_OF_USER = sessions.c.user_id == sa.bindparam("of_user")
_ACCOUNT_LIVES = users.c.ended_at.is_(None)
#: The names do not meet those of an account's columns.
_COLUMNS = (
    sessions.c.id.label("session_id"),
    sessions.c.user_id,
    sessions.c.user_agent,
    sessions.c.created_at.label("begun_at"),
    sessions.c.last_used_at,
)
_USER = (users.c.id, users.c.username, users.c.email, users.c.password_hash, users.c.created_at)
_WITH_USER = sa.select(*_COLUMNS, *_USER).join(users, users.c.id == sessions.c.user_id).where(_ACCOUNT_LIVES)

_ADD = sa.insert(sessions)
_ADD_REFRESH = sa.insert(refresh_tokens)
_GET = _WITH_USER.where(_THIS)
_OF_THE_USER = sa.select(*_COLUMNS).where(_OF_USER).order_by(sessions.c.last_used_at.desc(), sessions.c.id.desc())
_OF_TOKEN = sa.select(refresh_tokens.c.session_id).where(refresh_tokens.c.digest == sa.bindparam("of_digest"))
_HOLD = sa.select(sessions.c.id).where(sessions.c.id.in_(_OF_TOKEN)).with_for_update()
# In a statement of its own: at READ COMMITTED it sees what whoever held the session before us has changed.
_PRESENT = (
    _WITH_USER.add_columns(refresh_tokens.c.spent_at)
    .join(refresh_tokens, refresh_tokens.c.session_id == sessions.c.id)
    .where(refresh_tokens.c.digest == sa.bindparam("of_digest"))
)
_USE = (
    sa.update(sessions)
    .where(_THIS)
    .values(last_used_at=sa.bindparam("new_last_used_at"), expires_at=sa.bindparam("new_expires_at"))
)
_SPEND = (
    sa.update(refresh_tokens)
    .where(refresh_tokens.c.digest == sa.bindparam("of_digest"))
    .values(spent_at=sa.bindparam("new_spent_at"))
)
_END = sa.delete(sessions).where(_THIS, _OF_USER)
_END_ALL = sa.delete(sessions).where(_OF_USER)
_END_OTHERS = _END_ALL.where(sessions.c.id != sa.bindparam("but"))
_LIVE = (
    sa.select(sessions.c.id)
    .join(users, users.c.id == sessions.c.user_id)
    .where(sessions.c.expires_at > sa.bindparam("now"), _ACCOUNT_LIVES)
)
#: By dialect. An array is one parameter, so that PostgreSQL prepares one statement for any number of sessions.
_ALIVE = {
    "postgresql": _LIVE.where(sessions.c.id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid)))),
    "sqlite": _LIVE.where(sessions.c.id.in_(sa.bindparam("ids", expanding=True))),
}
_ADD_TICKET = sa.insert(ws_tickets).values(
    expires_ms=database_now_ms() + sa.bindparam("life_ms", type_=sa.BigInteger),
)
_TAKE_TICKET = (
    sa.delete(ws_tickets)
    .where(ws_tickets.c.digest == sa.bindparam("of_digest"), ws_tickets.c.expires_ms > database_now_ms())
    .returning(ws_tickets.c.session_id)
)


def _tidied(key: sa.Column[Any], expired: sa.ColumnElement[bool]) -> sa.Executable:
    # Who tidies waits for nobody: what another one is at work on is left to the next.
    some = sa.select(key).where(expired).limit(sa.bindparam("at_most", type_=sa.Integer))
    return sa.delete(key.table).where(key.in_(some.with_for_update(skip_locked=True)))


_TIDY_SESSIONS = _tidied(sessions.c.id, sessions.c.expires_at <= sa.bindparam("now"))
_TIDY_TICKETS = _tidied(ws_tickets.c.digest, ws_tickets.c.expires_ms <= database_now_ms())


def session_of(row: Row) -> Session:
    return Session(
        id=row.session_id,
        user_id=row.user_id,
        user_agent=row.user_agent,
        created_at=row.begun_at,
        last_used_at=row.last_used_at,
    )


class SqlSessions(Sessions):
    def __init__(self, statements: SqlStatements) -> None:
        self._statements = statements

    async def add(self, session: Session, refresh: bytes) -> None:
        try:
            await self._statements.run(
                _ADD,
                {
                    "id": session.id,
                    "user_id": session.user_id,
                    "user_agent": session.user_agent,
                    "created_at": session.created_at,
                    "last_used_at": session.last_used_at,
                    "expires_at": session.expires_at,
                },
            )
        except exc.IntegrityError as error:
            if points_nowhere(error, "users"):
                raise NotAuthenticated from error
            raise
        await self._add_refresh(session.id, refresh)

    async def _add_refresh(self, session_id: UUID, refresh: bytes) -> None:
        await self._statements.run(_ADD_REFRESH, {"digest": refresh, "session_id": session_id, "spent_at": None})

    async def get(self, session_id: UUID) -> SessionOf | None:
        row = await self._statements.row(_GET, {"of_session": session_id})
        return None if row is None else SessionOf(session=session_of(row), user=user_of(row))

    async def of_user(self, user_id: UserId) -> Sequence[Session]:
        return [session_of(row) for row in await self._statements.rows(_OF_THE_USER, {"of_user": user_id})]

    async def present(self, refresh: bytes) -> Presented | None:
        if self._statements.dialect != "sqlite":
            await self._statements.row(_HOLD, {"of_digest": refresh})
        row = await self._statements.row(_PRESENT, {"of_digest": refresh})
        return None if row is None else Presented(session=session_of(row), user=user_of(row), spent_at=row.spent_at)

    async def rotate(self, session: Session, spent: bytes, refresh: bytes) -> None:
        used = {"new_last_used_at": session.last_used_at, "new_expires_at": session.expires_at}
        await self._statements.run(_USE, used | {"of_session": session.id})
        await self._statements.run(_SPEND, {"of_digest": spent, "new_spent_at": session.last_used_at})
        await self._add_refresh(session.id, refresh)

    async def end(self, session_id: UUID, user_id: UserId) -> bool:
        return await self._statements.run(_END, {"of_session": session_id, "of_user": user_id}) == 1

    async def end_others(self, user_id: UserId, but: UUID | None) -> None:
        if but is None:
            await self._statements.run(_END_ALL, {"of_user": user_id})
        else:
            await self._statements.run(_END_OTHERS, {"of_user": user_id, "but": but})

    async def alive(self, session_ids: Sequence[UUID]) -> set[UUID]:
        statement = _ALIVE[self._statements.dialect]
        rows = await self._statements.rows(statement, {"ids": list(session_ids), "now": utc_now()})
        return {row.id for row in rows}

    async def add_ticket(self, ticket: bytes, session_id: UUID, seconds: float) -> None:
        life_ms = round(seconds * 1000)
        try:
            await self._statements.run(_ADD_TICKET, {"digest": ticket, "session_id": session_id, "life_ms": life_ms})
        except exc.IntegrityError as error:
            if points_nowhere(error, "sessions"):
                raise NotAuthenticated from error
            raise

    async def take_ticket(self, ticket: bytes) -> UUID | None:
        row = await self._statements.row(_TAKE_TICKET, {"of_digest": ticket})
        return None if row is None else row.session_id

    async def tidy(self, at: datetime, limit: int) -> None:
        await self._statements.run(_TIDY_SESSIONS, {"now": at, "at_most": limit})
        await self._statements.run(_TIDY_TICKETS, {"at_most": limit})

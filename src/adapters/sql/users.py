"""Accounts."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.compiled import Row
from adapters.sql.failures import violated
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import memberships, rooms, sessions, users
from chat_core.domain.ids import UserId
from chat_core.domain.message import DELETED_NAME
from chat_core.domain.user import User
from chat_core.errors import EmailTaken, UsernameTaken
from chat_core.ports.storage import Users

_COLUMNS = (users.c.id, users.c.username, users.c.email, users.c.password_hash, users.c.created_at)
_ADD = sa.insert(users)
_THIS = users.c.id == sa.bindparam("of_user")
_LIVES = users.c.ended_at.is_(None)
_GET = sa.select(*_COLUMNS).where(_THIS, _LIVES)
# Not FOR UPDATE: that would also hold off whoever only points at the account, as each of its messages does. SQLite
# knows neither, and needs neither: its writers come one after the other.
_HOLD = _GET.with_for_update(key_share=True)
_BY_LOGIN = sa.select(*_COLUMNS).where(
    sa.or_(users.c.username_key == sa.bindparam("login"), users.c.email_key == sa.bindparam("login")), _LIVES
)
_REPLACE_HASH = (
    sa.update(users)
    .where(_THIS, _LIVES, users.c.password_hash == sa.bindparam("old"))
    .values(password_hash=sa.bindparam("new"))
)
# The name's key stays, and keeps the name taken. The e-mail's has to be something: no address is without an "@".
_END = (
    sa.update(users)
    .where(_THIS, _LIVES)
    .values(
        username=DELETED_NAME,
        email="",
        email_key=sa.bindparam("no_email"),
        password_hash="",
        ended_at=sa.bindparam("now"),
        departing_since=sa.bindparam("now"),
    )
)
_END_SESSIONS = sa.delete(sessions).where(sessions.c.user_id == sa.bindparam("of_user"))
# An owner never leaves, so what somebody has made is among the rooms that they belong to, which an index finds.
_DISOWN = (
    sa.update(rooms)
    .where(
        rooms.c.created_by == sa.bindparam("of_user"),
        rooms.c.id.in_(sa.select(memberships.c.room_id).where(memberships.c.user_id == sa.bindparam("of_user"))),
    )
    .values(created_by=None)
)
_DEPARTING = (
    sa.select(users.c.id)
    .where(users.c.departing_since < sa.bindparam("ended_before", type_=users.c.departing_since.type))
    .order_by(users.c.departing_since)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
_DEPARTED = sa.update(users).where(_THIS).values(departing_since=None)


def user_of(row: Row) -> User:
    return User(
        id=row.id,
        username=row.username,
        email=row.email,
        password_hash=row.password_hash,
        created_at=row.created_at,
    )


class SqlUsers(Users):
    def __init__(self, statements: SqlStatements) -> None:
        self._statements = statements

    async def add(self, user: User) -> None:
        try:
            await self._statements.run(
                _ADD,
                {
                    "id": user.id,
                    "username": user.username,
                    "username_key": user.username.casefold(),
                    "email": user.email,
                    "email_key": user.email.casefold(),
                    "password_hash": user.password_hash,
                    "created_at": user.created_at,
                },
            )
        except exc.IntegrityError as error:
            match violated(error):
                case "uq_users_username_key":
                    raise UsernameTaken from error
                case "uq_users_email_key":
                    raise EmailTaken from error
                case _:
                    raise

    async def get(self, user_id: UserId) -> User | None:
        row = await self._statements.row(_GET, {"of_user": user_id})
        return None if row is None else user_of(row)

    async def hold(self, user_id: UserId) -> User | None:
        row = await self._statements.row(_HOLD, {"of_user": user_id})
        return None if row is None else user_of(row)

    async def by_login(self, login: str) -> User | None:
        row = await self._statements.row(_BY_LOGIN, {"login": login.casefold()})
        return None if row is None else user_of(row)

    async def replace_password_hash(self, user_id: UserId, old: str, new: str) -> bool:
        return await self._statements.run(_REPLACE_HASH, {"of_user": user_id, "old": old, "new": new}) == 1

    async def end(self, user_id: UserId, at: datetime) -> None:
        await self._statements.run(_END, {"of_user": user_id, "now": at, "no_email": f"ended {user_id}"})
        await self._statements.run(_END_SESSIONS, {"of_user": user_id})
        await self._statements.run(_DISOWN, {"of_user": user_id})

    async def departing(self, ended_before: datetime, limit: int) -> Sequence[UserId]:
        rows = await self._statements.rows(_DEPARTING, {"ended_before": ended_before, "at_most": limit})
        return [row.id for row in rows]

    async def departed(self, user_id: UserId) -> None:
        await self._statements.run(_DEPARTED, {"of_user": user_id})

"""Accounts."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.failures import violated
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import users
from chat_core.domain.ids import UserId
from chat_core.domain.user import User
from chat_core.errors import EmailTaken, UsernameTaken
from chat_core.ports.storage import Users

_COLUMNS = (users.c.id, users.c.username, users.c.email, users.c.password_hash, users.c.created_at)
_ADD = sa.insert(users)
_GET = sa.select(*_COLUMNS).where(users.c.id == sa.bindparam("user_id"))
_BY_LOGIN = sa.select(*_COLUMNS).where(
    sa.or_(users.c.username_key == sa.bindparam("login"), users.c.email_key == sa.bindparam("login"))
)
_REPLACE_HASH = (
    sa.update(users)
    .where(users.c.id == sa.bindparam("user_id"), users.c.password_hash == sa.bindparam("old"))
    .values(password_hash=sa.bindparam("new"))
)


def user_of(row: sa.Row[Any]) -> User:
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
        row = await self._statements.row(_GET, {"user_id": user_id})
        return None if row is None else user_of(row)

    async def by_login(self, login: str) -> User | None:
        row = await self._statements.row(_BY_LOGIN, {"login": login.casefold()})
        return None if row is None else user_of(row)

    async def replace_password_hash(self, user_id: UserId, old: str, new: str) -> bool:
        return await self._statements.run(_REPLACE_HASH, {"user_id": user_id, "old": old, "new": new}) == 1

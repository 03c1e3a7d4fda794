"""The list of the rooms that somebody may see: page and total in one statement, from one moment."""

from typing import Any

import sqlalchemy as sa

from adapters.sql.compiled import Row
from adapters.sql.tables import memberships, rooms
from chat_core.domain.ids import RoomId
from chat_core.ports.storage import RoomCursor

_USER = sa.bindparam("of_user", type_=sa.Uuid)
_ALIVE = rooms.c.deleted_at.is_(None)
_PUBLIC = rooms.c.visibility == "public"
_ACTIVE = memberships.c.standing == "active"
_REMOVED = memberships.c.standing == "removed"


def _total() -> sa.ScalarSelect[Any]:
    """The public rooms, less those that closed to this person, and the private ones that are open: the count reads
    an index and the person's own memberships, where joining them to every room would read every room."""
    public = sa.select(sa.func.count()).select_from(rooms).where(_ALIVE, _PUBLIC).scalar_subquery()
    weight = sa.case((sa.and_(_ACTIVE, sa.not_(_PUBLIC)), 1), (sa.and_(_REMOVED, _PUBLIC), -1), else_=0)
    own = (
        sa.select(sa.func.coalesce(sa.func.sum(weight), 0))
        .select_from(memberships.join(rooms, rooms.c.id == memberships.c.room_id))
        .where(memberships.c.user_id == _USER, _ALIVE)
        .scalar_subquery()
    )
    return sa.select(public + own).scalar_subquery()


def _statement(columns: tuple[sa.Column[Any], ...], *, after: bool) -> sa.Select[Any]:
    mine = sa.and_(memberships.c.room_id == rooms.c.id, memberships.c.user_id == _USER)
    seen = (
        sa.select(*columns)
        .select_from(rooms.outerjoin(memberships, mine))
        .where(_ALIVE, sa.or_(_ACTIVE, sa.and_(_PUBLIC, memberships.c.standing.is_distinct_from("removed"))))
        .order_by(rooms.c.last_activity_at.desc(), rooms.c.id.desc())
        .limit(sa.bindparam("at_most", type_=sa.Integer))
    )
    if after:
        cursor = sa.tuple_(
            sa.bindparam("after_at", type_=rooms.c.last_activity_at.type),
            sa.bindparam("after_id", type_=sa.Uuid),
        )
        seen = seen.where(sa.tuple_(rooms.c.last_activity_at, rooms.c.id) < cursor)
    page = seen.subquery("page")
    # The total comes also where the page is empty.
    total = sa.select(_total().label("total")).subquery("counted")
    return (
        sa.select(total.c.total, *page.c)
        .select_from(total.outerjoin(page, sa.true()))
        .order_by(page.c.last_activity_at.desc(), page.c.id.desc())
    )


class RoomList:
    """The statements for one choice of columns."""

    def __init__(self, *columns: sa.Column[Any]) -> None:
        self._first = _statement(columns, after=False)
        self._next = _statement(columns, after=True)

    def query(self, user_id: object, limit: int, after: RoomCursor | None) -> tuple[sa.Executable, dict[str, Any]]:
        """The statement and its parameters; it finds one row more than ``limit`` where there are more."""
        parameters = {"of_user": user_id, "at_most": limit + 1}
        if after is None:
            return self._first, parameters
        return self._next, {**parameters, "after_at": after.last_activity_at, "after_id": after.room_id}


def cursor_of(row: Row) -> RoomCursor:
    return RoomCursor(last_activity_at=row.last_activity_at, room_id=RoomId(row.id))

"""How people stand to rooms, as columns and back."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.compiled import Row
from adapters.sql.tables import memberships, rooms, users
from chat_core.domain.ids import RoomId, UserId
from chat_core.domain.room import Membership, Role, Standing

#: Of a membership joined with its account; the names do not meet those of a room's columns.
MEMBER_COLUMNS = (memberships.c.role, memberships.c.standing, memberships.c.joined_at, users.c.username)

_ROOM = memberships.c.room_id == sa.bindparam("of_room")
_USER = memberships.c.user_id == sa.bindparam("of_user")
_SELECT = sa.select(memberships.c.room_id, memberships.c.user_id, *MEMBER_COLUMNS).join(
    users, users.c.id == memberships.c.user_id
)
GET = _SELECT.where(_ROOM, _USER)
ACTIVE = _SELECT.where(_ROOM, memberships.c.standing == "active", users.c.ended_at.is_(None)).order_by(
    memberships.c.joined_at, memberships.c.user_id
)
ROOMS_OF = (
    sa.select(memberships.c.room_id)
    .join(rooms, rooms.c.id == memberships.c.room_id)
    .where(_USER, memberships.c.standing == "active", rooms.c.deleted_at.is_(None))
    .order_by(memberships.c.room_id)
)


def _upsert(insert: Any) -> sa.Executable:
    statement = insert(memberships)
    new = statement.excluded
    upsert: sa.Executable = statement.on_conflict_do_update(
        index_elements=["room_id", "user_id"],
        set_={"role": new.role, "joined_at": new.joined_at, "standing": new.standing},
    )
    return upsert


#: By dialect: the same clause in both, and SQLAlchemy has no common construct for it.
UPSERT = {"postgresql": _upsert(postgresql.insert), "sqlite": _upsert(sqlite.insert)}


def membership_of(row: Row, room_id: RoomId, user_id: UserId) -> Membership:
    return Membership(
        room_id=room_id,
        user_id=user_id,
        username=row.username,
        role=Role(row.role),
        joined_at=row.joined_at,
        standing=Standing(row.standing),
    )


def membership_values(membership: Membership) -> dict[str, Any]:
    return {
        "room_id": membership.room_id,
        "user_id": membership.user_id,
        "role": membership.role.value,
        "joined_at": membership.joined_at,
        "standing": membership.standing.value,
    }

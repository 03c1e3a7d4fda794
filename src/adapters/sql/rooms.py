"""Rooms, their members, and the counter that numbers each room's log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from adapters.sql import members
from adapters.sql.compiled import Row
from adapters.sql.log import RoomLog
from adapters.sql.members import MEMBER_COLUMNS, membership_of, membership_values
from adapters.sql.room_list import RoomList, cursor_of
from adapters.sql.statements import SqlStatements
from adapters.sql.summaries import SqlSummaries
from adapters.sql.tables import log_entries, memberships, messages, rooms, users
from chat_core.domain.ids import RoomId, UserId
from chat_core.domain.room import AIMode, Door, LogEntry, Membership, Room, RoomAI, RoomEvent, Visibility, WhenBusy
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import RoomCursor, RoomPage, Rooms

_COLUMNS = (
    rooms.c.id,
    rooms.c.name,
    rooms.c.description,
    rooms.c.created_by,
    rooms.c.created_at,
    rooms.c.visibility,
    rooms.c.last_seq,
    rooms.c.message_count,
    rooms.c.last_activity_at,
    rooms.c.ai_mode,
    rooms.c.ai_model,
    rooms.c.ai_system_prompt,
    rooms.c.ai_temperature,
    rooms.c.ai_max_output_tokens,
    rooms.c.ai_busy,
)
_HERE = sa.and_(rooms.c.id == sa.bindparam("of_room"), rooms.c.deleted_at.is_(None))
_OF_USER = sa.bindparam("of_user", type_=sa.Uuid)

_ADD = sa.insert(rooms)
# Held until the end, as by a foreign key: an account that is ended meanwhile has to find its room.
_OWNER = sa.select(users.c.id).where(users.c.id == _OF_USER, users.c.ended_at.is_(None)).with_for_update(read=True)
_ADD_MEMBER = sa.insert(memberships)
_ADD_ENTRY = sa.insert(log_entries)
_GET = sa.select(*_COLUMNS).where(_HERE)
_DOOR = (
    sa.select(*_COLUMNS, *MEMBER_COLUMNS)
    .select_from(
        rooms.outerjoin(
            memberships, sa.and_(memberships.c.room_id == rooms.c.id, memberships.c.user_id == _OF_USER)
        ).outerjoin(users, users.c.id == memberships.c.user_id)
    )
    .where(_HERE)
)
TAKE_PLACE = (
    sa.update(rooms)
    .where(_HERE)
    .values(
        last_seq=rooms.c.last_seq + 1,
        message_count=rooms.c.message_count + sa.bindparam("more", type_=sa.BigInteger),
        last_activity_at=sa.bindparam("now", type_=rooms.c.last_activity_at.type),
    )
)
_ADVANCE = TAKE_PLACE.returning(*_COLUMNS)
# SQLite alone: its transactions hold the only write lock from their beginning, so the statement that takes the place
# already sees the standing as it is under the lock.
_ADVANCE_AND_LOOK = _ADVANCE.returning(
    *(
        sa.select(column)
        .select_from(memberships.join(users, users.c.id == memberships.c.user_id))
        .where(memberships.c.room_id == sa.bindparam("of_room"), memberships.c.user_id == _OF_USER)
        .scalar_subquery()
        .label(column.name)
        for column in MEMBER_COLUMNS
    )
)
# PostgreSQL: memberships are seen as they were before the statement waited for the room's lock. They hold all the same
# where nothing happened in the room meanwhile: whoever changes a standing takes a place in the log with it.
_before = rooms.alias("before")
_standing = (
    sa.select(_before.c.id, _before.c.last_seq.label("seen_seq"), *MEMBER_COLUMNS)
    .select_from(
        _before.outerjoin(
            memberships, sa.and_(memberships.c.room_id == _before.c.id, memberships.c.user_id == _OF_USER)
        ).outerjoin(users, users.c.id == memberships.c.user_id)
    )
    .where(_before.c.id == sa.bindparam("of_room"))
    .subquery("standing")
)
_ADVANCE_BESIDE = _ADVANCE.where(_standing.c.id == rooms.c.id).returning(
    _standing.c.seen_seq, *(_standing.c[column.name] for column in MEMBER_COLUMNS)
)
_SAVE = (
    sa.update(rooms)
    .where(_HERE)
    .values(
        {
            column: sa.bindparam(f"new_{column.name}", type_=column.type)
            for column in (
                rooms.c.name,
                rooms.c.description,
                rooms.c.visibility,
                rooms.c.ai_mode,
                rooms.c.ai_model,
                rooms.c.ai_system_prompt,
                rooms.c.ai_temperature,
                rooms.c.ai_max_output_tokens,
                rooms.c.ai_busy,
            )
        }
    )
)
_DELETE = sa.update(rooms).where(_HERE).values(deleted_at=sa.bindparam("now")).returning(rooms.c.last_seq)
#: So many texts are wiped by one statement: a room of any size stays within the statements' time-out.
_WIPED_AT_ONCE = 5_000
_WIPE = (
    sa.update(messages)
    .where(
        messages.c.room_id == sa.bindparam("of_room"),
        messages.c.seq > sa.bindparam("above"),
        messages.c.seq <= sa.bindparam("up_to"),
    )
    .values(content="", status="deleted")
)
# Deleted ones too. PostgreSQL takes the ids as one array: a statement for each number of them would have to be planned
# anew each time.
_LAST_SEQS = {
    "postgresql": sa.select(rooms.c.id, rooms.c.last_seq).where(
        rooms.c.id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid)))
    ),
    "sqlite": sa.select(rooms.c.id, rooms.c.last_seq).where(
        rooms.c.id.in_(sa.bindparam("ids", type_=sa.Uuid, expanding=True))
    ),
}


def _doors(among_these: sa.ColumnElement[bool]) -> sa.Executable:
    """The room once, with a null membership, or once for each membership of these people."""
    theirs = memberships.join(users, users.c.id == memberships.c.user_id)
    return (
        sa.select(*_COLUMNS, memberships.c.user_id, *MEMBER_COLUMNS)
        .select_from(rooms.outerjoin(theirs, sa.and_(memberships.c.room_id == rooms.c.id, among_these)))
        .where(_HERE)
    )


_DOORS = {
    "postgresql": _doors(memberships.c.user_id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid)))),
    "sqlite": _doors(memberships.c.user_id.in_(sa.bindparam("ids", type_=sa.Uuid, expanding=True))),
}
_ANY_ROOM = sa.select(*_COLUMNS).where(rooms.c.id == sa.bindparam("of_room"))
_LIST = RoomList(*_COLUMNS)


def room_of(row: Row) -> Room:
    return Room(
        id=row.id,
        name=row.name,
        description=row.description,
        created_by=row.created_by,
        created_at=row.created_at,
        visibility=Visibility(row.visibility),
        last_seq=row.last_seq,
        message_count=row.message_count,
        last_activity_at=row.last_activity_at,
        ai=ai_of(row),
    )


def ai_of(row: Row) -> RoomAI:
    return RoomAI(
        mode=AIMode(row.ai_mode),
        model=row.ai_model,
        system_prompt=row.ai_system_prompt,
        temperature=row.ai_temperature,
        max_output_tokens=row.ai_max_output_tokens,
        busy=WhenBusy(row.ai_busy),
    )


def door_of(row: Row, room_id: RoomId, user_id: UserId | None) -> Door:
    """Of a room's columns and a membership's, which are null where there is none."""
    membership = None if row.role is None or user_id is None else membership_of(row, room_id, user_id)
    return Door(room=room_of(row), user_id=user_id, membership=membership)


def _changeable(room: Room) -> dict[str, Any]:
    return {
        "name": room.name,
        "description": room.description,
        "visibility": room.visibility.value,
        **ai_values(room.ai),
    }


def ai_values(ai: RoomAI) -> dict[str, Any]:
    return {
        "ai_mode": ai.mode.value,
        "ai_model": ai.model,
        "ai_system_prompt": ai.system_prompt,
        "ai_temperature": ai.temperature,
        "ai_max_output_tokens": ai.max_output_tokens,
        "ai_busy": ai.busy.value,
    }


class SqlRooms(Rooms):
    def __init__(self, statements: SqlStatements, summaries: SqlSummaries) -> None:
        self._statements = statements
        self._summaries = summaries

    async def add(self, room: Room, owner: Membership) -> None:
        fixed = {
            "id": room.id,
            "created_by": room.created_by,
            "created_at": room.created_at,
            "last_seq": room.last_seq,
            "message_count": room.message_count,
            "last_activity_at": room.last_activity_at,
        }
        if await self._statements.row(_OWNER, {"of_user": owner.user_id}) is None:
            raise NotAuthenticated
        await self._statements.run(_ADD, fixed | _changeable(room))
        await self._statements.run(_ADD_MEMBER, membership_values(owner))

    async def get(self, room_id: RoomId) -> Room | None:
        row = await self._statements.row(_GET, {"of_room": room_id})
        return None if row is None else room_of(row)

    async def door(self, room_id: RoomId, user_id: UserId) -> Door | None:
        row = await self._statements.row(_DOOR, {"of_room": room_id, "of_user": user_id})
        return None if row is None else door_of(row, room_id, user_id)

    async def advance(self, room_id: RoomId, user_id: UserId | None, *, at: datetime, messages: int = 0) -> Door | None:
        place = {"of_room": room_id, "more": messages, "now": at}
        if self._statements.dialect == "sqlite":
            row = await self._statements.row(_ADVANCE_AND_LOOK, place | {"of_user": user_id})
            return None if row is None else door_of(row, room_id, user_id)
        if user_id is None:
            row = await self._statements.row(_ADVANCE, place)
            return None if row is None else Door(room=room_of(row), user_id=None, membership=None)
        row = await self._statements.row(_ADVANCE_BESIDE, place | {"of_user": user_id})
        if row is None or row.last_seq == row.seen_seq + 1:
            return None if row is None else door_of(row, room_id, user_id)
        # Only what begins after the lock sees what the one before us in the queue has changed.
        return Door(room=room_of(row), user_id=user_id, membership=await self.membership(room_id, user_id))

    async def save(self, room: Room) -> None:
        values = {f"new_{name}": value for name, value in _changeable(room).items()}
        await self._statements.run(_SAVE, values | {"of_room": room.id})

    async def delete(self, room_id: RoomId, at: datetime) -> None:
        row = await self._statements.row(_DELETE, {"of_room": room_id, "now": at})
        if row is None:
            return
        for above in range(0, row.last_seq, _WIPED_AT_ONCE):
            await self._statements.run(_WIPE, {"of_room": room_id, "above": above, "up_to": above + _WIPED_AT_ONCE})
        await self._summaries.void(room_id, 0)

    async def visible_to(self, user_id: UserId, limit: int, after: RoomCursor | None) -> RoomPage:
        rows = await self._statements.rows(*_LIST.query(user_id, limit, after))
        # One row without a room carries the total alone.
        found = [row for row in rows if row.id is not None]
        more = len(found) > limit
        page = found[:limit]
        return RoomPage(
            rooms=[room_of(row) for row in page],
            total=rows[0].total,
            next_cursor=cursor_of(page[-1]) if more else None,
        )

    async def members(self, room_id: RoomId) -> Sequence[Membership]:
        rows = await self._statements.rows(members.ACTIVE, {"of_room": room_id})
        return [membership_of(row, room_id, row.user_id) for row in rows]

    async def membership(self, room_id: RoomId, user_id: UserId) -> Membership | None:
        row = await self._statements.row(members.GET, {"of_room": room_id, "of_user": user_id})
        return None if row is None else membership_of(row, room_id, user_id)

    async def save_membership(self, membership: Membership) -> None:
        await self._statements.run(members.UPSERT[self._statements.dialect], membership_values(membership))

    async def rooms_of(self, user_id: UserId) -> Sequence[RoomId]:
        return [row.room_id for row in await self._statements.rows(members.ROOMS_OF, {"of_user": user_id})]

    async def add_entry(self, entry: LogEntry) -> None:
        await self._statements.run(
            _ADD_ENTRY,
            {
                "room_id": entry.room_id,
                "seq": entry.seq,
                "kind": entry.kind.value,
                "created_at": entry.created_at,
                "message_id": entry.message_id,
                "user_id": entry.user_id,
            },
        )

    async def log(self, room_id: RoomId, after: int, limit: int) -> Sequence[RoomEvent]:
        log = RoomLog(self._statements, room_id)
        places = await log.places(after, limit)
        if any(place.about_the_room for place in places):
            row = await self._statements.row(_ANY_ROOM, {"of_room": room_id})
            return log.events(places, None if row is None else room_of(row))
        return log.events(places, None)

    async def last_seqs(self, room_ids: Sequence[RoomId]) -> Mapping[RoomId, int]:
        if not room_ids:
            return {}
        rows = await self._statements.rows(_LAST_SEQS[self._statements.dialect], {"ids": list(room_ids)})
        return {row.id: row.last_seq for row in rows}

    async def doors(self, room_id: RoomId, user_ids: Sequence[UserId]) -> Mapping[UserId, Door]:
        if not user_ids:
            return {}
        rows = await self._statements.rows(
            _DOORS[self._statements.dialect], {"of_room": room_id, "ids": list(user_ids)}
        )
        if not rows:
            return {}
        room = room_of(rows[0])
        found = {row.user_id: membership_of(row, room_id, row.user_id) for row in rows if row.role is not None}
        return {user_id: Door(room=room, user_id=user_id, membership=found.get(user_id)) for user_id in user_ids}

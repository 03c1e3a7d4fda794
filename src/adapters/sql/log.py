"""A room's log: what was said, and all else that took a place, each as it is now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from adapters.sql.compiled import Row
from adapters.sql.members import MEMBER_COLUMNS, membership_of
from adapters.sql.messages import MESSAGE_COLUMNS, MESSAGES_NAMED, message_of
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import log_entries, memberships, messages, users
from chat_core.domain.ids import RoomId
from chat_core.domain.message import DELETED_NAME
from chat_core.domain.room import GONE, EventKind, Membership, Role, Room, RoomEvent, Standing

_AFTER = sa.bindparam("after", type_=sa.BigInteger)
_UP_TO = sa.bindparam("up_to", type_=sa.BigInteger)
_ROOM = sa.bindparam("of_room", type_=sa.Uuid)

_SAID = (
    sa.select(*MESSAGE_COLUMNS)
    .select_from(MESSAGES_NAMED)
    .where(messages.c.room_id == _ROOM, messages.c.seq > _AFTER, messages.c.seq <= _UP_TO)
)
_ENTRIES = sa.select(
    log_entries.c.seq, log_entries.c.kind, log_entries.c.created_at, log_entries.c.message_id, log_entries.c.user_id
).where(log_entries.c.room_id == _ROOM, log_entries.c.seq > _AFTER, log_entries.c.seq <= _UP_TO)
_entry = _ENTRIES.subquery("entry")
_CHANGED = sa.select(*MESSAGE_COLUMNS, _entry.c.seq.label("place"), _entry.c.kind).select_from(
    _entry.join(MESSAGES_NAMED, messages.c.id == _entry.c.message_id)
)
_OTHERS = (
    sa.select(_entry.c.seq.label("place"), _entry.c.kind, _entry.c.created_at, memberships.c.user_id, *MEMBER_COLUMNS)
    .select_from(
        _entry.outerjoin(
            memberships.join(users, users.c.id == memberships.c.user_id),
            sa.and_(memberships.c.room_id == _ROOM, memberships.c.user_id == _entry.c.user_id),
        )
    )
    .where(_entry.c.message_id.is_(None))
)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """A row that stands at a place of the log."""

    seq: int
    kind: EventKind
    row: Row

    @property
    def about_the_room(self) -> bool:
        return self.kind in (EventKind.ROOM_UPDATED, EventKind.ROOM_DELETED)


def _membership(row: Row, room_id: RoomId) -> Membership:
    if row.role is not None:
        return membership_of(row, room_id, row.user_id)
    return Membership(
        room_id=room_id,
        user_id=GONE,
        username=DELETED_NAME,
        role=Role.MEMBER,
        joined_at=row.created_at,
        standing=Standing.LEFT,
    )


class RoomLog:
    """Reads the log of one room, by ranges of its places: three statements for a page of any size."""

    def __init__(self, statements: SqlStatements, room_id: RoomId) -> None:
        self._statements = statements
        self._room_id = room_id

    async def places(self, after: int, limit: int) -> Sequence[LogPlace]:
        """Those right behind ``after``, in order, as far as there is no gap between them."""
        span = {"of_room": self._room_id, "after": after, "up_to": after + limit}
        found = {row.seq: LogPlace(row.seq, EventKind.MESSAGE_CREATED, row) for row in await self._rows(_SAID, span)}
        if len(found) < limit:
            for statement in (_CHANGED, _OTHERS):
                for row in await self._rows(statement, span):
                    found[row.place] = LogPlace(row.place, EventKind(row.kind), row)
        # At READ COMMITTED each statement sees a moment of its own: what was stored in between may leave a gap, behind
        # which nothing can be shown yet.
        places: list[LogPlace] = []
        while (place := found.get(after + len(places) + 1)) is not None:
            places.append(place)
        return places

    async def _rows(self, statement: sa.Executable, span: dict[str, Any]) -> Sequence[Row]:
        return await self._statements.rows(statement, span)

    def events(self, places: Sequence[LogPlace], room: Room | None) -> Sequence[RoomEvent]:
        """What stands there. ``room`` is needed where a place is about the room."""
        return [self._event(place, room) for place in places]

    def _event(self, place: LogPlace, room: Room | None) -> RoomEvent:
        match place.kind:
            case EventKind.MESSAGE_CREATED | EventKind.MESSAGE_EDITED | EventKind.MESSAGE_DELETED:
                message = message_of(place.row)
                return RoomEvent(room_id=self._room_id, seq=place.seq, kind=place.kind, message=message)
            case EventKind.MEMBER_JOINED | EventKind.MEMBER_LEFT:
                membership = _membership(place.row, self._room_id)
                return RoomEvent(room_id=self._room_id, seq=place.seq, kind=place.kind, membership=membership)
            case EventKind.ROOM_UPDATED | EventKind.ROOM_DELETED:
                return RoomEvent(room_id=self._room_id, seq=place.seq, kind=place.kind, room=room)

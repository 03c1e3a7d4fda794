"""What is done most, as one statement of PostgreSQL's and as one procedure of SQLite's, of the same rows."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from adapters.sql.messages import (
    MESSAGES_NAMED,
    SAID_COLUMNS,
    SaidInJson,
    gathered,
    gathered_in_json,
    said_in_json,
)
from adapters.sql.procedures import Procedure
from adapters.sql.replies import CAN_END, FINISH, LEASED
from adapters.sql.rooms import TAKE_PLACE, ai_values
from adapters.sql.summaries import latest_below
from adapters.sql.tables import attempts, memberships, messages, replies, rooms, users
from chat_core.domain.ids import SummaryId
from chat_core.domain.room import RoomAI

_ROOM = sa.bindparam("of_room", type_=sa.Uuid)
_USER = sa.bindparam("of_user", type_=sa.Uuid)
_NOW = sa.bindparam("now", type_=messages.c.created_at.type)

# Of an account that was not ended.
_IS_MEMBER = sa.exists(
    sa.select(memberships.c.user_id)
    .join(users, users.c.id == memberships.c.user_id)
    .where(
        memberships.c.room_id == _ROOM,
        memberships.c.user_id == _USER,
        memberships.c.standing == "active",
        users.c.ended_at.is_(None),
    )
)
_IS_USED = sa.exists(
    sa.select(messages.c.id).where(
        messages.c.room_id == _ROOM, messages.c.user_id == _USER, messages.c.m_id == sa.bindparam("key")
    )
)
_AS_BELIEVED = [
    rooms.c[name].is_not_distinct_from(sa.bindparam(f"believed_{name}", type_=rooms.c[name].type))
    for name in ai_values(RoomAI())
]
_PLACE = TAKE_PLACE.where(*_AS_BELIEVED, _IS_MEMBER, sa.not_(_IS_USED))


def _bound(table: sa.Table, prefix: str, *names: str) -> dict[str, Any]:
    return {name: sa.bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names}


_NEW = _bound(messages, "new", "id", "content", "fingerprint")
_MESSAGE = {
    **_NEW,
    "m_id": sa.bindparam("key"),
    "room_id": _ROOM,
    "user_id": _USER,
    "message_type": sa.literal_column("'user'"),
    "status": sa.literal_column("'complete'"),
    "created_at": _NOW,
}
_ITS = _bound(
    replies, "reply", "id", "deadline_at", "status", "epoch", "attempts", "provider", "model", "reserved_tokens"
)
_REPLY = {
    **_ITS,
    "room_id": _ROOM,
    "prompt_id": _NEW["id"],
    "asked_by": _USER,
    "created_at": _NOW,
    "try_number": sa.literal_column("1"),
    "crashes": sa.literal_column("0"),
    "wasted_tokens": sa.literal_column("0"),
    "stop_requested": sa.false(),
    "lease_until": LEASED,
}
_ATTEMPT = {
    "reply_id": _ITS["id"],
    "number": _ITS["attempts"],
    "started_at": _NOW,
    **{name: _ITS[name] for name in ("epoch", "provider", "model")},
}
_SAID = _bound(messages, "said", "id", "m_id", "content", "fingerprint", "reply_to", "status")
_ANSWER = {**_SAID, "room_id": _ROOM, "message_type": sa.literal_column("'ai'"), "created_at": _NOW}
_CLOSE = (
    sa.update(attempts)
    .where(attempts.c.number == sa.bindparam("attempt_number", type_=sa.Integer))
    .values(_bound(attempts, "attempt", "ended_at", "outcome", "input_tokens", "output_tokens"))
)


def _insert(table: sa.Table, values: Mapping[str, Any], source: sa.FromClause, *where: sa.ColumnElement[bool]) -> Any:
    """One row of these columns; the others are null."""
    row = sa.select(*values.values()).select_from(source).where(*where)
    return sa.insert(table).from_select(list(values), row, include_defaults=False)


def _latest(room: sa.ColumnElement[Any], at_most: Any, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The latest that was said in a room, so many."""
    return (
        sa.select(*SAID_COLUMNS)
        .select_from(MESSAGES_NAMED)
        .where(messages.c.room_id == room, messages.c.status != "deleted", *where)
        .order_by(messages.c.seq.desc())
        .limit(at_most)
    )


def _or_undone(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """A column by which the whole statement fails, and so is undone, where this does not hold."""
    return (sa.literal(1) // sa.case((condition, 1), else_=0)).label("holds")


# --- PostgreSQL ---


@cache
def accepting(*, reply: bool, attempt: bool, at_most: int) -> sa.Executable:
    """The place, the message, what it asks for, and its context.

    All else is seen as it was before the statement waited for the room's row. Where the place is not the next one to
    what was seen, somebody has changed something in the room meanwhile, and nothing of it is done.
    """
    before = rooms.alias("before")
    placed = (
        _PLACE.where(before.c.id == rooms.c.id)
        .returning(rooms.c.last_seq.label("place"), before.c.last_seq.label("seen_seq"))
        .cte("placed")
    )
    done = _insert(messages, {**_MESSAGE, "seq": placed.c.place}, placed).returning(messages.c.id).cte("added")
    if reply:
        done = _insert(replies, _REPLY, done).returning(replies.c.id).cte("asked")
    if attempt:
        done = _insert(attempts, _ATTEMPT, done).returning(attempts.c.number).cte("begun")
    so_far = gathered(_latest(_ROOM, at_most).subquery("said"))
    return (
        sa.select(
            _NEW["id"].label("of"),
            placed.c.place,
            _or_undone(placed.c.place == placed.c.seen_seq + 1),
            latest_below(_ROOM, placed.c.place).label("the_summary"),
            *so_far.c,
        )
        .select_from(placed.join(so_far, sa.true()))
        .add_cte(done)
    )


def _answering() -> sa.Executable:
    """The place, the end of the reply, fenced by its epoch, the end of the request, and the message."""
    placed = TAKE_PLACE.where(sa.exists().where(CAN_END)).returning(rooms.c.last_seq).cte("placed")
    # After the room, as everywhere, so that no two transactions deadlock.
    ended = FINISH.where(sa.exists(sa.select(placed.c.last_seq))).returning(replies.c.id).cte("ended")
    closed = _CLOSE.where(attempts.c.reply_id == ended.c.id).returning(attempts.c.number).cte("closed")
    answer = _insert(messages, {**_ANSWER, "seq": placed.c.last_seq}, placed.join(ended, sa.true()))
    said = answer.returning(messages.c.seq).cte("said")
    return (
        sa.select(_SAID["id"].label("of"), said.c.seq, _or_undone(said.c.seq.is_not(None)))
        .select_from(placed.outerjoin(said, sa.true()))
        .add_cte(closed)
    )


#: What it finds is marked by the message's id.
ANSWERING = _answering()

# --- SQLite: nobody else writes meanwhile, so that what was looked at holds ---

#: Whether the statement before it did anything.
_DID = sa.func.changes() > 0
_HERE = rooms.c.id == _ROOM
_IS_SAID = sa.exists(sa.select(messages.c.id).where(messages.c.id == _SAID["id"]))

#: The ids by which calls are known.
_KNOWN = sa.func.json_each(sa.bindparam("known")).table_valued("key", "value").alias("known")


def _in_one_text(*found: sa.ColumnElement[Any]) -> sa.Function[str]:
    """In one row, for to step to the next one is, in Python, a word about the interpreter's lock."""
    return sa.func.json_group_array(sa.func.json_array(_KNOWN.c.key, *found))


def _accepted() -> sa.Select[Any]:
    """The place of each message, and its context: what had been said by then."""
    mine = messages.alias("mine")
    latest = _latest(mine.c.room_id, sa.bindparam("at_most", type_=sa.Integer), messages.c.seq <= mine.c.seq)
    said = sa.select(gathered_in_json(latest.correlate(mine).subquery("latest"))).scalar_subquery()
    return sa.select(
        _in_one_text(mine.c.seq, latest_below(mine.c.room_id, mine.c.seq), sa.func.json(said))
    ).select_from(_KNOWN.join(mine, mine.c.id == _KNOWN.c.value))


_Accepted = tuple[int, int, SummaryId | None, list[SaidInJson]]
_read_accepted = msgspec.json.Decoder(list[_Accepted]).decode
_read_places = msgspec.json.Decoder(list[tuple[int, int]]).decode


def _what_was_accepted(text: str) -> Iterator[tuple[int, Any]]:
    return ((at, (place, summary, said_in_json(said))) for at, place, summary, said in _read_accepted(text))


ACCEPT = Procedure(
    "accept_a_message",
    _PLACE,
    _insert(messages, {**_MESSAGE, "seq": rooms.c.last_seq}, rooms, _HERE, _DID),
    _insert(replies, _REPLY, rooms, _HERE, _DID, _ITS["id"].is_not(None)),
    _insert(attempts, _ATTEMPT, rooms, _HERE, _DID, _ITS["attempts"] > 0),
    known_by="new_id",
    finds=_accepted(),
    reads=_what_was_accepted,
    asks=("at_most",),
)
ANSWER = Procedure(
    "store_an_answer",
    TAKE_PLACE.where(sa.exists().where(CAN_END)),
    _insert(messages, {**_ANSWER, "seq": rooms.c.last_seq}, rooms, _HERE, _DID),
    _CLOSE.where(attempts.c.reply_id == sa.bindparam("of_reply"), _IS_SAID),
    # Last, since it points at the message.
    FINISH.where(_IS_SAID),
    known_by="said_id",
    finds=sa.select(_in_one_text(messages.c.seq)).select_from(_KNOWN.join(messages, messages.c.id == _KNOWN.c.value)),
    reads=_read_places,
)
PROCEDURES = (ACCEPT, ANSWER)

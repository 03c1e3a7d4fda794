"""What is done most, in as few statements as the database can: one on PostgreSQL.

The repositories say the same step by step, and the contract holds both to the same outcome.
"""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.compiled import Row
from adapters.sql.failures import violated
from adapters.sql.messages import MESSAGE_COLUMNS, MESSAGES_NAMED, SqlMessages, message_of, message_values
from adapters.sql.replies import (
    ATTEMPT_FIELDS,
    CAN_END,
    FINISH,
    LEASED,
    REPLY_COLUMNS,
    REPLY_FIELDS,
    SqlReplies,
    attempt_values,
    ending_values,
    lease_ms,
    reply_of,
    reply_values,
)
from adapters.sql.rooms import TAKE_PLACE, SqlRooms, ai_values
from adapters.sql.statements import SqlStatements
from adapters.sql.summaries import latest_below
from adapters.sql.tables import attempts, memberships, messages, replies, rooms, users
from chat_core.domain.ids import ReplyId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.domain.room import RoomAI
from chat_core.errors import Contention
from chat_core.ports.storage import Accepted, Answered, Context, DuplicateMessage, Offer

_ROOM = sa.bindparam("of_room", type_=sa.Uuid)
_USER = sa.bindparam("of_user", type_=sa.Uuid)
_MESSAGE_FIELDS = tuple(column.name for column in messages.columns)

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


def _new(table: sa.Table, prefix: str, names: Sequence[str], **instead: Any) -> list[Any]:
    """A row of bound values, and of those that are given ``instead``."""
    bound = {name: sa.bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names}
    return [instead.get(name, bound[name]) for name in names]


def _insert(table: sa.Table, names: Sequence[str], values: Sequence[Any], where: sa.FromClause) -> Any:
    row = sa.select(*values).select_from(where)
    return sa.insert(table).from_select(list(names), row, include_defaults=False)


def _accepting(*, reply: bool, attempt: bool) -> sa.Executable:
    """The place, the message, what it asks for, and its context.

    All else is seen as it was before the statement waited for the room's row: ``seen_seq`` tells whether the place is
    the next one to what was seen. Whoever changes anything in a room takes a place with it.
    """
    before = rooms.alias("before")
    placed = (
        _PLACE.where(before.c.id == rooms.c.id)
        .returning(rooms.c.last_seq.label("place"), before.c.last_seq.label("seen_seq"))
        .cte("placed")
    )
    message = _new(messages, "new", _MESSAGE_FIELDS, seq=placed.c.place)
    done = _insert(messages, _MESSAGE_FIELDS, message, placed).returning(messages.c.id).cte("added")
    if reply:
        values = [*_new(replies, "reply", REPLY_FIELDS), LEASED]
        done = _insert(replies, [*REPLY_FIELDS, "lease_until"], values, done).returning(replies.c.id).cte("asked")
    if attempt:
        values = _new(attempts, "attempt", ATTEMPT_FIELDS)
        done = _insert(attempts, ATTEMPT_FIELDS, values, done).returning(attempts.c.number).cte("begun")
    said = (
        sa.select(*MESSAGE_COLUMNS)
        .select_from(MESSAGES_NAMED)
        .where(messages.c.room_id == _ROOM, messages.c.status != "deleted")
        .order_by(messages.c.seq.desc())
        .limit(sa.bindparam("at_most", type_=sa.Integer))
        .subquery("said")
    )
    return (
        sa.select(placed.c.place, placed.c.seen_seq, latest_below(_ROOM, placed.c.place).label("the_summary"), *said.c)
        .select_from(placed.outerjoin(said, sa.true()))
        .order_by(said.c.seq)
        .add_cte(done)
    )


def _answering() -> sa.Executable:
    """The place, the end of the reply, fenced by its epoch, the end of the request, and the message."""
    placed = TAKE_PLACE.where(sa.exists().where(CAN_END)).returning(rooms.c.last_seq).cte("placed")
    # After the room, as everywhere, so that no two transactions deadlock.
    ended = FINISH.where(sa.exists(sa.select(placed.c.last_seq))).returning(replies.c.id).cte("ended")
    closed = (
        sa.update(attempts)
        .where(attempts.c.reply_id == ended.c.id, attempts.c.number == sa.bindparam("attempt_number", type_=sa.Integer))
        .values(
            {
                name: sa.bindparam(f"attempt_{name}", type_=attempts.c[name].type)
                for name in ("ended_at", "outcome", "input_tokens", "output_tokens")
            }
        )
        .returning(attempts.c.number)
        .cte("closed")
    )
    message = _new(messages, "said", _MESSAGE_FIELDS, seq=placed.c.last_seq)
    added = _insert(messages, _MESSAGE_FIELDS, message, placed.join(ended, sa.true()))
    said = added.returning(messages.c.seq).cte("said")
    return sa.select(said.c.seq).add_cte(closed)


_ACCEPT = {kind: _accepting(reply=kind[0], attempt=kind[1]) for kind in ((False, False), (True, False), (True, True))}
_ANSWER = _answering()
_TAKE = _PLACE.returning(rooms.c.last_seq)
_ANSWERED = (
    sa.select(*REPLY_COLUMNS, *(column.label(f"said_{column.name}") for column in MESSAGE_COLUMNS))
    .select_from(
        # One after the other: of joins within a join SQLite would make a table first, with every message there is.
        replies.outerjoin(messages, messages.c.id == replies.c.message_id).outerjoin(
            users, users.c.id == messages.c.user_id
        )
    )
    .where(replies.c.id == sa.bindparam("of_reply"))
)
_Said = namedtuple("_Said", [column.name for column in MESSAGE_COLUMNS])  # type: ignore[misc]


class SqlSteps:
    """Of one transaction."""

    def __init__(
        self, statements: SqlStatements, *, rooms: SqlRooms, messages: SqlMessages, replies: SqlReplies
    ) -> None:
        self._statements = statements
        self._rooms, self._messages, self._replies = rooms, messages, replies

    async def accept(self, offer: Offer) -> Accepted | None:
        if self._statements.dialect != "postgresql":
            return await self._accept_step_by_step(offer)
        message, asks = offer.message, offer.asks
        parameters = _place_values(offer) | {"at_most": max(0, offer.context - 1)}
        parameters |= {f"new_{name}": value for name, value in message_values(message, offer.fingerprint).items()}
        if asks is not None:
            parameters |= {f"reply_{name}": value for name, value in reply_values(asks.reply).items()}
            parameters |= {"lease_ms": lease_ms(asks.lease)}
            if asks.attempt is not None:
                parameters |= {f"attempt_{name}": value for name, value in attempt_values(asks.attempt).items()}
        kind = (asks is not None, asks is not None and asks.attempt is not None)
        try:
            rows = await self._statements.rows(_ACCEPT[kind], parameters)
        except exc.IntegrityError as error:
            if violated(error) == "uq_messages_room_id_user_id_m_id":
                raise DuplicateMessage from error
            raise
        if not rows:
            return None
        message = replace(message, seq=rows[0].place)
        if rows[0].place != rows[0].seen_seq + 1:
            return await self._looked_at_again(offer, message)
        return Accepted(message=message, context=await self._context(offer, message, rows))

    async def _looked_at_again(self, offer: Offer, message: Message) -> Accepted:
        """Somebody was in the room meanwhile: only what begins after the lock sees what they changed."""
        membership = await self._rooms.membership(message.room_id, offer.sender)
        if membership is None or not membership.active:
            raise Contention
        return Accepted(message=message, context=await self._read_context(offer, message))

    async def _context(self, offer: Offer, message: Message, rows: Sequence[Row]) -> Context | None:
        if not offer.context:
            return None
        summary_id = rows[0].the_summary
        return Context(
            messages=[*(message_of(row) for row in rows if row.id is not None), message],
            summary=await self._messages.summaries.get(summary_id) if summary_id else None,
        )

    async def _read_context(self, offer: Offer, message: Message) -> Context | None:
        if not offer.context:
            return None
        return await self._messages.context(message.room_id, message.seq, offer.context)

    async def _accept_step_by_step(self, offer: Offer) -> Accepted | None:
        row = await self._statements.row(_TAKE, _place_values(offer))
        if row is None:
            return None
        message = replace(offer.message, seq=row.last_seq)
        await self._messages.add(message, offer.fingerprint, offer.asks)
        return Accepted(message=message, context=await self._read_context(offer, message))

    async def answer(self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None) -> int | None:
        parameters = ending_values(reply)
        parameters |= {"of_room": message.room_id, "more": 1, "now": message.created_at}
        parameters |= {f"said_{name}": value for name, value in message_values(message, fingerprint).items()}
        # There is no request of number 0.
        made = attempt_values(attempt) if attempt is not None else dict.fromkeys(ATTEMPT_FIELDS) | {"number": 0}
        parameters |= {f"attempt_{name}": value for name, value in made.items()}
        row = await self._statements.row(_ANSWER, parameters)
        return None if row is None else int(row.seq)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        row = await self._statements.row(_ANSWERED, {"of_reply": reply_id})
        if row is None:
            return None
        message = message_of(_Said._make(row[len(REPLY_COLUMNS) :])) if row.said_id is not None else None
        return Answered(reply=reply_of(row), message=message)


def _place_values(offer: Offer) -> dict[str, Any]:
    message = offer.message
    believed = {f"believed_{name}": value for name, value in ai_values(offer.ai).items()}
    of = {"of_room": message.room_id, "of_user": offer.sender, "key": message.m_id}
    return {**of, "more": 1, "now": message.created_at, **believed}

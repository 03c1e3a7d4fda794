"""What is done most, in one trip to the database: one statement on PostgreSQL, several in SQLite's thread.

The repositories say the same step by step, and the contract holds both to the same outcome.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.batches import Own
from adapters.sql.compiled import Row
from adapters.sql.failures import divided_by_zero, violated
from adapters.sql.links import InThread
from adapters.sql.messages import (
    ADD_MESSAGE,
    CONTEXT,
    MESSAGE_COLUMNS,
    MESSAGES_NAMED,
    SAID_COLUMNS,
    context_values,
    gathered,
    message_of,
    message_values,
    said_in,
    said_of,
)
from adapters.sql.replies import (
    ADD_ATTEMPT,
    ADD_REPLY,
    CAN_END,
    END_ATTEMPT,
    FINISH,
    LEASED,
    REPLY_COLUMNS,
    attempt_values,
    closing_values,
    ending_values,
    lease_ms,
    reply_of,
    reply_values,
)
from adapters.sql.rooms import TAKE_PLACE, ai_values
from adapters.sql.statements import SqlStatements
from adapters.sql.summaries import SqlSummaries, latest_below
from adapters.sql.tables import attempts, memberships, messages, replies, rooms, users
from chat_core.domain.ids import ReplyId, SummaryId
from chat_core.domain.message import Message, Said
from chat_core.domain.reply import Attempt, Reply
from chat_core.domain.room import RoomAI
from chat_core.errors import Contention, NotAuthenticated
from chat_core.ports.storage import Accepted, Answered, Context, DuplicateMessage, Offer

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


def _insert(table: sa.Table, values: Mapping[str, Any], where: sa.FromClause) -> Any:
    """One row of these columns; the others are null."""
    row = sa.select(*values.values()).select_from(where)
    return sa.insert(table).from_select(list(values), row, include_defaults=False)


def _bound(table: sa.Table, prefix: str, *names: str) -> dict[str, Any]:
    return {name: sa.bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names}


def _or_undone(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """A column by which the whole statement fails, and so is undone, where this does not hold."""
    return (sa.literal(1) // sa.case((condition, 1), else_=0)).label("holds")


@cache
def _accepting(*, reply: bool, attempt: bool, at_most: int) -> sa.Executable:
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
    new = _bound(messages, "new", "id", "content", "fingerprint")
    message = {
        **new,
        "seq": placed.c.place,
        "m_id": sa.bindparam("key"),
        "room_id": _ROOM,
        "user_id": _USER,
        "message_type": sa.literal_column("'user'"),
        "status": sa.literal_column("'complete'"),
        "created_at": _NOW,
    }
    done = _insert(messages, message, placed).returning(messages.c.id).cte("added")
    its = _bound(
        replies, "reply", "id", "deadline_at", "status", "epoch", "attempts", "provider", "model", "reserved_tokens"
    )
    if reply:
        asked = {
            **its,
            "room_id": _ROOM,
            "prompt_id": new["id"],
            "asked_by": _USER,
            "created_at": _NOW,
            "try_number": sa.literal_column("1"),
            "crashes": sa.literal_column("0"),
            "wasted_tokens": sa.literal_column("0"),
            "stop_requested": sa.false(),
            "lease_until": LEASED,
        }
        done = _insert(replies, asked, done).returning(replies.c.id).cte("asked")
    if attempt:
        begun = {
            "reply_id": its["id"],
            "number": its["attempts"],
            "started_at": _NOW,
            **{name: its[name] for name in ("epoch", "provider", "model")},
        }
        done = _insert(attempts, begun, done).returning(attempts.c.number).cte("begun")
    said = (
        sa.select(*SAID_COLUMNS)
        .select_from(MESSAGES_NAMED)
        .where(messages.c.room_id == _ROOM, messages.c.status != "deleted")
        .order_by(messages.c.seq.desc())
        .limit(at_most)
        .subquery("said")
    )
    so_far = gathered(said)
    return (
        sa.select(
            new["id"].label("of"),
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
    new = _bound(messages, "said", "id", "m_id", "content", "fingerprint", "reply_to", "status")
    message = {
        **new,
        "seq": placed.c.last_seq,
        "room_id": _ROOM,
        "message_type": sa.literal_column("'ai'"),
        "created_at": _NOW,
    }
    said = _insert(messages, message, placed.join(ended, sa.true())).returning(messages.c.seq).cte("said")
    return (
        sa.select(new["id"].label("of"), said.c.seq, _or_undone(said.c.seq.is_not(None)))
        .select_from(placed.outerjoin(said, sa.true()))
        .add_cte(closed)
    )


_ANSWER = _answering()
_TAKE = _PLACE.returning(rooms.c.last_seq)
_TAKE_ANY = TAKE_PLACE.returning(rooms.c.last_seq)
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

    def __init__(self, statements: SqlStatements, summaries: SqlSummaries) -> None:
        self._statements, self._summaries = statements, summaries

    async def accept(self, offer: Offer) -> Accepted | None:
        if self._statements.dialect != "postgresql":
            return await self._accept_in_one_trip(offer)
        message, asks = offer.message, offer.asks
        parameters = _place_values(offer)
        parameters |= {
            "new_id": message.id,
            "new_content": message.content,
            "new_fingerprint": offer.fingerprint,
        }
        if asks is not None:
            reply = asks.reply
            parameters |= {
                "reply_id": reply.id,
                "reply_deadline_at": reply.deadline_at,
                "reply_status": reply.status.value,
                "reply_epoch": reply.epoch,
                "reply_attempts": reply.attempts,
                "reply_provider": reply.provider,
                "reply_model": reply.model,
                "reply_reserved_tokens": reply.reserved_tokens,
                "lease_ms": lease_ms(asks.lease),
            }
        statement = _accepting(
            reply=asks is not None,
            attempt=asks is not None and asks.attempt is not None,
            at_most=max(0, offer.context - 1),
        )
        try:
            rows = await self._one(statement, parameters, message, alone=offer.alone)
        except exc.DBAPIError as error:
            if divided_by_zero(error):
                raise Contention from error
            if isinstance(error, exc.IntegrityError) and violated(error) == "uq_messages_room_id_user_id_m_id":
                raise DuplicateMessage from error
            raise
        if not rows:
            return None
        message = replace(message, seq=rows[0].place)
        if not offer.context:
            return Accepted(message=message)
        said = [*said_in(rows[0]), Said.of(message)]
        return Accepted(message=message, context=await self._context(said, rows[0].the_summary, offer))

    async def _one(
        self, statement: sa.Executable, parameters: dict[str, Any], message: Message, *, alone: bool
    ) -> Sequence[Row]:
        if not alone:
            return await self._statements.rows(statement, parameters)
        own = Own(mark=message.id, locks=message.room_id)
        return await self._statements.lasting(statement, parameters, own)

    async def _context(self, said: Sequence[Said], summary_id: SummaryId | None, offer: Offer) -> Context:
        return Context(messages=said, summary=await self._summaries.ready(summary_id, alone=offer.alone))

    async def _accept_in_one_trip(self, offer: Offer) -> Accepted | None:
        def work(database: InThread) -> tuple[int, list[Row]] | None:
            rows = database.rows(_TAKE, _place_values(offer))
            if not rows:
                return None
            place = int(rows[0].last_seq)
            message = replace(offer.message, seq=place)
            new = message_values(message, offer.fingerprint).items()
            if not database.run(ADD_MESSAGE, {f"new_{name}": value for name, value in new}):
                raise NotAuthenticated
            if offer.asks is not None:
                lease = {"lease_ms": lease_ms(offer.asks.lease)}
                database.run(ADD_REPLY, reply_values(offer.asks.reply) | lease)
                if offer.asks.attempt is not None:
                    database.run(ADD_ATTEMPT, attempt_values(offer.asks.attempt))
            wanted = offer.context
            return place, database.rows(CONTEXT, context_values(message.room_id, place, wanted)) if wanted else []

        done = await self._statements.together(work, commits=offer.alone)
        if done is None:
            return None
        place, rows = done
        message = replace(offer.message, seq=place)
        if not offer.context:
            return Accepted(message=message)
        said = [said_of(row) for row in reversed(rows)]
        return Accepted(message=message, context=await self._context(said, rows[0].summary_id, offer))

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool
    ) -> int | None:
        if self._statements.dialect != "postgresql":
            return await self._answer_in_one_trip(message, fingerprint, reply, attempt, alone=alone)
        parameters = ending_values(reply) | _place_of(message)
        parameters |= {
            "said_id": message.id,
            "said_m_id": message.m_id,
            "said_content": message.content,
            "said_fingerprint": fingerprint,
            "said_reply_to": message.reply_to,
            "said_status": message.status.value,
            # There is no request of number 0.
            "attempt_number": attempt.number if attempt else 0,
            "attempt_ended_at": attempt.ended_at if attempt else None,
            "attempt_outcome": attempt.outcome if attempt else None,
            "attempt_input_tokens": attempt.input_tokens if attempt else None,
            "attempt_output_tokens": attempt.output_tokens if attempt else None,
        }
        try:
            rows = await self._one(_ANSWER, parameters, message, alone=alone)
        except exc.DBAPIError as error:
            if divided_by_zero(error):
                return None  # somebody else ended the reply while this waited for the room
            raise
        return int(rows[0].seq) if rows else None

    async def _answer_in_one_trip(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool
    ) -> int | None:
        def work(database: InThread) -> int | None:
            rows = database.rows(_TAKE_ANY, _place_of(message))
            if not rows:
                return None
            place = int(rows[0].last_seq)
            new = message_values(replace(message, seq=place), fingerprint).items()
            database.run(ADD_MESSAGE, {f"new_{name}": value for name, value in new})
            if attempt is not None:
                database.run(END_ATTEMPT, closing_values(attempt))
            # Last, since it points at the message.
            return place if database.run(FINISH, ending_values(reply)) else None

        return await self._statements.together(work, commits=alone)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        row = await self._statements.row(_ANSWERED, {"of_reply": reply_id})
        if row is None:
            return None
        message = message_of(_Said._make(row[len(REPLY_COLUMNS) :])) if row.said_id is not None else None
        return Answered(reply=reply_of(row), message=message)


def _place_of(message: Message) -> dict[str, Any]:
    return {"of_room": message.room_id, "more": 1, "now": message.created_at}


def _place_values(offer: Offer) -> dict[str, Any]:
    believed = {f"believed_{name}": value for name, value in ai_values(offer.ai).items()}
    return {**_place_of(offer.message), "of_user": offer.sender, "key": offer.message.m_id, **believed}

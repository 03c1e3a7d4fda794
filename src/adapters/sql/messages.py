"""Messages: one row is the message as it is now, and its creation in the room's log."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.compiled import Row
from adapters.sql.failures import violated
from adapters.sql.replies import (
    ATTEMPT_FIELDS,
    LEASED,
    REPLY_FIELDS,
    SqlReplies,
    attempt_values,
    lease_ms,
    reply_values,
)
from adapters.sql.statements import SqlStatements
from adapters.sql.summaries import SqlSummaries, latest_below
from adapters.sql.tables import attempts, memberships, messages, replies, rooms, users
from chat_core.domain.ids import MessageId, RoomId, UserId
from chat_core.domain.message import AI_NAME, DELETED_NAME, Message, MessageKind, MessageStatus, Said
from chat_core.domain.room import Standing, Visibility, is_open_to
from chat_core.errors import NotAuthenticated
from chat_core.ports.storage import Asks, Context, DuplicateMessage, MessagePage, Messages, StoredSend

#: Nobody's, where the account was ended; its name is that of a deleted user by then.
_AUTHOR = sa.case((users.c.ended_at.is_(None), messages.c.user_id)).label("user_id")
_FIELDS = (
    messages.c.id,
    messages.c.m_id,
    messages.c.seq,
    messages.c.content,
    _AUTHOR,
    messages.c.room_id,
    messages.c.message_type,
    messages.c.created_at,
    messages.c.reply_to,
    messages.c.edited_at,
    messages.c.status,
)
#: A message with its author's name, and where from.
MESSAGE_COLUMNS = (*_FIELDS, users.c.username)
MESSAGES_NAMED = messages.outerjoin(users, users.c.id == messages.c.user_id)
_SELECT = sa.select(*MESSAGE_COLUMNS).select_from(MESSAGES_NAMED)
_IN_ROOM = messages.c.room_id == sa.bindparam("of_room", type_=sa.Uuid)

# Of the AI, and of somebody whose account was not ended: the row of one that was is still there to point at.
ADD_MESSAGE = sa.insert(messages).from_select(
    [column.name for column in messages.columns],
    sa.select(*(sa.bindparam(f"new_{column.name}", type_=column.type) for column in messages.columns)).where(
        sa.or_(
            sa.bindparam("new_user_id", type_=messages.c.user_id.type).is_(None),
            sa.exists().where(users.c.id == sa.bindparam("new_user_id"), users.c.ended_at.is_(None)),
        )
    ),
    include_defaults=False,
)
# PostgreSQL: both rows at once, the second one only where there is the first.
_ADDED = ADD_MESSAGE.returning(messages.c.id).cte("added")
_ADD_WITH_REPLY: Any = sa.insert(replies).from_select(
    [*REPLY_FIELDS, "lease_until"],
    sa.select(
        *(sa.bindparam(f"reply_{name}", type_=replies.c[name].type) for name in REPLY_FIELDS), LEASED
    ).select_from(_ADDED),
    include_defaults=False,
)
_ASKED = _ADD_WITH_REPLY.returning(replies.c.id).cte("asked")
_ADD_WITH_ATTEMPT = sa.insert(attempts).from_select(
    ATTEMPT_FIELDS,
    sa.select(*(sa.bindparam(f"attempt_{name}", type_=attempts.c[name].type) for name in ATTEMPT_FIELDS)).select_from(
        _ASKED
    ),
    include_defaults=False,
)
_GET = _SELECT.where(messages.c.id == sa.bindparam("of_message"))
_SENT = _SELECT.add_columns(messages.c.fingerprint).where(
    _IN_ROOM, messages.c.user_id == sa.bindparam("of_user"), messages.c.m_id == sa.bindparam("key")
)
_SAVE = (
    sa.update(messages)
    .where(messages.c.id == sa.bindparam("of_message"))
    .values(
        content=sa.bindparam("new_content"),
        edited_at=sa.bindparam("new_edited_at"),
        status=sa.bindparam("new_status"),
    )
)
#: What a prompt needs of a message, in the order of ``Said``.
SAID_COLUMNS = (messages.c.seq, messages.c.message_type, _AUTHOR, users.c.username, messages.c.content)
_CONTEXT = (
    sa.select(*SAID_COLUMNS)
    .select_from(MESSAGES_NAMED)
    .add_columns(latest_below(sa.bindparam("of_room", type_=sa.Uuid), sa.bindparam("up_to")).label("summary_id"))
    .where(_IN_ROOM, messages.c.seq <= sa.bindparam("up_to"), messages.c.status != "deleted")
    .order_by(messages.c.seq.desc())
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
_AT = (
    sa.select(messages.c.id)
    .where(_IN_ROOM, messages.c.seq.in_(sa.bindparam("places", expanding=True)))
    .order_by(messages.c.seq)
)


@cache
def _newest(at_most: int) -> sa.Select[Any]:
    return _SELECT.where(_IN_ROOM).order_by(messages.c.seq.desc()).limit(at_most)


@cache
def _around(at_most_below: int, at_most_above: int) -> sa.CompoundSelect[Any]:
    """Both sides of a place in one statement, each by the index and no further than asked for."""
    place = sa.bindparam("place", type_=sa.BigInteger)
    below = (
        _SELECT.where(_IN_ROOM, messages.c.seq < place)
        .order_by(messages.c.seq.desc())
        .limit(at_most_below)
        .subquery("below")
    )
    above = (
        _SELECT.where(_IN_ROOM, messages.c.seq >= place).order_by(messages.c.seq).limit(at_most_above).subquery("above")
    )
    return sa.union_all(sa.select(below), sa.select(above))


@cache
def _behind_its_door(page: sa.Select[Any] | sa.CompoundSelect[Any]) -> sa.Executable:
    """In each row, and in one without a message where there is none, what says whether the room is open to somebody; no
    row where there is no room."""
    found = page.subquery("found")
    standing = sa.and_(
        memberships.c.room_id == rooms.c.id, memberships.c.user_id == sa.bindparam("of_user", type_=sa.Uuid)
    )
    return (
        sa.select(*found.c, memberships.c.standing, rooms.c.visibility)
        .select_from(rooms.outerjoin(memberships, standing).outerjoin(found, sa.true()))
        .where(rooms.c.id == sa.bindparam("of_room", type_=sa.Uuid), rooms.c.deleted_at.is_(None))
    )


# Of a page there are hundreds: looking one up takes a fifth of calling its class, and a name of our own a fourth of one
# in the class.
_AI = MessageKind.AI
_KINDS = {kind.value: kind for kind in MessageKind}
_STATUSES = {status.value: status for status in MessageStatus}


def message_of(row: Row) -> Message:
    """Of a row that begins with ``MESSAGE_COLUMNS``."""
    return _message(*row)


def _message(
    id_: MessageId,
    m_id: str,
    seq: int,
    content: str,
    user_id: UserId | None,
    room_id: RoomId,
    message_type: str,
    created_at: datetime,
    reply_to: MessageId | None,
    edited_at: datetime | None,
    status: str,
    username: str | None,
    *_: object,
) -> Message:
    """Of a row's values; there may be others behind them."""
    kind = _KINDS[message_type]
    return Message(
        id=id_,
        m_id=m_id,
        seq=seq,
        content=content,
        user_id=user_id,
        room_id=room_id,
        kind=kind,
        username=AI_NAME if kind is _AI else username or DELETED_NAME,
        created_at=created_at,
        reply_to=reply_to,
        edited_at=edited_at,
        status=_STATUSES[status],
    )


_seq_of = attrgetter("seq")


class _Asked(NamedTuple):
    """Which messages of a room: so many below a place, and so many from it on; without a place the newest."""

    below: int
    above: int
    place: int | None = None

    @classmethod
    def by(cls, limit: int, before: int | None, after: int | None, around: int | None) -> "_Asked":
        if before is not None:
            return cls(limit, 0, before)
        if after is not None:
            return cls(0, limit, after + 1)
        if around is not None:
            return cls(limit // 2, limit - limit // 2, around)
        return cls(limit, 0)

    @property
    def statement(self) -> sa.Select[Any] | sa.CompoundSelect[Any]:
        """One more of each tells whether there are more."""
        return _newest(self.below + 1) if self.place is None else _around(self.below + 1, self.above + 1)

    def page(self, rows: Sequence[Sequence[Any]]) -> MessagePage:
        found = sorted((_message(*row) for row in rows), key=_seq_of)
        split = len(found) if self.place is None else bisect_left(found, self.place, key=_seq_of)
        older = min(self.below, split)
        return MessagePage(
            messages=found[split - older : split + self.above],
            has_older=split > self.below,
            has_newer=len(found) - split > self.above,
        )


def said_of(row: Row) -> Said:
    return _said(row.seq, row.message_type, row.user_id, row.username, row.content)


def _said(seq: int, message_type: str, user_id: UserId | None, username: str | None, content: str) -> Said:
    kind = _KINDS[message_type]
    return Said(seq, kind, user_id, AI_NAME if kind is _AI else username or DELETED_NAME, content)


def gathered(said: sa.FromClause) -> sa.FromClause:
    """All that was said in one row (PostgreSQL): a column is an array, so that what else is known comes once."""
    columns = (sa.func.array_agg(said.c[column.name]).label(f"said_{column.name}") for column in SAID_COLUMNS)
    return sa.select(*columns).lateral("so_far")


def said_in(row: Row) -> list[Said]:
    """What ``gathered`` gave, in the order of the room."""
    if row.said_seq is None:
        return []
    columns = (row.said_seq, row.said_message_type, row.said_user_id, row.said_username, row.said_content)
    # No two have the same place.
    return sorted(map(_said, *columns))


def gathered_in_json(said: sa.FromClause) -> sa.ColumnElement[str]:
    """The same as a text (SQLite)."""
    return sa.func.json_group_array(sa.func.json_array(*(said.c[column.name] for column in SAID_COLUMNS)))


SaidInJson = tuple[int, str, UserId | None, str | None, str]


def said_in_json(rows: Iterable[SaidInJson]) -> list[Said]:
    """What ``gathered_in_json`` gave, in the order of the room."""
    return sorted(_said(*values) for values in rows)


def message_values(message: Message, fingerprint: bytes) -> dict[str, Any]:
    return {
        "id": message.id,
        "m_id": message.m_id,
        "room_id": message.room_id,
        "seq": message.seq,
        "user_id": message.user_id,
        "message_type": message.kind.value,
        "content": message.content,
        "fingerprint": fingerprint,
        "created_at": message.created_at,
        "reply_to": message.reply_to,
        "edited_at": message.edited_at,
        "status": message.status.value,
    }


def _context_values(room_id: RoomId, up_to: int, limit: int) -> dict[str, Any]:
    """The parameters of ``_CONTEXT``, whose rows are newest first, each with the id of the summary."""
    return {"of_room": room_id, "up_to": up_to, "at_most": limit}


class SqlMessages(Messages):
    def __init__(self, statements: SqlStatements, replies: SqlReplies, summaries: SqlSummaries) -> None:
        self._statements = statements
        self.summaries = summaries
        self._replies = replies

    async def add(self, message: Message, fingerprint: bytes, asks: Asks | None = None) -> None:
        new = {f"new_{name}": value for name, value in message_values(message, fingerprint).items()}
        statement: sa.Executable = ADD_MESSAGE
        if asks is not None and self._statements.dialect == "postgresql":
            statement = _ADD_WITH_REPLY
            new |= {f"reply_{name}": value for name, value in reply_values(asks.reply).items()}
            new |= {"lease_ms": lease_ms(asks.lease)}
            if asks.attempt is not None:
                statement = _ADD_WITH_ATTEMPT
                new |= {f"attempt_{name}": value for name, value in attempt_values(asks.attempt).items()}
        try:
            added = await self._statements.run(statement, new)
        except exc.IntegrityError as error:
            if violated(error) == "uq_messages_room_id_user_id_m_id":
                raise DuplicateMessage from error
            raise
        if not added:
            raise NotAuthenticated
        if asks is not None and statement is ADD_MESSAGE:
            await self._replies.add(asks.reply, asks.lease)
            if asks.attempt is not None:
                await self._replies.begin_attempt(asks.attempt)

    async def get(self, message_id: MessageId) -> Message | None:
        row = await self._statements.row(_GET, {"of_message": message_id})
        return None if row is None else message_of(row)

    async def sent(self, room_id: RoomId, user_id: UserId, m_id: str) -> StoredSend | None:
        row = await self._statements.row(_SENT, {"of_room": room_id, "of_user": user_id, "key": m_id})
        return None if row is None else StoredSend(message=message_of(row), fingerprint=row.fingerprint)

    async def save(self, message: Message) -> None:
        await self._statements.run(
            _SAVE,
            {
                "of_message": message.id,
                "new_content": message.content,
                "new_edited_at": message.edited_at,
                "new_status": message.status.value,
            },
        )

    async def page(
        self,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage:
        asked = _Asked.by(limit, before, after, around)
        rows = await self._statements.values(asked.statement, {"of_room": room_id, "place": asked.place})
        return asked.page(rows)

    async def page_for(
        self,
        user_id: UserId,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage | None:
        """In one trip."""
        asked = _Asked.by(limit, before, after, around)
        parameters = {"of_room": room_id, "of_user": user_id, "place": asked.place}
        rows = await self._statements.values(_behind_its_door(asked.statement), parameters)
        if not rows:
            return None
        standing, visibility = rows[0][len(MESSAGE_COLUMNS) :]
        if not is_open_to(Standing(standing) if standing else None, Visibility(visibility)):
            return None
        # There is one row without a message where there is no other.
        return asked.page(rows if rows[0][0] is not None else ())

    async def context(self, room_id: RoomId, up_to: int, limit: int) -> Context:
        rows = await self._statements.rows(_CONTEXT, _context_values(room_id, up_to, limit))
        summary_id = rows[0].summary_id if rows else None
        return Context(
            messages=[said_of(row) for row in reversed(rows)],
            summary=await self.summaries.ready(summary_id),
        )

    async def at(self, room_id: RoomId, seqs: Sequence[int]) -> Sequence[MessageId]:
        rows = await self._statements.rows(_AT, {"of_room": room_id, "places": list(seqs)}) if seqs else ()
        return [row.id for row in rows]

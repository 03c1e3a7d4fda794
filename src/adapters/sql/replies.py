"""Answers in the making. Each change is one statement that also decides whether it may be made."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.clock import database_now_ms
from adapters.sql.compiled import Row
from adapters.sql.failures import violated
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import UNFINISHED, attempts, replies, reply_parts, users
from chat_core.domain.ids import MessageId, ReplyId, RoomId, UserId
from chat_core.domain.reply import Attempt, Cuts, Part, Place, Reply, ReplyStatus, Sources
from chat_core.errors import Contention
from chat_core.ports.storage import DayUsage, Load, Replies

REPLY_COLUMNS = (
    replies.c.id,
    replies.c.room_id,
    replies.c.prompt_id,
    replies.c.asked_by,
    replies.c.created_at,
    replies.c.deadline_at,
    replies.c.try_number,
    replies.c.status,
    replies.c.epoch,
    replies.c.attempts,
    replies.c.crashes,
    replies.c.stop_requested,
    replies.c.message_id,
    replies.c.provider,
    replies.c.model,
    replies.c.finish_reason,
    replies.c.error_code,
    replies.c.input_tokens,
    replies.c.output_tokens,
    replies.c.wasted_tokens,
    replies.c.finished_at,
    replies.c.cuts,
    replies.c.sources,
    replies.c.summary_id,
    replies.c.model_asked,
    replies.c.reserved_tokens,
)
_THIS = replies.c.id == sa.bindparam("of_reply")
_RUNNING = replies.c.status == "running"
_IN_EPOCH = sa.and_(_THIS, _RUNNING, replies.c.epoch == sa.bindparam("in_epoch"))
_FREE = sa.or_(replies.c.status == "queued", sa.and_(_RUNNING, replies.c.lease_until <= database_now_ms()))
LEASED = database_now_ms() + sa.bindparam("lease_ms", type_=sa.BigInteger)

_ADD_REPLY = sa.insert(replies).values(lease_until=LEASED)
_GET = sa.select(*REPLY_COLUMNS).where(_THIS)
_NEWEST = (
    sa.select(*REPLY_COLUMNS)
    .where(replies.c.prompt_id == sa.bindparam("of_prompt"))
    .order_by(replies.c.try_number.desc())
    .limit(1)
)
_UNFINISHED = (
    sa.select(*REPLY_COLUMNS)
    .where(replies.c.room_id.in_(sa.bindparam("of_rooms", expanding=True)), UNFINISHED)
    .order_by(replies.c.created_at, replies.c.id)
)
_UNFINISHED_FOR = (
    sa.select(*REPLY_COLUMNS)
    .where(replies.c.asked_by == sa.bindparam("of_user"), UNFINISHED)
    .order_by(replies.c.created_at, replies.c.id)
)
_COUNT_UNFINISHED = sa.select(sa.func.count().label("unfinished")).where(
    replies.c.asked_by == sa.bindparam("of_user"), UNFINISHED
)
_SINCE = sa.and_(
    replies.c.asked_by == sa.bindparam("of_user"),
    replies.c.created_at >= sa.bindparam("since", type_=replies.c.created_at.type),
)
_IN, _OUT = sa.func.coalesce(replies.c.input_tokens, 0), sa.func.coalesce(replies.c.output_tokens, 0)
_UNCOUNTED = sa.and_(
    replies.c.message_id.is_not(None), replies.c.input_tokens.is_(None), replies.c.output_tokens.is_(None)
)
_CHARGE = replies.c.wasted_tokens + sa.case(
    (sa.or_(replies.c.status.in_(("queued", "running")), _UNCOUNTED), replies.c.reserved_tokens), else_=_IN + _OUT
)
_CHARGES = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(_CHARGE), 0), sa.BigInteger).label("tokens")).where(_SINCE)


def _usage(day: sa.ColumnElement[str]) -> sa.Select[Any]:
    sums = {
        "input_tokens": sa.func.sum(_IN),
        "output_tokens": sa.func.sum(_OUT),
        "wasted_tokens": sa.func.sum(replies.c.wasted_tokens),
    }
    tokens = [sa.cast(total, sa.BigInteger).label(name) for name, total in sums.items()]
    return (
        sa.select(day.label("day"), replies.c.room_id, *tokens)
        .where(_SINCE)
        .group_by(day, replies.c.room_id)
        .having(sa.func.sum(_IN + _OUT + replies.c.wasted_tokens) > 0)
        .order_by(day.desc(), replies.c.room_id)
    )


_USAGE = {
    "postgresql": _usage(sa.func.to_char(sa.func.timezone("UTC", replies.c.created_at), sa.text("'YYYY-MM-DD'"))),
    "sqlite": _usage(sa.func.substr(sa.cast(replies.c.created_at, sa.Text), 1, 10)),
}
_HOLD_USER = sa.select(users.c.id).where(users.c.id == sa.bindparam("of_user")).with_for_update(key_share=True)

_DUE = (
    sa.select(replies.c.id)
    .where(
        UNFINISHED,
        # A queued one is free from when it was queued.
        replies.c.lease_until
        <= database_now_ms() - sa.case((_RUNNING, 0), else_=sa.bindparam("queued_for_ms", type_=sa.BigInteger)),
    )
    .order_by(replies.c.created_at, replies.c.id)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
CLAIM = (
    sa.update(replies)
    .where(_THIS, _FREE)
    .values(
        status="running",
        epoch=replies.c.epoch + 1,
        # The right-hand sides see the row as it was: running means that its maker's lease ran out.
        crashes=replies.c.crashes + sa.case((_RUNNING, 1), else_=0),
        lease_until=LEASED,
    )
)
_CLAIM = CLAIM.returning(*REPLY_COLUMNS)
_EXTEND = sa.update(replies).where(_IN_EPOCH).values(lease_until=LEASED).returning(*REPLY_COLUMNS)
_RELEASE = sa.update(replies).where(_IN_EPOCH).values(status="queued", lease_until=database_now_ms())
_REQUEST_STOP = sa.update(replies).where(_THIS, UNFINISHED).values(stop_requested=sa.true())
_STOPPING = (
    sa.select(replies.c.id)
    .where(UNFINISHED, _RUNNING, replies.c.stop_requested)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
_COUNT_ATTEMPT = (
    sa.update(replies)
    .where(_IN_EPOCH)
    .values(
        attempts=sa.bindparam("numbered", type_=sa.Integer),
        provider=sa.bindparam("by_provider", type_=sa.Text),
        model=sa.bindparam("by_model", type_=sa.Text),
    )
)
_ADD_ATTEMPT = sqlite.insert(attempts).on_conflict_do_nothing()
_COUNTED = _COUNT_ATTEMPT.returning(replies.c.id).cte("counted")
ATTEMPT_FIELDS = tuple(column.name for column in attempts.columns)
_BEGIN_ATTEMPT = (
    postgresql.insert(attempts)
    .from_select(
        ATTEMPT_FIELDS,
        sa.select(*(sa.bindparam(f"new_{name}", type_=attempts.c[name].type) for name in ATTEMPT_FIELDS)).select_from(
            _COUNTED
        ),
        include_defaults=False,
    )
    # One that is there already is told from one that is refused by the row that comes back.
    .on_conflict_do_update(index_elements=["reply_id", "number"], set_={"number": attempts.c.number})
)
_END_ATTEMPT = (
    sa.update(attempts)
    .where(attempts.c.reply_id == sa.bindparam("of_reply"), attempts.c.number == sa.bindparam("numbered"))
    .values(
        ended_at=sa.bindparam("new_ended_at"),
        outcome=sa.bindparam("new_outcome"),
        input_tokens=sa.bindparam("new_input_tokens"),
        output_tokens=sa.bindparam("new_output_tokens"),
    )
)
_ATTEMPTS = sa.select(attempts).where(attempts.c.reply_id == sa.bindparam("of_reply")).order_by(attempts.c.number)
#: It may be ended by whoever was its maker in this epoch.
CAN_END = sa.and_(_THIS, UNFINISHED, replies.c.epoch <= sa.bindparam("in_epoch"))
FINISH = (
    sa.update(replies)
    .where(CAN_END)
    .values(
        status=sa.bindparam("new_status"),
        message_id=sa.bindparam("new_message_id"),
        provider=sa.bindparam("new_provider"),
        model=sa.bindparam("new_model"),
        finish_reason=sa.bindparam("new_finish_reason"),
        error_code=sa.bindparam("new_error_code"),
        input_tokens=sa.bindparam("new_input_tokens"),
        output_tokens=sa.bindparam("new_output_tokens"),
        wasted_tokens=sa.bindparam("new_wasted_tokens"),
        finished_at=sa.bindparam("new_finished_at"),
        cuts=sa.bindparam("new_cuts"),
        sources=sa.bindparam("new_sources"),
        summary_id=sa.bindparam("new_summary_id"),
        model_asked=sa.bindparam("new_model_asked"),
        lease_until=sa.null(),
    )
)
_IS_IN_EPOCH = sa.select(replies.c.id).where(_IN_EPOCH)
_KEEP_PART = {
    "postgresql": postgresql.insert(reply_parts).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(reply_parts).on_conflict_do_nothing(),
}
_PARTS = (
    sa.select(reply_parts.c.number, reply_parts.c.content)
    .where(
        reply_parts.c.reply_id == sa.bindparam("of_reply"),
        reply_parts.c.epoch == sa.bindparam("in_epoch"),
        reply_parts.c.number > sa.bindparam("above"),
    )
    .order_by(reply_parts.c.number)
)
_SPENT_PARTS = (
    sa.select(reply_parts.c.reply_id)
    .distinct()
    .where(~sa.exists().where(replies.c.id == reply_parts.c.reply_id, UNFINISHED))
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
_DROP_PARTS = sa.delete(reply_parts).where(reply_parts.c.reply_id.in_(sa.bindparam("of_replies", expanding=True)))


def _cuts_of(text: str | None) -> Cuts | None:
    if text is None:
        return None
    base, _, lengths = text.partition(":")
    return Cuts(int(base), tuple(int(length) for length in lengths.split(",") if length))


def _written(cuts: Cuts | None) -> str | None:
    return None if cuts is None else f"{cuts.base}:{','.join(map(str, cuts.lengths))}"


def _ranges(seqs: Sequence[int]) -> str:
    """Rising numbers, as ``first-last`` with commas: those of a prompt are mostly one after the other."""
    ranges: list[list[int]] = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ",".join(f"{first}-{last}" for first, last in ranges)


def _sources_of(row: Row) -> Sources | None:
    if row.sources is None:
        return None
    ends = (text.split("-") for text in row.sources.split(",") if text)
    seqs = tuple(seq for first, last in ends for seq in range(int(first), int(last) + 1))
    return Sources(seqs=seqs, summary_id=row.summary_id, model=row.model_asked)


def reply_of(row: Row) -> Reply:
    return Reply(
        id=row.id,
        room_id=row.room_id,
        prompt_id=row.prompt_id,
        asked_by=row.asked_by,
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        try_number=row.try_number,
        status=ReplyStatus(row.status),
        epoch=row.epoch,
        attempts=row.attempts,
        crashes=row.crashes,
        stop_requested=row.stop_requested,
        message_id=row.message_id,
        provider=row.provider,
        model=row.model,
        finish_reason=row.finish_reason,
        error_code=row.error_code,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        wasted_tokens=row.wasted_tokens,
        finished_at=row.finished_at,
        cuts=_cuts_of(row.cuts),
        sources=_sources_of(row),
        reserved_tokens=row.reserved_tokens,
    )


def attempt_of(row: Row) -> Attempt:
    return Attempt(
        reply_id=row.reply_id,
        number=row.number,
        epoch=row.epoch,
        provider=row.provider,
        model=row.model,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )


_OF_SOURCES = ("sources", "summary_id", "model_asked")
REPLY_FIELDS = tuple(column.name for column in REPLY_COLUMNS)


def reply_values(reply: Reply) -> dict[str, Any]:
    values = {name: getattr(reply, name) for name in REPLY_FIELDS if name not in _OF_SOURCES}
    return values | _source_values(reply) | {"status": reply.status.value, "cuts": _written(reply.cuts)}


def _source_values(reply: Reply) -> dict[str, Any]:
    if reply.sources is None:
        return dict.fromkeys(_OF_SOURCES)
    return dict(
        zip(_OF_SOURCES, (_ranges(reply.sources.seqs), reply.sources.summary_id, reply.sources.model), strict=True)
    )


def attempt_values(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in ATTEMPT_FIELDS}


def lease_ms(seconds: float) -> int:
    return round(seconds * 1000)


def ending_values(reply: Reply) -> dict[str, Any]:
    """The parameters of ``FINISH``."""
    return {
        "of_reply": reply.id,
        "in_epoch": reply.epoch,
        "new_status": reply.status.value,
        "new_message_id": reply.message_id,
        "new_provider": reply.provider,
        "new_model": reply.model,
        "new_finish_reason": reply.finish_reason,
        "new_error_code": reply.error_code,
        "new_input_tokens": reply.input_tokens,
        "new_output_tokens": reply.output_tokens,
        "new_wasted_tokens": reply.wasted_tokens,
        "new_finished_at": reply.finished_at,
        "new_cuts": _written(reply.cuts),
        **{f"new_{name}": value for name, value in _source_values(reply).items()},
    }


def _closing_values(attempt: Attempt) -> dict[str, Any]:
    """The parameters of ``_END_ATTEMPT``."""
    return {
        "of_reply": attempt.reply_id,
        "numbered": attempt.number,
        "new_ended_at": attempt.ended_at,
        "new_outcome": attempt.outcome,
        "new_input_tokens": attempt.input_tokens,
        "new_output_tokens": attempt.output_tokens,
    }


class SqlReplies(Replies):
    def __init__(self, statements: SqlStatements) -> None:
        self._statements = statements

    async def add(self, reply: Reply, lease: float = 0.0) -> None:
        try:
            await self._statements.run(_ADD_REPLY, reply_values(reply) | {"lease_ms": lease_ms(lease)})
        except exc.IntegrityError as error:
            if violated(error) in ("uq_replies_unfinished", "uq_replies_prompt_id_try_number"):
                raise Contention from error
            raise

    async def get(self, reply_id: ReplyId) -> Reply | None:
        return await self._one(_GET, {"of_reply": reply_id})

    async def newest_for(self, prompt_id: MessageId) -> Reply | None:
        return await self._one(_NEWEST, {"of_prompt": prompt_id})

    async def unfinished_in(self, *room_ids: RoomId) -> Sequence[Reply]:
        return [reply_of(row) for row in await self._statements.rows(_UNFINISHED, {"of_rooms": room_ids})]

    async def unfinished_for(self, user_id: UserId) -> Sequence[Reply]:
        return [reply_of(row) for row in await self._statements.rows(_UNFINISHED_FOR, {"of_user": user_id})]

    async def load_of(self, user_id: UserId, since: datetime | None) -> Load:
        of_user = {"of_user": user_id}
        if self._statements.dialect == "postgresql":
            # In a statement of its own: one that waits for the lock would count what was there before it waited.
            await self._statements.rows(_HOLD_USER, of_user)
        row = await self._statements.row(_COUNT_UNFINISHED, of_user)
        tokens = await self.tokens_of(user_id, since) if since is not None else 0
        return Load(unfinished=row.unfinished if row else 0, tokens=tokens)

    async def tokens_of(self, user_id: UserId, since: datetime) -> int:
        row = await self._statements.row(_CHARGES, {"of_user": user_id, "since": since})
        return int(row.tokens) if row else 0

    async def usage_of(self, user_id: UserId, since: datetime) -> Sequence[DayUsage]:
        rows = await self._statements.rows(_USAGE[self._statements.dialect], {"of_user": user_id, "since": since})
        return [
            DayUsage(
                date=date.fromisoformat(row.day),
                room_id=row.room_id,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                wasted_tokens=row.wasted_tokens,
            )
            for row in rows
        ]

    async def claim(self, reply_id: ReplyId, lease: float) -> Reply | None:
        return await self._one(_CLAIM, {"of_reply": reply_id, "lease_ms": lease_ms(lease)})

    async def extend(self, reply_id: ReplyId, epoch: int, lease: float) -> Reply | None:
        return await self._one(_EXTEND, {"of_reply": reply_id, "in_epoch": epoch, "lease_ms": lease_ms(lease)})

    async def release(self, reply_id: ReplyId, epoch: int) -> bool:
        return await self._statements.run(_RELEASE, {"of_reply": reply_id, "in_epoch": epoch}) == 1

    async def request_stop(self, reply_id: ReplyId) -> None:
        await self._statements.run(_REQUEST_STOP, {"of_reply": reply_id})

    async def stopping(self, limit: int) -> Sequence[ReplyId]:
        return [row.id for row in await self._statements.rows(_STOPPING, {"at_most": limit})]

    async def begin_attempt(self, attempt: Attempt) -> bool:
        counted = {
            "of_reply": attempt.reply_id,
            "in_epoch": attempt.epoch,
            "numbered": attempt.number,
            "by_provider": attempt.provider,
            "by_model": attempt.model,
        }
        fields = attempt_values(attempt)
        if self._statements.dialect == "postgresql":
            new = {f"new_{name}": value for name, value in fields.items()}
            return await self._statements.run(_BEGIN_ATTEMPT, counted | new) == 1
        if not await self._statements.run(_COUNT_ATTEMPT, counted):
            return False
        await self._statements.run(_ADD_ATTEMPT, fields)
        return True

    async def end_attempt(self, attempt: Attempt) -> None:
        await self._statements.run(_END_ATTEMPT, _closing_values(attempt))

    async def attempts(self, reply_id: ReplyId) -> Sequence[Attempt]:
        return [attempt_of(row) for row in await self._statements.rows(_ATTEMPTS, {"of_reply": reply_id})]

    async def finish(self, reply: Reply) -> bool:
        changed = await self._statements.run(FINISH, ending_values(reply))
        return changed == 1

    async def keep_parts(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        in_epoch = {"of_reply": reply_id, "in_epoch": parts[0].epoch}
        if await self._statements.row(_IS_IN_EPOCH, in_epoch) is None:
            return False
        rows = [
            {"reply_id": reply_id, "epoch": part.epoch, "number": part.offset, "content": part.text} for part in parts
        ]
        await self._statements.run_many(_KEEP_PART[self._statements.dialect], rows)
        return True

    async def parts(self, reply_id: ReplyId, after: Place) -> Sequence[Part]:
        rows = await self._statements.rows(
            _PARTS, {"of_reply": reply_id, "in_epoch": after.epoch, "above": after.offset}
        )
        return [Part(after.epoch, row.number, row.content) for row in rows]

    async def spent_parts(self, limit: int) -> Sequence[ReplyId]:
        return [row.reply_id for row in await self._statements.rows(_SPENT_PARTS, {"at_most": limit})]

    async def drop_parts(self, reply_ids: Sequence[ReplyId]) -> None:
        await self._statements.run(_DROP_PARTS, {"of_replies": list(reply_ids)})

    async def due(self, limit: int, queued_for: float = 0.0) -> Sequence[ReplyId]:
        rows = await self._statements.rows(_DUE, {"at_most": limit, "queued_for_ms": lease_ms(queued_for)})
        return [row.id for row in rows]

    async def _one(self, statement: sa.Executable, parameters: dict[str, Any]) -> Reply | None:
        row = await self._statements.row(statement, parameters)
        return None if row is None else reply_of(row)

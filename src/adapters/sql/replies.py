"""Answers in the making. Each change is one statement that also decides whether it may be made."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.clock import database_now_ms
from adapters.sql.failures import violated
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import UNFINISHED, attempts, replies, reply_parts
from chat_core.domain.ids import MessageId, ReplyId, RoomId, UserId
from chat_core.domain.reply import Attempt, Cuts, Part, Place, Reply, ReplyStatus
from chat_core.errors import Contention
from chat_core.ports.storage import Replies

_COLUMNS = (
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
)
_THIS = replies.c.id == sa.bindparam("of_reply")
_RUNNING = replies.c.status == "running"
_IN_EPOCH = sa.and_(_THIS, _RUNNING, replies.c.epoch == sa.bindparam("in_epoch"))
_FREE = sa.or_(replies.c.status == "queued", sa.and_(_RUNNING, replies.c.lease_until <= database_now_ms()))
LEASED = database_now_ms() + sa.bindparam("lease_ms", type_=sa.BigInteger)

_ADD = sa.insert(replies).values(lease_until=LEASED)
_GET = sa.select(*_COLUMNS).where(_THIS)
_NEWEST = (
    sa.select(*_COLUMNS)
    .where(replies.c.prompt_id == sa.bindparam("of_prompt"))
    .order_by(replies.c.try_number.desc())
    .limit(1)
)
_UNFINISHED = (
    sa.select(*_COLUMNS)
    .where(replies.c.room_id.in_(sa.bindparam("of_rooms", expanding=True)), UNFINISHED)
    .order_by(replies.c.created_at, replies.c.id)
)
_UNFINISHED_FOR = (
    sa.select(*_COLUMNS)
    .where(replies.c.asked_by == sa.bindparam("of_user"), UNFINISHED)
    .order_by(replies.c.created_at, replies.c.id)
)
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
_CLAIM = (
    sa.update(replies)
    .where(_THIS, _FREE)
    .values(
        status="running",
        epoch=replies.c.epoch + 1,
        # The right-hand sides see the row as it was: running means that its maker's lease ran out.
        crashes=replies.c.crashes + sa.case((_RUNNING, 1), else_=0),
        lease_until=LEASED,
    )
    .returning(*_COLUMNS)
)
_EXTEND = sa.update(replies).where(_IN_EPOCH).values(lease_until=LEASED).returning(*_COLUMNS)
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
_FINISH = (
    sa.update(replies)
    .where(_THIS, UNFINISHED, replies.c.epoch <= sa.bindparam("in_epoch"))
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


def reply_of(row: sa.Row[Any]) -> Reply:
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
    )


def attempt_of(row: sa.Row[Any]) -> Attempt:
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


REPLY_FIELDS = tuple(column.name for column in _COLUMNS)


def reply_values(reply: Reply) -> dict[str, Any]:
    values = {name: getattr(reply, name) for name in REPLY_FIELDS}
    return values | {"status": reply.status.value, "cuts": _written(reply.cuts)}


def attempt_values(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in ATTEMPT_FIELDS}


def lease_ms(seconds: float) -> int:
    return round(seconds * 1000)


class SqlReplies(Replies):
    def __init__(self, statements: SqlStatements) -> None:
        self._statements = statements

    async def add(self, reply: Reply, lease: float = 0.0) -> None:
        try:
            await self._statements.run(_ADD, reply_values(reply) | {"lease_ms": lease_ms(lease)})
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
        await self._statements.run(
            _END_ATTEMPT,
            {
                "of_reply": attempt.reply_id,
                "numbered": attempt.number,
                "new_ended_at": attempt.ended_at,
                "new_outcome": attempt.outcome,
                "new_input_tokens": attempt.input_tokens,
                "new_output_tokens": attempt.output_tokens,
            },
        )

    async def attempts(self, reply_id: ReplyId) -> Sequence[Attempt]:
        return [attempt_of(row) for row in await self._statements.rows(_ATTEMPTS, {"of_reply": reply_id})]

    async def finish(self, reply: Reply) -> bool:
        changed = await self._statements.run(
            _FINISH,
            {
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
            },
        )
        return changed == 1

    async def keep_parts(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        in_epoch = {"of_reply": reply_id, "in_epoch": parts[0].epoch}
        if await self._statements.row(_IS_IN_EPOCH, in_epoch) is None:
            return False
        rows = [
            {"reply_id": reply_id, "epoch": part.epoch, "number": part.offset, "content": part.text} for part in parts
        ]
        await self._statements.run(_KEEP_PART[self._statements.dialect], rows)
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

"""Summaries of what was said in rooms."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.clock import database_now_ms
from adapters.sql.compiled import Row
from adapters.sql.statements import SqlStatements
from adapters.sql.tables import SUMMARY_DUE, summaries
from chat_core.domain.ids import RoomId, SummaryId
from chat_core.domain.summary import Summary, SummaryStatus
from chat_core.ports.storage import Summaries

_FIELDS = tuple(column.name for column in summaries.columns if column.name != "lease_until")
_COLUMNS = tuple(summaries.c[name] for name in _FIELDS)
_THIS = summaries.c.id == sa.bindparam("of_summary")
_READY = summaries.c.status == "ready"
_IN_EPOCH = sa.and_(_THIS, SUMMARY_DUE, summaries.c.epoch == sa.bindparam("in_epoch"))
_HELD = database_now_ms() + sa.bindparam("for_ms", type_=sa.BigInteger)

_NEW = sa.select(
    *(sa.bindparam(f"new_{name}", type_=summaries.c[name].type) for name in _FIELDS), database_now_ms()
).where(
    ~sa.exists().where(
        summaries.c.room_id == sa.bindparam("new_room_id"), _READY, summaries.c.up_to >= sa.bindparam("new_up_to")
    )
)
_ASK = {
    "postgresql": postgresql.insert(summaries)
    .from_select([*_FIELDS, "lease_until"], _NEW, include_defaults=False)
    .on_conflict_do_nothing(),
    # Where a conflict clause follows a SELECT, SQLite's grammar wants a WHERE there: it has one.
    "sqlite": sqlite.insert(summaries)
    .from_select([*_FIELDS, "lease_until"], _NEW, include_defaults=False)
    .on_conflict_do_nothing(),
}
_GET = sa.select(*_COLUMNS).where(_THIS)
_DUE = (
    sa.select(summaries.c.id)
    .where(SUMMARY_DUE, summaries.c.lease_until <= database_now_ms())
    .order_by(summaries.c.created_at, summaries.c.id)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
)
_CLAIM = (
    sa.update(summaries)
    .where(_THIS, SUMMARY_DUE, summaries.c.lease_until <= database_now_ms())
    .values(epoch=summaries.c.epoch + 1, lease_until=_HELD)
    .returning(*_COLUMNS)
)
_COUNT = (
    sa.update(summaries)
    .where(_IN_EPOCH)
    .values(
        requests=sa.bindparam("new_requests"), provider=sa.bindparam("new_provider"), model=sa.bindparam("new_model")
    )
)
_TOKENS: dict[str, Any] = {
    "input_tokens": sa.bindparam("new_input_tokens"),
    "output_tokens": sa.bindparam("new_output_tokens"),
}
_FINISH = (
    sa.update(summaries)
    .where(_IN_EPOCH)
    .values(status=sa.bindparam("new_status"), content=sa.bindparam("new_content"), **_TOKENS)
)
_PUT_OFF = (
    sa.update(summaries).where(_IN_EPOCH).values(failures=sa.bindparam("new_failures"), lease_until=_HELD, **_TOKENS)
)
_VOID = (
    sa.update(summaries)
    .where(
        summaries.c.room_id == sa.bindparam("of_room"),
        summaries.c.up_to >= sa.bindparam("from_seq"),
        summaries.c.status != "void",
    )
    .values(status="void", content="")
)


def latest_below(room: sa.ColumnElement[Any], seq: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    """The id of the summary that is ready and reaches furthest, but not to this place."""
    return (
        sa.select(summaries.c.id)
        .where(summaries.c.room_id == room, _READY, summaries.c.up_to < seq)
        .order_by(summaries.c.up_to.desc())
        .limit(1)
        .scalar_subquery()
    )


def _summary_of(row: Row) -> Summary:
    return Summary(
        id=row.id,
        room_id=row.room_id,
        up_to=row.up_to,
        created_at=row.created_at,
        status=SummaryStatus(row.status),
        text=row.content,
        epoch=row.epoch,
        failures=row.failures,
        requests=row.requests,
        provider=row.provider,
        model=row.model,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )


def _values(summary: Summary) -> dict[str, Any]:
    return {
        "new_id": summary.id,
        "new_room_id": summary.room_id,
        "new_up_to": summary.up_to,
        "new_created_at": summary.created_at,
        "new_status": summary.status.value,
        "new_content": summary.text,
        "new_epoch": summary.epoch,
        "new_failures": summary.failures,
        "new_requests": summary.requests,
        "new_provider": summary.provider,
        "new_model": summary.model,
        "new_input_tokens": summary.input_tokens,
        "new_output_tokens": summary.output_tokens,
    }


class KnownSummaries:
    """Summaries that were read here. One that is ready does not change, but that it becomes void: each prompt of a long
    room names it, by a statement that has just seen whether it is ready."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: dict[SummaryId, Summary] = {}

    def get(self, summary_id: SummaryId) -> Summary | None:
        return self._known.get(summary_id)

    def put(self, summary: Summary) -> None:
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[summary.id] = summary


class SqlSummaries(Summaries):
    def __init__(self, statements: SqlStatements, known: KnownSummaries) -> None:
        self._statements, self._known = statements, known

    async def ask(self, summary: Summary, *, alone: bool = False) -> None:
        run = self._statements.lasting if alone else self._statements.run
        await run(_ASK[self._statements.dialect], _values(summary))

    async def get(self, summary_id: SummaryId, *, alone: bool = False) -> Summary | None:
        """``alone``: as a statement of its own, of a transaction that has not begun."""
        read = self._statements.lasting if alone else self._statements.rows
        rows = await read(_GET, {"of_summary": summary_id})
        return _summary_of(rows[0]) if rows else None

    async def ready(self, summary_id: SummaryId | None, *, alone: bool = False) -> Summary | None:
        """The one that a statement has just found to be ready, where it found one. Where all is lasting already, it may
        have become void since."""
        if summary_id is None:
            return None
        if known := self._known.get(summary_id):
            return known
        summary = await self.get(summary_id, alone=alone)
        if summary is None or not summary.text:
            return None
        self._known.put(summary)
        return summary

    async def due(self, limit: int) -> Sequence[SummaryId]:
        return [row.id for row in await self._statements.rows(_DUE, {"at_most": limit})]

    async def claim(self, summary_id: SummaryId, lease: float) -> Summary | None:
        row = await self._statements.row(_CLAIM, {"of_summary": summary_id, "for_ms": round(lease * 1000)})
        return None if row is None else _summary_of(row)

    async def _change(self, statement: sa.Update, summary: Summary, names: Sequence[str], **more: Any) -> bool:
        values = _values(summary)
        known = {f"new_{name}": values[f"new_{name}"] for name in names}
        epoch = {"of_summary": summary.id, "in_epoch": summary.epoch}
        return await self._statements.run(statement, known | epoch | more) == 1

    async def count_request(self, summary: Summary) -> bool:
        return await self._change(_COUNT, summary, ("requests", "provider", "model"))

    async def finish(self, summary: Summary) -> bool:
        return await self._change(_FINISH, summary, ("status", "content", "input_tokens", "output_tokens"))

    async def put_off(self, summary: Summary, seconds: float) -> None:
        held = {"for_ms": round(seconds * 1000)}
        await self._change(_PUT_OFF, summary, ("failures", "input_tokens", "output_tokens"), **held)

    async def void(self, room_id: RoomId, seq: int) -> None:
        await self._statements.run(_VOID, {"of_room": room_id, "from_seq": seq})

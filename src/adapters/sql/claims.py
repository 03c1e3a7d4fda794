"""Claiming a reply together with what its maker needs, in one statement of PostgreSQL's.

SQLite takes the steps of the port: its makers are few, and their steps are no trips.
"""

from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from adapters.sql.batches import Own
from adapters.sql.compiled import Row
from adapters.sql.messages import MESSAGES_NAMED, SAID_COLUMNS, gathered, said_in
from adapters.sql.replies import (
    CLAIM,
    REPLY_COLUMNS,
    lease_ms,
    reply_of,
)
from adapters.sql.rooms import ai_of, ai_values
from adapters.sql.statements import SqlStatements
from adapters.sql.summaries import SqlSummaries, latest_below
from adapters.sql.tables import attempts, messages, replies, rooms
from chat_core.domain.room import RoomAI
from chat_core.ports.storage import Claim, Claimed, Context

_TEXTS = postgresql.ARRAY(sa.Text)
_AI_FIELDS = tuple(ai_values(RoomAI()))
_AT = sa.bindparam("at", type_=attempts.c.started_at.type)


@cache
def _claiming(at_most: int) -> sa.Executable:
    foreseen = (
        sa.func.unnest(*(sa.bindparam(f"foreseen_{name}", type_=_TEXTS) for name in ("asked", "providers", "models")))
        .table_valued("asked", "provider", "model")
        .render_derived("foreseen")
    )
    same, prompts = replies.alias("same"), messages.alias("prompts")
    is_there = sa.and_(rooms.c.deleted_at.is_(None), prompts.c.status != "deleted")
    about = (
        sa.select(
            same.c.id.label("of"),
            is_there.label("is_there"),
            prompts.c.seq.label("prompt_seq"),
            foreseen.c.provider,
            foreseen.c.model,
            *(rooms.c[name] for name in _AI_FIELDS),
        )
        .select_from(
            same.join(rooms, rooms.c.id == same.c.room_id)
            .join(prompts, prompts.c.id == same.c.prompt_id)
            .outerjoin(foreseen, foreseen.c.asked.is_not_distinct_from(rooms.c.ai_model))
        )
        .where(same.c.id == sa.bindparam("of_reply"))
        .subquery("about")
    )
    # Never claimed before, so that it has no request and no crash; as Reply.may_be_made says otherwise.
    begins = sa.and_(
        about.c.is_there,
        about.c.provider.is_not(None),
        replies.c.epoch == 0,
        sa.not_(replies.c.stop_requested),
        replies.c.deadline_at > _AT,
    )
    first = {"attempts": sa.literal(1), "provider": about.c.provider, "model": about.c.model}
    claimed = (
        CLAIM.where(about.c.of == replies.c.id)
        .values({name: sa.case((begins, value), else_=replies.c[name]) for name, value in first.items()})
        .returning(*REPLY_COLUMNS, about.c.is_there, about.c.prompt_seq, *(about.c[name] for name in _AI_FIELDS))
        .cte("claimed")
    )
    # The columns are as they are now: of a first claim, one that has a request has begun it just now.
    has_begun = sa.and_(claimed.c.epoch == 1, claimed.c.attempts == 1)
    row = {
        "reply_id": claimed.c.id,
        "number": claimed.c.attempts,
        "epoch": claimed.c.epoch,
        "provider": claimed.c.provider,
        "model": claimed.c.model,
        "started_at": _AT,
    }
    begun = (
        sa.insert(attempts)
        .from_select(list(row), sa.select(*row.values()).where(has_begun), include_defaults=False)
        .returning(attempts.c.number)
        .cte("begun")
    )
    said = (
        sa.select(*SAID_COLUMNS)
        .select_from(MESSAGES_NAMED)
        .where(
            claimed.c.is_there,
            messages.c.room_id == claimed.c.room_id,
            messages.c.seq <= claimed.c.prompt_seq,
            messages.c.status != "deleted",
        )
        .order_by(messages.c.seq.desc())
        .limit(at_most)
        .correlate(claimed)
        .lateral("said")
    )
    so_far = gathered(said)
    return (
        sa.select(
            *claimed.c,
            has_begun.label("has_begun"),
            latest_below(claimed.c.room_id, claimed.c.prompt_seq).label("the_summary"),
            *so_far.c,
        )
        .select_from(claimed.join(so_far, sa.true()))
        .add_cte(begun)
    )


class SqlClaims:
    """Of one transaction."""

    def __init__(self, statements: SqlStatements, summaries: SqlSummaries) -> None:
        self._statements = statements
        self._summaries = summaries

    async def claim(self, claim: Claim) -> Claimed | None:
        asked = list(claim.foreseen)
        parameters = {
            "of_reply": claim.reply_id,
            "lease_ms": lease_ms(claim.lease),
            "at": claim.at,
            "foreseen_asked": asked,
            "foreseen_providers": [claim.foreseen[name][0] for name in asked],
            "foreseen_models": [claim.foreseen[name][1] for name in asked],
        }
        statement = _claiming(claim.context)
        if claim.alone:
            own = Own(mark=claim.reply_id, locks=claim.reply_id)
            rows = await self._statements.lasting(statement, parameters, own)
        else:
            rows = await self._statements.rows(statement, parameters)
        if not rows:
            return None
        row = rows[0]
        reply = reply_of(row)
        if not row.is_there:
            return Claimed(reply=reply)
        begun = reply.first_attempt(reply.provider or "", reply.model or "", claim.at) if row.has_begun else None
        return Claimed(reply=reply, ai=ai_of(row), context=await self._context(row, claim), begun=begun)

    async def _context(self, row: Row, claim: Claim) -> Context:
        return Context(messages=said_in(row), summary=await self._summaries.ready(row.the_summary, alone=claim.alone))

"""What is done most, in one trip to the database.

The repositories say the same step by step, and the contract holds both to the same outcome.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.batches import Own
from adapters.sql.compiled import Row
from adapters.sql.failures import divided_by_zero, violated
from adapters.sql.messages import MESSAGE_COLUMNS, message_of, said_in
from adapters.sql.replies import REPLY_COLUMNS, ending_values, lease_ms, reply_of
from adapters.sql.rooms import ai_values
from adapters.sql.statements import SqlStatements
from adapters.sql.step_statements import ACCEPT, ANSWER, ANSWERING, accepting
from adapters.sql.summaries import SqlSummaries
from adapters.sql.tables import messages, replies, users
from chat_core.domain.ids import ReplyId, SummaryId
from chat_core.domain.message import Message, Said
from chat_core.domain.reply import Attempt, Reply
from chat_core.errors import Contention
from chat_core.ports.storage import Accepted, Answered, Context, DuplicateMessage, Offer

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


class SqlSteps:
    """Of one transaction."""

    def __init__(self, statements: SqlStatements, summaries: SqlSummaries) -> None:
        self._statements, self._summaries = statements, summaries

    async def accept(self, offer: Offer) -> Accepted | None:
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
        if self._statements.dialect != "postgresql":
            return await self._accept_in_one_trip(offer, parameters)
        statement = accepting(
            reply=asks is not None,
            attempt=asks is not None and asks.attempt is not None,
            at_most=max(0, offer.context - 1),
        )
        try:
            rows = await self._one(statement, parameters, message, alone=offer.alone)
        except exc.DBAPIError as error:
            if (meant := _meant(error)) is not None:
                raise meant from error
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

    async def _accept_in_one_trip(self, offer: Offer, parameters: Mapping[str, Any]) -> Accepted | None:
        message, given = offer.message, ACCEPT.given(parameters, max(1, offer.context))
        try:
            found = await self._statements.together(ACCEPT, given, commits=offer.alone)
        except exc.IntegrityError as error:
            if (meant := _meant(error)) is not None:
                raise meant from error
            raise
        if found is None:
            return None
        place, summary_id, said = found
        message = replace(message, seq=place)
        if not offer.context:
            return Accepted(message=message)
        context = await self._context(said, summary_id, offer)
        return Accepted(message=message, context=context)

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool
    ) -> int | None:
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
        if self._statements.dialect != "postgresql":
            return await self._answer_in_one_trip(parameters, alone=alone)
        try:
            rows = await self._one(ANSWERING, parameters, message, alone=alone)
        except exc.DBAPIError as error:
            if divided_by_zero(error):
                return None  # somebody else ended the reply while this waited for the room
            raise
        return int(rows[0].seq) if rows else None

    async def _answer_in_one_trip(self, parameters: Mapping[str, Any], *, alone: bool) -> int | None:
        place: int | None = await self._statements.together(ANSWER, ANSWER.given(parameters), commits=alone)
        return place

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        own = Own(mark=reply_id, locks=reply_id)
        rows = await self._statements.seen(_ANSWERED, {"of_reply": reply_id}, own)
        if not rows:
            return None
        row = rows[0]
        message = message_of(row[len(REPLY_COLUMNS) :]) if row.said_id is not None else None
        return Answered(reply=reply_of(row), message=message)


def _place_of(message: Message) -> dict[str, Any]:
    return {"of_room": message.room_id, "more": 1, "now": message.created_at}


def _place_values(offer: Offer) -> dict[str, Any]:
    believed = {f"believed_{name}": value for name, value in ai_values(offer.ai).items()}
    return {**_place_of(offer.message), "of_user": offer.sender, "key": offer.message.m_id, **believed}


def _meant(error: exc.DBAPIError) -> Exception | None:
    """What it says where a message was to be accepted, if anything that its sender can do something about."""
    if divided_by_zero(error):
        return Contention()
    if isinstance(error, exc.IntegrityError) and violated(error) == "uq_messages_room_id_user_id_m_id":
        return DuplicateMessage()
    return None

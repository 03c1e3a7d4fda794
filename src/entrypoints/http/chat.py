"""``/chat``: sending a message, and taking the AI's answer in the same call."""

from contextlib import ExitStack
from typing import Annotated

from litestar import Response, Router, post
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, JSONBody

from chat_core.domain.ids import UserId
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.user import Actor
from chat_core.ports.storage import Answered
from chat_core.use_cases.replies import AwaitReply
from chat_core.use_cases.sending import SendMessage, Sent
from entrypoints.http.auth import signed_in
from entrypoints.http.event_stream import EventStream
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import (
    Accept,
    Id,
    idempotency_key,
    preferences,
    preferred_wait,
    room_of,
    wants_events,
)
from entrypoints.http.reply_stream import ReplyStreams, no_reply
from entrypoints.http.schemas import MessageOut, MessagePairOut, ReplyOut, SendIn, SentData, SentOut
from entrypoints.open_streams import OpenStreams
from entrypoints.settings import Settings


def _body(sent: Sent, answer: Answered | None) -> SentOut:
    ai_message = None
    if answer is not None and answer.message is not None:
        ai_message = MessageOut.of(answer.message)
    elif answer is not None and answer.reply.status in (ReplyStatus.FAILED, ReplyStatus.BLOCKED):
        ai_message = MessageOut.apology(answer.reply)
    return SentOut(
        message="Messages sent successfully",
        data=SentData(
            messages=MessagePairOut(user_message=MessageOut.of(sent.message), ai_message=ai_message),
            reply=ReplyOut.of(answer.reply) if answer else None,
        ),
    )


@post(
    "/{room_id:str}",
    summary="Send a message",
    responses={
        200: ResponseSpec(SentOut, description="A repeat: the same pair in its current state."),
        202: ResponseSpec(SentOut, description="Stored; the answer is not there yet."),
        **refusals(404, 409, 422),
    },
)
async def send_message(
    room_id: Id,
    data: JSONBody[SendIn],
    actor: Use[Actor],
    send_message: Use[SendMessage],
    await_reply: Use[AwaitReply],
    reply_streams: Use[ReplyStreams],
    open_streams: Use[OpenStreams[UserId]],
    settings: Use[Settings],
    accept: Accept = None,
    key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            required=False,
            description="Stands in for a missing `m_id`.",
            schema_extra={"pattern": r'^ *("[A-Za-z0-9_:.-]{1,128}"|[A-Za-z0-9_:.-]{1,128}) *$'},
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        HeaderParameter(
            name="Prefer",
            required=False,
            description="`wait=N`: wait at most N seconds; `respond-async`: not at all (RFC 7240).",
        ),
    ] = None,
) -> Response[SentOut] | EventStream:
    """Store a message, wait for the AI's answer, and give back both; with `Prefer: respond-async`, do not wait.

    With `Accept: text/event-stream` the answer comes as a stream of events while it is made: `user_message`, `reply`,
    `delta` ..., then `ai_message` or `failed`, and `end`. Where the connection breaks, `/replies/{id}/events` goes on.

    With an `m_id` (or an `Idempotency-Key`) the send is safe to repeat, for ever: a repeat gives back the same pair.
    """
    m_id = data.m_id if data.m_id is not None else idempotency_key(key)
    streams, wishes = wants_events(accept), preferences(prefer)
    with ExitStack() as held:
        if streams:
            held.enter_context(open_streams(actor.user_id))
        at_once = streams or "respond-async" not in wishes
        sent = await send_message(
            actor=actor, room_id=room_of(room_id), content=data.content, m_id=m_id, at_once=at_once
        )
        if streams:
            return EventStream(
                reply_streams.chunks(actor, sent.reply, first=sent.message, replayed=sent.replayed)
                if sent.reply
                else no_reply(sent.message),
                headers={"Idempotency-Replayed": "true"} if sent.replayed else {},
                place=held.pop_all(),
            )
    answer = None
    if sent.reply is not None:
        seconds = 0.0 if "respond-async" in wishes else preferred_wait(wishes, settings.send_wait)
        # One that was queued a moment ago is not looked at again for somebody who does not want to wait.
        answer = (
            Answered(reply=sent.reply, message=None)
            if seconds == 0 and not sent.replayed
            else await await_reply(reply_id=sent.reply.id, seconds=seconds, just_queued=not sent.replayed)
        )
    headers = {"Idempotency-Replayed": "true"} if sent.replayed else {}
    pending = answer is not None and not answer.reply.final
    if answer is not None and pending:
        headers["Location"] = f"/replies/{answer.reply.id}"
    return Response(_body(sent, answer), status_code=202 if pending else 200 if sent.replayed else 201, headers=headers)


router = Router("/chat", route_handlers=[send_message], before_request=signed_in, security=SECURED, tags=["Chat"])

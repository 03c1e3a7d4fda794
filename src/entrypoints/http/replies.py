"""``/replies``: following, stopping and retrying an answer."""

from litestar import Response, Router, get, post

from chat_core.domain.ids import UserId
from chat_core.domain.user import Actor
from chat_core.errors import Unavailable
from chat_core.use_cases.replies import ReadReply, RetryReply, StopReply
from entrypoints.health import Draining
from entrypoints.http.auth import signed_in
from entrypoints.http.event_stream import EventStream
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import Id, LastEventId, reply_of
from entrypoints.http.reply_stream import ReplyStreams, read_place
from entrypoints.http.schemas import ReplyOut, ReplyWithMessageOut
from entrypoints.open_streams import OpenStreams


@get("/{reply_id:str}", responses=refusals(404), summary="Read a reply")
async def read_reply(reply_id: Id, actor: Use[Actor], read_reply: Use[ReadReply]) -> ReplyWithMessageOut:
    """The reply as it stands, with its message once there is one."""
    answer = await read_reply(actor=actor, reply_id=reply_of(reply_id))
    return ReplyWithMessageOut.with_message(answer.reply, answer.message)


@get("/{reply_id:str}/events", responses=refusals(404), summary="Follow a reply")
async def reply_events(
    reply_id: Id,
    actor: Use[Actor],
    read_reply: Use[ReadReply],
    reply_streams: Use[ReplyStreams],
    open_streams: Use[OpenStreams[UserId]],
    draining: Use[Draining],
    last_event_id: LastEventId = None,
) -> EventStream:
    """The reply's events, from its start or from `Last-Event-ID` on, while it is made and after it ended."""
    after = read_place(last_event_id)
    reply = (await read_reply(actor=actor, reply_id=reply_of(reply_id))).reply
    if draining.begun:
        raise Unavailable("This process is about to end; come back.")
    return EventStream(reply_streams.chunks(actor, reply, after), place=open_streams(actor.user_id))


@post("/{reply_id:str}/stop", status_code=200, responses=refusals(404), summary="Stop a reply")
async def stop_reply(reply_id: Id, actor: Use[Actor], stop_reply: Use[StopReply]) -> ReplyWithMessageOut:
    """End it now, from any process; the text so far is kept. Harmless to repeat."""
    answer = await stop_reply(actor=actor, reply_id=reply_of(reply_id))
    return ReplyWithMessageOut.with_message(answer.reply, answer.message)


@post("/{reply_id:str}/retry", status_code=202, responses=refusals(404, 409), summary="Try a reply again")
async def retry_reply(reply_id: Id, actor: Use[Actor], retry_reply: Use[RetryReply]) -> Response[ReplyOut]:
    """A new reply for the same prompt, where the newest one failed, was blocked or cancelled."""
    reply = await retry_reply(actor=actor, reply_id=reply_of(reply_id))
    return Response(ReplyOut.of(reply), headers={"Location": f"/replies/{reply.id}"})


router = Router(
    "/replies",
    route_handlers=[read_reply, reply_events, stop_reply, retry_reply],
    before_request=signed_in,
    security=SECURED,
    tags=["Replies"],
)

"""``/messages/{id}/context`` and ``/usage``: what an answer was made from, and what one's answers took."""

from litestar import Router, get

from chat_core.domain.user import Actor
from chat_core.use_cases.contexts import ReadContext
from chat_core.use_cases.usage import ReadUsage
from entrypoints.http.auth import signed_in
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import Id, message_of
from entrypoints.http.schemas import ContextOut, UsageReportOut


@get("/messages/{message_id:str}/context", responses=refusals(404), summary="Read what an answer was made from")
async def read_context(message_id: Id, actor: Use[Actor], read_context: Use[ReadContext]) -> ContextOut:
    """The messages that the model was shown, a summary of what was said before them, and the requests that were made.

    A summary that drew on something which was edited or deleted since then has no text any more.
    """
    return ContextOut.of(await read_context(actor=actor, message_id=message_of(message_id)))


@get("/usage", summary="Read your usage")
async def read_usage(actor: Use[Actor], read_usage: Use[ReadUsage]) -> UsageReportOut:
    """The tokens of the answers that you asked for in the last 90 days, by day (UTC) and room, latest day first.

    `wasted_tokens` are those of requests whose text is not part of the answer. `used_today` also counts what is
    reserved for answers that are being made.
    """
    return UsageReportOut.of(await read_usage(actor=actor))


router = Router(
    "/", route_handlers=[read_context, read_usage], before_request=signed_in, security=SECURED, tags=["Usage"]
)

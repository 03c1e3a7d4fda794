"""A reply's events as server-sent events."""

import re
import time
from collections.abc import AsyncGenerator, Callable

import msgspec

from chat_core.domain.message import Message
from chat_core.domain.reply import Place
from chat_core.errors import Invalid
from chat_core.use_cases.follow import Answered, Delta, Ended, Failed, Quiet, ReplyEvent, Reset, Started
from entrypoints.http.event_stream import COMMENT, event, life
from entrypoints.http.schemas import MessageOut, ReplyOut

_json = msgspec.json.Encoder()
_PLACE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def read_place(text: str | None) -> Place | None:
    """The place of a ``Last-Event-ID``; ``None`` where there is none. Raises ``Invalid`` for what is none of ours."""
    if text is None or not text.strip():
        return None
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise Invalid.at("Last-Event-ID", "must be an id of this stream: EPOCH-OFFSET")
    return Place(int(match[1]), int(match[2]))


def _id(place: Place) -> str:
    return f"{place.epoch}-{place.offset}"


def encoded(happened: ReplyEvent) -> bytes:
    """The event, in the names and fields of the contract."""
    match happened:
        case Delta(text, place):
            return event("delta", _json.encode({"text": text}), _id(place))
        case Quiet():
            return COMMENT
        case Started(reply, place):
            return event("reply", _json.encode(ReplyOut.of(reply)), _id(place))
        case Reset(place):
            return event("reset", b"{}", _id(place))
        case Answered(message, place):
            return event("ai_message", _json.encode(MessageOut.of(message)), _id(place))
        case Failed(reply, place):
            return event("failed", _json.encode(ReplyOut.of(reply)), _id(place))
        case Ended(reply, place):
            return event("end", _json.encode(ReplyOut.of(reply)), _id(place))


def user_message(message: Message) -> bytes:
    """The first event on the stream of a send: it belongs to no answer, and has no id."""
    return event("user_message", _json.encode(MessageOut.of(message)))


#: What ends the stream of a send that asks for no answer.
NO_REPLY = event("end", b"{}")


def leaving(*reasons: Callable[[], bool]) -> Callable[[], bool]:
    """Whether a stream that begins now should end early: for one of these reasons, or because its life is over."""
    until = time.monotonic() + life()
    return lambda: time.monotonic() > until or any(reason() for reason in reasons)


async def chunks(
    events: AsyncGenerator[ReplyEvent, None] | None, first: Message | None = None
) -> AsyncGenerator[bytes, None]:
    """The body of the stream: of a send with the message that is ``first``, of no reply where there are no events."""
    if first is not None:
        yield user_message(first)
    if events is None:
        yield NO_REPLY
        return
    try:
        async for happened in events:
            yield encoded(happened)
    finally:
        await events.aclose()

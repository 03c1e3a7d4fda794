"""A reply's events as server-sent events."""

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from chat_core.domain.message import Message
from chat_core.domain.reply import Place, Reply
from chat_core.domain.user import Actor
from chat_core.errors import Invalid
from chat_core.use_cases import follow as kinds
from chat_core.use_cases.follow import FollowReply, ReplyEvent
from chat_core.use_cases.live.connection import Ended
from chat_core.use_cases.live.hub import Hub
from entrypoints.health import Draining
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
        case kinds.Delta(text, place):
            return event("delta", _json.encode({"text": text}), _id(place))
        case kinds.Quiet():
            return COMMENT
        case kinds.Started(reply, place):
            return event("reply", _json.encode(ReplyOut.of(reply)), _id(place))
        case kinds.Reset(place):
            return event("reset", b"{}", _id(place))
        case kinds.Answered(message, place):
            return event("ai_message", _json.encode(MessageOut.of(message)), _id(place))
        case kinds.Failed(reply, place):
            return event("failed", _json.encode(ReplyOut.of(reply)), _id(place))
        case kinds.Ended(reply, place):
            return event("end", _json.encode(ReplyOut.of(reply)), _id(place))


def user_message(message: Message) -> bytes:
    """The first event on the stream of a send: it belongs to no answer, and has no id."""
    return event("user_message", _json.encode(MessageOut.of(message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStreams:
    """Streams of replies to those who may see them, for as long as they may."""

    follow: FollowReply
    hub: Hub
    draining: Draining

    async def chunks(
        self,
        actor: Actor,
        reply: Reply,
        after: Place | None = None,
        *,
        first: Message | None = None,
        replayed: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """The body of a stream that begins behind ``after``; on the stream of a send the message comes ``first``, and
        ``replayed`` says whether that was a repeat.

        Ends early where the room is closed to the viewer, or their session or the stream's life is over, and when the
        process has to end: but then a reply that is being made has some time to come to its end before that.
        """
        if first is not None:
            yield user_message(first)
        until = time.monotonic() + life()
        # Of a send that was stored a moment ago, what the storage knows is known here.
        sent = first is not None and not replayed
        since = first.seq if first is not None and sent else None
        async with self.hub.guard(actor, reply.room_id, since=since) as guard:

            def out() -> bool:
                return guard.ended not in (None, Ended.DRAINING)

            def leave() -> bool:
                return out() or self.draining.hurries() or time.monotonic() > until

            following = self.follow(reply_id=reply.id, after=after, known=reply if sent else None, leave=leave)
            async with aclosing(following) as events:
                async for happened in events:
                    if out():
                        return
                    yield encoded(happened)


async def no_reply(message: Message) -> AsyncGenerator[bytes, None]:
    """The body of the stream of a send that asks for no answer."""
    yield user_message(message) + event("end", b"{}")

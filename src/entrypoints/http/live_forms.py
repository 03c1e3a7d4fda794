"""Live events in the forms in which they travel: one JSON object, alone or as a server-sent event."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from chat_core.domain.reply import Reply
from chat_core.domain.room import RoomEvent
from chat_core.use_cases.live.events import LiveEvent, Somebody
from chat_core.use_cases.live.replies import ReplyText
from entrypoints.http.event_stream import event as sse_event
from entrypoints.http.schemas import ReplyOut, RoomEventOut
from entrypoints.http.socket_wire import framed


class _Ephemeral(Struct, frozen=True):
    type: str
    room_id: UUID
    seq: int | None
    data: Any


class _Typing(Struct, frozen=True):
    user_id: UUID
    username: str


class _ReplyText(Struct, frozen=True):
    reply_id: UUID
    text: str


class _Presence(Struct, frozen=True):
    user_id: UUID
    username: str
    present: bool


def _data(about: object) -> object:
    match about:
        case Reply():
            return ReplyOut.of(about)
        case ReplyText():
            return _ReplyText(about.reply_id, about.text)
        case Somebody(present=None):
            return _Typing(about.user_id, about.username)
        case Somebody():
            return _Presence(about.user_id, about.username, bool(about.present))
        case _:
            return about


_encoder = msgspec.json.Encoder()


def as_json(event: LiveEvent) -> bytes:
    """``{"type", "room_id", "seq", "data"}``."""
    if isinstance(event.about, RoomEvent):
        return _encoder.encode(RoomEventOut.of(event.about))
    return _encoder.encode(_Ephemeral(event.kind, event.room_id, event.seq, _data(event.about)))


def as_frame(event: LiveEvent) -> bytes:
    """A frame of a WebSocket."""
    return framed(event.form(as_json))


def as_sse(event: LiveEvent) -> bytes:
    """For a stream: its place is the id that the client comes back with."""
    return sse_event(event.kind, event.form(as_json), None if event.seq is None else str(event.seq))

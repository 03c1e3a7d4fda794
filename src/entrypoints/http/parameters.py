"""Ids, cursors and headers that come as text."""

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar.params import HeaderParameter, PathParameter, QueryParameter

from chat_core.domain.ids import MessageId, ReplyId, RoomId, UserId
from chat_core.errors import Invalid, NotFound
from chat_core.ports.storage import RoomCursor

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The largest integer that every reader of JSON takes exactly (RFC 8259, section 6).
SEQ_MAX = 2**53 - 1

PAGE_MAX = 200
#: Text, as the places below: the framework would take ``1e2`` for a hundred. ``limit_of`` reads it.
PageLimit = Annotated[
    str,
    QueryParameter(
        required=False,
        description="How many at the most.",
        schema_extra={"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50},
    ),
]
_PLACE = {"type": "integer", "minimum": 0, "maximum": SEQ_MAX}
#: Text, since the framework would take ``null`` for what was left out. ``place_of`` reads it.
Seq = Annotated[
    str | None, QueryParameter(required=False, description="A place in the room's log.", schema_extra=_PLACE)
]
After = Annotated[
    str | None,
    QueryParameter(
        required=False, description="Begin behind this `seq`. A page begins at 0 without it.", schema_extra=_PLACE
    ),
]
Id = Annotated[str, PathParameter(schema_extra={"format": "uuid"})]


def _uuid(text: str) -> UUID:
    """The id, or ``NotFound``: nothing that exists has an id of another shape."""
    if not _UUID.fullmatch(text):
        raise NotFound
    return UUID(text)


def room_of(text: str) -> RoomId:
    return RoomId(_uuid(text))


def limit_of(text: str) -> int:
    """How many are asked for. Raises ``Invalid``."""
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= PAGE_MAX:
        raise Invalid.at("limit", f"must be an integer from 1 to {PAGE_MAX}")
    return int(text)


def place_of(name: str, text: str | None) -> int | None:
    """The place in a log, where one was given. Raises ``Invalid`` for what is none."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > SEQ_MAX:
        raise Invalid.at(name, f"must be an integer from 0 to {SEQ_MAX}")
    return int(text)


def user_of(text: str) -> UserId:
    return UserId(_uuid(text))


def message_of(text: str) -> MessageId:
    return MessageId(_uuid(text))


def reply_of(text: str) -> ReplyId:
    return ReplyId(_uuid(text))


def session_of(text: str) -> UUID:
    return _uuid(text)


def write_cursor(cursor: RoomCursor | None) -> str | None:
    """The cursor as opaque text."""
    if cursor is None:
        return None
    microseconds = (cursor.last_activity_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(microseconds.to_bytes(8, "big") + cursor.room_id.bytes).decode().rstrip("=")


def read_cursor(text: str | None) -> RoomCursor | None:
    """What ``write_cursor`` wrote. Raises ``Invalid`` for anything else."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if len(raw) != 24:
            raise ValueError
        at = _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big"))
    except (ValueError, OverflowError) as error:
        raise Invalid.at("cursor", "must be a 'next_cursor' of an earlier answer") from error
    return RoomCursor(last_activity_at=at, room_id=RoomId(UUID(bytes=raw[8:])))


def idempotency_key(text: str | None) -> str | None:
    """The key of an ``Idempotency-Key`` header, bare or as the quoted string of the IETF draft."""
    if text is None:
        return None
    quoted = re.fullmatch(r'"([^"]*)"', text.strip())
    return quoted[1] if quoted else text.strip()


def preferences(text: str | None) -> dict[str, str]:
    """A ``Prefer`` header (RFC 7240), names in lower case; of two that are equal the first one counts."""
    found: dict[str, str] = {}
    for preference in (text or "").split(","):
        name, _, value = preference.split(";")[0].partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def preferred_wait(preferences: dict[str, str], longest: float) -> float:
    """For how many seconds the client wants to wait: what it says, where that is shorter; else the longest."""
    wait = preferences.get("wait", "")
    return min(float(wait), longest) if re.fullmatch(r"[0-9]{1,6}", wait) else longest


def wants_events(accept: str | None) -> bool:
    """Whether an ``Accept`` header names ``text/event-stream`` (RFC 9110, section 12.5.1), and not to refuse it."""
    for range_ in (accept or "").split(","):
        media_type, _, parameters = range_.partition(";")
        if media_type.strip().lower() == "text/event-stream":
            return not re.search(r"(?:^|;)\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)", parameters)
    return False


Accept = Annotated[
    str | None,
    HeaderParameter(name="Accept", required=False, description="`text/event-stream` for a stream of events."),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        required=False,
        description="The last id that was received.",
        schema_extra={"pattern": r"^ *([0-9]{1,9}-[0-9]{1,9})? *$"},
    ),
]
LastSeq = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        required=False,
        description="Begin behind this one; wins over `after`.",
        schema_extra={"pattern": r"^ *([0-9]{1,15})? *$"},
    ),
]
#: 24 bytes, of which the first are a time that there can be.
Cursor = Annotated[
    str | None,
    QueryParameter(
        max_length=64,
        required=False,
        description="A `next_cursor`.",
        schema_extra={"pattern": "^A[A-Za-v][A-Za-z0-9_-]{30}$"},
    ),
]

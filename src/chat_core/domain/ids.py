"""Ids, and the clock that they are made by.

Ids are UUIDv7 (RFC 9562, section 5.7): time-ordered, so that new rows land at the end of an index. Order of messages
is never read from them: that is ``seq`` alone.
"""

import os
import time
from datetime import UTC, datetime
from threading import Lock
from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
RoomId = NewType("RoomId", UUID)
MessageId = NewType("MessageId", UUID)
ReplyId = NewType("ReplyId", UUID)
SummaryId = NewType("SummaryId", UUID)

_lock = Lock()
_last = 0


def uuid7() -> UUID:
    """A new UUIDv7. Within a process each is larger than the one before (RFC 9562, section 6.2, method 3)."""
    global _last
    # 48 bits of milliseconds and 12 bits of their fraction make one rising number.
    moment = time.time_ns() * 4096 // 1_000_000
    with _lock:
        if moment <= _last:
            moment = _last + 1
        _last = moment
    milliseconds, fraction = divmod(moment, 4096)
    random = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random)


def utc_now() -> datetime:
    """The wall clock, in UTC. It dates things; it never orders them."""
    return datetime.now(UTC)

"""What is said in a room."""

import hashlib
import re
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from chat_core.domain.ids import MessageId, RoomId, UserId
from chat_core.errors import Invalid
from chat_core.values import value

CONTENT_MAX = 32_000
M_ID_PATTERN = r"^[A-Za-z0-9_:.-]{1,128}$"
AI_NAME = "AI Assistant"
DELETED_NAME = "Deleted user"

# Not by IGNORECASE: that would take the Turkish dotless i for one, too.
_MENTION = re.compile(r"(?<![\w@.])@[aA][iI](?![\w-])")


class MessageKind(StrEnum):
    USER = "user"
    AI = "ai"


class MessageStatus(StrEnum):
    """``FAILED`` is on an apology alone, which is never stored."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    DELETED = "deleted"
    FAILED = "failed"


@value(kw_only=True)
class Message:
    """One message. ``seq`` is its place in the room's log: the only order, and the only cursor."""

    id: MessageId
    m_id: str
    seq: int
    content: str
    user_id: UserId | None
    room_id: RoomId
    kind: MessageKind
    username: str
    created_at: datetime
    reply_to: MessageId | None = None
    edited_at: datetime | None = None
    status: MessageStatus = MessageStatus.COMPLETE

    def edited(self, content: str, at: datetime) -> "Message":
        """With another text. ``m_id``, its fingerprint and its place stay those of the first."""
        return replace(self, content=content, edited_at=at)

    def deleted(self, at: datetime) -> "Message":
        """A tombstone in the same place."""
        return replace(self, content="", status=MessageStatus.DELETED, edited_at=at)


class Said(NamedTuple):
    """What a prompt needs of a message: dozens are read for each answer, so that the rest is left where it is."""

    seq: int
    kind: MessageKind
    user_id: UserId | None
    username: str
    content: str

    @classmethod
    def of(cls, message: Message) -> "Said":
        return cls(message.seq, message.kind, message.user_id, message.username, message.content)


def is_unicode(text: str) -> bool:
    """Whether the text can be written down in UTF-8: Python's own strings may hold halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_content(content: str) -> str:
    """The text as it is, or ``Invalid``: 1 to 32,000 characters, not blank, no NUL."""
    if not 1 <= len(content) <= CONTENT_MAX:
        raise Invalid.at("/content", f"must have 1 to {CONTENT_MAX} characters")
    if not content.strip():
        raise Invalid.at("/content", "must not be blank")
    if "\x00" in content:
        raise Invalid.at("/content", "must not hold a NUL character")
    if not is_unicode(content):
        raise Invalid.at("/content", "must be Unicode text, without halves of surrogate pairs")
    return content


def check_m_id(m_id: str) -> str:
    """The id as it is, or ``Invalid``: 1 to 128 of ASCII letters, digits and ``- _ : .``."""
    if not re.fullmatch(M_ID_PATTERN, m_id):
        raise Invalid.at("/m_id", "must be 1 to 128 ASCII letters, digits, '-', '_', ':' or '.'")
    return m_id


def fingerprint(content: str) -> bytes:
    """SHA-256 of the text as first sent: tells a repeat from other content under the same ``m_id``."""
    return hashlib.sha256(content.encode()).digest()


def mentions_ai(content: str) -> bool:
    """Whether the text names ``@ai``, as a word of its own and without regard to case."""
    return _MENTION.search(content) is not None

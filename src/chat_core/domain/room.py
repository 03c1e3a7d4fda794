"""Rooms, who belongs to them, and the one place that decides who may do what in them."""

from dataclasses import field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from chat_core.domain.ids import MessageId, RoomId, UserId
from chat_core.domain.message import Message, is_unicode
from chat_core.errors import Fault, Forbidden, Invalid, NotFound
from chat_core.values import value

NAME_MAX = 100
DESCRIPTION_MAX = 2000
SYSTEM_PROMPT_MAX = 8000
#: Stands in a log's old memberships for those whose account is gone: whose it was is not kept.
GONE = UserId(UUID(int=0))
TEMPERATURE_MAX = 2.0
OUTPUT_TOKENS_MAX = 65_536


class Visibility(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


class AIMode(StrEnum):
    """When the room's AI answers: each message, only those that name it, or none."""

    ALWAYS = "always"
    MENTION = "mention"
    OFF = "off"


class WhenBusy(StrEnum):
    """What a send meets while an answer is being made: an answer of its own, beside the other, or a refusal."""

    QUEUE = "queue"
    REJECT = "reject"


class Role(StrEnum):
    OWNER = "owner"
    MEMBER = "member"


class Standing(StrEnum):
    """How somebody stands to a room they once belonged to. Who was removed stays out; who left may come back."""

    ACTIVE = "active"
    LEFT = "left"
    REMOVED = "removed"


def is_open_to(standing: Standing | None, visibility: Visibility) -> bool:
    """Whether a room is open to somebody who stands to it so, ``None`` for a stranger: the one place where that is
    decided. A public room is open to everyone who was not removed from it; a private one to its members alone."""
    return standing is Standing.ACTIVE or (visibility is Visibility.PUBLIC and standing is not Standing.REMOVED)


@value(kw_only=True)
class RoomAI:
    """How the room's AI behaves. ``None`` leaves a choice to the service or the provider."""

    mode: AIMode = AIMode.ALWAYS
    model: str | None = None
    system_prompt: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    busy: WhenBusy = WhenBusy.QUEUE


@value(kw_only=True)
class Room:
    """A room. ``last_seq`` is the newest place taken in its log; ``message_count`` counts what was said in it."""

    id: RoomId
    name: str
    description: str
    created_by: UserId | None
    created_at: datetime
    visibility: Visibility = Visibility.PUBLIC
    last_seq: int = 0
    message_count: int = 0
    last_activity_at: datetime
    ai: RoomAI = field(default_factory=RoomAI)

    def check(self) -> "Room":
        """Itself, or ``Invalid`` with every fault."""
        faults: list[Fault] = []
        texts = (
            ("/name", self.name, 1, NAME_MAX),
            ("/description", self.description, 0, DESCRIPTION_MAX),
            ("/ai/system_prompt", self.ai.system_prompt or "", 0, SYSTEM_PROMPT_MAX),
            ("/ai/model", self.ai.model or "", 0, 200),
        )
        for pointer, text, least, most in texts:
            if not least <= len(text) <= most:
                faults.append(Fault(pointer, f"must have {least} to {most} characters"))
            elif "\x00" in text or not is_unicode(text):
                faults.append(Fault(pointer, "must be Unicode text without a NUL character"))
        if not self.name.strip():
            faults.append(Fault("/name", "must not be blank"))
        if self.ai.temperature is not None and not 0 <= self.ai.temperature <= TEMPERATURE_MAX:
            faults.append(Fault("/ai/temperature", f"must be from 0 to {TEMPERATURE_MAX:g}"))
        if self.ai.max_output_tokens is not None and not 1 <= self.ai.max_output_tokens <= OUTPUT_TOKENS_MAX:
            faults.append(Fault("/ai/max_output_tokens", f"must be from 1 to {OUTPUT_TOKENS_MAX}"))
        if faults:
            raise Invalid(faults=faults)
        return self


@value(kw_only=True)
class Membership:
    """How one person stands to one room. ``username`` comes from the account and is read, never written."""

    room_id: RoomId
    user_id: UserId
    username: str
    role: Role
    joined_at: datetime
    standing: Standing = Standing.ACTIVE

    @property
    def active(self) -> bool:
        return self.standing is Standing.ACTIVE

    def now(self, standing: Standing) -> "Membership":
        return replace(self, standing=standing)


@value(kw_only=True)
class Door:
    """One room as one person finds it. To whom it is not open (``is_open_to``), it looks as if it did not exist."""

    room: Room
    user_id: UserId | None
    membership: Membership | None

    @property
    def is_member(self) -> bool:
        return self.membership is not None and self.membership.active

    @property
    def is_open(self) -> bool:
        return is_open_to(self.membership.standing if self.membership else None, self.room.visibility)

    @property
    def is_owner(self) -> bool:
        return self.is_member and self.membership is not None and self.membership.role is Role.OWNER

    def seen(self) -> "Door":
        """Itself, or ``NotFound`` where the room is closed to this person."""
        if not self.is_open:
            raise NotFound
        return self

    def owned(self) -> "Door":
        """Itself, or ``NotFound`` where it is closed, or ``Forbidden`` to everyone but the owner."""
        if not self.seen().is_owner:
            raise Forbidden("Only the room's owner may do this.")
        return self


def open_door(door: Door | None) -> Door:
    """The door, or ``NotFound`` both where there is no room and where it is closed."""
    if door is None:
        raise NotFound
    return door.seen()


class EventKind(StrEnum):
    """What takes a place in a room's log."""

    MESSAGE_CREATED = "message.created"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_DELETED = "message.deleted"
    MEMBER_JOINED = "member.joined"
    MEMBER_LEFT = "member.left"
    ROOM_UPDATED = "room.updated"
    ROOM_DELETED = "room.deleted"

    @property
    def moves_doors(self) -> bool:
        """Whether the room may be closed, after it, to somebody for whom it was open."""
        return self in _MOVES_DOORS


_MOVES_DOORS = frozenset(
    {EventKind.MEMBER_JOINED, EventKind.MEMBER_LEFT, EventKind.ROOM_UPDATED, EventKind.ROOM_DELETED}
)


@value(kw_only=True)
class LogEntry:
    """A place in a room's log that is taken by something other than a new message.

    It points at what it is about: readers show that thing as it is now, so that a text deleted later is nowhere.
    """

    room_id: RoomId
    seq: int
    kind: EventKind
    created_at: datetime
    message_id: MessageId | None = None
    user_id: UserId | None = None


@value(kw_only=True)
class RoomEvent:
    """What stands at one place of a room's log, with the thing that it is about as that is now.

    Just one of ``message``, ``membership`` and ``room`` is there, by ``kind``.
    """

    room_id: RoomId
    seq: int
    kind: EventKind
    message: Message | None = None
    membership: Membership | None = None
    room: Room | None = None

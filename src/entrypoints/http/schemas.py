"""What goes in and out over HTTP, field for field as in the contract."""

from collections.abc import Sequence
from datetime import date as datetime_date
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from chat_core.domain import message as messages
from chat_core.domain import reply as replies
from chat_core.domain import room as rooms
from chat_core.domain import user as users
from chat_core.domain.message import Message
from chat_core.domain.session import Session
from chat_core.use_cases.accounts import LoggedIn
from chat_core.use_cases.contexts import AnswerContext
from chat_core.use_cases.usage import Usage

# --- in ---


class In(Struct, forbid_unknown_fields=True):
    """A body: unknown fields are refused, so that a misspelt one does not go unseen."""


class SignUpIn(In):
    username: Annotated[str, Meta(min_length=3, max_length=32, pattern=users.USERNAME_PATTERN)]
    email: Annotated[str, Meta(min_length=6, max_length=users.EMAIL_MAX)]
    password: Annotated[str, Meta(min_length=users.PASSWORD_MIN, max_length=users.PASSWORD_MAX)]


class LogInIn(In):
    username: Annotated[str, Meta(min_length=1, max_length=users.EMAIL_MAX, description="The username or the e-mail.")]
    password: Annotated[str, Meta(min_length=1, max_length=users.PASSWORD_MAX)]


class RefreshIn(In):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=4096)]


class ChangePasswordIn(In):
    current_password: Annotated[str, Meta(min_length=1, max_length=users.PASSWORD_MAX)]
    new_password: Annotated[str, Meta(min_length=users.PASSWORD_MIN, max_length=users.PASSWORD_MAX)]


class EndAccountIn(In):
    password: Annotated[str, Meta(min_length=1, max_length=users.PASSWORD_MAX)]


RoomName = Annotated[str, Meta(min_length=1, max_length=rooms.NAME_MAX)]
Description = Annotated[str, Meta(max_length=rooms.DESCRIPTION_MAX)]


class CreateRoomIn(In):
    name: RoomName
    description: Description = ""
    visibility: rooms.Visibility = rooms.Visibility.PUBLIC


class RoomAIIn(In):
    """What is left out stays as it is; ``null`` leaves the choice to the service."""

    mode: rooms.AIMode | UnsetType = UNSET
    model: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    system_prompt: Annotated[str, Meta(max_length=rooms.SYSTEM_PROMPT_MAX)] | UnsetType | None = UNSET
    temperature: Annotated[float, Meta(ge=0, le=rooms.TEMPERATURE_MAX)] | UnsetType | None = UNSET
    max_output_tokens: Annotated[int, Meta(ge=1, le=rooms.OUTPUT_TOKENS_MAX)] | UnsetType | None = UNSET
    busy: rooms.WhenBusy | UnsetType = UNSET


class UpdateRoomIn(In):
    """What is left out stays as it is."""

    name: RoomName | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    visibility: rooms.Visibility | UnsetType = UNSET
    ai: RoomAIIn | UnsetType = UNSET


class AddMemberIn(In):
    username: Annotated[str, Meta(min_length=1, max_length=32)]


Content = Annotated[str, Meta(min_length=1, max_length=messages.CONTENT_MAX, description="Not blank.")]


class SendIn(In):
    content: Content
    m_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                pattern=messages.M_ID_PATTERN,
                description="The client's own id for the message; makes the send safe to repeat, for ever.",
            ),
        ]
        | None
    ) = None


class EditMessageIn(In):
    content: Content


# --- out ---


class UserOut(Struct, frozen=True):
    id: UUID
    username: str
    email: str
    created_at: datetime

    @classmethod
    def of(cls, user: users.User) -> "UserOut":
        return cls(id=user.id, username=user.username, email=user.email, created_at=user.created_at)


class UserData(Struct, frozen=True):
    user: UserOut


class SignedUpOut(Struct, frozen=True):
    message: Literal["User created successfully"]
    data: UserData


class LoggedInOut(Struct, frozen=True):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Meta(description="In seconds.")]
    refresh_token: Annotated[str, Meta(description="Good for one `POST /auth/refresh`, which gives the next one.")]
    user: UserOut

    @classmethod
    def of(cls, begun: LoggedIn) -> "LoggedInOut":
        return cls(
            access_token=begun.token.text,
            token_type="bearer",  # noqa: S106 - the scheme's name
            expires_in=begun.token.expires_in,
            refresh_token=begun.refresh_token,
            user=UserOut.of(begun.user),
        )


class SessionOut(Struct, frozen=True):
    id: UUID
    created_at: datetime
    last_used_at: Annotated[datetime, Meta(description="Of its last refresh, or of the log-in.")]
    user_agent: str | None
    current: Annotated[bool, Meta(description="Whether it is the one that asks.")]

    @classmethod
    def of(cls, session: Session, current: UUID | None) -> "SessionOut":
        return cls(
            id=session.id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            user_agent=session.user_agent,
            current=session.id == current,
        )


class SessionsOut(Struct, frozen=True):
    sessions: Annotated[Sequence[SessionOut], Meta(description="Last used first.")]


class TicketOut(Struct, frozen=True):
    ticket: Annotated[str, Meta(description="Good once, as the subprotocol `ticket.TICKET` of a WebSocket.")]
    expires_in: Annotated[int, Meta(description="In seconds.")]


class RoomAIOut(Struct, frozen=True):
    mode: rooms.AIMode
    model: str | None
    system_prompt: str | None
    temperature: float | None
    max_output_tokens: int | None
    busy: rooms.WhenBusy

    @classmethod
    def of(cls, ai: rooms.RoomAI) -> "RoomAIOut":
        return cls(
            mode=ai.mode,
            model=ai.model,
            system_prompt=ai.system_prompt,
            temperature=ai.temperature,
            max_output_tokens=ai.max_output_tokens,
            busy=ai.busy,
        )


class RoomOut(Struct, frozen=True):
    id: UUID
    name: str
    description: str
    created_by: UUID | None
    created_at: datetime
    message_count: int
    visibility: rooms.Visibility
    last_seq: int
    ai: RoomAIOut

    @classmethod
    def of(cls, room: rooms.Room) -> "RoomOut":
        return cls(
            id=room.id,
            name=room.name,
            description=room.description,
            created_by=room.created_by,
            created_at=room.created_at,
            message_count=room.message_count,
            visibility=room.visibility,
            last_seq=room.last_seq,
            ai=RoomAIOut.of(room.ai),
        )


class MessageOut(Struct, frozen=True):
    id: Annotated[UUID | None, Meta(description="Null on an apology alone, which is never stored.")]
    m_id: str | None
    seq: Annotated[int | None, Meta(description="The place in the room's log: the only order and the only cursor.")]
    content: str
    user_id: UUID | None
    room_id: UUID
    message_type: messages.MessageKind
    username: str
    created_at: datetime
    reply_to: UUID | None
    edited_at: datetime | None
    status: messages.MessageStatus

    @classmethod
    def of(cls, message: Message) -> "MessageOut":
        return cls(
            id=message.id,
            m_id=message.m_id,
            seq=message.seq,
            content=message.content,
            user_id=message.user_id,
            room_id=message.room_id,
            message_type=message.kind,
            username=message.username,
            created_at=message.created_at,
            reply_to=message.reply_to,
            edited_at=message.edited_at,
            status=message.status,
        )

    @classmethod
    def apology(cls, reply: replies.Reply) -> "MessageOut":
        """What stands in for an answer that could not be given. It is never stored, nor part of a later prompt."""
        return cls(
            id=None,
            m_id=None,
            seq=None,
            content="Sorry, I could not answer this message.",
            user_id=None,
            room_id=reply.room_id,
            message_type=messages.MessageKind.AI,
            username=messages.AI_NAME,
            created_at=reply.finished_at or reply.created_at,
            reply_to=reply.prompt_id,
            edited_at=None,
            status=messages.MessageStatus.FAILED,
        )


class RoomWithMessagesOut(RoomOut, frozen=True, kw_only=True):
    messages: Annotated[Sequence[MessageOut], Meta(description="The last 10, oldest first.")]

    @classmethod
    def with_messages(cls, room: rooms.Room, found: Sequence[Message]) -> "RoomWithMessagesOut":
        out = RoomOut.of(room)
        fields = {name: getattr(out, name) for name in RoomOut.__struct_fields__}
        return cls(**fields, messages=[MessageOut.of(message) for message in found])


class RoomData(Struct, frozen=True):
    room: RoomOut


class RoomCreatedOut(Struct, frozen=True):
    message: Literal["Room created successfully"]
    data: RoomData


class RoomsOut(Struct, frozen=True):
    rooms: Sequence[RoomOut]
    count: Annotated[int, Meta(description="How many rooms there are in all.")]
    next_cursor: str | None


class MemberOut(Struct, frozen=True):
    user_id: Annotated[UUID | None, Meta(description="Null in a room's old events, where the account is gone.")]
    username: str
    role: rooms.Role
    joined_at: datetime

    @classmethod
    def of(cls, membership: rooms.Membership) -> "MemberOut":
        return cls(
            user_id=None if membership.user_id == rooms.GONE else membership.user_id,
            username=membership.username,
            role=membership.role,
            joined_at=membership.joined_at,
        )


class MembersOut(Struct, frozen=True):
    members: Sequence[MemberOut]


class MessagesOut(Struct, frozen=True):
    messages: Annotated[Sequence[MessageOut], Meta(description="Oldest first.")]
    has_older: bool
    has_newer: bool


EVENT_DATA = (MessageOut, MemberOut, RoomOut)


class RoomEventOut(Struct, frozen=True):
    type: rooms.EventKind
    room_id: UUID
    seq: Annotated[int, Meta(description="1, 2, 3 ... in the room, without a gap.")]
    # One of EVENT_DATA. msgspec takes no union of structs without tags, and the contract has no tags.
    data: Annotated[Any, Meta(description="What it is about, as that is now; which one, by `type`.")]

    @classmethod
    def of(cls, event: rooms.RoomEvent) -> "RoomEventOut":
        data: MessageOut | MemberOut | RoomOut
        if event.message is not None:
            data = MessageOut.of(event.message)
        elif event.membership is not None:
            data = MemberOut.of(event.membership)
        elif event.room is not None:
            data = RoomOut.of(event.room)
        else:
            raise ValueError("an event is about something")
        return cls(type=event.kind, room_id=event.room_id, seq=event.seq, data=data)


class RoomEventsOut(Struct, frozen=True):
    events: Annotated[Sequence[RoomEventOut], Meta(description="Oldest first.")]
    last_seq: Annotated[int, Meta(description="How far the room's log reaches.")]
    has_newer: bool


class ReplyErrorOut(Struct, frozen=True):
    code: str
    title: str


class UsageOut(Struct, frozen=True):
    input_tokens: int
    output_tokens: int


class ReplyOut(Struct, frozen=True):
    id: UUID
    room_id: UUID
    prompt_id: UUID
    message_id: UUID | None
    status: replies.ReplyStatus
    provider: str | None
    model: str | None
    attempts: int
    finish_reason: str | None
    error: ReplyErrorOut | None
    usage: UsageOut | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, reply: replies.Reply) -> "ReplyOut":
        code = reply.error_code
        counted = reply.input_tokens is not None or reply.output_tokens is not None
        return cls(
            id=reply.id,
            room_id=reply.room_id,
            prompt_id=reply.prompt_id,
            message_id=reply.message_id,
            status=reply.status,
            provider=reply.provider,
            model=reply.model,
            attempts=reply.attempts,
            finish_reason=reply.finish_reason,
            error=ReplyErrorOut(code=code, title=replies.error_title(code)) if code else None,
            usage=UsageOut(reply.input_tokens or 0, reply.output_tokens or 0) if counted else None,
            created_at=reply.created_at,
            finished_at=reply.finished_at,
        )


class SummaryOut(Struct, frozen=True):
    id: UUID
    text: Annotated[str, Meta(description="Empty where it drew on what was edited or deleted since then.")]


class AttemptOut(Struct, frozen=True):
    provider: str
    model: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    input_tokens: int | None
    output_tokens: int | None

    @classmethod
    def of(cls, attempt: replies.Attempt) -> "AttemptOut":
        return cls(
            provider=attempt.provider,
            model=attempt.model,
            started_at=attempt.started_at,
            ended_at=attempt.ended_at,
            outcome=attempt.outcome,
            input_tokens=attempt.input_tokens,
            output_tokens=attempt.output_tokens,
        )


class ContextOut(Struct, frozen=True):
    message_ids: Annotated[Sequence[UUID], Meta(description="In the order of the prompt, which is the last.")]
    summary: SummaryOut | None
    model_asked: str | None
    model_used: str | None
    attempts: Sequence[AttemptOut]

    @classmethod
    def of(cls, context: AnswerContext) -> "ContextOut":
        reply, summary = context.reply, context.summary
        return cls(
            message_ids=context.message_ids,
            summary=SummaryOut(id=summary.id, text=summary.text) if summary else None,
            model_asked=reply.sources.model if reply.sources else None,
            model_used=f"{reply.provider}:{reply.model}" if reply.provider else None,
            attempts=[AttemptOut.of(attempt) for attempt in context.attempts],
        )


class DayUsageOut(Struct, frozen=True):
    date: datetime_date
    room_id: UUID
    input_tokens: int
    output_tokens: int
    wasted_tokens: int


class UsageReportOut(Struct, frozen=True):
    days: Sequence[DayUsageOut]
    limit: Annotated[int | None, Meta(description="Tokens for a day; `null`: no limit.")]
    used_today: int
    resets_at: datetime

    @classmethod
    def of(cls, usage: Usage) -> "UsageReportOut":
        return cls(
            days=[
                DayUsageOut(
                    date=day.date,
                    room_id=day.room_id,
                    input_tokens=day.input_tokens,
                    output_tokens=day.output_tokens,
                    wasted_tokens=day.wasted_tokens,
                )
                for day in usage.days
            ],
            limit=usage.limit,
            used_today=usage.used_today,
            resets_at=usage.resets_at,
        )


class ReplyWithMessageOut(ReplyOut, frozen=True, kw_only=True):
    message: Annotated[MessageOut | None, Meta(description="The AI's message, once there is one.")] = None

    @classmethod
    def with_message(cls, reply: replies.Reply, message: Message | None) -> "ReplyWithMessageOut":
        out = ReplyOut.of(reply)
        fields = {name: getattr(out, name) for name in ReplyOut.__struct_fields__}
        return cls(**fields, message=MessageOut.of(message) if message else None)


class MessagePairOut(Struct, frozen=True):
    user_message: MessageOut
    ai_message: MessageOut | None


class SentData(Struct, frozen=True):
    messages: MessagePairOut
    reply: ReplyOut | None


class SentOut(Struct, frozen=True):
    message: Literal["Messages sent successfully"]
    data: SentData


class WelcomeOut(Struct, frozen=True):
    name: str
    version: str
    links: dict[str, str]


class HealthOut(Struct, frozen=True):
    status: Literal["healthy"]
    message: Literal["Chat API is running"]
    version: str


class LiveOut(Struct, frozen=True):
    status: Literal["ok"]


State = Literal["ok", "degraded", "down"]


class PartOut(Struct, frozen=True):
    status: State
    detail: str | None = None


class ReadyOut(Struct, frozen=True):
    status: State
    database: PartOut
    redis: PartOut
    model: PartOut
    workers: PartOut


class FaultOut(Struct, frozen=True):
    pointer: Annotated[str, Meta(description="A JSON pointer (RFC 6901) into the body, or the parameter's name.")]
    detail: str


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error, as in RFC 9457."""

    type: Annotated[str, Meta(description="A stable URI made from the error's code.")]
    title: Annotated[str, Meta(description="Constant for a type.")]
    status: int
    detail: str
    instance: Annotated[str, Meta(description="The request id, as in the X-Request-ID header.")]
    errors: Sequence[FaultOut] = ()

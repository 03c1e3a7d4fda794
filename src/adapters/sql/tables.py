"""The tables. Every constraint and index has a name of its own, by which violations are told apart.

Check constraints stand at table level: Alembic's autogenerate drops those that stand at a column.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

#: The revision of ``migrations/`` that these tables are: what a database must be at to be served.
SCHEMA_REVISION = "0004"

metadata = sa.MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond. SQLite keeps its text, without the zone: that is put back.

    There are half a dozen of them in a send, and SQLAlchemy's own text of one takes five times as long.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        return _text_of if dialect.name == "sqlite" else _in_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return _moment_in if dialect.name == "sqlite" else super().result_processor(dialect, coltype)


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone is no moment")
    return moment.astimezone(UTC)


def _text_of(moment: datetime | None) -> str | None:
    moment = _in_utc(moment)
    return None if moment is None else moment.isoformat(" ", "microseconds").removesuffix("+00:00")


def _moment_in(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


_known_id = lru_cache(maxsize=16_384)(UUID)


class Id(sa.Uuid[UUID]):
    """A UUID. SQLite keeps its hexadecimal digits, and reading those takes longer than all else about a row: one
    that was read lately, as a page's room and its senders were, is read once."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        if dialect.name != "sqlite":
            return super().result_processor(dialect, coltype)  # type: ignore[no-untyped-call]
        return lambda digits: None if digits is None else _known_id(digits)


def _one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


#: Written out, not bound: only then do both databases see that it implies the partial indexes' condition.
UNFINISHED = sa.text(_one_of("status", "queued", "running"))

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("username", sa.Text, nullable=False),
    # Folded by Python's casefold: the databases' own lower() differ from each other outside ASCII.
    sa.Column("username_key", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("email_key", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # The row of an account that was ended stays: its name is taken for ever, and messages and the log point at it.
    sa.Column("ended_at", UtcDateTime),
    # As ``ended_at``, until it is known to be in no room any more.
    sa.Column("departing_since", UtcDateTime),
    sa.PrimaryKeyConstraint("id", name="pk_users"),
    sa.UniqueConstraint("username_key", name="uq_users_username_key"),
    sa.UniqueConstraint("email_key", name="uq_users_email_key"),
)
_DEPARTING = sa.text("departing_since IS NOT NULL")
sa.Index("ix_users_departing", users.c.departing_since, postgresql_where=_DEPARTING, sqlite_where=_DEPARTING)

# Of tokens and tickets there are digests alone.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("user_agent", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_used_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"),
)
sa.Index("ix_sessions_user_id", sessions.c.user_id)
sa.Index("ix_sessions_expires_at", sessions.c.expires_at)

# Spent ones stay as long as their session: one that comes again tells that it was stolen.
refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("session_id", Id, nullable=False),
    sa.Column("spent_at", UtcDateTime),
    sa.PrimaryKeyConstraint("digest", name="pk_refresh_tokens"),
    sa.ForeignKeyConstraint(
        ["session_id"], ["sessions.id"], name="fk_refresh_tokens_session_id_sessions", ondelete="CASCADE"
    ),
)
sa.Index("ix_refresh_tokens_session_id", refresh_tokens.c.session_id)

ws_tickets = sa.Table(
    "ws_tickets",
    metadata,
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("session_id", Id, nullable=False),
    # Milliseconds since 1970 by the database's own clock (``database_now_ms``).
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("digest", name="pk_ws_tickets"),
    sa.ForeignKeyConstraint(
        ["session_id"], ["sessions.id"], name="fk_ws_tickets_session_id_sessions", ondelete="CASCADE"
    ),
)
sa.Index("ix_ws_tickets_session_id", ws_tickets.c.session_id)
sa.Index("ix_ws_tickets_expires_ms", ws_tickets.c.expires_ms)

rooms = sa.Table(
    "rooms",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created_by", Id),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("visibility", sa.Text, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("message_count", sa.BigInteger, nullable=False),
    sa.Column("last_activity_at", UtcDateTime, nullable=False),
    sa.Column("ai_mode", sa.Text, nullable=False),
    sa.Column("ai_model", sa.Text),
    sa.Column("ai_system_prompt", sa.Text),
    sa.Column("ai_temperature", sa.Double),
    sa.Column("ai_max_output_tokens", sa.Integer),
    sa.Column("ai_busy", sa.Text, nullable=False),
    sa.Column("deleted_at", UtcDateTime),
    sa.PrimaryKeyConstraint("id", name="pk_rooms"),
    sa.ForeignKeyConstraint(["created_by"], ["users.id"], name="fk_rooms_created_by_users", ondelete="SET NULL"),
    sa.CheckConstraint(_one_of("visibility", "public", "private"), name="ck_rooms_visibility"),
    sa.CheckConstraint(_one_of("ai_mode", "always", "mention", "off"), name="ck_rooms_ai_mode"),
    sa.CheckConstraint(_one_of("ai_busy", "queue", "reject"), name="ck_rooms_ai_busy"),
    sa.CheckConstraint("last_seq >= 0 AND message_count >= 0", name="ck_rooms_counters"),
)
# One index for the list's order and for counting the public rooms. Each further one on a room's row would cost every
# send: raising last_activity_at makes PostgreSQL write a new entry into all of them.
sa.Index(
    "ix_rooms_activity",
    rooms.c.last_activity_at,
    rooms.c.id,
    rooms.c.visibility,
    postgresql_where=sa.text("deleted_at IS NULL"),
    sqlite_where=sa.text("deleted_at IS NULL"),
)

memberships = sa.Table(
    "memberships",
    metadata,
    sa.Column("room_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("joined_at", UtcDateTime, nullable=False),
    sa.Column("standing", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("room_id", "user_id", name="pk_memberships"),
    sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_memberships_room_id_rooms", ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id_users", ondelete="CASCADE"),
    sa.CheckConstraint(_one_of("role", "owner", "member"), name="ck_memberships_role"),
    sa.CheckConstraint(_one_of("standing", "active", "left", "removed"), name="ck_memberships_standing"),
)
sa.Index("ix_memberships_user_id", memberships.c.user_id, memberships.c.room_id)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("m_id", sa.Text, nullable=False),
    sa.Column("room_id", Id, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("user_id", Id),
    sa.Column("message_type", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("reply_to", Id),
    sa.Column("edited_at", UtcDateTime),
    sa.Column("status", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_messages"),
    sa.UniqueConstraint("room_id", "seq", name="uq_messages_room_id_seq"),
    sa.UniqueConstraint("room_id", "user_id", "m_id", name="uq_messages_room_id_user_id_m_id"),
    sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_messages_room_id_rooms"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_messages_user_id_users", ondelete="SET NULL"),
    sa.ForeignKeyConstraint(["reply_to"], ["messages.id"], name="fk_messages_reply_to_messages"),
    sa.CheckConstraint("seq >= 1", name="ck_messages_seq"),
    sa.CheckConstraint(_one_of("message_type", "user", "ai"), name="ck_messages_message_type"),
    sa.CheckConstraint(_one_of("status", "complete", "incomplete", "deleted"), name="ck_messages_status"),
)

log_entries = sa.Table(
    "log_entries",
    metadata,
    sa.Column("room_id", Id, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("message_id", Id),
    sa.Column("user_id", Id),
    sa.PrimaryKeyConstraint("room_id", "seq", name="pk_log_entries"),
    sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_log_entries_room_id_rooms"),
    sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_log_entries_message_id_messages"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_log_entries_user_id_users", ondelete="SET NULL"),
    sa.CheckConstraint("seq >= 1", name="ck_log_entries_seq"),
)

replies = sa.Table(
    "replies",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("room_id", Id, nullable=False),
    sa.Column("prompt_id", Id, nullable=False),
    sa.Column("asked_by", Id),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("deadline_at", UtcDateTime, nullable=False),
    sa.Column("try_number", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("crashes", sa.Integer, nullable=False),
    sa.Column("stop_requested", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("message_id", Id),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("finish_reason", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("wasted_tokens", sa.BigInteger, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    # Milliseconds since 1970 by the database's own clock (``database_now_ms``): until when its maker holds it, or, of a
    # queued one, since when it is free. Null once it is final.
    sa.Column("lease_until", sa.BigInteger),
    # ``base:length,length...`` of its parts, once its maker has ended it.
    sa.Column("cuts", sa.Text),
    # The places of the messages that its prompt held, as ``first-last,first-last...``, and what else went into it.
    sa.Column("sources", sa.Text),
    sa.Column("summary_id", Id),
    sa.Column("model_asked", sa.Text),
    # The default is for the rows that were there before the column.
    sa.Column("reserved_tokens", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.PrimaryKeyConstraint("id", name="pk_replies"),
    sa.UniqueConstraint("prompt_id", "try_number", name="uq_replies_prompt_id_try_number"),
    sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_replies_room_id_rooms"),
    sa.ForeignKeyConstraint(["prompt_id"], ["messages.id"], name="fk_replies_prompt_id_messages"),
    sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_replies_message_id_messages"),
    sa.ForeignKeyConstraint(["asked_by"], ["users.id"], name="fk_replies_asked_by_users", ondelete="SET NULL"),
    sa.CheckConstraint(
        _one_of("status", "queued", "running", "complete", "incomplete", "failed", "blocked", "cancelled"),
        name="ck_replies_status",
    ),
    sa.CheckConstraint("(status IN ('queued', 'running')) = (lease_until IS NOT NULL)", name="ck_replies_lease"),
)
# A prompt lies in one room, so this holds at most one unfinished reply for each prompt, and finds a room's as well.
sa.Index(
    "uq_replies_unfinished",
    replies.c.room_id,
    replies.c.prompt_id,
    unique=True,
    postgresql_where=UNFINISHED,
    sqlite_where=UNFINISHED,
)
sa.Index("ix_replies_asked_by", replies.c.asked_by, replies.c.created_at)
sa.Index("ix_replies_unfinished_for", replies.c.asked_by, postgresql_where=UNFINISHED, sqlite_where=UNFINISHED)
sa.Index("ix_replies_due", replies.c.created_at, replies.c.id, postgresql_where=UNFINISHED, sqlite_where=UNFINISHED)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("reply_id", Id, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("outcome", sa.Text),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.PrimaryKeyConstraint("reply_id", "number", name="pk_attempts"),
    sa.ForeignKeyConstraint(["reply_id"], ["replies.id"], name="fk_attempts_reply_id_replies"),
)

summaries = sa.Table(
    "summaries",
    metadata,
    sa.Column("id", Id, nullable=False),
    sa.Column("room_id", Id, nullable=False),
    sa.Column("up_to", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    # As for a reply; of one that is not due it means nothing.
    sa.Column("lease_until", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_summaries"),
    sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_summaries_room_id_rooms"),
    sa.CheckConstraint(_one_of("status", "due", "ready", "void"), name="ck_summaries_status"),
)
SUMMARY_DUE = sa.text("status = 'due'")
sa.Index("ix_summaries_room_id", summaries.c.room_id, summaries.c.up_to)
sa.Index("uq_summaries_due", summaries.c.room_id, unique=True, postgresql_where=SUMMARY_DUE, sqlite_where=SUMMARY_DUE)

# Parts of replies in the making, where no feed carries them to other processes. Without a reference to the reply: rows
# come many times a second, and each would lock it.
reply_parts = sa.Table(
    "reply_parts",
    metadata,
    sa.Column("reply_id", Id, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("content", sa.Text),
    sa.PrimaryKeyConstraint("reply_id", "epoch", "number", name="pk_reply_parts"),
)

"""Everything that is stored, straight from the database, and the provider's ledger, in the checkers' words."""

import asyncio
import sqlite3
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import asyncpg

from chat_core.testing.fake_provider import Entry
from chat_core.testing.fake_provider.script import plan
from tests.faults.history import Asked, Snapshot, StoredAttempt, StoredMessage, StoredReply

_QUERIES = {
    "rooms": "SELECT id, last_seq, message_count FROM rooms",
    "messages": "SELECT id, room_id, seq, m_id, user_id, content, message_type, reply_to, status FROM messages",
    "entries": "SELECT room_id, seq FROM log_entries",
    "replies": "SELECT id, room_id, prompt_id, status, epoch, attempts, crashes, try_number, message_id, error_code "
    "FROM replies",
    "attempts": "SELECT reply_id, number, epoch, provider, outcome FROM attempts",
}
_UNFINISHED = "SELECT count(*) FROM replies WHERE status IN ('queued', 'running')"
#: The markers that refuse n times and then give way: by the time an answer came, they had.
_LATE = 1_000_000


async def _rows(url: str, *queries: str) -> list[list[tuple[Any, ...]]]:
    if url.startswith("sqlite"):
        return await asyncio.to_thread(_sqlite_rows, url, queries)
    connection = await asyncpg.connect(url, timeout=5)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [[tuple(row) for row in await connection.fetch(query)] for query in queries]
    finally:
        await connection.close(timeout=5)


def _sqlite_rows(url: str, queries: Iterable[str]) -> list[list[tuple[Any, ...]]]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
    try:
        connection.execute("BEGIN")
        return [connection.execute(query).fetchall() for query in queries]
    finally:
        connection.close()


async def unfinished(url: str) -> int:
    """How many replies have no end yet."""
    [[[count]]] = await _rows(url, _UNFINISHED)
    return int(count)


async def snapshot(url: str) -> Snapshot:
    """All of it, at one moment."""
    rooms, messages, entries, replies, attempts = await _rows(url, *_QUERIES.values())
    final = Snapshot(
        last_seqs={_id(id_): last_seq for id_, last_seq, _ in rooms},
        counts={_id(id_): message_count for id_, _, message_count in rooms},
        messages=[
            StoredMessage(
                id=_id(id_),
                room_id=_id(room),
                seq=seq,
                m_id=m_id,
                user_id=_maybe(user),
                content=content,
                is_ai=kind == "ai",
                reply_to=_maybe(reply_to),
                status=status,
            )
            for id_, room, seq, m_id, user, content, kind, reply_to, status in messages
        ],
        replies=[
            StoredReply(
                id=_id(id_),
                room_id=_id(room),
                prompt_id=_id(prompt),
                status=status,
                epoch=epoch,
                attempts=tries,
                crashes=crashes,
                try_number=number,
                message_id=_maybe(message),
                error_code=code,
            )
            for id_, room, prompt, status, epoch, tries, crashes, number, message, code in replies
        ],
        attempts=[
            StoredAttempt(reply_id=_id(reply), number=number, epoch=epoch, provider=provider, outcome=outcome)
            for reply, number, epoch, provider, outcome in attempts
        ],
    )
    for room, seq in entries:
        final.entries.setdefault(_id(room), []).append(seq)
    return final


def _id(value: Any) -> str:
    # SQLite keeps the 32 digits alone.
    return str(value if isinstance(value, UUID) else UUID(str(value)))


def _maybe(value: Any) -> str | None:
    return None if value is None else _id(value)


def asked(ledger: Iterable[Entry]) -> list[Asked]:
    """The requests for answers that the provider had, with the text that it sent for each."""
    return [
        Asked(
            number=entry.number,
            prompt=entry.prompt,
            text="".join(plan(entry.prompt, entry.number, _LATE).chunks[: entry.chunks]),
            answered=entry.answered,
            at=entry.at,
        )
        for entry in ledger
        if entry.prompt
    ]

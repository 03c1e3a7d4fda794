"""The floor of a page: one statement on the service's own tables, encoded.

``DATABASE_URL`` names the database. ``GET /history/ROOM/UP_TO`` is a page of 50 messages, ``GET /rooms`` one of rooms
with how many there are.
"""

import os
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bench.floors.asgi import application

HISTORY = """
SELECT id, seq, m_id, user_id, message_type, content, created_at FROM messages
WHERE room_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 50
"""
ROOMS = """
SELECT id, name, description, created_by, created_at, message_count, visibility, last_seq, last_activity_at,
  (SELECT count(*) FROM rooms WHERE deleted_at IS NULL AND visibility = 'public') AS total
FROM rooms WHERE deleted_at IS NULL AND visibility = 'public' ORDER BY last_activity_at DESC, id DESC LIMIT 50
"""

encode = msgspec.json.Encoder().encode


class Pages:
    """One process's state."""

    async def start(self) -> None:
        self.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=10)

    async def answer(self, scope: Any, body: bytes) -> bytes:
        if scope["path"] == "/rooms":
            return encode([dict(row) for row in await self.pool.fetch(ROOMS)])
        _, _, room, up_to = scope["path"].split("/")
        return encode([dict(row) for row in await self.pool.fetch(HISTORY, UUID(room), int(up_to))])


pages = Pages()
app = application(pages.answer, pages.start)

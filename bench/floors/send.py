"""The floor of a blocking send: what one would write by hand, with no layers.

Two round trips to the database, a statement each, and one direct model call between them. A token is checked, JSON
comes in and goes out; rooms are taken in turn. ``DATABASE_URL`` and ``STUB`` (the model's address) are variables.
"""

import os
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import jwt
import msgspec

from bench.floors.asgi import application

KEY = "k" * 32
USER = uuid.UUID(int=1)
ROOMS = [uuid.UUID(int=1000 + number) for number in range(64)]

TABLES = """
CREATE TABLE IF NOT EXISTS users (id uuid PRIMARY KEY, username text UNIQUE, email text UNIQUE);
CREATE TABLE IF NOT EXISTS rooms (id uuid PRIMARY KEY, name text, last_seq bigint NOT NULL DEFAULT 0,
  message_count bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS members (room_id uuid, user_id uuid, PRIMARY KEY (room_id, user_id));
CREATE TABLE IF NOT EXISTS messages (id uuid PRIMARY KEY, room_id uuid NOT NULL, seq bigint NOT NULL, m_id text,
  user_id uuid, message_type text, content text, fingerprint bytea, reply_to uuid, created_at timestamptz DEFAULT now(),
  UNIQUE (room_id, seq), UNIQUE (room_id, user_id, m_id));
CREATE TABLE IF NOT EXISTS replies (id uuid PRIMARY KEY, prompt_id uuid UNIQUE, room_id uuid, status text, epoch int,
  attempts int, lease_until timestamptz, message_id uuid, created_at timestamptz DEFAULT now());
CREATE TABLE IF NOT EXISTS attempts (reply_id uuid, attempt int, provider text, started_at timestamptz DEFAULT now(),
  PRIMARY KEY (reply_id, attempt));
"""
ACCEPT = """
WITH door AS (SELECT 1 FROM members WHERE room_id = $1 AND user_id = $2),
place AS (UPDATE rooms SET last_seq = last_seq + 1, message_count = message_count + 1
  WHERE id = $1 AND EXISTS (SELECT 1 FROM door) RETURNING last_seq),
message AS (INSERT INTO messages (id, room_id, seq, m_id, user_id, message_type, content)
  SELECT $3, $1, last_seq, $4, $2, 'user', $5 FROM place RETURNING seq),
reply AS (INSERT INTO replies (id, prompt_id, room_id, status, epoch, attempts, lease_until)
  SELECT $6, $3, $1, 'running', 1, 1, now() + interval '15s' FROM place),
attempt AS (INSERT INTO attempts (reply_id, attempt, provider) SELECT $6, 1, 'gemini' FROM place)
SELECT (SELECT seq FROM message) AS seq,
  ARRAY(SELECT content FROM (SELECT content, seq FROM messages WHERE room_id = $1 ORDER BY seq DESC LIMIT 10) latest)
  AS context
"""
FINISH = """
WITH place AS (UPDATE rooms SET last_seq = last_seq + 1, message_count = message_count + 1 WHERE id = $1
  RETURNING last_seq),
message AS (INSERT INTO messages (id, room_id, seq, message_type, content, reply_to)
  SELECT $2, $1, last_seq, 'ai', $3, $4 FROM place RETURNING seq),
reply AS (UPDATE replies SET status = 'complete', message_id = $2 WHERE id = $5 AND epoch = 1)
SELECT seq FROM message
"""


class Send(msgspec.Struct):
    content: str
    m_id: str | None = None


decode, encode = msgspec.json.Decoder(Send).decode, msgspec.json.Encoder().encode


class Floor:
    """One process's state."""

    def __init__(self) -> None:
        self.turn = 0

    async def start(self) -> None:
        self.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=10)
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await self.pool.execute(TABLES)
        await self.pool.execute("INSERT INTO users VALUES ($1, 'a', 'a') ON CONFLICT DO NOTHING", USER)
        for room in ROOMS:
            await self.pool.execute("INSERT INTO rooms (id, name) VALUES ($1, 'r') ON CONFLICT DO NOTHING", room)
            await self.pool.execute("INSERT INTO members VALUES ($1, $2) ON CONFLICT DO NOTHING", room, USER)

    async def send(self, user: uuid.UUID, room: uuid.UUID, body: Send) -> dict[str, Any]:
        prompt, reply, answer = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        m_id = body.m_id or str(prompt)
        accepted = await self.pool.fetchrow(ACCEPT, room, user, prompt, m_id, body.content, reply)
        contents = [{"role": "user", "parts": [{"text": text}]} for text in reversed(accepted["context"])]
        headers = {"content-type": "application/json"}
        async with self.http.post(os.environ["STUB"], data=encode({"contents": contents}), headers=headers) as response:
            text = msgspec.json.decode(await response.read())["candidates"][0]["content"]["parts"][0]["text"]
        seq = await self.pool.fetchval(FINISH, room, answer, text, prompt, reply)
        said, answered = (prompt, accepted["seq"], "user", body.content, user), (answer, seq, "ai", text, None)
        names = ("id", "seq", "message_type", "content", "user_id")
        pair = [
            {**dict(zip(names, values, strict=True)), "m_id": m_id, "room_id": room, "username": "a",
             "created_at": datetime.now(UTC)}
            for values in (said, answered)
        ]  # fmt: skip
        messages = {"user_message": pair[0], "ai_message": pair[1]}
        return {"message": "Messages sent successfully", "data": {"messages": messages}}

    async def answer(self, scope: Any, body: bytes) -> bytes:
        token = dict(scope["headers"])[b"authorization"][7:].decode()
        claims = jwt.decode(token, KEY, algorithms=["HS256"])
        self.turn += 1
        return encode(await self.send(uuid.UUID(claims["sub"]), ROOMS[self.turn % 64], decode(body)))


def token() -> str:
    return jwt.encode({"sub": str(USER)}, KEY, algorithm="HS256")


floor = Floor()
app = application(floor.answer, floor.start)

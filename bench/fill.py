"""Large rooms and many of them, by statements of PostgreSQL's own: quick, and as the service would have left them."""

from typing import Any
from uuid import UUID

_MESSAGES = """
INSERT INTO messages (id, m_id, room_id, seq, user_id, message_type, content, fingerprint, created_at, status)
SELECT (left(lpad(to_hex($3::bigint), 16, '0'), 16) || lpad(to_hex(seq), 16, '0'))::uuid, 'm-' || seq, $1, seq,
  CASE seq % 2 WHEN 1 THEN $2::uuid END, CASE seq % 2 WHEN 1 THEN 'user' ELSE 'ai' END,
  'What was said in message number ' || seq || ' is about as long as people write when they chat.', '',
  now() - ($3::bigint - seq) * interval '1 second', 'complete'
FROM generate_series(1, $3::bigint) AS seq
"""
_COUNTS = "UPDATE rooms SET last_seq = $2, message_count = $2, last_activity_at = now() WHERE id = $1"
_ROOMS = """
INSERT INTO rooms (id, name, description, created_by, created_at, visibility, last_seq, message_count,
  last_activity_at, ai_mode, ai_busy)
SELECT gen_random_uuid(), 'Room ' || number, 'One of many', $1, now(), 'public', number, number,
  now() - number * interval '1 minute', 'always', 'queue'
FROM generate_series(1, $2::bigint) AS number
"""
_OWNERS = """
INSERT INTO memberships (room_id, user_id, role, joined_at, standing)
SELECT id, $1, 'owner', now(), 'active' FROM rooms ON CONFLICT DO NOTHING
"""


async def fill_room(connection: Any, room: str, user: str, count: int) -> None:
    """Give an empty room so many messages, by a person and the AI in turn. ``count`` is another for each room."""
    # Without looking up the room and the sender of each.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(_MESSAGES, UUID(room), UUID(user), count, timeout=300)
    await connection.execute("SET session_replication_role = DEFAULT")
    await connection.execute(_COUNTS, UUID(room), count)
    await connection.execute("VACUUM ANALYZE messages", timeout=300)


async def fill_rooms(connection: Any, user: str, count: int) -> None:
    """So many public rooms of this person's."""
    await connection.execute(_ROOMS, UUID(user), count)
    await connection.execute(_OWNERS, UUID(user))
    await connection.execute("VACUUM ANALYZE rooms, memberships")

"""What a prompt costs in a small room and in a large one: the time to read it and build it, in this process."""

import statistics
import time
from typing import Any

import sqlalchemy as sa

from adapters.sql.engine import Database
from adapters.sql.migrate import migrating, upgrade
from adapters.sql.tables import messages, rooms
from adapters.sql.unit_of_work import SqlUnitOfWork
from bench.plan import Size
from bench.stage import Stage
from bench.table import Row
from chat_core.domain.ids import RoomId, uuid7
from chat_core.domain.message import Message
from chat_core.domain.room import Room, RoomAI
from chat_core.domain.user import User
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.samples import a_message, stored_room, stored_user
from chat_core.use_cases.prompts import Budget, Prompts

SMALL = 100
TEXT = "What was said in message number {:06} is about as long as people write when they chat. "


async def filled(url: str, uow: UnitOfWork, user: User, count: int) -> Message:
    """The last message of a room with so many."""
    room: Room = await stored_room(uow, user, id=RoomId(uuid7()))
    last = a_message(room, user, count, TEXT.format(count))
    async with migrating(url) as connection:
        for begin in range(1, count + 1, 10_000):
            said = [
                a_message(room, user, seq, TEXT.format(seq)) for seq in range(begin, min(begin + 10_000, count + 1))
            ]
            rows = [
                {
                    "id": message.id,
                    "m_id": message.m_id,
                    "room_id": room.id,
                    "seq": message.seq,
                    "user_id": user.id,
                    "message_type": "user",
                    "content": message.content,
                    "fingerprint": b"",
                    "created_at": message.created_at,
                    "status": "complete",
                }
                for message in said
            ]
            await connection.execute(sa.insert(messages), rows)
        await connection.execute(
            sa.update(rooms).where(rooms.c.id == room.id).values(last_seq=count, message_count=count)
        )
    return last


async def _compared(url: str, large: int, tries: int) -> tuple[list[float], list[int]]:
    """The median milliseconds, and the tokens, of a prompt in a small room and in a large one, asked for in turn."""
    await upgrade(url)
    database = Database(url)
    uow = SqlUnitOfWork(database)
    prompts = Prompts(budget=Budget(summaries=True))
    try:
        user = await stored_user(uow)
        ends = [await filled(url, uow, user, count) for count in (SMALL, large)]
        times: tuple[list[float], list[float]] = ([], [])
        tokens = [0, 0]
        for number in range(tries + 20):
            for index, end in enumerate(ends):
                async with uow.read() as tx:
                    began = time.perf_counter()
                    prompt = await prompts.read(tx, end, RoomAI(), 300.0)
                    took = (time.perf_counter() - began) * 1000
                tokens[index] = prompt.tokens
                if number >= 20:
                    times[index].append(took)
    finally:
        await database.close()
    return [statistics.median(found) for found in times], tokens


async def prompts(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    large, rows = size.large_prompts, []
    for name in names:
        kind = name.removeprefix("prompt-")
        settings: dict[str, Any] = await stage.settings(kind)
        (small, big), tokens = await _compared(settings["DATABASE_URL"], large, 100 if size.quick else 300)
        rows.append(
            Row(
                name=name,
                what=f"a prompt, {large:,} messages against {SMALL}, {kind}",
                unit=" ms",
                ours=big,
                floor=small,
                ratio=big / small,
                target="<= 1.1",
                met=big / small <= 1.1,
                note=f"{tokens[1]:,} tokens and {tokens[0]:,}",
            )
        )
    return rows

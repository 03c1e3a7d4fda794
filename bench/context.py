"""What a prompt costs in a small room and in a large one: its tokens, and the time to read and build it.

``.venv/bin/python -m bench.context [messages]`` fills a room of 100 messages and one of 100,000 on SQLite and on
PostgreSQL, by statements of its own, and asks the use case for both prompts in turn.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import sqlalchemy as sa

from adapters.sql.engine import Database
from adapters.sql.migrate import upgrade
from adapters.sql.tables import messages, rooms
from adapters.sql.unit_of_work import SqlUnitOfWork
from chat_core.domain.ids import RoomId, uuid7
from chat_core.domain.message import Message
from chat_core.domain.room import Room, RoomAI
from chat_core.domain.user import User
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.samples import a_message, stored_room, stored_user
from chat_core.use_cases.prompts import Budget, Prompts
from tests.faults.servers import Postgres

SMALL = 100
TRIES = 300
TEXT = "What was said in message number {:06} is about as long as people write when they chat. "


async def filled(database: Database, uow: UnitOfWork, user: User, count: int) -> Message:
    """The last message of a room with so many."""
    room: Room = await stored_room(uow, user, id=RoomId(uuid7()))
    last = a_message(room, user, count, TEXT.format(count))
    async with database.write.begin() as connection:
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


async def compare(name: str, url: str, large: int) -> None:
    await upgrade(url)
    database = Database(url)
    uow = SqlUnitOfWork(database)
    prompts = Prompts(budget=Budget(summaries=True))
    try:
        user = await stored_user(uow)
        ends = [await filled(database, uow, user, count) for count in (SMALL, large)]
        times: tuple[list[float], list[float]] = ([], [])
        tokens = [0, 0]
        for number in range(TRIES + 20):
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
    small, big = (statistics.median(found) for found in times)
    print(
        f"a prompt on {name:<10} of {SMALL} messages: {tokens[0]} tokens, {small:.2f} ms   "
        f"of {large}: {tokens[1]} tokens, {big:.2f} ms   ratio {big / small:.2f}   target 1.1 or less"
    )


async def main(large: int) -> None:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        postgres = Postgres()
        stack.callback(postgres.close)
        await postgres.start()
        await compare("SQLite", f"sqlite:///{directory}/chat.db", large)
        await compare("PostgreSQL", postgres.url(await postgres.fresh_database()), large)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))

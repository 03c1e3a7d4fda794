"""One connection to Redis, without the client around it.

A pipeline of redis-py's client takes 110 µs for two commands, of which 80 are pools, retries and callbacks that a line
of one's own has no use for. Its connections open, log in and speak TLS as the client's do.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

Command = tuple[str | bytes | int, ...]


class Wire:
    """Not to be used by two at once. ``seconds`` bounds how long it takes to connect."""

    def __init__(self, url: str, *, seconds: float) -> None:
        pool: Any = redis.ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
        self._connection: Any = pool.make_connection()

    async def open(self) -> None:
        """Connect, where it is not or the other side has hung up. Raises ``RedisError`` or ``OSError``."""
        # Whatever is there to be read before anything was asked is a good-bye.
        if self._connection.is_connected and await self._connection.can_read():
            await self.close()
        await self._connection.connect()

    async def ask(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """The answers to these commands, in order; where Redis refuses one, its error stands in its place.

        Raises ``RedisError`` or ``OSError`` (``TimeoutError`` after so many seconds), and is closed then.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.open()
                await self.send(commands)
                return [await self._answer() for _ in commands]
        except BaseException:
            # Answers that nobody has read would be taken for those to the next commands.
            await self.close()
            raise

    async def send(self, commands: Sequence[Command]) -> None:
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed, check_health=False)

    async def hear(self) -> Any:
        """The next thing that is said here, whenever that is."""
        return await self._connection.read_response(timeout=math.inf, push_request=True)

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as error:
            return error

    async def close(self) -> None:
        """Hang up. What is waited for here fails."""
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

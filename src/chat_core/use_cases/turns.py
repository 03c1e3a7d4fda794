"""Taking turns at one room, within this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chat_core.domain.ids import RoomId
from chat_core.errors import Contention, StorageUnavailable, Unavailable


class _Line:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.people = 0
        self.failures = 0


class RoomTurns:
    """Lets one transaction at a time write to a room's log, in the order in which they came.

    The room's row is a lock that they would wait for anyway, each holding one of the storage's few connections: here
    they wait without, and a busy room leaves the others theirs. Where the storage is found to be away, all who wait
    are told at once, instead of finding out one after the other.
    """

    def __init__(self) -> None:
        self._lines: dict[RoomId, _Line] = {}

    @asynccontextmanager
    async def __call__(self, room_id: RoomId) -> AsyncGenerator[None]:
        line = self._lines.setdefault(room_id, _Line())
        line.people += 1
        failures = line.failures
        try:
            async with line.lock:
                if line.failures != failures:
                    raise StorageUnavailable
                try:
                    yield
                except Contention:
                    raise
                except Unavailable:
                    line.failures += 1
                    raise
        finally:
            line.people -= 1
            if line.people == 0:
                del self._lines[room_id]

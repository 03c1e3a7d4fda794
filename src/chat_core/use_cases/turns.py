"""Taking turns within this process, at a room or at a message's key."""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from chat_core.errors import Contention, ServerFull, StorageUnavailable, Unavailable


class _Line:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.people = 0
        self.failures = 0


class Turns:
    """Lets those who come with the same key go one at a time, in the order in which they came.

    A room's row is a lock that its writers would wait for anyway, each holding one of the storage's few connections:
    in line here they hold none, and a busy room leaves the others theirs. Where the storage is found to be away, all
    who wait are told at once, instead of finding out one after the other; who has waited for ``patience`` seconds is
    told that the server is full.
    """

    def __init__(self, patience: float = 5.0) -> None:
        self._patience = patience
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def __call__(self, key: Hashable) -> AsyncGenerator[bool]:
        """Tells whether somebody with this key was there before. Raises ``StorageUnavailable`` or ``ServerFull``."""
        line = self._lines.setdefault(key, _Line())
        waits = line.people > 0
        line.people += 1
        failures = line.failures
        try:
            await self._wait(line)
            try:
                if line.failures != failures:
                    raise StorageUnavailable
                yield waits
            except (Contention, ServerFull):
                raise
            except Unavailable:
                line.failures += 1
                raise
            finally:
                line.lock.release()
        finally:
            line.people -= 1
            if line.people == 0:
                del self._lines[key]

    async def _wait(self, line: _Line) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await line.lock.acquire()
        except TimeoutError:
            raise ServerFull("Too much is being written here at once.") from None

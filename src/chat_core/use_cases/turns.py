"""Taking turns within this process, at a room or at a message's key."""

import asyncio
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager

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
        self.patience = patience
        self._lines: dict[Hashable, _Line] = {}

    def __call__(self, key: Hashable) -> AbstractAsyncContextManager[bool]:
        """Tells whether somebody with this key was there before. Raises ``StorageUnavailable`` or ``ServerFull``."""
        return _Turn(self._lines, key, self.patience)


class _Turn(AbstractAsyncContextManager[bool]):
    def __init__(self, lines: dict[Hashable, _Line], key: Hashable, patience: float) -> None:
        self._lines, self._key, self._patience = lines, key, patience

    async def __aenter__(self) -> bool:
        self._line = line = self._lines.setdefault(self._key, _Line())
        waits, failures = line.people > 0, line.failures
        line.people += 1
        try:
            await self._wait(line)
        except BaseException:
            self._leave(line)
            raise
        if line.failures != failures:
            line.lock.release()
            self._leave(line)
            raise StorageUnavailable
        return waits

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Unavailable) and not isinstance(error, (Contention, ServerFull)):
            self._line.failures += 1
        self._line.lock.release()
        self._leave(self._line)

    async def _wait(self, line: _Line) -> None:
        if not line.lock.locked():
            await line.lock.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await line.lock.acquire()
        except TimeoutError:
            raise ServerFull("Too much is being written here at once.") from None

    def _leave(self, line: _Line) -> None:
        line.people -= 1
        if line.people == 0:
            del self._lines[self._key]

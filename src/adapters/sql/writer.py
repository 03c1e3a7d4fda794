"""The process of SQLite's writer, as whoever starts it sees it."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, cast

from adapters.sql import writing

log = logging.getLogger(__name__)

#: How much of what it says when it fails is kept, in bytes.
_LAST_WORDS = 2000


class WriterProcess(asyncio.SubprocessProtocol):
    """``writing.py``, in a session of its own: what a terminal or a supervisor tells the service does not reach it.

    ``heard`` is called with each thing that it says, and ``lost`` once it says nothing more.
    """

    def __init__(self, heard: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._heard, self._lost = heard, lost
        self._frames = writing.Frames()
        self._last_words = b""
        self._closing = False
        self._ended = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(
        cls, heard: Callable[[Any], None], lost: Callable[[], None], first: tuple[Any, ...]
    ) -> "WriterProcess":
        """Raises ``OSError`` where it cannot be started."""
        command = (sys.executable, "-I", "-S", writing.__file__)
        loop = asyncio.get_running_loop()
        _, process = await loop.subprocess_exec(lambda: cls(heard, lost), *command, start_new_session=True)
        process.write(writing.frame(first))
        return process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    @property
    def _input(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))

    def write(self, frames: bytes) -> None:
        """Say this to it, sooner or later."""
        self._input.write(frames)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            for said in self._frames.take(data):
                self._heard(said)
        else:
            self._last_words = (self._last_words + data)[-_LAST_WORDS:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and said all."""
        if not self._closing:
            words = self._last_words.decode(errors="replace").strip().rpartition("\n")[2]
            log.error("SQLite's writer ended with %s: %s", self._transport.get_returncode(), words)
        self._transport.close()
        if not self._ended.done():
            self._ended.set_result(None)

    async def close(self, seconds: float) -> None:
        """Let it end what it does, for up to so long."""
        self._closing = True
        self._input.close()
        try:
            async with asyncio.timeout(seconds):
                await self._ended
        except TimeoutError:
            self._transport.close()  # which kills it

"""A TCP proxy that fails on demand. It stands before the database, Redis or the provider, and may be switched."""

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Pass:
    """Forwards everything."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """New connections are refused. Those that are open stay: ``cut`` ends them."""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Connections are accepted, and nothing is forwarded, on old ones neither; what was held goes on afterwards, as a
    network's silence ends."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Each piece waits for ``seconds``, give or take ``jitter``, in each direction."""

    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Each connection is reset once it forwarded this many bytes, both directions together, from when this is set."""

    count: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """So many bytes a second, for each connection and direction."""

    bytes_per_second: int


Mode = Pass | Refuse | BlackHole | Latency | CutAfter | Throttle


class _Link:
    """One client's connection and the one that was made for it."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.forwarded = 0

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards ``host:port`` (an asynchronous context manager). ``open`` and ``accepted`` count connections."""

    def __init__(self, port: int, host: str = "127.0.0.1", seed: int = 0) -> None:
        self._target = host, port
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._healed = asyncio.Event()
        self._healed.set()
        self.mode: Mode = Pass()
        self.port = 0
        self.accepted = 0

    @property
    def open(self) -> int:
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def set(self, mode: Mode) -> None:
        """From the next byte on."""
        for link in self._links:
            link.forwarded = 0
        self.mode = mode
        if isinstance(mode, BlackHole):
            self._healed.clear()
        else:
            self._healed.set()
        if isinstance(mode, Refuse):
            if self._server is not None:
                self._server.close()
                self._server = None
        elif self._server is None:
            await self._listen()

    def cut(self) -> int:
        """Reset every open connection now; says how many there were."""
        links = tuple(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        link = _Link()
        link.writers.append(writer)
        self._links.add(link)
        try:
            await self._healed.wait()
            there, back = await asyncio.open_connection(*self._target)
            link.writers.append(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back, link))
                group.create_task(self._pump(there, writer, link))
        # Whatever happens to one side happens to the other; a cancelled handler has nobody to tell.
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        while data := await reader.read(_CHUNK):
            await self._forward(data, writer, link)
        await self._healed.wait()
        if writer.can_write_eof():
            writer.write_eof()

    async def _forward(self, data: bytes, writer: asyncio.StreamWriter, link: _Link) -> None:
        await self._healed.wait()
        match self.mode:
            case Latency(seconds, jitter):
                await asyncio.sleep(max(0.0, seconds + self._random.uniform(-jitter, jitter)))
                await self._healed.wait()
            case CutAfter(count):
                data = data[: max(0, count - link.forwarded)]
            case Throttle(rate):
                await asyncio.sleep(len(data) / rate)
            case _:
                pass
        link.forwarded += len(data)
        writer.write(data)
        await writer.drain()
        if isinstance(self.mode, CutAfter) and link.forwarded >= self.mode.count:
            # Nothing tells when the peer's kernel has the bytes; a turn of the loop lets ours take them.
            await asyncio.sleep(0)
            link.reset()

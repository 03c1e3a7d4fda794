"""A small HTTP balancer that follows ``/health/ready``, as the one before a real deployment does."""

import asyncio
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

from tests.faults.service import Api


class Balancer:
    """Takes the ready processes in turn, a connection for each request (an asynchronous context manager).

    A backend that refuses the connection was told nothing, so the next one is asked; nothing else is repeated here.
    """

    def __init__(self, backends: Sequence[Api], every: float = 0.1) -> None:
        self._backends, self._every = backends, every
        self._ready: list[Api] = []
        self._turn = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.resets = 0

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._look(backend) for backend in self._backends))
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._watches = [asyncio.create_task(self._watch(backend)) for backend in self._backends]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in (*self._watches, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._watches, *self._tasks, return_exceptions=True)

    async def _watch(self, backend: Api) -> None:
        while True:
            await self._look(backend)
            await asyncio.sleep(self._every)

    async def _look(self, backend: Api) -> None:
        ready = (await backend.readiness()).get("code") == 200
        if ready and backend not in self._ready:
            self._ready.append(backend)
        elif not ready and backend in self._ready:
            self._ready.remove(backend)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_content_length(head))
            await self._forward(_closing(head) + body, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _forward(self, request: bytes, client: asyncio.StreamWriter) -> None:
        for backend in self._in_turn():
            try:
                answer, there = await asyncio.open_connection("127.0.0.1", backend.port)
            except ConnectionRefusedError:
                continue
            try:
                there.write(request)
                first = await answer.read(65_536)
                if not first:
                    self.resets += 1
                    break
                client.write(first)
                while data := await answer.read(65_536):
                    client.write(data)
                    await client.drain()
                return
            except ConnectionError:
                self.resets += 1
                break
            finally:
                there.close()
        client.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def _in_turn(self) -> list[Api]:
        ready = self._ready or list(self._backends)
        first = next(self._turn) % len(ready)
        return [*ready[first:], *ready[:first]]


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _closing(head: bytes) -> bytes:
    """The request's head for a connection that ends with the answer."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([first, *kept, b"connection: close", b"", b""])

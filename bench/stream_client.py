"""Reads streams of tokens, from the service or from the provider alike, in a process of its own.

``python -m bench.stream_client`` reads lines of JSON from its standard input: ``requests``, each a port and a whole
HTTP/1.1 request that gets its own connection, ``times``, how often each is put, one after another, ``alone``, whether
only one is under way at a time, each in turn, ``spread``, the seconds over which they begin otherwise, and ``delays``,
whether each token's is told. A token is its stub's moment of making, whatever format is around it. For each it prints
one: how many tokens came, how many requests were refused with 503 and repeated, the seconds from the first request to
the last token, each stream's tokens a second, and in milliseconds each request's times to the first token, and all
tokens' delays.
"""

import asyncio
import re
import time
from typing import Any

import uvloop

from bench.tools import answer

_TOKEN = re.compile(rb"\d+\.\d{6} ")
_END = b"\r\n0\r\n\r\n"
#: What follows says the whole text once more.
_WHOLE = b"event: ai_message"


class Reader(asyncio.Protocol):
    """Puts one request, again and again."""

    def __init__(self, request: bytes, delays: bool) -> None:
        self.request, self.wants_delays = request, delays
        self.tokens = self.refused = 0
        self.firsts: list[float] = []
        self.delays: list[float] = []
        self.last = 0.0
        self.ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    async def put(self) -> None:
        """Once, and read its answer."""
        self.ended = asyncio.get_running_loop().create_future()
        self.begin()
        await self.ended

    def begin(self) -> None:
        self.line, self.tail, self.whole, self.head = b"", b"", False, True
        self.waits = False
        self.began, self.first = time.monotonic(), 0.0
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.waits:
            return
        if self.head:
            if data[9:12] == b"503":
                # As a client is asked to: a second later, once more. The rest of this answer is of no interest.
                self.refused += 1
                self.waits = True
                asyncio.get_running_loop().call_later(1, self.begin)
                return
            if data[9:12] != b"200":
                self.fail(f"no stream, but {data!r}")
                self.transport.abort()
                return
            self.head = False
        lines, _, self.line = (self.line + data).rpartition(b"\n")
        if not self.whole:
            self.whole = _WHOLE in lines
            self.note(_TOKEN.findall(lines.partition(_WHOLE)[0]), now)
        self.tail = (self.tail + data)[-len(_END) :]
        if self.tail == _END and self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def note(self, tokens: list[bytes], now: float) -> None:
        if not tokens:
            return
        if not self.first:
            self.first = now
            self.firsts.append((now - self.began) * 1000)
        self.tokens += len(tokens)
        self.last = now
        if self.wants_delays:
            self.delays += [(now - float(token)) * 1000 for token in tokens]

    def fail(self, why: str) -> None:
        if self.ended is not None and not self.ended.done():
            self.ended.set_exception(ConnectionError(why))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the stream was cut after {self.tokens} tokens: {self.line!r}")


async def read(asked: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    readers: list[Reader] = []
    began = time.monotonic()

    async def connected(port: int, text: str, after: float = 0.0) -> Reader:
        await asyncio.sleep(max(0.0, began + after - time.monotonic()))
        reader = Reader(text.encode(), asked["delays"])
        await loop.create_connection(lambda: reader, "127.0.0.1", port)
        readers.append(reader)
        return reader

    async def put(number: int, port: int, text: str) -> None:
        reader = await connected(port, text, asked["spread"] * number / len(asked["requests"]))
        for _ in range(asked["times"]):
            await reader.put()

    async with asyncio.timeout(120):
        if asked["alone"]:
            for port, text in asked["requests"]:
                await connected(port, text)
            for _ in range(asked["times"]):
                for reader in readers:
                    await reader.put()
        else:
            await asyncio.gather(*(put(number, *one) for number, one in enumerate(asked["requests"])))
    for reader in readers:
        reader.transport.close()
    return {
        "tokens": sum(reader.tokens for reader in readers),
        "refused": sum(reader.refused for reader in readers),
        "seconds": max(reader.last for reader in readers) - began,
        "rates": [(reader.tokens - 1) / max(1e-6, reader.last - reader.first) for reader in readers],
        "firsts": [reader.firsts for reader in readers],
        "delays": sorted(delay for reader in readers for delay in reader.delays),
    }


if __name__ == "__main__":
    uvloop.run(answer(read))

"""Reads streams of tokens, from the service or from the provider alike, in a process of its own.

``python -m bench.stream_client`` reads lines of JSON from its standard input: ``port``, ``requests``, each a whole
HTTP/1.1 request that gets its own connection, ``times``, how often each is put, one after another, ``spread``, the
seconds over which they begin, and ``delays``, whether each token's is told. A token is its stub's moment of making,
whatever format is around it. For each it prints one: how many tokens came, how many requests were refused with 503
and repeated, the seconds from the first request to the last token, each stream's tokens a second, and in milliseconds
the times to the first token and the tokens' delays.
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
    def __init__(self, request: bytes, times: int, delays: bool) -> None:
        self.request, self.left, self.wants_delays = request, times, delays
        self.tokens = self.refused = 0
        self.firsts: list[float] = []
        self.delays: list[float] = []
        self.last = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        self.line, self.tail, self.whole, self.head = b"", b"", False, True
        self.waits = False
        self.left -= 1
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
                self.left += 1
                self.waits = True
                asyncio.get_running_loop().call_later(1, self.next)
                return
            if data[9:12] != b"200":
                self.ended.set_exception(ConnectionError(f"no stream, but {data!r}"))
                self.transport.abort()
                return
            self.head = False
        lines, _, self.line = (self.line + data).rpartition(b"\n")
        if not self.whole:
            self.whole = _WHOLE in lines
            self.note(_TOKEN.findall(lines.partition(_WHOLE)[0]), now)
        self.tail = (self.tail + data)[-len(_END) :]
        if self.tail == _END:
            self.over()

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

    def over(self) -> None:
        if self.left:
            self.next()
        else:
            self.ended.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the stream was cut after {self.tokens} tokens: {self.line!r}"))


async def read(asked: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    readers = [Reader(text.encode(), asked["times"], asked["delays"]) for text in asked["requests"]]
    began = time.monotonic()
    for number, reader in enumerate(readers):
        await asyncio.sleep(max(0.0, began + asked["spread"] * number / len(readers) - time.monotonic()))
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", asked["port"])  # type: ignore[misc]
    async with asyncio.timeout(120):
        await asyncio.gather(*(reader.ended for reader in readers))
    return {
        "tokens": sum(reader.tokens for reader in readers),
        "refused": sum(reader.refused for reader in readers),
        "seconds": max(reader.last for reader in readers) - began,
        "rates": [(reader.tokens - 1) / max(1e-6, reader.last - reader.first) for reader in readers],
        "firsts": [first for reader in readers for first in reader.firsts],
        "delays": sorted(delay for reader in readers for delay in reader.delays),
    }


if __name__ == "__main__":
    uvloop.run(answer(read))

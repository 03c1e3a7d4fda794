"""A small load generator, in a process of its own: so many connections, each with one request at a time.

``python -m bench.load_client`` reads lines of JSON: ``port``, ``requests``, whole HTTP/1.1 requests that the clients
take in turn, how many ``clients``, and for how many ``seconds``. For each it prints one: how many answers came, how
long that took, how many were no 2xx, and the median and the 99th percentile in milliseconds.
"""

import asyncio
import re
import time
from typing import Any

import uvloop

from bench.tools import answer

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Client(asyncio.Protocol):
    def __init__(self, load: "Load") -> None:
        self.load = load
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self.buffer, 0, end)
        if length is None or len(self.buffer) < end + 4 + int(length[1]):
            return
        self.load.answered(self.buffer[9:10], time.perf_counter() - self.began)
        self.buffer = b""
        if self.load.open:
            self.next()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.left()


class Load:
    def __init__(self, requests: list[bytes], clients: int) -> None:
        self.requests, self.turn, self.clients = requests, 0, clients
        self.times: list[float] = []
        self.bad = 0
        self.open = True
        self.ended = asyncio.Event()

    def request(self) -> bytes:
        self.turn += 1
        return self.requests[self.turn % len(self.requests)]

    def answered(self, status: bytes, seconds: float) -> None:
        self.bad += status != b"2"
        self.times.append(seconds)

    def left(self) -> None:
        self.clients -= 1
        if not self.clients:
            self.ended.set()


async def put(asked: dict[str, Any]) -> dict[str, Any]:
    clients = asked["clients"]
    load = Load([text.encode() for text in asked["requests"]], clients)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", asked["port"])
    await asyncio.sleep(asked["seconds"])
    load.open = False
    async with asyncio.timeout(60):
        await load.ended.wait()
    times = sorted(load.times)
    return {
        "answers": len(times),
        "seconds": time.perf_counter() - began,
        "bad": load.bad,
        "median_ms": times[len(times) // 2] * 1000,
        "late_ms": times[len(times) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    uvloop.run(answer(put))

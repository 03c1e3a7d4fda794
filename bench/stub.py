"""A provider that costs next to nothing: canned answers in Gemini's format, so that it is not what is measured.

``python -m bench.stub PORT``. The model's name says what comes: ``stub`` a short answer, ``burst-N`` N tokens as fast
as they are taken, ``paced-N-R`` N tokens, R a second.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop

TEXT = "Hello there, this is an answer."
_PATH = re.compile(rb"POST \S*/models/([^:]+):(\w+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _event(text: str, finish: bool = False) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish:
        candidate["finishReason"] = "STOP"
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
    data = json.dumps({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stub"}).encode()
    return b"data: " + data + b"\r\n\r\n"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"
_WHOLE = json.dumps(
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18},
    }
).encode()
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_WHOLE), _WHOLE)
_SHORT = _HEAD + _chunked(_event(TEXT, finish=True)) + _LAST


class Stub(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""
        self.free = asyncio.Event()
        self.free.set()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.free.clear()

    def resume_writing(self) -> None:
        self.free.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            head, self.buffer = self.buffer[:end], self.buffer[whole:]
            self.answer(head)

    def answer(self, head: bytes) -> None:
        found = _PATH.match(head)
        if found is None or found[2] == b"generateContent":
            self.transport.write(_JSON)
        elif found[1].startswith((b"burst", b"paced")):
            kind, count, *rate = found[1].decode().split("-")
            self.task = asyncio.create_task(self.stream(int(count), float(rate[0]) if kind == "paced" else 0.0))
        else:
            self.transport.write(_SHORT)

    async def stream(self, count: int, rate: float) -> None:
        self.transport.write(_HEAD)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number in range(count):
            if rate:
                wait = begin + number / rate - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
            await self.free.wait()
            # When it was offered travels with it, so that its delay can be told at the other end.
            text = f"{time.monotonic():.6f} "
            self.transport.write(_chunked(_event(text)))
            if number % 20 == 19:
                await asyncio.sleep(0)
        self.transport.write(_chunked(_event("end", finish=True)) + _LAST)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

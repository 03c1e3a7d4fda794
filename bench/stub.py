"""A provider that costs next to nothing: canned answers in Gemini's format, so that it is not what is measured.

``python -m bench.stub PORT``. The model's name says what comes: ``stub`` a short answer, ``burst-N`` N tokens as fast
as they are taken, ``paced-N-R`` N tokens, R a second. Each of those is an event of its own, made when it is due and
written by itself, as a provider does; its text is when that was (``time.monotonic``), so that its delay can be told at
the other end. Anything else that is asked gets one small answer: the bare server that a load tool is tried against.
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


#: An event is the same each time but for its text, 20 characters of it.
_BEFORE, _AFTER = _event("%").split(b"%")
_BEFORE = b"%x\r\n" % (len(_BEFORE) + 20 + len(_AFTER)) + _BEFORE
_AFTER += b"\r\n"


def _token() -> bytes:
    return _BEFORE + b"%19.6f " % time.monotonic() + _AFTER


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
        elif found[1].startswith(b"burst-"):
            self.transport.write(_HEAD)
            self.task = asyncio.create_task(self.burst(int(found[1][6:])))
        elif found[1].startswith(b"paced-"):
            self.transport.write(_HEAD)
            _, count, rate = found[1].split(b"-")
            self.paced(int(count), float(rate))
        else:
            self.transport.write(_SHORT)

    async def burst(self, count: int) -> None:
        for _ in range(count):
            self.transport.write(_token())
            # The loop writes it out, and other streams have their turn.
            await asyncio.sleep(0)
            await self.free.wait()
        self.end()

    def paced(self, count: int, rate: float) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()

        def due(number: int) -> None:
            if self.transport.is_closing():
                return
            if number == count:
                self.end()
                return
            self.transport.write(_token())
            loop.call_at(begin + (number + 1) / rate, due, number + 1)

        due(0)

    def end(self) -> None:
        self.transport.write(_chunked(_event("end", finish=True)) + _LAST)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

"""Light clients of live rooms, in a process of their own: they count what comes, and remember when the last one got it.

``python -m bench.live_clients KIND PORT COUNT PATH TOKEN ROOM`` opens ``COUNT`` of ``KIND`` (``ws`` or ``sse``),
prints ``ready``, and at a line on its standard input prints, as JSON, how many are open, how many frames came, and for
each text ``msg-NNNNNN`` how many got it and when the last one did (``time.monotonic``).
"""

import asyncio
import base64
import json
import os
import sys
import time
from typing import Any

import uvloop


class Tally:
    def __init__(self) -> None:
        self.open = self.ready = self.frames = 0
        self.got: dict[int, int] = {}
        self.last: dict[int, float] = {}

    def note(self, frame: bytes) -> None:
        self.frames += 1
        at = frame.find(b"msg-")
        if at >= 0:
            number = int(frame[at + 4 : at + 10])
            self.got[number] = self.got.get(number, 0) + 1
            self.last[number] = time.monotonic()


class Client(asyncio.Protocol):
    """Speaks just enough: the handshake, one subscription, pongs."""

    def __init__(self, tally: Tally, request: bytes, first: bytes, stream: bool) -> None:
        self.tally, self.request, self.first, self.stream = tally, request, first, stream
        self.buffer = b""
        self.shaken = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.tally.open += 1
        transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.tally.open -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.shaken:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            status = int(head.split()[1])
            assert status in (101, 200), head
            self.shaken, self.buffer = True, rest
            if self.stream:
                self.tally.ready += 1
            elif self.first:
                self.transport.write(self.first)
            else:
                self.tally.ready += 1
        if self.stream:
            *events, self.buffer = self.buffer.split(b"\n\n")
            for event in events:
                self.tally.note(event)
        else:
            self._frames()

    def _frames(self) -> None:
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 2:
            opcode, size, body = buffer[at] & 15, buffer[at + 1], at + 2
            if size == 126:
                if len(buffer) - at < 4:
                    break
                size, body = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if len(buffer) < body + size:
                break
            payload = buffer[body : body + size]
            at = body + size
            if opcode == 9:
                self.transport.write(bytes([0x8A, 0x80 | size]) + b"\0\0\0\0" + payload)
            elif opcode == 1:
                if payload.startswith(b'{"type":"ok"'):
                    self.tally.ready += 1
                self.tally.note(payload)
        self.buffer = buffer[at:]


def masked(text: bytes) -> bytes:
    size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + size + b"\0\0\0\0" + text


async def main(kind: str, port: int, count: int, path: str, token: str, room: str) -> None:
    tally = Tally()
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if token != "-":
        lines.append(f"Authorization: Bearer {token}")
    if kind == "ws":
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    else:
        lines.append("Accept: text/event-stream")
    request = "\r\n".join([*lines, "", ""]).encode()
    first = masked(json.dumps({"type": "subscribe", "room_id": room}).encode()) if room else b""
    loop = asyncio.get_running_loop()
    for start in range(0, count, 50):
        for _ in range(min(50, count - start)):
            await loop.create_connection(lambda: Client(tally, request, first, kind == "sse"), "127.0.0.1", port)
        while tally.ready < min(count, start + 50):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(
            json.dumps({"open": tally.open, "frames": tally.frames, "got": tally.got, "last": tally.last}), flush=True
        )


if __name__ == "__main__":
    kind, port, count, path, token, room = sys.argv[1:]
    uvloop.run(main(kind, int(port), int(count), path, token, room))

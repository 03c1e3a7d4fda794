"""How frames get onto a socket: by the server's own way, or, where that is known, past it.

An event for 500 sockets is the same 500 bytes for each. Through ASGI every one of them costs a coroutine, a frame
object, its serialization and a write; here the frame is made once, and only written.
"""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


def framed(payload: bytes) -> bytes:
    """A whole text message in one frame, as a server sends it (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def payload_of(frame: bytes) -> bytes:
    """What ``framed`` took."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Wire:
    """Takes frames made by ``framed`` to the client of one socket. ``send`` is the server's."""

    __slots__ = ("_protocol", "_send")

    def __init__(self, send: Any) -> None:
        self._send = send
        protocol = getattr(send, "__self__", None)
        self._protocol = protocol if isinstance(protocol, WebSocketsSansIOProtocol) else None

    def _passable(self, protocol: WebSocketsSansIOProtocol) -> bool:
        # With extensions, such as compression, a frame is not what it was before.
        return protocol.handshake_complete and not protocol.close_sent and not protocol.conn.extensions

    def now(self, frames: Sequence[bytes]) -> bool:
        """Write these, where that needs no waiting; says whether it did."""
        protocol = self._protocol
        if protocol is None or not protocol.writable.is_set() or protocol.disconnected:
            return False
        if not self._passable(protocol) or protocol.transport.is_closing():
            return False
        protocol.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        return True

    async def write(self, frames: Sequence[bytes]) -> None:
        """Write these as soon as the client takes them. Raises ``OSError`` where it is gone."""
        protocol = self._protocol
        if protocol is not None and self._passable(protocol):
            await protocol.writable.wait()
            if protocol.disconnected or protocol.close_sent:
                raise ConnectionResetError
            protocol.transport.write(b"".join(frames))
            return
        for frame in frames:
            await self._send({"type": "websocket.send", "text": payload_of(frame).decode()})

    async def close(self, code: int) -> None:
        """Say good-bye. Waits for a client that takes nothing."""
        await self._send({"type": "websocket.close", "code": code})

    def abort(self) -> None:
        """Hang up, where that is possible: ASGI itself has no way."""
        if self._protocol is not None:
            self._protocol.transport.abort()

"""uvicorn's WebSocket protocol with bounds that it lacks: on what is no message, and never gets to the application."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from entrypoints.http.socket_frames import TokenBucket

#: RFC 6455, section 7.4.1, and the service's own.
BAD_DATA, TOO_BIG, TOO_MANY = 1007, 1009, 4429


class GuardedSocket(WebSocketsSansIOProtocol):
    """Closes a socket with 4429 whose pings and pongs are too many, and with 1009 one whose message comes in more than
    ``PIECES_MAX`` pieces: of empty ones any number would be below the limit of its size."""

    PIECES_MAX = 1024
    #: How long a client may go on sending, to nobody, after it was told to go, in seconds: one that is closed in the
    #: middle of it would not hear why.
    LINGER = 2.0

    _bucket: TokenBucket | None = None
    _failed = False

    def data_received(self, data: bytes) -> None:
        if not self._failed:
            super().data_received(data)

    def handle_ping(self) -> None:
        if self._may():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._may():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < self.PIECES_MAX:
            super().handle_cont(event)
        else:
            self._fail(TOO_BIG)

    def send_receive_event_to_app(self) -> None:
        self.frames = [b"".join(self.frames)]
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames[0]):
            # What a client says wrongly is no fault of ours, as the server's own handling has it in the log.
            self._fail(BAD_DATA)
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why, take nothing more, and hang up when the client has, or soon."""
        if self.close_sent or self.transport.is_closing():
            return
        closed = self.conn.close_sent
        code, reason = (closed.code, closed.reason) if closed is not None else (1006, "")
        self._failed = self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.LINGER, self.transport.abort)

    def _may(self) -> bool:
        if self._failed:
            return False
        if self._bucket is None:
            self._bucket = TokenBucket()
        if self._bucket.take():
            return True
        self._fail(TOO_MANY)
        return False

    def _fail(self, code: int) -> None:
        self.frames = []
        if not self._failed and not self.close_sent:
            self.conn.send_close(code)
            self.handle_parser_exception()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

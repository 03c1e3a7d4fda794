"""uvicorn's HTTP protocol with bounds that it lacks: how long a request takes to come, and how large its head is."""

import asyncio
import sys
import time
from typing import Any, cast
from weakref import WeakKeyDictionary

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from chat_core.domain.ids import uuid7
from entrypoints.http.problems import FRAMEWORK, MEDIA_TYPE, problem_type
from entrypoints.http.request_log import HEADERS, WHOLE, lines_of
from entrypoints.http.schemas import Problem

#: How often all connections are looked at, in seconds.
ROUND = 1.0
_OF_BODIES = frozenset({b"content-length", b"transfer-encoding"})
#: All that any path here takes.
METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST"


class _Watch:
    """Looks after the connections of one event loop, all with one timer: a timer for each request would cost more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: set[GuardedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: "GuardedProtocol") -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(ROUND, self._round)

    def discard(self, connection: "GuardedProtocol") -> None:
        self._connections.discard(connection)

    def _round(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.look(now)
        self._timer = self._loop.call_later(ROUND, self._round) if self._connections else None


_watches: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch]" = WeakKeyDictionary()


class _Closing:
    """The transport of an answer that may be there before its request has come whole."""

    def __init__(self, connection: "GuardedProtocol") -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.end()


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection with 408 whose request does not come: whole headers within ``SECONDS``, and then at least
    ``PACE`` bytes of the body in each ``SECONDS``; and with 431 one whose headers are larger than ``HEAD_MAX`` bytes,
    or more than ``HEADERS_MAX``. What the server itself refuses is a problem document, as everything else."""

    SECONDS = 10.0
    #: How long a client may go on sending, to nobody, after it was refused: one that is closed in the middle of it may
    #: lose the answer (RFC 9112, section 9.6).
    LINGER = 2.0
    PACE = 1024
    HEAD_MAX = 32_768
    HEADERS_MAX = 100

    #: Since when something is waited for; 0: it is the service's turn.
    _since = 0.0
    _in_head = True
    _head_size = 0
    _body_size = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        watch = _watches.get(self.loop)
        if watch is None:
            watch = _watches[self.loop] = _Watch(self.loop)
        self._watch = watch
        watch.add(self)
        self._since = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.discard(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._watch.discard(self)
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and self._since:
            self._head_size += len(data)
            if self._head_size > self.HEAD_MAX:
                self._refuse(431, "headers-too-large", "The headers are too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_size = True, 0
        if not self._since:
            self._since = time.monotonic()

    def on_headers_complete(self) -> None:
        self._in_head, self._body_size = False, 0
        size, has_body = len(self.url), False
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            has_body = has_body or name in _OF_BODIES
        if size > self.HEAD_MAX or len(self.headers) > self.HEADERS_MAX:
            self._refuse(431, "headers-too-large", "The headers are too large")
            return
        self._since = time.monotonic()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            cast("dict[str, Any]", self.cycle.scope)[WHOLE] = self._whole
            if has_body:
                self.cycle.transport = cast("asyncio.Transport", _Closing(self))

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            self._body_size += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._since = 0.0
        if not self._refused:
            super().on_message_complete()

    def _whole(self, scope: Any, status: int, lines: bytes, body: bytes) -> bool:
        """An answer in one piece: one call to the system, and one packet, where ASGI's two messages make two."""
        cycle = self.cycle
        # Of requests that came at once the last one has its cycle here; and to end a connection is for the server.
        if cycle.scope is not scope or cycle.response_started or not cycle.keep_alive:
            return False
        if cycle.disconnected or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], lines_of(cycle.default_headers), lines, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def look(self, now: float) -> None:
        """Close it where it is too slow."""
        if not self._since or now - self._since < (self.LINGER if self._refused else self.SECONDS):
            return
        if self._refused or (not self._in_head and self.cycle.response_complete):
            self.transport.abort()
            return
        if self.flow.read_paused:
            return
        if self._in_head or self._body_size < self.PACE:
            self._refuse(408, "too-slow", "The request took too long to come")
        else:
            self._since, self._body_size = now, 0

    def send_400_response(self, msg: str) -> None:
        if isinstance(sys.exc_info()[1], httptools.HttpParserInvalidMethodError):
            self._refuse(405, *FRAMEWORK[405], allow=METHODS)
        else:
            self._refuse(400, *FRAMEWORK[400])

    def _refuse(self, status: int, code: str, title: str, **more: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._since = 0.0
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # An answer is on its way, perhaps in part: another one would be taken for its rest.
            cycle.keep_alive = False
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        id_ = str(uuid7())
        body = msgspec.json.encode(
            Problem(type=problem_type(code), title=title, status=status, detail=title, instance=id_)
        )
        headers = {
            b"content-type": MEDIA_TYPE.encode(),
            b"content-length": b"%d" % len(body),
            b"connection": b"close",
            b"x-request-id": id_.encode(),
            **HEADERS,
            **{name.encode(): text.encode() for name, text in more.items()},
        }
        self.transport.write(STATUS_LINE[status] + lines_of(headers.items()) + b"\r\n" + body)
        self.linger()

    def end(self) -> None:
        """The answer is there, and the connection is not to be used again."""
        if self._since and not self._in_head:
            self.linger()
        else:
            self.transport.close()

    def linger(self) -> None:
        """Close, when the client has sent what it was about to send."""
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._since = time.monotonic()
        else:
            self.transport.close()

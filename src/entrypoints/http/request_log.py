"""The outermost layer: a request id in and out, one log line a request, and headers that every answer carries."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from random import getrandbits
from typing import Any, cast
from urllib.parse import quote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from chat_core.domain.user import Actor
from entrypoints.logs import request_id as request_id_var
from entrypoints.logs import say

log = logging.getLogger("chat_api.access")


#: In the scope of a HEAD that is answered as a GET: what streams without an end is not to begin.
HEAD = "chat_api.head"

#: What a line of a log takes as it is.
_PLAIN = re.compile(r"[A-Za-z0-9/:._~-]*")
_ACCEPTED = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

#: For a program's answers, which no browser should run, frame, guess at or keep. Pages bring a policy of their own.
#: Whether a proxy in front speaks TLS is not known here: over plain HTTP a browser has to pass over what is said of it
#: (RFC 6797, section 8.1), so that it does no harm there.
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"strict-transport-security": b"max-age=31536000",
    b"x-content-type-options": b"nosniff",
}


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As they are on the wire. Whether they can be is for the caller to know."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_HEADERS = tuple(HEADERS.items())
_LINES = lines_of(_HEADERS)

#: In a scope: the server's offer to send an answer in one piece. It takes the scope, the status, the lines of the head,
#: each with its end, and the content; where it says ``False`` the answer is to be sent as ASGI has it.
WHOLE = "chat_api.whole"
Whole = Callable[[Any, int, bytes, bytes], bool]

#: The key in a socket's scope of what its line in the log says: ``status`` of the handshake, ``close`` code, ``user``.
OUTCOME = "chat.outcome"


def _id_of(scope: Scope) -> str:
    for name, given in scope["headers"]:
        # An id that could break a log line or a header is not taken over.
        if name == b"x-request-id" and _ACCEPTED.fullmatch(given):
            return given.decode()
    return _new_id()


def _new_id() -> str:
    """A UUIDv7, as text. It is no secret and no key: ``random``, which a fork seeds anew, is good enough for it."""
    random = getrandbits(74)
    number = time.time_ns() // 1_000_000 << 80 | 7 << 76 | random >> 62 << 64 | 2 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _safe(path: str) -> str:
    return path if _PLAIN.fullmatch(path) else quote(path, safe="/:-._~")


def _who(scope: Scope) -> dict[str, str]:
    user: Actor | None = scope.get("user")
    return {"user": str(user.user_id)} if user else {}


def request_id() -> str:
    """The id of the request that is being answered; ``-`` outside of one."""
    return request_id_var.get()


#: Told a method, the template of a route or ``None``, a status, and the seconds to the answer's head or ``None``.
Observe = Callable[[str, str | None, int, float | None], None]


class Answer:
    """What an application sends its answer by: ASGI's ``send``, and ``whole``. It adds the headers of every answer.

    ``status`` and ``headed``, the moment of its head, say what has become of it.
    """

    __slots__ = ("_id", "_is_head", "_scope", "_send", "_whole", "headed", "status")

    def __init__(self, scope: HTTPScope, send: Send, whole: Whole | None, id_: str, began: float) -> None:
        self._scope, self._send, self._whole, self._id = scope, send, whole, id_.encode()
        self._is_head = scope["method"] == "HEAD"
        self.status, self.headed = 0, began

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headed = message["status"], time.perf_counter()
            headers = message["headers"]
            own = {name for name, _ in headers if name in HEADERS}
            added = _HEADERS if not own else [header for header in _HEADERS if header[0] not in own]
            message = {**message, "headers": [*headers, *added, (b"x-request-id", self._id)]}
        elif self._is_head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send all of it at once; ``False``, and nothing is sent, where that cannot be. ``headers`` have its length."""
        if self._whole is None or self._is_head:
            return False
        lines = lines_of(headers)
        if lines.count(b"\r") + lines.count(b"\n") != 2 * len(headers) or any(name in HEADERS for name, _ in headers):
            return False
        if not self._whole(self._scope, status, b"%b%bx-request-id: %b\r\n" % (lines, _LINES, self._id), body):
            return False
        self.status, self.headed = status, time.perf_counter()
        return True


class RequestLog:
    """Wraps the whole application, so that even what it refuses to route has an id and a line.

    A line says who asked: ``peer``, the address as it is counted for limits, and ``user``, the id of an account, where
    a token or a password told it.
    """

    def __init__(self, app: ASGIApp, peer_of: Callable[[Any], str], observe: Observe | None = None) -> None:
        """``observe`` is told of each request that was answered, and of each handshake."""
        self.app = app
        self._peer_of = peer_of
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await self._socket(scope, receive, send)
            return
        if str(scope["type"]) == "lifespan":
            await self.app(scope, receive, send)
            return
        id_ = _id_of(scope)
        token = request_id_var.set(id_)
        began = time.perf_counter()
        answer = Answer(scope, send, cast("dict[str, Any]", scope).pop(WHOLE, None), id_, began)
        method = scope["method"]
        if method == "HEAD":
            # RFC 9110, section 9.3.2: as GET, without the content. The server goes on seeing a HEAD.
            scope = cast("Scope", {**scope, "method": "GET", HEAD: True})
        try:
            await self.app(scope, receive, answer)
        finally:
            fields = {
                "status": answer.status,
                "ms": round((time.perf_counter() - began) * 1000, 2),
                "peer": self._peer_of(scope),
                **_who(scope),
            }
            say(log, f"{method} {_safe(scope['path'])}", fields)
            if self._observe is not None:
                self._observe(method, scope.get("path_template"), answer.status, answer.headed - began)
            request_id_var.reset(token)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Its frames go by unseen: those of a busy room are too many to be looked at once more.
        outcome: dict[str, Any] = {}
        token = request_id_var.set(_id_of(scope))
        began = time.perf_counter()
        try:
            await self.app(cast("Scope", {**scope, OUTCOME: outcome}), receive, send)
        finally:
            fields = {
                "status": 500,
                **outcome,
                "ms": round((time.perf_counter() - began) * 1000, 2),
                "peer": self._peer_of(scope),
            }
            say(log, f"WEBSOCKET {_safe(scope['path'])}", fields)
            if self._observe is not None:
                route = "/ws" if scope["path"].rstrip("/") == "/ws" else None
                self._observe("WEBSOCKET", route, outcome.get("status", 500), None)
            request_id_var.reset(token)

"""``/ws``: one WebSocket for all rooms, as a plain ASGI application in front of the framework's."""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chat_core.domain.ids import UserId
from chat_core.domain.user import Actor
from chat_core.errors import Forbidden, NotAuthenticated, NotFound
from chat_core.use_cases.authentication import Authenticate
from chat_core.use_cases.limits import Limits
from chat_core.use_cases.live.connection import Connection, Ended
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.sending import SendMessage
from chat_core.use_cases.sessions import RedeemTicket
from entrypoints.http.auth import bearer_of
from entrypoints.http.event_stream import SLOW
from entrypoints.http.live_forms import as_frame
from entrypoints.http.problems import MEDIA_TYPE, described
from entrypoints.http.request_log import HEADERS, OUTCOME, request_id
from entrypoints.http.socket_frames import Frames, TokenBucket
from entrypoints.http.socket_wire import Wire
from entrypoints.open_streams import OpenStreams

log = logging.getLogger(__name__)

PROTOCOL = "chat.v1"
TICKET = "ticket."

#: RFC 6455, section 7.4, and the service's own.
CODES = {Ended.DRAINING: 1012, Ended.SLOW: 1013, Ended.SESSION: 4401, Ended.OUT: 4403}
#: So many frames are written before others get their turn.
TURN = 100
#: How long the closing of a socket whose client takes nothing may take, in seconds.
FAREWELL = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Who may open a socket, and its life from the handshake to the close.

    ``redeem`` tells whose one-time ticket it is, or raises ``NotAuthenticated``. ``origins`` are those of other sites
    that may open one, besides the service's own.
    """

    hub: Hub
    authenticate: Authenticate
    redeem: RedeemTicket
    send_message: SendMessage
    open_streams: OpenStreams[UserId]
    open_sockets: OpenStreams[str]
    limits: Limits
    peer_of: Callable[[Any], str]
    origins: frozenset[str]
    limited: bool = True

    def before(self, app: ASGIApp) -> ASGIApp:
        """Take the sockets, and leave all else to ``app``."""

        async def either(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.WEBSOCKET:
                await self(scope, receive, send)
            else:
                await app(scope, receive, send)

        return either

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        outcome: MutableMapping[str, Any] = scope.get(OUTCOME, {})
        if (await receive())["type"] != "websocket.connect":
            return
        try:
            self._look(scope)
            peer = self.peer_of(scope)
            try:
                actor = await self._who(scope)
            except NotAuthenticated:
                await self.limits.requested(peer)
                raise
            outcome["user"] = str(actor.user_id)
            await self.limits.requested(actor.user_id)
            wire = Wire(send)
            connection = Connection(actor, as_frame, at_once=wire.now)
            with self.open_sockets(peer), self.open_streams(actor.user_id):
                self.hub.connect(connection)
                try:
                    await self._serve(scope, receive, send, wire, connection, outcome)
                finally:
                    connection.end(Ended.DRAINING)
                    self.hub.leave(connection)
        except Exception as error:
            if outcome.get("status") == 101:
                raise
            await _refuse(scope, send, error, outcome)

    def _look(self, scope: Any) -> None:
        """At what can be told without knowing who it is. A page of another site must not act for its visitor."""
        if scope["path"].rstrip("/") != "/ws":
            raise NotFound
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if not origins:
            return
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        origin = origins[0].decode("latin-1").lower()
        own = host and origin in (f"http://{host}", f"https://{host}")
        if len(origins) > 1 or not (own or origin in self.origins):
            raise Forbidden("Pages of this origin may not open a socket here.")

    async def _who(self, scope: Any) -> Actor:
        offered: list[str] = scope["subprotocols"]
        tickets = [name.removeprefix(TICKET) for name in offered if name.startswith(TICKET)]
        if any(name == b"authorization" for name, _ in scope["headers"]):
            return await self.authenticate(bearer_of(scope["headers"]))
        if len(tickets) != 1 or PROTOCOL not in offered:
            raise NotAuthenticated
        return await self.redeem(ticket=tickets[0])

    async def _serve(
        self,
        scope: Any,
        receive: Any,
        send: Any,
        wire: Wire,
        connection: Connection,
        outcome: MutableMapping[str, Any],
    ) -> None:
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": PROTOCOL if PROTOCOL in scope["subprotocols"] else None,
                "headers": [(b"x-request-id", request_id().encode())],
            }
        )
        outcome["status"] = 101
        writer = asyncio.create_task(_write(connection, wire, outcome))
        bucket = TokenBucket() if self.limited else None
        frames = Frames(hub=self.hub, send_message=self.send_message, connection=connection)
        try:
            code = await _read(receive, frames, bucket, outcome)
        finally:
            frames.close()
            writer.cancel()
            await asyncio.wait({writer})
        if code is not None:
            await _close(wire, code, outcome)


async def _read(
    receive: Any, frames: Frames, bucket: TokenBucket | None, outcome: MutableMapping[str, Any]
) -> int | None:
    """Take frames until the client leaves, or does what it must not: then the code to close with."""
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            outcome.setdefault("close", message.get("code", 1005))
            return None
        if bucket is not None and not bucket.take():
            return 4429
        text = message.get("text")
        if text is None or not await frames.take(text):
            return 1008


async def _write(connection: Connection, wire: Wire, outcome: MutableMapping[str, Any]) -> None:
    """Send what could not be sent at once, until the connection has ended; then close."""
    try:
        while True:
            items = await connection.take()
            if items:
                async with asyncio.timeout(SLOW):
                    for start in range(0, len(items), TURN):
                        if connection.ended in (Ended.SLOW, Ended.SESSION):
                            break
                        await wire.write(items[start : start + TURN])
                        await asyncio.sleep(0)
            if connection.ended is not None:
                await _close(wire, CODES[connection.ended], outcome)
                return
    except TimeoutError:
        log.info("a reader was too slow and is cut off")
        await _close(wire, CODES[Ended.SLOW], outcome)
    except OSError:
        return  # the client is gone: the reader hears of it, too


async def _close(wire: Wire, code: int, outcome: MutableMapping[str, Any]) -> None:
    outcome.setdefault("close", code)
    try:
        async with asyncio.timeout(FAREWELL):
            await wire.close(code)
    except TimeoutError:
        wire.abort()  # it takes nothing, not even a good-bye, and the server would wait for that for ever
    except (OSError, RuntimeError):
        return  # it was quicker


async def _refuse(scope: Any, send: Any, error: Exception, outcome: MutableMapping[str, Any]) -> None:
    """Say no before the handshake, as an answer of HTTP."""
    problem, more = described(error)
    outcome["status"] = problem.status
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id().encode()),
        *HEADERS.items(),
        *((name.lower().encode(), value.encode()) for name, value in more.items()),
    ]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})

"""What a client says over its socket, and what it is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from chat_core.domain import message as messages
from chat_core.errors import Invalid, TooMany
from chat_core.use_cases.live.connection import Connection
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.sending import SendMessage
from entrypoints.http.parameters import SEQ_MAX, room_of
from entrypoints.http.problems import described, fault_of
from entrypoints.http.schemas import MessageOut, Problem, ReplyOut
from entrypoints.http.socket_wire import framed

#: Frames of one client: so many a second, after so many at once.
RATE, BURST = 50.0, 200
SUBSCRIPTIONS_MAX = 200
#: So much may wait to be done for one socket.
PENDING_MAX = 64
REF_MAX = 200

NO_REF = msgspec.Raw(b"null")


class _Any(Struct):
    type: str
    ref: msgspec.Raw = NO_REF


class _Frame(Struct, forbid_unknown_fields=True):
    type: str


class _Ping(_Frame):
    ref: msgspec.Raw = NO_REF


class _InRoom(_Frame):
    room_id: str
    ref: msgspec.Raw = NO_REF


class _Subscribe(_Frame):
    room_id: str
    after: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None
    ref: msgspec.Raw = NO_REF


class _Send(_Frame):
    room_id: str
    content: Annotated[str, Meta(min_length=1, max_length=messages.CONTENT_MAX)]
    m_id: Annotated[str, Meta(min_length=1, max_length=128, pattern=messages.M_ID_PATTERN)] | None = None
    ref: msgspec.Raw = NO_REF


class _Ok(Struct, tag="ok"):
    ref: msgspec.Raw
    data: Any


class _Error(Struct, tag="error"):
    ref: msgspec.Raw
    data: Problem


class SubscribedOut(Struct, frozen=True):
    room_id: UUID
    seq: int


class SentFrameOut(Struct, frozen=True):
    user_message: MessageOut
    reply: ReplyOut | None
    replayed: bool


_any = msgspec.json.Decoder(_Any)
_encoder = msgspec.json.Encoder()


class TokenBucket:
    """Lets through so many at once, and then so many a second."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(float(BURST), self._left + (now - self._at) * RATE)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Line:
    """Does one thing after the other, in the order in which they came; no task where there is nothing to do."""

    __slots__ = ("_pending", "_task")

    def __init__(self) -> None:
        self._pending: list[Callable[[], Awaitable[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def put(self, work: Callable[[], Awaitable[None]]) -> None:
        if len(self._pending) >= PENDING_MAX:
            raise TooMany("Too much waits to be done for this socket.")
        self._pending.append(work)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._pending:
                await self._pending.pop(0)()
        finally:
            self._task = None

    def close(self) -> None:
        self._pending = []
        if self._task is not None:
            self._task.cancel()


class Frames:
    """Does what the frames of one socket ask for. Sends go in their order, and so do subscriptions, beside them."""

    __slots__ = ("_connection", "_hub", "_send_message", "_sends", "_subscriptions")

    def __init__(self, *, hub: Hub, send_message: SendMessage, connection: Connection) -> None:
        self._hub = hub
        self._send_message = send_message
        self._connection = connection
        self._sends = _Line()
        self._subscriptions = _Line()

    def close(self) -> None:
        """Do nothing more. A send that is under way may or may not be stored: its ``m_id`` settles it."""
        self._sends.close()
        self._subscriptions.close()

    async def take(self, text: str) -> bool:
        """Take one frame; says whether it was one."""
        try:
            frame = _any.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return False
        known = KNOWN.get(frame.type)
        if known is None:
            return False
        decoder, deed = known
        ref = NO_REF
        try:
            if len(memoryview(frame.ref)) > REF_MAX:
                raise Invalid.at("/ref", f"must take at most {REF_MAX} bytes")
            ref = frame.ref.copy()
            asked = decoder.decode(text)
            await deed(self, asked, ref)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._fail(ref, error)
        return True

    def _answer(self, ref: msgspec.Raw, data: Any) -> None:
        self._connection.put(framed(_encoder.encode(_Ok(ref, data))))

    def _fail(self, ref: msgspec.Raw, error: Exception) -> None:
        if isinstance(error, msgspec.ValidationError):
            error = Invalid(faults=[fault_of(error)])
        self._connection.put(framed(_encoder.encode(_Error(ref, described(error)[0]))))

    async def _try(self, ref: msgspec.Raw, deed: Callable[[], Awaitable[None]]) -> None:
        try:
            await deed()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._fail(ref, error)

    async def ping(self, asked: _Ping, ref: msgspec.Raw) -> None:
        self._answer(ref, {})

    async def typing(self, asked: _InRoom, ref: msgspec.Raw) -> None:
        await self._hub.types(self._connection, room_of(asked.room_id))
        self._answer(ref, {})

    async def subscribe(self, asked: _Subscribe, ref: msgspec.Raw) -> None:
        self._subscriptions.put(partial(self._try, ref, partial(self._subscribe, asked, ref)))

    async def _subscribe(self, asked: _Subscribe, ref: msgspec.Raw) -> None:
        room_id = room_of(asked.room_id)
        mine = self._connection.subscriptions
        if room_id not in mine and len(mine) >= SUBSCRIPTIONS_MAX:
            raise TooMany(f"A socket may subscribe to at most {SUBSCRIPTIONS_MAX} rooms.")
        subscription = await self._hub.subscribe(self._connection, room_id, asked.after)
        self._answer(ref, SubscribedOut(room_id, subscription.cursor))
        self._hub.start(subscription)

    async def unsubscribe(self, asked: _InRoom, ref: msgspec.Raw) -> None:
        self._subscriptions.put(partial(self._try, ref, partial(self._unsubscribe, asked, ref)))

    async def _unsubscribe(self, asked: _InRoom, ref: msgspec.Raw) -> None:
        room_id = room_of(asked.room_id)
        self._hub.unsubscribe(self._connection, room_id)
        self._answer(ref, {"room_id": room_id})

    async def send(self, asked: _Send, ref: msgspec.Raw) -> None:
        self._sends.put(partial(self._try, ref, partial(self._send, asked, ref)))

    async def _send(self, asked: _Send, ref: msgspec.Raw) -> None:
        sent = await self._send_message(
            actor=self._connection.actor, room_id=room_of(asked.room_id), content=asked.content, m_id=asked.m_id
        )
        reply = ReplyOut.of(sent.reply) if sent.reply is not None else None
        self._answer(ref, SentFrameOut(MessageOut.of(sent.message), reply, sent.replayed))


_Deed = Callable[[Frames, Any, msgspec.Raw], Awaitable[None]]
KNOWN: dict[str, tuple["msgspec.json.Decoder[Any]", _Deed]] = {
    "ping": (msgspec.json.Decoder(_Ping), Frames.ping),
    "typing": (msgspec.json.Decoder(_InRoom), Frames.typing),
    "subscribe": (msgspec.json.Decoder(_Subscribe), Frames.subscribe),
    "unsubscribe": (msgspec.json.Decoder(_InRoom), Frames.unsubscribe),
    "send": (msgspec.json.Decoder(_Send), Frames.send),
}

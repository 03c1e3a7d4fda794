"""Server-sent events (the WHATWG's HTML standard, section 9.2), to clients of any speed."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, aclosing, closing, nullcontext
from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from chat_core.alarm import Alarm
from chat_core.errors import NotFound, Unavailable
from entrypoints.http.request_log import HEAD

log = logging.getLogger(__name__)

#: A client that takes nothing for this long, in seconds, is cut off; it comes back with its last id.
SLOW = 10.0
#: A comment goes out after this long without an event, in seconds.
HEARTBEAT = 15.0
#: How long a stream lives at the most, in seconds: then the client comes back, to whichever process is there.
LIFE = 900.0

#: A line of its own and no empty one behind it, which some clients would take for an event without data.
COMMENT = b":\n"


def event(name: str, data: bytes, id_: str | None = None) -> bytes:
    """One event. ``data`` is JSON, which has no line breaks of its own."""
    head = b"id: %b\n" % id_.encode() if id_ is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)


def life() -> float:
    """How long a stream that begins now may live, in seconds: spread, so that they do not all come back at once."""
    return LIFE * random.uniform(0.8, 1.0)  # noqa: S311 - no secret


class EventStream(Response[bytes]):
    """Sends what ``chunks`` gives until it ends or the client leaves; then it is closed, and nothing else happens.

    ``chunks`` gives a ``COMMENT`` where it has had nothing for ``HEARTBEAT`` seconds. ``place`` is held meanwhile.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str] | None = None,
        place: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__(content=b"", status_code=200, media_type="text/event-stream", headers=dict(headers or {}))
        self.chunks = chunks
        self.place = place or nullcontext()

    def to_asgi_response(self, app: Any, request: Any, **more: Any) -> ASGIResponse:
        headers = {**(more.get("headers") or {}), **self.headers, "X-Accel-Buffering": "no"}
        return _Streaming(self.chunks, self.place, headers)


class _Streaming(ASGIResponse):
    _should_set_content_length = False

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], place: AbstractContextManager[object], headers: dict[str, str]
    ) -> None:
        super().__init__(body=b"", status_code=200, media_type="text/event-stream", headers=headers)
        self.chunks = chunks
        self.place = place
        self.left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        async with aclosing(self.chunks):
            with self.place:
                await send({"type": "http.response.start", "status": 200, "headers": self.encode_headers()})
                if HEAD in scope:
                    return await send({"type": "http.response.body", "body": b"", "more_body": False})
                leaving = asyncio.create_task(self._until_left(receive, task))
                try:
                    await self._pump(send)
                except asyncio.CancelledError:
                    if not self.left:
                        raise
                    task.uncancel()
                finally:
                    leaving.cancel()

    async def _until_left(self, receive: Receive, task: "asyncio.Task[Any]") -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left = True
        task.cancel()

    async def _pump(self, send: Send) -> None:
        # The client's own pause before it comes back, in milliseconds: not all of them in step. It goes with the first
        # event: in a block of its own some clients would take it for an event without data.
        before = b"retry: %d\n" % random.randint(500, 1500)  # noqa: S311 - no secret
        try:
            with closing(Alarm()) as within:
                async for chunk in self.chunks:
                    async with within(SLOW):
                        await send({"type": "http.response.body", "body": before + chunk, "more_body": True})
                    before = b""
        except TimeoutError:
            # The body stays unfinished: the server closes the connection, and the client knows that there is more.
            log.info("a reader was too slow and is cut off")
            return
        except (Unavailable, NotFound) as error:
            # The client comes back with its last id: by then the storage may be there again, or the door, which closed
            # in the moment before it was watched, tells it so.
            log.warning("a stream ends early: %s", error.detail)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

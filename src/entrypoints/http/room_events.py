"""``/rooms/{room_id}/events``: what happens in a room, as a stream or page by page."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import cast

from litestar import Response, Router, get

from chat_core.domain.ids import UserId
from chat_core.domain.user import Actor
from chat_core.errors import Invalid
from chat_core.use_cases.live.connection import Connection, Ended
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.live.page import ReadLog
from chat_core.use_cases.live.room import Subscription
from entrypoints.http.auth import signed_in
from entrypoints.http.event_stream import COMMENT, HEARTBEAT, EventStream, life
from entrypoints.http.injection import Use
from entrypoints.http.live_forms import as_sse
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import (
    SEQ_MAX,
    Accept,
    After,
    Id,
    LastSeq,
    PageLimit,
    limit_of,
    place_of,
    room_of,
    wants_events,
)
from entrypoints.http.schemas import RoomEventOut, RoomEventsOut
from entrypoints.open_streams import OpenStreams


def _cursor(last_event_id: str | None, after: int | None) -> int | None:
    if last_event_id is None or not last_event_id.strip():
        return after
    if not re.fullmatch(r"[0-9]{1,19}", last_event_id.strip()) or int(last_event_id) > SEQ_MAX:
        raise Invalid.at("Last-Event-ID", "must be the id of an event of this room")
    return int(last_event_id)


async def _chunks(
    hub: Hub, connection: Connection, subscription: Subscription, seconds: float
) -> AsyncGenerator[bytes, None]:
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    hub.start(subscription)
    while True:
        items = await connection.take(max(0.0, min(HEARTBEAT, until - clock())))
        if items:
            yield b"".join(items)
        if connection.ended is not None or clock() >= until:
            return
        if not items:
            yield COMMENT


@get(
    "/{room_id:str}/events",
    responses=refusals(400, 404, 409, 429),
    summary="Follow a room",
    description=(
        "With `Accept: text/event-stream`: everything that happens in the room from now on, or behind `Last-Event-ID` "
        "or `after`, nothing skipped and nothing twice. Each event has the `seq` as its `id` and the type as its "
        "`event`; `data` is as in the page below. Besides there are `typing` and `presence`, without an `id`. A "
        "comment comes every 15 s. The stream ends after some 15 minutes, or where the room is closed to the caller; "
        "come back with the last id. Otherwise: one page of the same events, for those who poll."
    ),
)
async def room_events(
    room_id: Id,
    actor: Use[Actor],
    hub: Use[Hub],
    read_log: Use[ReadLog],
    open_streams: Use[OpenStreams[UserId]],
    after: After = None,
    limit: PageLimit = "50",
    accept: Accept = None,
    last_event_id: LastSeq = None,
) -> Response[RoomEventsOut]:
    room = room_of(room_id)
    cursor = _cursor(last_event_id, place_of("after", after))
    if not wants_events(accept):
        page = await read_log(actor=actor, room_id=room, after=cursor or 0, limit=limit_of(limit))
        return Response(
            RoomEventsOut(
                events=[RoomEventOut.of(event) for event in page.events],
                last_seq=page.last_seq,
                has_newer=page.has_newer,
            )
        )
    connection: Connection = Connection(actor, as_sse)
    hub.connect(connection)
    try:
        subscription = await hub.subscribe(connection, room, cursor)
    except BaseException:
        hub.leave(connection)
        raise

    @contextmanager
    def place() -> Iterator[None]:
        try:
            with open_streams(actor.user_id):
                yield
        finally:
            connection.end(Ended.OUT)
            hub.leave(connection)

    stream = EventStream(_chunks(hub, connection, subscription, life()), place=place())
    return cast("Response[RoomEventsOut]", stream)


router = Router("/rooms", route_handlers=[room_events], before_request=signed_in, security=SECURED, tags=["Rooms"])

"""The room's log for those who poll."""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_core.domain.ids import RoomId
from chat_core.domain.room import RoomEvent, open_door
from chat_core.domain.user import Actor
from chat_core.ports.storage import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Events, oldest first; how far the log reaches, and whether there are more behind them."""

    events: Sequence[RoomEvent]
    last_seq: int
    has_newer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    """Up to ``limit`` events behind ``after``. Raises ``NotFound``."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, room_id: RoomId, after: int, limit: int) -> LogPage:
        async with self.uow.read() as tx:
            events = await tx.rooms.log(room_id, after, limit)
            # After the log, so that nobody reads what happened once the room was closed to them.
            last_seq = open_door(await tx.rooms.door(room_id, actor.user_id)).room.last_seq
        reached = events[-1].seq if events else after
        return LogPage(events=events, last_seq=last_seq, has_newer=reached < last_seq)

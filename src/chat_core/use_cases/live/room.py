"""A room that somebody on this process has open."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain

from chat_core.domain.ids import MessageId, RoomId, UserId
from chat_core.domain.room import Door, EventKind, RoomEvent
from chat_core.domain.user import Actor
from chat_core.use_cases.live.connection import Connection, Ended
from chat_core.use_cases.live.events import LiveEvent
from chat_core.use_cases.live.presence import Presence

#: What a room keeps of its newest events, for those who come back: so many, and about so many bytes.
RECENT_MAX = 200
RECENT_BYTES = 256 * 1024


class Subscription:
    """A connection's place in one room's log: everything up to ``cursor`` was shown."""

    __slots__ = ("actor", "catching_up", "connection", "cursor", "joined", "room", "started")

    def __init__(self, connection: Connection, room: "WatchedRoom", cursor: int) -> None:
        self.actor: Actor = connection.actor
        self.connection = connection
        self.room = room
        self.cursor = cursor
        self.started = False
        self.joined = False
        self.catching_up: asyncio.Task[None] | None = None


class Guard:
    """Tells when somebody may no longer follow a room, who is shown its events in some other way."""

    __slots__ = ("_waiting", "actor", "ended")

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.ended: Ended | None = None
        self._waiting: asyncio.Future[None] | None = None

    def end(self, reason: Ended) -> None:
        if self.ended is None:
            self.ended = reason
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> Ended:
        """Return once it has ended, and why. For one task at a time; one that is cancelled loses nothing."""
        while self.ended is None:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self.ended


def _closes(event: RoomEvent, user_id: UserId) -> bool:
    """Whether the room may be closed to this person from this event on."""
    if event.kind is EventKind.MEMBER_LEFT:
        return event.membership is None or event.membership.user_id == user_id
    return event.kind in (EventKind.ROOM_UPDATED, EventKind.ROOM_DELETED)


class WatchedRoom:
    """``read`` is how far its log was read here, ``known`` how far it is said to reach. ``uses`` keep it watched."""

    __slots__ = (
        "_recent",
        "_weight",
        "guards",
        "id",
        "joined",
        "known",
        "presence",
        "read",
        "reader",
        "started",
        "typed",
        "uses",
    )

    def __init__(self, room_id: RoomId) -> None:
        self.id = room_id
        self.read = self.known = 0
        self.uses = 0
        self.started: set[Subscription] = set()
        self.joined: set[Subscription] = set()
        self.guards: set[Guard] = set()
        self.presence = Presence()
        self.typed: dict[UserId, float] = {}
        self.reader: asyncio.Task[None] | None = None
        self._recent: deque[LiveEvent] = deque()
        self._weight = 0

    def people(self) -> set[UserId]:
        """Those whose doors have to be looked at where doors may have moved."""
        return {follower.actor.user_id for follower in chain(self.joined, self.guards)}

    def begin_at(self, seq: int) -> None:
        """Nobody is shown the log: go on from here for the first who is."""
        self.read = seq
        self._recent.clear()
        self._weight = 0

    def join(self, subscription: Subscription) -> bool:
        """Let it be shown what comes, where nothing between is missing; it gets from here what it has not seen, where
        that is not too much at once."""
        if subscription.cursor < self.read:
            missed = self._since(subscription.cursor)
            if missed is None or not subscription.connection.has_space_for(missed):
                return False
            subscription.connection.show(*missed)
            subscription.cursor = self.read
        subscription.joined = True
        self.joined.add(subscription)
        return True

    def _since(self, cursor: int) -> Sequence[LiveEvent] | None:
        """The events behind ``cursor``; ``None`` where they are no longer kept, or where the storage has to be asked
        whether the room is still open to whom they are for."""
        if not self._recent or (self._recent[0].seq or 0) > cursor + 1:
            return None
        missed = list(self._recent)[cursor - self.read :]
        moved = any(isinstance(event.about, RoomEvent) and event.about.kind.moves_doors for event in missed)
        return None if moved else missed

    def take(self, events: Sequence[RoomEvent], doors: Mapping[UserId, Door], looked_at: set[UserId]) -> None:
        """Show the next events of the log to all who joined. For whom the room is closed, of those that were
        ``looked_at``, is shown what came before, and ends; its deletion is shown to those who were inside."""
        shown = [LiveEvent.of(event) for event in events]
        closed = {user_id for user_id in looked_at if user_id not in doors or not doors[user_id].is_open}
        for subscription in list(self.joined):
            user_id = subscription.actor.user_id
            self._show(subscription, shown if user_id not in closed else self._till_closed(events, shown, user_id))
            if user_id in closed:
                self.joined.discard(subscription)
                subscription.connection.end(Ended.OUT)
        for guard in list(self.guards):
            if guard.actor.user_id in closed:
                guard.end(Ended.OUT)
        self.read = events[-1].seq
        self._keep(shown)

    def _till_closed(
        self, events: Sequence[RoomEvent], shown: Sequence[LiveEvent], user_id: UserId
    ) -> Sequence[LiveEvent]:
        for number, event in enumerate(events):
            if _closes(event, user_id):
                return shown[: number + (event.kind is EventKind.ROOM_DELETED)]
        return ()

    def _show(self, subscription: Subscription, shown: Sequence[LiveEvent]) -> None:
        new = [event for event in shown if (event.seq or 0) > subscription.cursor]
        if new:
            # Together: a write to a socket costs more than all else that is done for it here.
            subscription.connection.show(*new)
            subscription.cursor = new[-1].seq or subscription.cursor

    def _keep(self, shown: Sequence[LiveEvent]) -> None:
        for event in shown:
            if event.kind in (EventKind.MESSAGE_EDITED, EventKind.MESSAGE_DELETED):
                self._forget(event)
            self._recent.append(event)
            self._weight += event.weight
        while len(self._recent) > RECENT_MAX or self._weight > RECENT_BYTES:
            self._weight -= self._recent.popleft().weight

    def _forget(self, change: LiveEvent) -> None:
        """Keep no text that was changed: whoever comes back is shown messages as they are now, by the storage."""
        told = [number for number, event in enumerate(self._recent) if _message_of(event) == _message_of(change)]
        for _ in range(told[-1] + 1 if told else 0):
            self._weight -= self._recent.popleft().weight


def _message_of(event: LiveEvent) -> MessageId | None:
    about = event.about
    return about.message.id if isinstance(about, RoomEvent) and about.message is not None else None

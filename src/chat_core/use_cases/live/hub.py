"""The one place on a process where rooms are live."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

from chat_core.domain.ids import RoomId, UserId
from chat_core.domain.room import Door, RoomEvent, open_door
from chat_core.domain.user import Actor
from chat_core.errors import CursorAhead, NotFound, TooMany, Unavailable
from chat_core.ports.delivery import IsPresent, IsTyping, LogGrew, ReplyChanged, RoomFeed, RoomNews
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.live.connection import Connection, Ended
from chat_core.use_cases.live.events import LiveEvent, Somebody
from chat_core.use_cases.live.presence import REPEAT
from chat_core.use_cases.live.room import Guard, Subscription, WatchedRoom

log = logging.getLogger(__name__)

#: Events that are read at once.
PAGE = 100
#: In a room that more connections of this process have open, it is not shown who comes and goes.
CROWD = 100
#: How often somebody is shown typing in one room, in seconds.
TYPING = 1.0
#: How soon the people of this process are told again where another process does not seem to know them, in seconds.
AGAIN = 5.0
#: Reads at once, of news and of what those who come back have missed: most connections stay with the requests.
READERS, CATCHERS = 4, 4


async def all_alive(sessions: Sequence[UUID]) -> set[UUID]:
    """For where sessions do not end early."""
    return set(sessions)


class Hub:
    """Shows each room's events to all who have it open here: one reader and one rendering for all of them.

    ``alive`` tells which of these sessions have not ended; ``draining``, whether the process is about to end.
    ``on_reply`` is called with news of replies in rooms that somebody has open here, ``on_start`` with who opens one.
    """

    def __init__(
        self,
        uow: UnitOfWork,
        feed: RoomFeed,
        *,
        alive: Callable[[Sequence[UUID]], Awaitable[set[UUID]]] = all_alive,
        draining: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uow = uow
        self._feed = feed
        self._alive = alive
        self._draining = draining
        self._monotonic = monotonic
        self._rooms: dict[RoomId, WatchedRoom] = {}
        self._connections: set[Connection] = set()
        self._guards: set[Guard] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers = asyncio.Semaphore(READERS)
        self._catchers = asyncio.Semaphore(CATCHERS)
        self._own: set[int] = set()
        self.on_reply: Callable[[ReplyChanged], None] | None = None
        self.on_start: Callable[[Subscription], None] | None = None

    # --- streams and sockets ---

    @contextmanager
    def opened(self) -> Generator[None]:
        """Hear the feed; at the end nothing of this is left running."""
        with self._feed.listen(self.heard):
            try:
                yield
            finally:
                for connection in list(self._connections):
                    connection.end(Ended.DRAINING)
                    self.leave(connection)
                for task in list(self._tasks):
                    task.cancel()

    def connect(self, connection: Connection) -> None:
        """Look after this connection until it leaves. Raises ``Unavailable`` where the process is about to end."""
        if self._draining():
            raise Unavailable("This process is about to end; come back.")
        self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """Show it nothing more. Harmless to repeat."""
        self._connections.discard(connection)
        for room_id in list(connection.subscriptions):
            self.unsubscribe(connection, room_id)

    async def subscribe(self, connection: Connection, room_id: RoomId, after: int | None) -> Subscription:
        """A place in the room's log behind ``after``, or at its end; ``start`` begins to show what follows.

        Once more for the same room: in place of the earlier one. Raises ``NotFound``, ``CursorAhead``.
        """
        self.unsubscribe(connection, room_id)
        room = self._watch(room_id)
        try:
            # After a restart all come at once: they wait here, and not for the connections that requests need.
            async with self._catchers, self._uow.read() as tx:
                last = open_door(await tx.rooms.door(room_id, connection.actor.user_id)).room.last_seq
            if after is not None and after > last:
                raise CursorAhead(f"The room's last place is {last}; start again from there, or from its history.")
            if connection.ended is not None or connection not in self._connections:
                raise Unavailable("This connection is about to end.")
        except BaseException:
            self._unwatch(room)
            raise
        if not room.joined:
            room.begin_at(max(room.read, last))
        room.known = max(room.known, last)
        subscription = Subscription(connection, room, last if after is None else after)
        connection.subscriptions[room_id] = subscription
        return subscription

    def start(self, subscription: Subscription) -> None:
        """Show who is there, and then everything behind the subscription's cursor, in order, and what comes."""
        room, connection = subscription.room, subscription.connection
        if connection.subscriptions.get(room.id) is not subscription or subscription.started:
            return
        people = list(room.presence.people.items())
        subscription.started = True
        room.started.add(subscription)
        if people and len(room.started) <= CROWD:
            connection.show(*(_presence(room.id, user_id, username, present=True) for user_id, username in people))
        if self.on_start is not None:
            self.on_start(subscription)
        first = not room.presence.is_here(subscription.actor.user_id)
        if room.presence.enters(subscription.actor):
            self._show_presence(room, subscription.actor.user_id, subscription.actor.username, present=True)
        if first:
            self._tell_presence(room, subscription.actor.user_id, subscription.actor.username, present=True)
        if not room.join(subscription):
            subscription.catching_up = self._begin(self._catch_up(subscription))
        self._look_at(room)

    def unsubscribe(self, connection: Connection, room_id: RoomId) -> None:
        """Show this connection nothing more of the room. Harmless where it shows nothing."""
        subscription = connection.subscriptions.pop(room_id, None)
        if subscription is None:
            return
        room, user_id = subscription.room, subscription.actor.user_id
        room.started.discard(subscription)
        room.joined.discard(subscription)
        if subscription.catching_up is not None:
            subscription.catching_up.cancel()
        if subscription.started and room.presence.leaves(user_id, self._monotonic()):
            self._tell_presence(room, user_id, subscription.actor.username, present=False)
        self._unwatch(room)

    @asynccontextmanager
    async def guard(self, actor: Actor, room_id: RoomId, since: int | None = None) -> AsyncGenerator[Guard]:
        """For who follows something of a room without its events: the guard ends when that has to end.

        ``since`` is a place at which the room was found open to them a moment ago. Raises ``NotFound`` where it is
        closed to them.
        """
        room, guard = self._watch(room_id), Guard(actor)
        room.guards.add(guard)
        self._guards.add(guard)
        try:
            if since is None or room.read > since:
                # Looked at after the guard stands: a door that closes later is heard of.
                async with self._catchers, self._uow.read() as tx:
                    since = open_door(await tx.rooms.door(room_id, actor.user_id)).room.last_seq
            if not room.joined and not room.read:
                room.begin_at(since)
            room.known = max(room.known, room.read)
            yield guard
        finally:
            room.guards.discard(guard)
            self._guards.discard(guard)
            self._unwatch(room)

    # --- what happens ---

    def heard(self, news: RoomNews) -> None:
        """Take news of a room; of one that nobody has open here they are none."""
        room = self._rooms.get(news.room_id)
        if room is None or id(news) in self._own:
            return
        match news:
            case LogGrew():
                room.known = max(room.known, news.seq)
                # Of messages alone those who are only guarded have nothing: the next round looks whether that was so.
                if news.moves_doors or room.started:
                    self._look_at(room)
            case ReplyChanged():
                if self.on_reply is not None:
                    self.on_reply(news)
            case IsTyping():
                self.show(LiveEvent(room.id, "typing", Somebody(user_id=news.user_id, username=news.username)))
            case IsPresent():
                self._heard_presence(room, news)

    def show(self, event: LiveEvent) -> None:
        """Show this, which has no place in the log, to all who have its room open here."""
        room = self._rooms.get(event.room_id)
        if room is not None:
            for subscription in room.started:
                subscription.connection.show(event)

    def viewed_rooms(self) -> Sequence[RoomId]:
        """The rooms that somebody is shown here."""
        return [room.id for room in self._rooms.values() if room.started]

    def has_viewers(self, room_id: RoomId) -> bool:
        """Whether somebody is shown this room here."""
        room = self._rooms.get(room_id)
        return room is not None and bool(room.started)

    async def types(self, connection: Connection, room_id: RoomId) -> None:
        """Tell everyone that this person types in a room that they have open. Raises ``NotFound``, ``TooMany``."""
        subscription = connection.subscriptions.get(room_id)
        if subscription is None:
            raise NotFound("Subscribe to the room first.")
        actor, typed, now = connection.actor, subscription.room.typed, self._monotonic()
        if typed.get(actor.user_id, -TYPING) + TYPING > now:
            return
        if len(typed) >= CROWD:
            for user_id in [user_id for user_id, at in typed.items() if at + TYPING <= now]:
                del typed[user_id]
            if len(typed) >= CROWD:
                raise TooMany("Too many people type at once.")
        typed[actor.user_id] = now
        await self._feed.tell(IsTyping(room_id=room_id, user_id=actor.user_id, username=actor.username))

    # --- twice a second ---

    async def keep(self) -> None:
        """One round: end what has to end, and find what no news told of. Raises ``Unavailable``."""
        if self._draining():
            for connection in list(self._connections):
                connection.end(Ended.DRAINING)
            for guard in list(self._guards):
                guard.end(Ended.DRAINING)
        self._keep_presence()
        await self._end_dead_sessions()
        if not self._rooms:
            return
        reached = {room_id: room.read for room_id, room in self._rooms.items()}
        async with self._uow.read() as tx:
            seqs = await tx.rooms.last_seqs(list(reached))
        for room_id, seq in seqs.items():
            room = self._rooms.get(room_id)
            if room is None:
                continue
            if seq < reached[room_id]:
                self._start_again(room, seq)
            self._grew(room, seq)

    def _start_again(self, room: WatchedRoom, seq: int) -> None:
        """What was shown is no longer stored: a database that took over did not have it. Whoever saw it comes back and
        is told that their cursor is ahead; nobody goes on as if nothing were missing."""
        log.warning("a room's log has lost its end: it reaches to %d, and was at %d", seq, room.read)
        for subscription in list(room.joined):
            room.joined.discard(subscription)
            subscription.connection.end(Ended.DRAINING)
        room.known = seq
        room.begin_at(seq)

    async def _end_dead_sessions(self) -> None:
        followers: list[Connection | Guard] = [*self._connections, *self._guards]
        sessions = {follower.actor.session_id for follower in followers} - {None}
        if not sessions:
            return
        alive = await self._alive([session for session in sessions if session is not None])
        for follower in followers:
            session = follower.actor.session_id
            if session is not None and session not in alive:
                follower.end(Ended.SESSION)

    # --- reading the log ---

    def _watch(self, room_id: RoomId) -> WatchedRoom:
        room = self._rooms.get(room_id)
        if room is None:
            room = self._rooms[room_id] = WatchedRoom(room_id)
        room.uses += 1
        return room

    def _unwatch(self, room: WatchedRoom) -> None:
        room.uses -= 1
        if not room.uses:
            # A reader comes to its end by itself: a statement that is cut off costs its connection.
            del self._rooms[room.id]

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _grew(self, room: WatchedRoom, seq: int) -> None:
        room.known = max(room.known, seq)
        self._look_at(room)

    def _look_at(self, room: WatchedRoom) -> None:
        if room.known > room.read and room.reader is None:
            room.reader = self._begin(self._read(room))

    async def _read(self, room: WatchedRoom) -> None:
        try:
            while room.uses and room.known > room.read:
                async with self._readers:
                    await (self._read_page(room) if room.joined else self._look_at_doors(room))
        except Unavailable as error:
            # Nothing is shown that could not be looked at; the next round tries again.
            log.debug("a room's log cannot be read: %s", error.detail)
        except Exception:
            # A task's exception has nobody to go to; the next round begins it again.
            log.exception("a room's log could not be read")
        finally:
            room.reader = None

    async def _read_page(self, room: WatchedRoom) -> None:
        async with self._uow.read() as tx:
            events = await tx.rooms.log(room.id, room.read, PAGE)
            if not events:
                # News that run ahead of what is stored, or that were made up.
                room.known = room.read
                return
            doors: dict[UserId, Door] = {}
            looked_at: set[UserId] = set()
            if any(event.kind.moves_doors for event in events):
                # Doors are looked at after the log: whoever finds one open then was inside when all of this happened.
                # Those who joined while it was looked are looked at, too, before anything is shown.
                while missing := room.people() - looked_at:
                    doors.update(await tx.rooms.doors(room.id, list(missing)))
                    looked_at |= missing
            # Everybody may have left meanwhile, and others have come, for whom the room goes on elsewhere.
            if room.joined and events[0].seq == room.read + 1:
                room.take(events, doors, looked_at)

    async def _look_at_doors(self, room: WatchedRoom) -> None:
        """Where nobody is shown the log, only whether the guarded may stay."""
        known, people = room.known, room.people()
        if people:
            async with self._uow.read() as tx:
                doors = await tx.rooms.doors(room.id, list(people))
            for guard in list(room.guards):
                user_id = guard.actor.user_id
                if user_id in people and (user_id not in doors or not doors[user_id].is_open):
                    guard.end(Ended.OUT)
        if not room.joined and room.people() <= people:
            room.begin_at(max(known, room.read))

    async def _catch_up(self, subscription: Subscription) -> None:
        room, connection = subscription.room, subscription.connection
        try:
            while connection.ended is None and not room.join(subscription):
                await connection.space()
                page = await self._page_for(subscription)
                if not page:
                    connection.end(Ended.DRAINING)
                for event in page:
                    await connection.space()
                    connection.show(LiveEvent.of(event))
                    subscription.cursor = event.seq
        except NotFound:
            connection.end(Ended.OUT)
        except Unavailable:
            # It comes back with its cursor, by when the storage may be there again.
            connection.end(Ended.DRAINING)
        except Exception:
            # A client that waits for what never comes would not know: it is sent away, and comes back with its cursor.
            log.exception("what a client missed could not be read")
            connection.end(Ended.DRAINING)
        finally:
            subscription.catching_up = None
        self._look_at(room)

    async def _page_for(self, subscription: Subscription) -> Sequence[RoomEvent]:
        async with self._catchers, self._uow.read() as tx:
            events = await tx.rooms.log(subscription.room.id, subscription.cursor, PAGE)
            # After the log: whoever is inside now was so when all of this happened, or may read it anyway.
            open_door(await tx.rooms.door(subscription.room.id, subscription.actor.user_id))
        return events

    # --- who is there ---

    def _show_presence(self, room: WatchedRoom, user_id: UserId, username: str, *, present: bool) -> None:
        if len(room.started) <= CROWD:
            self.show(_presence(room.id, user_id, username, present=present))

    def _tell_presence(self, room: WatchedRoom, user_id: UserId, username: str, *, present: bool) -> None:
        news = IsPresent(room_id=room.id, user_id=user_id, username=username, present=present)
        self._begin(self._tell_others(news))

    async def _tell_others(self, news: IsPresent) -> None:
        self._own.add(id(news))
        try:
            await self._feed.tell(news)
        finally:
            self._own.discard(id(news))

    def _heard_presence(self, room: WatchedRoom, news: IsPresent) -> None:
        now = self._monotonic()
        if news.present:
            if room.presence.is_elsewhere(news.user_id, news.username, now):
                self._show_presence(room, news.user_id, news.username, present=True)
                # Whoever is new there may not know who is here.
                room.presence.said_at = min(room.presence.said_at, now - REPEAT + AGAIN)
        else:
            room.presence.left_elsewhere(news.user_id, now)
            if room.presence.is_here(news.user_id):
                self._tell_presence(room, news.user_id, news.username, present=True)

    def _keep_presence(self) -> None:
        now = self._monotonic()
        for room in list(self._rooms.values()):
            for user_id, username in room.presence.gone(now):
                self._show_presence(room, user_id, username, present=False)
            if now - room.presence.said_at >= REPEAT:
                room.presence.said_at = now
                for user_id in room.presence.here:
                    self._tell_presence(room, user_id, room.presence.people[user_id], present=True)


def _presence(room_id: RoomId, user_id: UserId, username: str, *, present: bool) -> LiveEvent:
    return LiveEvent(room_id, "presence", Somebody(user_id=user_id, username=username, present=present))

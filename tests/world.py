"""A whole service in memory for tests of the use cases: people, rooms, and a model that does what its script says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from dependency_injector import providers

from adapters.memory.delivery import MemoryReplyFeed
from adapters.memory.storage import MemoryUnitOfWork
from chat_core.domain.ids import MessageId, ReplyId, RoomId, utc_now
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.domain.room import AIMode, Room, Visibility, WhenBusy
from chat_core.domain.user import Actor
from chat_core.ports.delivery import Job, ReplyFeed, ReplyQueue
from chat_core.ports.passing import PassingTransaction
from chat_core.ports.storage import (
    Answered,
    Transaction,
    UnitOfWork,
)
from chat_core.testing.models import Gate, Script, ScriptedModel
from chat_core.use_cases.generation import GenerateReply
from chat_core.use_cases.sending import Sent
from entrypoints.container import Container, memory_container
from entrypoints.settings import Settings
from tests.clocks import Seconds

PASSWORD = "correct-horse"


class WatchedTransaction(PassingTransaction):
    """A transaction whose commits are counted, and may be made to fail."""

    def __init__(self, inner: Transaction, watched: "WatchedUnitOfWork") -> None:
        super().__init__(inner)
        self._watched = watched

    async def commit(self) -> None:
        if self._watched.commit_errors:
            raise self._watched.commit_errors.pop(0)
        await self.inner.commit()
        await self._watched.committed()


class WatchedUnitOfWork(UnitOfWork):
    """Knows how many transactions are open, and how many only read or were committed. ``commit_errors`` are raised by
    the next."""

    def __init__(self, inner: UnitOfWork) -> None:
        self._inner = inner
        self.open = 0
        self.reads = 0
        self.commits = 0
        self.commit_errors: list[Exception] = []
        self.away: Exception | None = None
        self.turned_away = asyncio.Event()
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Transaction]:
        self._look_whether_it_is_there()
        async with self._inner() as tx:
            self.open += 1
            try:
                yield WatchedTransaction(tx, self)
            finally:
                self.open -= 1

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        self._look_whether_it_is_there()
        async with self._inner.read() as tx:
            self.open += 1
            self.reads += 1
            try:
                yield tx
            finally:
                self.open -= 1

    def _look_whether_it_is_there(self) -> None:
        if self.away is not None:
            self.turned_away.set()
            raise self.away

    async def committed(self) -> None:
        async with self._news:
            self.commits += 1
            self._news.notify_all()

    async def commits_reach(self, number: int) -> None:
        """Return once so many were committed."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: self.commits >= number)


class HeldQueue(ReplyQueue):
    """Makes nothing: the test does."""

    def __init__(self) -> None:
        self.put_there: list[ReplyId] = []

    @property
    def makes_here(self) -> bool:
        return False

    async def put(self, reply_id: ReplyId) -> None:
        self.put_there.append(reply_id)

    async def make(self, job: Job) -> None:
        raise AssertionError("nothing is made here")


@dataclass(frozen=True)
class Making:
    """A reply that is being made. Not awaitable itself, since most tests leave it alone."""

    task: "asyncio.Task[None]"

    async def end(self) -> None:
        """Return when it has ended, or raise what it raised."""
        async with asyncio.timeout(10):
            await self.task


class World:
    """The container over memory, with handy words for what tests do most. Leases run by ``clock``.

    ``held``: what is sent is not answered by itself; ``make`` makes it. ``settings``: without limits to one person,
    unless a test sets them.
    """

    def __init__(self, *scripts: Script, held: bool = False, **settings: Any) -> None:
        self.clock = Seconds()
        self.model = ScriptedModel(*scripts)
        self.uow = WatchedUnitOfWork(MemoryUnitOfWork(self.clock))
        self.queue = HeldQueue()
        self._gates = [step for script in scripts if not callable(script) for step in script if isinstance(step, Gate)]
        self._held = held
        self._making: list[asyncio.Task[None]] = []
        self.container: Container = memory_container(Settings(**{"rate_limits": "off"} | settings), model=self.model)
        self.container.uow.override(providers.Object(self.uow))
        if held:
            self.container.queue.override(providers.Object(self.queue))

    async def close(self) -> None:
        """Let everything end, and see that nothing is left over."""
        for gate in self._gates:
            gate.open()
        async with asyncio.timeout(10):
            await asyncio.gather(*self._making, return_exceptions=True)
            if not self._held:
                await self.container.local_queue().close(5)
        assert self.uow.open == 0, "a transaction was left open"
        assert self.model.open_streams == 0, "a stream of the model was left open"
        feed = self.container.feed()
        assert isinstance(feed, MemoryReplyFeed)
        assert not feed._topics, "a watch was left open"

    async def person(self, name: str) -> Actor:
        user = await self.container.sign_up()(username=name, email=f"{name}@example.com", password=PASSWORD)
        return Actor(user_id=user.id, username=user.username)

    async def room(self, owner: Actor, *, private: bool = False, **ai: Any) -> Room:
        """``ai``: fields of ``RoomAI``; ``mode`` and ``busy`` may be texts."""
        visibility = Visibility.PRIVATE if private else Visibility.PUBLIC
        room = await self.container.create_room()(actor=owner, name="A room", visibility=visibility)
        if ai:
            await self.set_ai(owner, room.id, **ai)
        return room

    async def set_ai(self, owner: Actor, room_id: RoomId, **ai: Any) -> Room:
        if "mode" in ai:
            ai["mode"] = AIMode(ai["mode"])
        if "busy" in ai:
            ai["busy"] = WhenBusy(ai["busy"])
        return await self.container.update_room()(
            actor=owner, room_id=room_id, change=lambda room: replace(room, ai=replace(room.ai, **ai))
        )

    async def say(self, actor: Actor, room: Room, content: str, m_id: str | None = None) -> Sent:
        return await self.container.send_message()(actor=actor, room_id=room.id, content=content, m_id=m_id)

    async def ask(self, actor: Actor, room: Room, content: str) -> Reply:
        """Say something that asks for an answer; the reply, which is queued."""
        reply = (await self.say(actor, room, content)).reply
        assert reply is not None
        return reply

    def maker(
        self,
        *,
        lease: float = 15.0,
        later: float = 0.0,
        feed: ReplyFeed | None = None,
    ) -> GenerateReply:
        """What makes replies; ``later``: as if it were so many seconds later."""
        known: GenerateReply = self.container.generate_reply()
        return replace(known, lease=lease, feed=feed or known.feed, now=lambda: utc_now() + timedelta(seconds=later))

    async def make(self, reply: Reply, **how: Any) -> Reply:
        """Make the reply, and look how it stands after that."""
        await self.maker(**how)(reply.id)
        return await self.reply(reply.id)

    def begin(self, reply: Reply, **how: Any) -> Making:
        """Begin to make the reply; ``close`` waits for its end."""
        making = Making(asyncio.create_task(self.maker(**how)(reply.id)))
        self._making.append(making.task)
        return making

    async def answer_to(self, actor: Actor, room: Room, content: str) -> Answered:
        """Say something, and wait for the answer's end."""
        return await self.ended((await self.ask(actor, room, content)).id)

    async def ended(self, reply_id: ReplyId) -> Answered:
        answer: Answered = await self.container.await_reply()(reply_id=reply_id, seconds=10)
        assert answer.reply.final
        return answer

    async def reply(self, reply_id: ReplyId) -> Reply:
        async with self.uow.read() as tx:
            reply = await tx.replies.get(reply_id)
        assert reply is not None
        return reply

    async def attempts(self, reply: Reply) -> list[Attempt]:
        async with self.uow.read() as tx:
            return list(await tx.replies.attempts(reply.id))

    async def message(self, message_id: MessageId) -> Message:
        async with self.uow.read() as tx:
            message = await tx.messages.get(message_id)
        assert message is not None
        return message

    async def stored_room(self, room: Room) -> Room:
        async with self.uow.read() as tx:
            stored = await tx.rooms.get(room.id)
        assert stored is not None
        return stored

    async def history(self, room: Room) -> list[Message]:
        async with self.uow.read() as tx:
            return list((await tx.messages.page(room.id, 200)).messages)

    async def texts(self, room: Room) -> list[str]:
        return [message.content for message in await self.history(room)]

    async def log(self, room: Room) -> list[str]:
        """What took each place in the room's log, from 1 to its newest: a place without anything fails here."""
        tables = self.uow._inner._tables  # type: ignore[attr-defined]
        kinds = {seq: entry.kind.value for (room_id, seq), entry in tables.entries.items() if room_id == room.id}
        for room_id, seq in tables.places:
            if room_id == room.id:
                assert seq not in kinds, f"two things are at {seq}"
                kinds[seq] = "message.created"
        assert sorted(kinds) == list(range(1, tables.rooms[room.id].last_seq + 1)), "the log has a hole"
        return [kinds[seq] for seq in sorted(kinds)]


NewWorld = Callable[..., World]

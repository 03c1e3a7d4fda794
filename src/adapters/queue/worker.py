"""The workers' side of the queue: Dramatiq takes a reply's id, and an event loop makes the reply."""

import asyncio
from typing import Protocol
from uuid import UUID

import dramatiq

from adapters.queue.broker import ACTOR, QUEUE, ListBroker
from chat_core.domain.ids import ReplyId

#: How long an idle thread sleeps at a time, in milliseconds: also how soon it sees that it should end.
_IDLE = 1000


class Makers(Protocol):
    """Those who make replies on a worker's event loop."""

    @property
    def makes_here(self) -> bool:
        """Whether there is room for one more. May be asked from any thread."""

    def begin(self, reply_id: ReplyId) -> None:
        """Begin this one, or have it wait."""

    async def take(self, reply_id: ReplyId) -> None:
        """Begin it once there is room."""


class QueueWorker:
    """Takes replies from the queue and hands them to ``makers`` on the event loop that runs when it is made.

    While there is room for more, a reply is handed over by the consumer's own thread. Else its message holds one of
    ``threads`` threads until there is, and the rest stay in Redis for other workers.
    """

    def __init__(self, broker: ListBroker, makers: Makers, *, threads: int) -> None:
        self._broker = broker
        self._makers = makers
        self._loop = asyncio.get_running_loop()
        self.started = 0
        broker.begins = self._begins
        dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(self._take)
        self._worker = dramatiq.Worker(broker, queues={QUEUE}, worker_threads=threads, worker_timeout=_IDLE)

    def _begins(self, text: str) -> bool:
        if not self._makers.makes_here:
            return False
        self.started += 1
        self._loop.call_soon_threadsafe(self._makers.begin, ReplyId(UUID(text)))
        return True

    def _take(self, text: str) -> None:
        self.started += 1
        asyncio.run_coroutine_threadsafe(self._makers.take(ReplyId(UUID(text))), self._loop).result()

    async def open(self) -> None:
        """Begin to take replies."""
        self._broker.emit_after("process_boot")
        await asyncio.to_thread(self._worker.start)

    async def close(self, seconds: float) -> None:
        """Take no more. What was taken and not begun goes back to the queue."""
        await asyncio.to_thread(self._worker.stop, int(seconds * 1000))
        self._broker.close()

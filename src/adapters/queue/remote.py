"""Replies made by workers, over a Dramatiq queue on Redis; and the workers' side of it."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import dramatiq

from adapters.queue.broker import ACTOR, QUEUE, BellBroker
from chat_core.domain.ids import ReplyId
from chat_core.ports.delivery import Job, ReplyQueue

log = logging.getLogger(__name__)

#: What a call to Redis may cost a sender, in seconds.
TIMEOUT = 0.15
#: After a failure Redis is left alone for this long, in seconds.
BREAK = 1.0
#: A reply that still waits is put on the queue again after this long, in seconds: the queue may have been lost.
AGAIN = 5.0


class RemoteReplyQueue(ReplyQueue):
    """Puts a reply's id, and nothing else, on the workers' queue; on ``otherwise`` where that is no use.

    That is so while ``worked`` says that no worker is heard of, and for a second after Redis failed a call: then this
    process makes due replies itself, and the sender waits for Redis no longer than once. The same reply is put on the
    queue no more often than every ``again`` seconds.
    """

    def __init__(
        self,
        broker: BellBroker,
        otherwise: ReplyQueue,
        worked: Callable[[], bool],
        *,
        again: float = AGAIN,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._again = again
        self._otherwise = otherwise
        self._worked = worked
        self._monotonic = monotonic
        self._closed_until = 0.0
        self._enqueued: OrderedDict[ReplyId, float] = OrderedDict()
        # Dramatiq has no async enqueue. One thread keeps the order, and one connection.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enqueue")

    @property
    def makes_here(self) -> bool:
        return not self._useful and self._otherwise.makes_here

    async def make(self, job: Job) -> None:
        await self._otherwise.make(job)

    @property
    def _useful(self) -> bool:
        return self._worked() and self._monotonic() >= self._closed_until

    async def put(self, reply_id: ReplyId) -> None:
        if self._useful:
            if self._is_enqueued(reply_id):
                return
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._enqueue, reply_id)
                return
            except Exception as error:  # noqa: BLE001
                # Whatever it is that Redis or its client has: the reply is in the storage, and can be made here.
                self._closed_until = self._monotonic() + BREAK
                self._enqueued.pop(reply_id, None)
                log.warning("the queue failed, replies are made in this process: %s", type(error).__name__)
        await self._otherwise.put(reply_id)

    def _is_enqueued(self, reply_id: ReplyId) -> bool:
        """Whether it was put there a moment ago; else notes that it is now. The sweep asks for each reply that waits,
        again and again: the queue must not fill with copies."""
        now = self._monotonic()
        while self._enqueued and next(iter(self._enqueued.values())) < now - self._again:
            self._enqueued.popitem(last=False)
        if reply_id in self._enqueued:
            return True
        self._enqueued[reply_id] = now
        return False

    def _enqueue(self, reply_id: ReplyId) -> None:
        if self._monotonic() < self._closed_until:
            # Sends that waited behind the one that failed need not find out for themselves.
            raise ConnectionError("the queue failed a moment ago")
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=QUEUE, actor_name=ACTOR, args=(str(reply_id),), kwargs={}, options={}
        )
        self._broker.enqueue(message)

    def close(self) -> None:
        """Let go of the thread and the connections."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._broker.close()


class QueueWorker:
    """Takes replies from the queue and hands them to ``start`` on the event loop that runs when it is made.

    ``start`` returns once the reply is being made, which may be later, when there is room for it: until then its
    message holds one of ``threads`` threads, and the rest stay in Redis for other workers.
    """

    def __init__(self, broker: BellBroker, start: Callable[[ReplyId], Awaitable[None]], *, threads: int) -> None:
        self._broker = broker
        self._start = start
        self._loop = asyncio.get_running_loop()
        self.started = 0
        dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(self._take)
        self._worker = dramatiq.Worker(broker, queues={QUEUE}, worker_threads=threads, worker_timeout=100)

    def _take(self, reply_id: str) -> None:
        self.started += 1
        asyncio.run_coroutine_threadsafe(self._hand_over(ReplyId(UUID(reply_id))), self._loop).result()

    async def _hand_over(self, reply_id: ReplyId) -> None:
        await self._start(reply_id)

    async def open(self) -> None:
        """Begin to take replies."""
        self._broker.emit_after("process_boot")
        await asyncio.to_thread(self._worker.start)

    async def close(self, seconds: float) -> None:
        """Take no more. What was taken and not begun goes back to the queue."""
        await asyncio.to_thread(self._worker.stop, int(seconds * 1000))
        self._broker.close()

"""Replies made by tasks of this process."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from chat_core.domain.ids import ReplyId
from chat_core.errors import Unavailable
from chat_core.ports.delivery import Job, ReplyQueue

log = logging.getLogger(__name__)


class InProcessReplyQueue(ReplyQueue):
    """Makes replies in tasks of the running event loop, ``concurrency`` at a time; the others wait their turn.

    At most ``backlog`` wait here: what is beyond stays due in the storage, where the sweep finds it. A reply that
    waits or is being made here is not taken twice.
    """

    def __init__(
        self,
        make: Callable[[ReplyId], Awaitable[None]],
        go_on: Callable[[Job], Awaitable[None]],
        *,
        concurrency: int = 200,
        backlog: int = 10_000,
    ) -> None:
        """``make`` claims a reply and makes it, ``go_on`` makes one that is claimed."""
        self._make = make
        self._go_on = go_on
        self._concurrency = concurrency
        self._backlog = backlog
        self._waiting: deque[ReplyId] = deque()
        self._known: set[ReplyId] = set()
        self._tasks: dict[asyncio.Task[None], ReplyId] = {}
        self._open = True
        self._room = asyncio.Event()

    async def take(self, reply_id: ReplyId) -> None:
        """As ``put``, once fewer than ``concurrency`` are being made: for those who can wait."""
        while self._open and len(self._tasks) >= self._concurrency:
            self._room.clear()
            await self._room.wait()
        await self.put(reply_id)

    async def put(self, reply_id: ReplyId) -> None:
        self.begin(reply_id)

    def begin(self, reply_id: ReplyId) -> None:
        """As ``put``, which has nothing to wait for."""
        if not self._open or reply_id in self._known or len(self._waiting) >= self._backlog:
            return
        self._known.add(reply_id)
        if len(self._tasks) < self._concurrency:
            self._start(reply_id, self._make(reply_id))
        else:
            self._waiting.append(reply_id)

    @property
    def makes_here(self) -> bool:
        return self._open and len(self._tasks) < self._concurrency

    async def make(self, job: Job) -> None:
        if self._open:
            self._known.add(job.reply.id)
            self._start(job.reply.id, self._go_on(job))
            # Its request to the model goes out before the sender is told anything.
            await asyncio.sleep(0)

    @property
    def size(self) -> int:
        """How many replies wait or are being made here."""
        return len(self._known)

    def _start(self, reply_id: ReplyId, making: Awaitable[None]) -> None:
        task = asyncio.create_task(self._run(reply_id, making))
        self._tasks[task] = reply_id
        task.add_done_callback(self._done)

    async def _run(self, reply_id: ReplyId, making: Awaitable[None]) -> None:
        try:
            await making
        except Unavailable as error:
            log.warning("a reply waits for the storage: %s", error.detail, extra={"reply_id": str(reply_id)})
        except Exception:
            # A task's exception has nobody to go to; the reply itself is due again when its lease is over.
            log.exception("making a reply failed", extra={"reply_id": str(reply_id)})

    def _done(self, task: asyncio.Task[None]) -> None:
        self._known.discard(self._tasks.pop(task))
        self._room.set()
        if self._waiting and self._open:
            reply_id = self._waiting.popleft()
            self._start(reply_id, self._make(reply_id))

    async def close(self, seconds: float) -> None:
        """Take nothing more, let what runs go on for up to ``seconds``, then cancel the rest."""
        self._open = False
        self._known.difference_update(self._waiting)
        self._waiting.clear()
        self._room.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

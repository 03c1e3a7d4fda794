"""Replies made by workers: the side of those who ask for them. What it takes is a line to Redis, and no Dramatiq."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from chat_core.domain.ids import ReplyId
from chat_core.ports.delivery import Job, ReplyQueue

log = logging.getLogger(__name__)

#: A list of ids of replies, in Redis.
KEY = "chat:queue"
#: After a failure Redis is left alone for this long, in seconds.
BREAK = 1.0
#: A reply that still waits is put on the queue again after this long, in seconds: the queue may have been lost.
AGAIN = 5.0


class RemoteReplyQueue(ReplyQueue):
    """Puts a reply's id, and nothing else, on the workers' queue; on ``otherwise`` where that is no use.

    That is so while ``worked`` says that no worker is heard of, and for a second after Redis failed a call: then this
    process makes due replies itself. ``post`` sends a command to Redis, together with what else is sent there in the
    same moment, and gives its answers later; nobody waits for them. The same reply is put on the queue no more often
    than every ``again`` seconds.
    """

    def __init__(
        self,
        post: Callable[[tuple[str, ...]], "asyncio.Future[list[Any]]"],
        otherwise: ReplyQueue,
        worked: Callable[[], bool],
        *,
        again: float = AGAIN,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post = post
        self._again = again
        self._otherwise = otherwise
        self._worked = worked
        self._monotonic = monotonic
        self._closed_until = 0.0
        self._enqueued: OrderedDict[ReplyId, float] = OrderedDict()
        self._late: set[asyncio.Task[None]] = set()

    @property
    def makes_here(self) -> bool:
        return not self._useful and self._otherwise.makes_here

    async def make(self, job: Job) -> None:
        await self._otherwise.make(job)

    @property
    def _useful(self) -> bool:
        return self._worked() and self._monotonic() >= self._closed_until

    async def put(self, reply_id: ReplyId) -> None:
        if not self._useful:
            await self._otherwise.put(reply_id)
        elif not self._is_enqueued(reply_id):
            self._post(("RPUSH", KEY, str(reply_id))).add_done_callback(partial(self._answered, reply_id))

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

    def _answered(self, reply_id: ReplyId, answers: "asyncio.Future[list[Any]]") -> None:
        if answers.cancelled():
            return
        error = answers.exception() or answers.result()[0]
        if not isinstance(error, Exception):
            return
        # Whatever it is that Redis or its client has: the reply is in the storage, and can be made here.
        self._closed_until = self._monotonic() + BREAK
        self._enqueued.pop(reply_id, None)
        log.warning("the queue failed, replies are made in this process: %s", type(error).__name__)
        task = asyncio.get_running_loop().create_task(self._otherwise.put(reply_id))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

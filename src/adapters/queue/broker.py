"""A Dramatiq broker over one list in Redis, which holds the ids of replies and nothing else.

Dramatiq's own Redis broker keeps a message, a list, a set of what was taken and the heartbeats of who took it, each
change a script of Lua's, and polls. All of that is to bring back what a dead worker took. Here the row is what brings a
reply back, so that an id may be lost: what is left is RPUSH and BLPOP.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.queue.remote import KEY

log = logging.getLogger(__name__)

QUEUE = "replies"
ACTOR = "make_reply"
#: How long an idle consumer waits for an id, in seconds: also how soon it sees that it should end.
_WAIT = 1.0
#: What a call of a worker may take, in seconds: longer than it waits for an id.
WORKER_TIMEOUT = 3.0


def client(url: str, *, timeout: float) -> "redis.Redis":
    """A Redis client whose calls take at most ``timeout`` seconds, without retries of its own."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )


class ListBroker(Broker):
    """A worker's end of the list. ``timeout`` bounds each call, in seconds.

    ``begins`` is asked for each id, in the consumer's thread, and says whether it is begun: then it needs none of the
    worker's threads, and no message.
    """

    def __init__(self, url: str, *, timeout: float = WORKER_TIMEOUT) -> None:
        # The row owns the job: no retries, no ages, no results here.
        super().__init__(middleware=[])
        self.client = client(url, timeout=timeout)
        self.begins: Callable[[str], bool] = lambda _: False

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.queues[queue_name] = None
            # Not of a queue for what is to be done later, which would have a thread of its own: there is none.
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "dramatiq.Message[Any]", *, delay: int | None = None) -> "dramatiq.Message[Any]":
        self.client.rpush(KEY, message.args[0])
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        return _IdConsumer(self.client, prefetch, self.begins)

    def close(self) -> None:
        self.client.close()


def _id_of(entry: bytes) -> str | None:
    """The id as we write it, and nothing else: anybody who reaches Redis may have written there."""
    try:
        text = entry.decode("ascii")
        return text if str(UUID(text)) == text else None
    except ValueError:
        return None


class _IdConsumer(Consumer):
    """Takes ids as long as fewer than ``prefetch`` of them are with this worker's threads."""

    def __init__(self, client: "redis.Redis", prefetch: int, begins: Callable[[str], bool]) -> None:
        self._client = client
        self._begins = begins
        # Of its own: what the client does around each command takes longer than the command.
        self._connection: Any = client.connection_pool.make_connection()
        self._prefetch = prefetch
        self._taken: set[str] = set()

    def __next__(self) -> MessageProxy | None:
        if len(self._taken) >= self._prefetch:
            time.sleep(0.01)
            return None
        try:
            self._connection.send_command("BLPOP", KEY, _WAIT)
            found: Any = self._connection.read_response()
        except redis.RedisError as error:
            self._connection.disconnect()
            # The worker knows this error alone: it comes back to try again, and says so in one line.
            raise ConnectionClosed(error) from None
        if found is None:
            return None
        id_ = _id_of(found[1])
        if id_ is None:
            log.warning("the queue held something that is no reply's id, which is dropped")
            return None
        if self._begins(id_):
            return None
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=QUEUE, actor_name=ACTOR, args=(id_,), kwargs={}, options={}
        )
        self._taken.add(message.message_id)
        return MessageProxy(message)

    def ack(self, message: MessageProxy) -> None:
        self._taken.discard(message.message_id)

    def nack(self, message: MessageProxy) -> None:
        # One that could not be begun is still due in the storage.
        self._taken.discard(message.message_id)

    def close(self) -> None:
        self._connection.disconnect()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """What was taken and not begun goes back, to where it was."""
        ids = [message.args[0] for message in messages]
        if ids:
            try:
                self._client.lpush(KEY, *reversed(ids))
            except redis.RedisError as error:
                raise ConnectionClosed(error) from None

"""The Dramatiq broker on Redis, with a doorbell.

Dramatiq's Redis broker polls, with waits that grow to ``worker_timeout`` (a second by default): an idle worker finds a
message after some 50 to 500 ms. Here whoever enqueues also pushes a token to a list, and an idle consumer waits for one
with BLPOP: it wakes at once, and an idle worker asks Redis once a second instead of ten times.
"""

import logging
import time
from typing import Any
from uuid import UUID

import dramatiq
import redis
from dramatiq.broker import Consumer
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.middleware import CurrentMessage, ShutdownNotifications
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

QUEUE = "replies"
ACTOR = "make_reply"
_BELL = "chat:bell"
#: Tokens that nobody waited for are of no use beyond waking each consumer once.
_TOKENS_MAX = 64
#: How long an idle consumer waits for the bell, in seconds: also how soon it sees that it should end.
_WAIT = 1.0
#: What a call of a worker may take, in seconds: longer than it waits for the bell.
WORKER_TIMEOUT = 3.0


def client(url: str, *, timeout: float) -> "redis.Redis":
    """A Redis client whose calls take at most ``timeout`` seconds, without retries of its own."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )


class BellBroker(RedisBroker):
    """A Redis broker whose consumers wake when a message comes. ``timeout`` bounds each call, in seconds."""

    def __init__(self, url: str, *, timeout: float) -> None:
        # The row owns the job: no retries, no ages, no results here.
        super().__init__(
            client=client(url, timeout=timeout),
            middleware=[CurrentMessage(), ShutdownNotifications()],
            # Messages of a dead worker go back to the queue soon; at worst they are found to be made already.
            heartbeat_timeout=15_000,
            maintenance_chance=10_000,
        )

    def enqueue(self, message: "dramatiq.Message[Any]", *, delay: int | None = None) -> "dramatiq.Message[Any]":
        enqueued: dramatiq.Message[Any] = super().enqueue(message, delay=delay)
        ring = self.client.pipeline(transaction=False)
        ring.lpush(_BELL, 1)
        ring.ltrim(_BELL, 0, _TOKENS_MAX - 1)
        ring.execute()
        return enqueued

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        if queue_name != QUEUE:
            return super().consume(queue_name, prefetch, timeout)
        return _BellConsumer(self, queue_name, prefetch, 0)


def _is_job(message: Any) -> bool:
    """Whether this is a message as we write them, and no more: what else there is in one, from when it is due to what
    is called after it, is Dramatiq's to obey, and anybody who reaches Redis may have written it."""
    if (message.queue_name, message.actor_name, message.kwargs) != (QUEUE, ACTOR, {}):
        return False
    if type(message.message_id) is not str or type(message.options) is not dict or len(message.args) != 1:
        return False
    if message.options.keys() != {"redis_message_id"} or type(message.options["redis_message_id"]) is not str:
        return False
    try:
        return bool(str(UUID(message.args[0])) == message.args[0])
    except (ValueError, TypeError, AttributeError):
        return False


class _BellConsumer(_RedisConsumer):
    """Waits for the bell where the broker's own consumer sleeps, and takes nothing that is no job of ours."""

    def __next__(self) -> Any:
        try:
            try:
                message = super().__next__()
            except (DecodeError, TypeError):
                log.warning("the queue held something that is no job, which is dropped")
                return None
            if message is not None and _is_job(message):
                return message
            if message is not None:
                self._drop(message)
                return None
            if self.outstanding_message_count >= self.prefetch:
                # Full: nothing is to be fetched, and the tokens are for those who are not.
                time.sleep(0.01)
            else:
                self.broker.client.blpop([_BELL], timeout=_WAIT)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # The worker knows this error alone: it comes back to try again, and says so in one line.
            raise ConnectionClosed(error) from None
        return None

    def _drop(self, message: Any) -> None:
        log.warning("the queue held a job that is none of ours, which is dropped")
        self.queued_message_ids.discard(message.message_id)
        id_ = message.options.get("redis_message_id") if isinstance(message.options, dict) else None
        if isinstance(id_, str):
            self.broker.do_ack(self.queue_name, id_)

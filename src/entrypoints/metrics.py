"""What is counted and measured, for Prometheus, at the edges: no use case knows of it.

No label carries an id, a name, a text or a path: routes are those of the code, methods, statuses, providers and limits
are few. Loaded only where ``METRICS_PORT`` is set.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from chat_core.domain.ids import utc_now
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.ports.limits import Charge, RateLimits, Taken
from chat_core.ports.passing import PassingTransaction
from chat_core.ports.storage import Replies, Transaction, UnitOfWork

log = logging.getLogger("chat_api.metrics")

#: Of so many processes on one machine each finds a port of its own.
PORTS = 64
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "WEBSOCKET"})
#: How often the event loop is asked for its turn, in seconds.
BEAT = 0.25

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "chat_http_requests", "Requests that were answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "chat_http_request_seconds",
            "From a request to the head of its answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._replies = Counter(
            "chat_replies", "Replies that came to their end, by the provider asked last", ["status", "provider"],
            registry=registry,
        )  # fmt: skip
        self._refused = Counter("chat_refused", "What a limit to a rate refused", ["limit"], registry=registry)
        self._lags = Histogram(
            "chat_loop_delay_seconds", "How late the event loop gave a turn", buckets=_LAGS, registry=registry
        )
        self._queue_age = Gauge(
            "chat_reply_queue_age_seconds", "Age of the oldest reply that nobody is making", registry=registry
        )
        self._turn_is_due: float | None = None
        self.watch("chat_loop_lag_seconds", "How late the event loop is now", self._lag)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A figure that is read whenever it is asked for, in a thread of its own."""
        Gauge(name, what, registry=self.registry).set_function(read)

    def requested(self, method: str, route: str | None, status: int, seconds: float | None) -> None:
        """A request was answered; ``route`` is its template, ``None`` where there is none. A socket has no time."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route or "-", status).inc()
        if seconds is not None:
            self._seconds.labels(known, route or "-").observe(seconds)

    def refused(self, limit: str) -> None:
        self._refused.labels(limit).inc()

    def ended(self, reply: Reply) -> None:
        self._replies.labels(reply.status.value, reply.provider or "-").inc()

    def _lag(self) -> float:
        return max(0.0, time.monotonic() - self._turn_is_due) if self._turn_is_due is not None else 0.0

    async def beat(self) -> None:
        """Ask the event loop for its turn, once, and note how late it came."""
        self._turn_is_due = time.monotonic() + BEAT
        await asyncio.sleep(BEAT)
        self._lags.observe(self._lag())

    def look_at_queue(self, uow: UnitOfWork) -> Callable[[], Any]:
        """A round that looks how old the oldest reply is that waits to be made. Raises ``Unavailable``."""

        async def look() -> None:
            async with uow.read() as tx:
                due = await tx.replies.due(1)
                oldest = await tx.replies.get(due[0]) if due else None
            age = (utc_now() - oldest.created_at).total_seconds() if oldest is not None else 0.0
            self._queue_age.set(max(0.0, age))

        return look

    @contextmanager
    def served(self, host: str, port: int, *, but: int) -> Iterator[int | None]:
        """While this lasts, serve them in a thread on the first port from ``port`` on that is free and not ``but``:
        that port. ``None``, and a line in the log, where there is none: the service goes on without."""
        for found in range(port, min(port + PORTS, 65_536)):
            if found == but:
                continue
            try:
                server, thread = start_http_server(found, host, self.registry)
            except OSError:
                continue
            log.info("metrics on port %d", found)
            try:
                yield found
            finally:
                server.shutdown()
                server.server_close()
                thread.join()
            return
        log.error("METRICS_PORT: no port from %d on is free on METRICS_HOST, so that there are no metrics", port)
        yield None


@dataclass(frozen=True, slots=True)
class CountedLimits(RateLimits):
    """Buckets that note what they refuse."""

    inner: RateLimits
    metrics: Metrics

    async def take(self, charges: Sequence[Charge], /) -> Taken:
        taken = await self.inner.take(charges)
        if not taken.allowed:
            waits = [standing.met for standing in taken.standings]
            self.metrics.refused(charges[waits.index(max(waits))].limit.name)
        return taken


class _CountedReplies:
    """Passes everything on, and notes which replies came to their end."""

    def __init__(self, inner: Replies, ended: list[Reply]) -> None:
        self._inner, self._ended = inner, ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def finish(self, reply: Reply) -> bool:
        stored = await self._inner.finish(reply)
        if stored:
            self._ended.append(reply)
        return stored


class _CountedTransaction(PassingTransaction):
    def __init__(self, inner: Transaction, metrics: Metrics) -> None:
        super().__init__(inner)
        self._metrics = metrics
        self._ended: list[Reply] = []
        self._replies = cast("Replies", _CountedReplies(inner.replies, self._ended))

    @property
    def replies(self) -> Replies:
        return self._replies

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        seq = await self.inner.answer(message, fingerprint, reply, attempt, alone=alone)
        if seq is not None:
            self._ended.append(reply)
        return seq

    async def commit(self) -> None:
        await self.inner.commit()
        for reply in self._ended:
            self._metrics.ended(reply)
        self._ended.clear()


@dataclass(frozen=True, slots=True)
class CountedStorage(UnitOfWork):
    """A storage whose commits are looked at for replies that came to their end."""

    inner: UnitOfWork
    metrics: Metrics

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Transaction]:
        async with self.inner() as tx:
            yield _CountedTransaction(tx, self.metrics)

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self.inner.read()

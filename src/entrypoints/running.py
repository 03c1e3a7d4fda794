"""What runs beside the requests, from a process's start to its end."""

import asyncio
import logging
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from types import FrameType
from typing import Any

from chat_core.errors import Unavailable
from chat_core.ports.language_model import ClosableModel, LanguageModel, NotableModel
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.live.replies import LiveReplies
from entrypoints.container import Container
from entrypoints.health import Draining

log = logging.getLogger("chat_api.start")

#: How long replies that are being made may go on when the process ends, in seconds; then they are handed over.
FINISH_SECONDS = 8.0
#: How long a round of what runs beside the requests may go on then, in seconds.
ROUND_SECONDS = 2.0


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[None]:
    """Open the storage and the line to Redis, look after what others left behind, and put all away at the end."""
    await container.open_storage()
    line = container.line()
    if line is not None:
        await line.open(works=container.is_worker())
    reader = container.reader()
    if reader is not None:
        reader.open()
    model: LanguageModel = container.model()
    if isinstance(model, NotableModel) and model.notice:
        log.warning("%s", model.notice)
    ending = asyncio.Event()
    # The jitter keeps processes that were started together from looking in step.
    sweep = _until(ending, container.sweep_replies(), lambda: random.uniform(1.0, 2.0))  # noqa: S311 - no secret
    hub: Hub = container.hub()
    live_replies: LiveReplies = container.live_replies()
    rounds = [
        sweep,
        _until(ending, container.spread_stops(), lambda: 0.5),
        _until(ending, container.finish_departures(), lambda: random.uniform(5.0, 10.0)),  # noqa: S311
        _until(ending, hub.keep, lambda: 0.5),
        _until(ending, live_replies.keep, lambda: 0.5),
        _until(ending, container.keep_parts(), lambda: 0.25),
        _until(ending, container.drop_parts(), lambda: random.uniform(2.0, 4.0)),  # noqa: S311
    ]
    if container.budget().summaries:
        rounds.append(_until(ending, _summaries(container), lambda: random.uniform(1.0, 2.0)))  # noqa: S311
    rounds += _measuring(container, ending)
    tasks = [asyncio.create_task(round_) for round_ in rounds]
    if container.settings().rate_limits == "off":
        log.warning("RATE_LIMITS is off: anybody may log in, ask, open streams and use tokens without a bound")
    try:
        with _metrics_served(container), hub.opened():
            yield
    finally:
        ending.set()
        # What is under way in the storage is let finish: a statement that is cut off costs its connection.
        _, late = await asyncio.wait(tasks, timeout=ROUND_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        live_replies.close()
        await container.local_queue().close(FINISH_SECONDS)
        if reader is not None:
            await reader.close()
        if line is not None:
            await line.close()
        if isinstance(model, ClosableModel):
            await model.aclose()
        await container.close_storage()


def _summaries(container: Container) -> Callable[[], Awaitable[object]]:
    """Makes summaries where this process makes replies: where others do, they ask the model, and this one need not."""
    queue, make = container.queue(), container.make_summaries()

    async def summarise() -> None:
        if container.is_worker() or queue.makes_here:
            await make()

    return summarise


def _measuring(container: Container, ending: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
    metrics = container.metrics()
    if metrics is None:
        return []
    streams, sockets, queue = container.open_streams(), container.open_sockets(), container.local_queue()
    metrics.watch("chat_open_streams", "Streams and sockets that people have open", lambda: streams.total)
    metrics.watch("chat_open_sockets", "Sockets among them", lambda: sockets.total)
    metrics.watch("chat_replies_in_hand", "Replies that are made here, or wait here for that", lambda: queue.size)
    look = metrics.look_at_queue(container.uow())
    return [_until(ending, look, lambda: random.uniform(4.0, 6.0)), _until(ending, metrics.beat, lambda: 0.0)]  # noqa: S311


def _metrics_served(container: Container) -> AbstractContextManager[object]:
    metrics, settings = container.metrics(), container.settings()
    if metrics is None or settings.metrics_port is None:
        return nullcontext()
    return metrics.served(settings.metrics_host, settings.metrics_port, but=settings.port)


async def _until(ending: asyncio.Event, work: Callable[[], Awaitable[object]], pause: Callable[[], float]) -> None:
    """Do ``work`` for as long as the process runs: what it looks after depends on it, so it outlives its own faults."""
    away = False
    while True:
        try:
            async with asyncio.timeout(pause()):
                await ending.wait()
            return
        except TimeoutError:
            pass
        try:
            await work()
            away = False
        except Unavailable as error:
            if not away:
                log.warning("%s waits for the storage: %s", _name(work), error.detail)
            away = True
        except Exception:
            # The next round may go better; without one, replies that nobody makes would stay so for ever.
            log.exception("%s failed", _name(work))


def _name(work: object) -> str:
    return type(getattr(work, "__self__", work)).__name__


@contextmanager
def drains_first(draining: Draining, delay: float) -> Iterator[None]:
    """While this lasts, SIGTERM first makes the process say that it is not ready, and ends it ``delay`` seconds later.

    A balancer that follows ``/health/ready`` has sent its requests elsewhere by then; the server's own handler closes
    its port at once. SIGINT, from somebody at a terminal, does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    def drain(number: int, frame: FrameType | None) -> None:
        first = not draining.begun
        draining.begin()
        if number == signal.SIGTERM and first and delay > 0:
            log.info("draining")
            loop.call_soon_threadsafe(loop.call_later, delay, end, number, frame)
        else:
            end(number, frame)

    for number in before:
        signal.signal(number, drain)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

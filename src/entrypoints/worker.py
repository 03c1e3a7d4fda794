"""A process that makes replies from the queue on Redis, and nothing else."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from entrypoints.container import build_container
from entrypoints.garbage import settle
from entrypoints.logs import configure_logs
from entrypoints.running import running
from entrypoints.settings import Settings

log = logging.getLogger("chat_api.worker")

#: How long taken messages that are not begun may take to go back to the queue, in seconds.
_STOP_SECONDS = 2.0
#: A process that ended by itself is started again after this long, in seconds.
_RESTART_SECONDS = 1.0


def run(settings: Settings, *, processes: int, threads: int, concurrency: int) -> int:
    """Work until told to end; returns the exit code."""
    configure_logs(settings.log_level)
    if processes > 1:
        return _supervise([sys.executable, "-m", "entrypoints.cli", "worker", "--processes", "1",
                           "--threads", str(threads), "--concurrency", str(concurrency)], processes)  # fmt: skip
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_work(settings, threads, concurrency))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, as the API's processes have it, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _work(settings: Settings, threads: int, concurrency: int) -> None:
    container = build_container(settings)
    container.is_worker.override(True)
    container.threads.override(threads)
    container.concurrency.override(concurrency)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with running(container):
        worker = container.queue_worker()
        await worker.open()
        settle()
        log.info("the worker is ready for %s replies at once", concurrency)
        await told.wait()
        log.info("draining")
        await worker.close(_STOP_SECONDS)


def _supervise(command: list[str], count: int) -> int:
    """Keep ``count`` such processes running until told to end, and see them out."""
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    children = [subprocess.Popen(command) for _ in range(count)]  # noqa: S603 - our own command
    while not ending:
        time.sleep(0.2)
        for index, child in enumerate(children):
            if child.poll() is not None and not ending:
                log.error("a worker process ended with %s and is started again", child.returncode)
                time.sleep(_RESTART_SECONDS)
                children[index] = subprocess.Popen(command)  # noqa: S603
    for child in children:
        child.send_signal(signal.SIGTERM)
    return max(abs(child.wait()) for child in children)

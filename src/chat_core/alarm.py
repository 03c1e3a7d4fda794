"""Limits to many waits in a row."""

import asyncio
from types import TracebackType
from typing import Self


class Alarm:
    """What ``asyncio.timeout`` is, for one wait after another of one task: ``async with alarm(seconds): ...``.

    A timer that is made and dropped for each part of a stream costs more than the part. This one is set once and left
    alone; where it goes off too early, for a wait that has begun since, it is set again. ``close`` it at the end.
    """

    __slots__ = ("_cancelling", "_due", "_loop", "_rang", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due = 0.0
        self._cancelling = 0
        self._rang = False

    def __call__(self, seconds: float) -> Self:
        """The next wait may take so long; then it is cancelled, and ``TimeoutError`` raised for it."""
        self._due = self._loop.time() + seconds
        return self

    async def __aenter__(self) -> Self:
        task = self._task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine is run by one
        self._cancelling, self._rang = task.cancelling(), False
        if self._timer is None or self._timer.when() > self._due:
            self.close()
            self._timer = self._loop.call_at(self._due, self._ring)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        # As asyncio's own does: somebody else's wish to cancel the task stays one.
        if self._rang and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return  # between two waits: the next one sets it
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self._rang = True
            self._task.cancel()

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

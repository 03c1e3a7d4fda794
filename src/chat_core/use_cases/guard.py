"""Keeping the lease of a reply while it is made."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from chat_core.ports.delivery import Watch

Why = TypeVar("Why")


class Guard(Generic[Why]):
    """Has a lease renewed every ``every`` seconds, and whenever there is news of the reply, until ``end``.

    ``renew`` says why the making is to end, or nothing; then it is ``cut`` short, and ``why`` is there. Most replies
    are made before there is anything to do for it, so that a timer is all that is begun.
    """

    def __init__(
        self, renew: Callable[[], Awaitable[Why | None]], watch: Watch, cut: asyncio.Timeout, *, every: float
    ) -> None:
        self._renew, self._watch, self._cut, self._every = renew, watch, cut, every
        self._task: asyncio.Task[Why] | None = None
        self._timer = asyncio.get_running_loop().call_later(every, self._begin)
        watch.call(self._begin)

    def _begin(self) -> None:
        if not self._timer.cancelled():
            self._timer.cancel()
            self._task = asyncio.create_task(self._guard())

    @property
    def why(self) -> Why | None:
        """Why the making was cut short; ``None`` where it was not. Raises what kept the lease from being renewed."""
        return self._task.result() if self._task is not None and self._task.done() else None

    async def _guard(self) -> Why:
        try:
            while True:
                # To its end, also when the answer is there meanwhile: a statement that is cut off costs its connection.
                why = await asyncio.shield(self._renew())
                if why is not None:
                    return why
                await self._watch.wait(self._every)
        finally:
            # Whatever ends this: nobody makes what nobody guards.
            with suppress(RuntimeError):  # the making has ended by itself
                self._cut.reschedule(0)

    def end(self) -> None:
        """Leave the lease as it is."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

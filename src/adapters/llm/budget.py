"""Retries help against a failure here and there. In an outage they are a load of their own, and are given up."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60
SHARE = 0.2
#: So that retries work where little is asked.
ALWAYS = 10


@dataclass(slots=True)
class _Second:
    at: int
    requests: int = 0
    retries: int = 0


class RetryBudget:
    """Of the last minute, retries may be a fifth of the first requests, and ten more.

    However many fail, a model then gets little more than what it was asked for. ``clock`` gives seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Counted by the second: as many entries at a thousand requests a second as at one.
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_SECONDS)

    def count_request(self) -> None:
        """A first request is made."""
        self._now().requests += 1

    def take_retry(self) -> bool:
        """Whether a retry may be made; if so, it is counted."""
        now = self._now()
        requests = sum(second.requests for second in self._seconds)
        retries = sum(second.retries for second in self._seconds)
        if retries + 1 > ALWAYS + SHARE * requests:
            return False
        now.retries += 1
        return True

    def _now(self) -> _Second:
        at = int(self._clock())
        while self._seconds and self._seconds[0].at <= at - WINDOW_SECONDS:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]

"""Clocks that move when a test says so."""

from datetime import datetime, timedelta

from chat_core.domain.ids import utc_now


class Seconds:
    """Stands in for ``time.monotonic``."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def let_pass(self, seconds: float) -> None:
        self._now += seconds


class TimeOfDay:
    """Stands in for ``utc_now``: it begins now, and then stands still."""

    def __init__(self) -> None:
        self._now = utc_now()

    def __call__(self) -> datetime:
        return self._now

    def let_pass(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

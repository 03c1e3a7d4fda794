"""The history of a run: every call is written down before it is made and again when it has ended."""

import time
from collections.abc import Callable
from typing import Any

from tests.faults.history import Call, Kind, Outcome


class Recorder:
    """Numbers and times the calls of any number of clients of this process, by one monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.calls: list[Call] = []

    def begin(self, kind: Kind, process: str, **known: Any) -> Call:
        """Before the first byte leaves: what is not yet written down cannot have been done."""
        call = Call(number=len(self.calls) + 1, kind=kind, process=process, begun=self._clock(), **known)
        self.calls.append(call)
        return call

    def end(self, call: Call, outcome: Outcome, **learned: Any) -> Call:
        """After the last byte came."""
        call.ended, call.outcome = self._clock(), outcome
        for name, value in learned.items():
            setattr(call, name, value)
        return call

    @property
    def sends(self) -> list[Call]:
        return [call for call in self.calls if call.kind == "send"]

    @property
    def keys(self) -> int:
        """How many different messages were sent, whatever became of them."""
        return len({call.key for call in self.sends})

    def latest(self, count: int = 20) -> list[str]:
        """The last calls, for a failure's message."""
        return [str(call) for call in self.calls[-count:]]

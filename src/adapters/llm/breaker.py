"""A model that keeps failing is left alone for a while: its requests would cost time, and keep it down."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from chat_core.errors import ModelUnavailable

FAILURES_IN_A_ROW = 5
WINDOW = 20
FAILURES_IN_WINDOW = WINDOW // 2
COOL_DOWN_SECONDS = 10.0
COOL_DOWN_MAX_SECONDS = 60.0
#: What a request is told that comes while the probe is under way: its outcome is not far.
PROBE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class _State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit:
    """Whether a model may be asked, by how its last requests went.

    Closed, every request may be made. It opens after 5 failures in a row, or when half of the last 20 requests failed;
    then none may be made for 10 seconds. After that one may, the probe: if it is answered the circuit closes, if it
    fails the circuit is open for twice as long as before, up to 60 seconds. Each time is shortened at random by up to
    a fifth, so that many processes do not probe together.

    ``clock`` gives seconds, ``uniform`` a random number between two.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self._clock, self._uniform = clock, uniform
        self._state = _State.CLOSED
        self._era = 0
        self._in_a_row = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self._cool_down = COOL_DOWN_SECONDS
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are held back; also while a probe is due or under way."""
        return self._state is not _State.CLOSED

    def refuse_if_open(self) -> None:
        """Raise ``ModelUnavailable`` where no request may be made now."""
        if self._state is _State.OPEN:
            left = self._until - self._clock()
            if left > 0:
                raise ModelUnavailable(f"{self.name}: its circuit is open for {left:.1f} s", retry_after=left)
        elif self._state is _State.HALF_OPEN:
            raise ModelUnavailable(f"{self.name}: its circuit is open, a probe is under way", retry_after=PROBE_SECONDS)

    def begin(self) -> int:
        """A request is about to be made. Returns what its outcome is told with. Raises as ``refuse_if_open``."""
        self.refuse_if_open()
        if self._state is _State.OPEN:
            self._turn(_State.HALF_OPEN)
        return self._era

    # An outcome from before the circuit last turned says nothing of how the model is now: a hundred streams that were
    # under way when it opened must neither close it nor lengthen its cool-down.

    def answered(self, era: int) -> None:
        """The request was answered, if only by a refusal."""
        if era != self._era:
            return
        self._in_a_row = 0
        self._window.append(False)
        if self._state is _State.HALF_OPEN:
            self._cool_down = COOL_DOWN_SECONDS
            self._window.clear()
            self._turn(_State.CLOSED)
            _log.warning("%s answers again: its circuit is closed, and it is asked as LLM says", self.name)

    def failed(self, era: int) -> None:
        """The request failed in a way that speaks against the model."""
        if era != self._era:
            return
        if self._state is _State.HALF_OPEN:
            self._cool_down = min(COOL_DOWN_MAX_SECONDS, self._cool_down * 2)
            self._open()
            return
        self._in_a_row += 1
        self._window.append(True)
        if self._in_a_row >= FAILURES_IN_A_ROW or (
            len(self._window) == WINDOW and sum(self._window) >= FAILURES_IN_WINDOW
        ):
            _log.warning(
                "%s keeps failing (%d in a row, %d of the last %d): its circuit is open, it is not asked for a while; "
                "another model can be set with LLM",
                self.name,
                self._in_a_row,
                sum(self._window),
                len(self._window),
            )
            self._open()

    def left(self, era: int) -> None:
        """The request ended without a word on the model: the reader left. The next one may probe in its place."""
        if era == self._era and self._state is _State.HALF_OPEN:
            self._turn(_State.OPEN)

    def _open(self) -> None:
        self._until = self._clock() + self._uniform(0.8, 1.0) * self._cool_down
        self._in_a_row = 0
        self._turn(_State.OPEN)

    def _turn(self, state: _State) -> None:
        self._state = state
        self._era += 1

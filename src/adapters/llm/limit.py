"""No more streams of one model at once than are good for it and for us."""

import asyncio
from collections import deque

CONCURRENCY = 256
#: How many may wait for each one that streams: about as many as get their turn within the time of a few answers.
WAITING_PER_STREAM = 4


class Slots:
    """At most ``most`` are taken at once; at most ``waiting_most`` wait for one, first come, first served."""

    def __init__(self, most: int = CONCURRENCY, waiting_most: int | None = None) -> None:
        self._free = most
        self._waiting_most = WAITING_PER_STREAM * most if waiting_most is None else waiting_most
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        return self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take_at_once(self) -> bool:
        """Take one where one is free."""
        if not self._free:
            return False
        # Then nobody waits: what is given back goes to the first in line and is free only without one.
        self._free -= 1
        return True

    async def take(self) -> bool:
        """Take one, as soon as it is one's turn; ``False``, at once, where too many wait already.

        Cancelled, it has left the line and taken nothing.
        """
        if self.take_at_once():
            return True
        if len(self._waiting) >= self._waiting_most:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                # Its turn came in the same moment: the next one gets it.
                self.give_back()
            raise
        return True

    def give_back(self) -> None:
        """Give one back: to the first in line, if there is anybody."""
        while self._waiting:
            turn = self._waiting.popleft()
            # One that was cancelled may not have had the time to leave.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

"""How many streams and sockets a person may have open."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from chat_core.domain.ids import UserId
from chat_core.errors import TooMany


class OpenStreams:
    """How many streams and sockets each person has open on this process.

    ``most`` bounds them for a person; ``None``: nothing does.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._open: Counter[UserId] = Counter()

    @contextmanager
    def __call__(self, user_id: UserId) -> Iterator[None]:
        """While this is entered it counts as one of theirs. Raises ``TooMany``."""
        if self._most is not None and self._open[user_id] >= self._most:
            raise TooMany(f"At most {self._most} streams may be open at once.", retry_after=5)
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]

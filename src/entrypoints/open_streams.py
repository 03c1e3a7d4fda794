"""How many streams and sockets a person, or an address, may have open."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from chat_core.errors import TooMany

Whose = TypeVar("Whose")


class OpenStreams(Generic[Whose]):
    """How many streams and sockets each person, or each address, has open on this process.

    ``most`` bounds them for each; ``None``: nothing does.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._open: Counter[Whose] = Counter()
        #: How many are open in all.
        self.total = 0

    @contextmanager
    def __call__(self, whose: Whose) -> Iterator[None]:
        """While this is entered it counts as one of theirs. Raises ``TooMany``."""
        if self._most is not None and self._open[whose] >= self._most:
            raise TooMany(f"At most {self._most} streams may be open at once.", retry_after=5)
        self._open[whose] += 1
        self.total += 1
        try:
            yield
        finally:
            self.total -= 1
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]

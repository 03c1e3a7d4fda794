"""How often somebody may do something: token buckets."""

from collections.abc import Sequence
from typing import Protocol

from chat_core.values import value


@value()
class Limit:
    """A bucket that holds ``count`` tokens, and fills in ``seconds`` from empty to full, steadily."""

    name: str
    count: int
    seconds: float


@value()
class Charge:
    """``cost`` tokens out of the bucket that ``whom`` has at ``limit``. 0 only looks; less puts back, at most to the
    brim."""

    limit: Limit
    whom: str
    cost: int = 1


@value()
class Standing:
    """How a bucket stands after a charge: whole tokens ``left``; seconds until the charge could be ``met`` (0 where it
    was, or could be now), and until the bucket is ``full``."""

    left: int
    met: float
    full: float


@value()
class Taken:
    """What came of charges, with how each bucket stands, in their order. Where not ``allowed``, nothing was taken."""

    allowed: bool
    standings: tuple[Standing, ...]


class RateLimits(Protocol):
    """Buckets. One that nobody has touched is full; one that is full again may be forgotten."""

    async def take(self, charges: Sequence[Charge], /) -> Taken:
        """Take them all, or none where one of the buckets holds too little: one step, whoever else does the same.

        Never raises for want of a server: an adapter goes on with buckets of its own.
        """
        ...

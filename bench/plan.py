"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Seconds are of one measurement; each is made ``rounds`` times, in turn with what it is held against."""

    quick: bool
    seconds: float
    warm_up: float
    rounds: int


FULL = Size(quick=False, seconds=4.0, warm_up=3.0, rounds=5)
QUICK = Size(quick=True, seconds=1.0, warm_up=1.0, rounds=2)

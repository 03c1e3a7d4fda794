"""How much is measured, and what the stub of a provider is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Seconds are of one measurement; each is made ``rounds`` times, in turn with what it is held against.

    Many short ones tell more than few long ones in the same time: how fast a machine that others use is changes within
    a second, so that the rounds' ratios scatter as much with three seconds as with half a one.
    """

    quick: bool
    seconds: float
    warm_up: float
    rounds: int
    #: Seconds that a paced stream goes on.
    paced: int
    #: Messages in the large room of the pages of history, and of the prompts.
    large: int
    large_prompts: int
    #: Idle streams.
    idle: int

    @property
    def few(self) -> int:
        """How often what takes longer than ``seconds``, or has no target, is measured."""
        return max(2, self.rounds // 3)


FULL = Size(
    quick=False, seconds=0.5, warm_up=3.0, rounds=42, paced=10, large=1_000_000, large_prompts=100_000, idle=2_000
)
QUICK = Size(quick=True, seconds=0.3, warm_up=0.3, rounds=4, paced=2, large=100_000, large_prompts=2_000, idle=300)

#: Paced streams, and the tokens a second of each.
STREAMS, RATE = 100, 100
#: Streams in a burst, and the tokens of each.
BURSTS, BURST = 20, 1000
#: The model whose first token is waited for.
FIRST = "burst-2"
#: What a room may have as its AI, besides the service's own: all of them models of the stub.
MODELS = (FIRST, f"burst-{BURST}", *(f"paced-{size.paced * RATE}-{RATE}" for size in (FULL, QUICK)))

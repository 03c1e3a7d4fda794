"""Token buckets in this process."""

import time
from collections.abc import Callable, Sequence

from chat_core.ports.limits import Charge, RateLimits, Standing, Taken


class MemoryRateLimits(RateLimits):
    """Keeps at most ``most`` buckets: past that the full ones are forgotten, and then those touched longest ago."""

    def __init__(self, *, most: int = 100_000, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most, self._monotonic = most, monotonic
        #: By limit and person: how many tokens there were at what time, and when it is full.
        self._buckets: dict[tuple[str, str], tuple[float, float, float]] = {}

    async def take(self, charges: Sequence[Charge], /) -> Taken:
        now = self._monotonic()
        found = [self._tokens(charge, now) for charge in charges]
        allowed = all(tokens >= charge.cost for tokens, charge in zip(found, charges, strict=True))
        standings: list[Standing] = []
        for tokens, charge in zip(found, charges, strict=True):
            limit, pace = charge.limit, charge.limit.seconds / charge.limit.count
            lacks = max(0.0, charge.cost - tokens)
            if allowed and charge.cost:
                tokens = min(float(limit.count), tokens - charge.cost)
                self._keep((limit.name, charge.whom), (tokens, now, now + (limit.count - tokens) * pace))
            standings.append(Standing(left=int(tokens), met=lacks * pace, full=(limit.count - tokens) * pace))
        return Taken(allowed, tuple(standings))

    def __len__(self) -> int:
        return len(self._buckets)

    def _tokens(self, charge: Charge, now: float) -> float:
        limit = charge.limit
        kept = self._buckets.get((limit.name, charge.whom))
        if kept is None:
            return float(limit.count)
        tokens, at, _ = kept
        return min(float(limit.count), tokens + (now - at) * limit.count / limit.seconds)

    def _keep(self, key: tuple[str, str], bucket: tuple[float, float, float]) -> None:
        # Anew at the end: the first is the one that was touched longest ago.
        self._buckets.pop(key, None)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            now = bucket[1]
            kept = {key: bucket for key, bucket in self._buckets.items() if bucket[2] > now}
            # Not one at a time: the next look at all of them is to be a while away.
            for oldest in list(kept)[: max(0, len(kept) - self._most * 9 // 10)]:
                del kept[oldest]
            self._buckets = kept

"""Token buckets in Redis, which all processes share: one script, so one step and one round trip."""

import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from chat_core.ports.limits import Charge, RateLimits, Standing, Taken

#: Redis's own clock is the only one. A bucket is ``tokens at-what-time``, and gone once it would be full. What cannot
#: be one of ours, as anybody who reaches Redis may have written, is none: it would refuse for ever, or never.
_SCRIPT = b"""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local allowed, found, out = 1, {}, {}
for i, key in ipairs(KEYS) do
  local count, seconds, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local tokens = count
  local kept = redis.call('GET', key)
  if kept then
    local had, at = string.match(kept, '^(%d+%.?%d*) (%d+%.?%d*)$')
    had, at = tonumber(had or ''), tonumber(at or '')
    if had and at and at - now <= seconds then
      tokens = math.min(count, had + math.max(0, now - at) * count / seconds)
    end
  end
  found[i] = tokens
  if tokens < cost then allowed = 0 end
end
for i, key in ipairs(KEYS) do
  local count, seconds, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local tokens = found[i]
  if allowed == 1 and cost ~= 0 then
    tokens = math.min(count, tokens - cost)
    local full = math.ceil((count - tokens) * seconds / count * 1000)
    if full > 0 then
      redis.call('SET', key, string.format('%.6f %.6f', tokens, now), 'PX', full)
    else
      redis.call('DEL', key)
    end
  end
  out[i] = string.format('%.6f', tokens)
end
return {allowed, out}
"""
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()

Command = tuple[str | bytes | int, ...]
#: Has commands carried out; a refused one's error stands in the place of its answer. Raises where Redis is away.
Ask = Callable[[Command], Awaitable[Sequence[Any]]]


class RedisRateLimits(RateLimits):
    """While Redis is away, or too slow, ``local`` counts in its place: each process for itself."""

    def __init__(self, ask: Ask, local: RateLimits) -> None:
        self._ask, self._local = ask, local

    async def take(self, charges: Sequence[Charge], /) -> Taken:
        if not charges:
            return Taken(True, ())
        try:
            allowed, found = await self._run(charges)
        except (RedisError, OSError):
            return await self._local.take(charges)
        standings = [_standing(charge, float(tokens)) for charge, tokens in zip(charges, found, strict=True)]
        return Taken(allowed == 1, tuple(standings))

    async def _run(self, charges: Sequence[Charge]) -> tuple[int, list[bytes]]:
        keys = [f"chat:limit:{charge.limit.name}:{charge.whom}" for charge in charges]
        values: list[str] = []
        for charge in charges:
            values += [str(charge.limit.count), repr(charge.limit.seconds), str(charge.cost)]
        (answer,) = await self._ask(("EVALSHA", _SHA, len(keys), *keys, *values))
        if isinstance(answer, NoScriptError):
            (answer,) = await self._ask(("EVAL", _SCRIPT, len(keys), *keys, *values))
        if isinstance(answer, Exception):
            raise answer
        allowed: int = answer[0]
        found: list[bytes] = answer[1]
        return allowed, found


def _standing(charge: Charge, tokens: float) -> Standing:
    # What is left over after six digits is no whole token that lacks.
    pace = charge.limit.seconds / charge.limit.count
    lacks = max(0.0, charge.cost - tokens)
    return Standing(left=math.floor(tokens + 1e-6), met=lacks * pace, full=max(0.0, charge.limit.count - tokens) * pace)

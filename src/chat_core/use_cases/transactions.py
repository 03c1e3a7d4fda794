"""Trying a whole transaction again when two of them collided."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from chat_core.errors import Contention

P = ParamSpec("P")
T = TypeVar("T")

_TRIES = 4
_FIRST_WAIT = 0.02


def again_on_contention(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Repeat ``work``, which opens and commits its own transaction, up to three times after ``Contention``.

    The waits are random, so that two that collided once do not collide in step.
    """

    @wraps(work)
    async def tried(*args: P.args, **kwargs: P.kwargs) -> T:
        for number in range(1, _TRIES):
            try:
                return await work(*args, **kwargs)
            except Contention:
                await asyncio.sleep(random.uniform(0, _FIRST_WAIT * 2**number))  # noqa: S311 - no secret
        return await work(*args, **kwargs)

    return tried

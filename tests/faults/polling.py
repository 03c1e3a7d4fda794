"""Waiting for something to be so, against a deadline: never for a time and then hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

_FIRST_WAIT, _LONGEST_WAIT = 0.005, 0.1


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float, what: str) -> float:
    """Ask again and again, at growing distances; says how many seconds it took.

    Raises ``TimeoutError`` that names ``what``, and the last failure of asking, where it did not come true in time.
    """
    began, wait = time.monotonic(), _FIRST_WAIT
    failure: Exception | None = None
    while True:
        try:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return time.monotonic() - began
            failure = None
        except (OSError, EOFError, AssertionError) as error:
            failure = error
        if time.monotonic() - began >= seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}") from failure
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)

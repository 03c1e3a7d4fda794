"""An alarm limits one wait after another as ``asyncio.timeout`` would, and sets few timers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from chat_core.alarm import Alarm

LONG = 60.0


def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When those are due that the loop is given from now on."""
    loop, due = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def noted(when: float, callback: Callable[..., Any], *args: Any, **more: Any) -> asyncio.TimerHandle:
        due.append(when)
        return call_at(when, callback, *args, **more)

    monkeypatch.setattr(loop, "call_at", noted)
    return due


async def test_a_wait_that_takes_too_long_is_cancelled_and_said_to_be(monkeypatch):
    cancelled = False
    alarm = Alarm()
    with pytest.raises(TimeoutError):
        async with alarm(0.01):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise
    task = asyncio.current_task()
    assert task is not None
    assert (cancelled, task.cancelling()) == (True, 0)


async def test_many_waits_that_end_in_time_take_one_timer(monkeypatch):
    due, alarm = timers(monkeypatch), Alarm()
    for _ in range(100):
        async with alarm(LONG):
            await asyncio.sleep(0)
    assert len(due) == 1
    alarm.close()


async def test_a_timer_that_was_put_off_still_goes_off():
    alarm = Alarm()
    async with alarm(0.01):
        pass
    with pytest.raises(TimeoutError):
        async with alarm(0.03):
            await asyncio.Event().wait()


async def test_a_shorter_wait_does_not_wait_for_the_timer_of_a_longer_one():
    alarm = Alarm()
    async with alarm(LONG):
        await asyncio.sleep(0)
    async with asyncio.timeout(LONG / 2):
        with pytest.raises(TimeoutError):
            async with alarm(0.01):
                await asyncio.Event().wait()


async def test_between_two_waits_it_does_not_go_off():
    alarm = Alarm()
    async with alarm(0.01):
        pass
    await asyncio.sleep(0.05)
    async with alarm(LONG):
        await asyncio.sleep(0)
    alarm.close()


async def test_it_can_be_used_again_after_it_went_off():
    alarm = Alarm()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with alarm(0.01):
                await asyncio.Event().wait()
    async with alarm(LONG):
        await asyncio.sleep(0)
    alarm.close()


async def test_whoever_is_cancelled_by_others_is_not_said_to_have_taken_too_long():
    begun = asyncio.Event()

    async def waits() -> None:
        async with Alarm()(LONG):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_wait_is_raised_as_it_is():
    alarm = Alarm()
    with pytest.raises(ValueError, match="mine"):
        async with alarm(LONG):
            raise ValueError("mine")
    alarm.close()

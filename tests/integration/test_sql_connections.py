"""Connections that are handed on, and what SQLite's writer commits together."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql import group
from adapters.sql.engine import DEFAULT_LIMITS, Database
from adapters.sql.links import SqliteLink

Work = Callable[[Any], Any]


def _each(raw: Any, works: Sequence[Work]) -> list[Any]:
    """A kind of what can be done: whatever it is, one after the other."""
    return [work(raw) for work in works]


@pytest.fixture
async def database(tmp_path: object) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/numbers.db", replace(DEFAULT_LIMITS, busy=0.3))
    await _does(database, _says("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))
    yield database
    await database.close()


def _says(*statements: str) -> Work:
    def work(raw: Any) -> list[int]:
        return [raw.execute(statement).rowcount for statement in statements]

    return work


def _adds(number: int) -> Work:
    return _says(f"INSERT INTO numbers VALUES ({number:d})")  # noqa: S608 - a number


async def _does(database: Database, work: Work) -> Any:
    """As a transaction of its own."""
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    try:
        found = await link.together(_each, work, commits=True)
        await link.commit()
    finally:
        link.give_back()
    return found


async def _numbers(database: Database) -> list[int]:
    link = await database.begin(readonly=True)
    rows = await link.rows(sa.text("SELECT number FROM numbers ORDER BY number").columns(sa.column("number")), {})
    await link.rollback()
    link.give_back()
    return [row.number for row in rows]


@asynccontextmanager
async def _busy(database: Database) -> AsyncIterator[None]:
    """The writer does something for as long as this lasts."""
    begun, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(_: Any) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return over.wait(10)

    holding = asyncio.create_task(_does(database, work))
    await begun.wait()
    try:
        yield
    finally:
        over.set()
        await holding


async def test_what_comes_while_the_writer_is_busy_is_one_transaction(database: Database, monkeypatch: Any):
    sizes: list[int] = []
    together = group._together

    def counted(raw: Any, first: Sequence[str], works: Sequence[Any], found: Callable[[list[Any]], object]) -> None:
        sizes.append(len(works))
        together(raw, first, works, found)

    monkeypatch.setattr(group, "_together", counted)
    async with _busy(database):
        adding = [asyncio.create_task(_does(database, _adds(number))) for number in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*adding)
    assert sizes == [1, 20]
    assert await _numbers(database) == list(range(20))


async def test_one_that_fails_is_told_so_and_the_others_go_on(database: Database):
    done = await asyncio.gather(*(_does(database, _adds(number)) for number in (1, 2, 1, 3)), return_exceptions=True)
    assert done[0] == done[1] == done[3] == [1]
    assert isinstance(done[2], exc.IntegrityError)
    assert await _numbers(database) == [1, 2, 3]


async def test_of_one_that_gives_nothing_nothing_is_left(database: Database):
    def nothing(raw: Any) -> None:
        _adds(7)(raw)

    done = await asyncio.gather(_does(database, nothing), _does(database, _adds(8)))
    assert list(done) == [None, [1]]
    assert await _numbers(database) == [8]


async def test_where_the_commit_fails_all_are_told_so(database: Database):
    await _does(
        database, _says("CREATE TABLE pointers (number INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    )
    done = await asyncio.gather(
        _does(database, _adds(1)), _does(database, _says("INSERT INTO pointers VALUES (99)")), return_exceptions=True
    )
    assert all(isinstance(each, exc.IntegrityError) for each in done)
    assert await _numbers(database) == []
    await _does(database, _adds(2))
    assert await _numbers(database) == [2]


async def test_what_comes_of_it_is_told_before_the_commit_and_that_may_fail(database: Database):
    await _does(
        database, _says("CREATE TABLE pointers (number INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    )
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    assert await link.together(_each, _says("INSERT INTO pointers VALUES (99)"), commits=True) == [1]
    with pytest.raises(exc.IntegrityError):
        await link.commit()
    link.give_back()


async def test_who_leaves_before_the_commit_stops_nothing(database: Database):
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    assert await link.together(_each, _adds(1), commits=True) == [1]
    link.give_back()
    await _does(database, _adds(2))
    assert await _numbers(database) == [1, 2]


async def test_what_the_writer_has_begun_ends_before_the_connections_are_closed(database: Database):
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    await link.together(_each, _adds(1), commits=True)
    link.give_back()
    await database.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    again = Database(database.url)
    assert await _numbers(again) == [1]
    await again.close()


async def test_of_a_commit_that_fails_nobody_is_told_who_has_left(database: Database, caplog: pytest.LogCaptureFixture):
    await _does(
        database, _says("CREATE TABLE pointers (number INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    )
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    await link.together(_each, _says("INSERT INTO pointers VALUES (99)"), commits=True)
    link.give_back()
    del link
    await _does(database, _adds(1))
    gc.collect()
    assert caplog.records == []


async def test_for_who_has_left_before_their_turn_nothing_is_done(database: Database):
    async with _busy(database):
        leaving, staying = (asyncio.create_task(_does(database, _adds(number))) for number in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
    await staying
    assert await _numbers(database) == [2]


async def test_who_waits_for_a_connection_gets_it_in_their_turn(database: Database):
    held = database._held[database.write]
    first = await held.take()
    order: list[int] = []

    async def take(number: int) -> None:
        proxied = await held.take()
        order.append(number)
        held.give_back(proxied)

    waiting = [asyncio.create_task(take(number)) for number in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    held.give_back(first)
    await asyncio.wait(waiting)
    assert order == [0, 2]
    assert held.in_use == 0


async def test_a_connection_that_comes_as_its_waiter_leaves_goes_to_the_next(database: Database):
    held = database._held[database.write]
    first = await held.take()
    leaving, staying = asyncio.create_task(held.take()), asyncio.create_task(held.take())
    await asyncio.sleep(0)
    held.give_back(first)
    leaving.cancel()
    assert await staying is first
    held.give_back(first)
    assert held.in_use == 0


async def test_a_connection_that_comes_as_the_last_waiter_leaves_is_kept(database: Database):
    held = database._held[database.write]
    first = await held.take()
    leaving = asyncio.create_task(held.take())
    await asyncio.sleep(0)
    held.give_back(first)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert held.in_use == 0
    assert await held.take() is first
    held.give_back(first)


async def test_a_connection_that_is_thrown_away_leaves_its_place_to_who_waits(database: Database):
    held = database._held[database.write]
    first = await held.take()
    waiting = asyncio.create_task(held.take())
    await asyncio.sleep(0)
    await held.throw_away(first)
    held.give_back(await waiting)
    assert held.in_use == 0


async def test_who_has_waited_for_too_long_is_told_so(database: Database):
    held = database._held[database.write]
    first = await held.take()
    with pytest.raises(exc.TimeoutError):
        await held.take()
    held.give_back(first)
    assert held.in_use == 0

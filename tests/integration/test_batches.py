"""What is committed together on PostgreSQL: statements of one text that come while one of them is under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql import batches
from adapters.sql.batches import Own
from adapters.sql.engine import DEFAULT_LIMITS, Database, Limits
from tests.faults.polling import until

#: One more in a cell; which transaction it was, too. It may not grow beyond 9.
_MORE = sa.text(
    "UPDATE cells SET held = held + :more WHERE id = :id RETURNING id, held, txid_current() AS transaction"
).columns(sa.column("id"), sa.column("held"), sa.column("transaction"))
_CELLS = range(8)
PATIENT = replace(DEFAULT_LIMITS, lock=30, statement=30, batch_lock=30)

Opened = Callable[..., Database]


@pytest.fixture
async def raw(postgres_url: str) -> AsyncIterator[Any]:
    """Another process's connection."""
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE cells (id integer PRIMARY KEY, held integer CHECK (held < 10))")
    await connection.executemany("INSERT INTO cells VALUES ($1, 0)", [(cell,) for cell in _CELLS])
    yield connection
    await connection.close()


@pytest.fixture
async def opened(postgres_url: str, raw: object) -> AsyncIterator[Opened]:
    databases: list[Database] = []

    def open_database(limits: Limits = PATIENT) -> Database:
        databases.append(Database(postgres_url, limits))
        return databases[-1]

    yield open_database
    for database in databases:
        await database.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for others here does so for as long as the test holds them up."""
    monkeypatch.setattr(batches, "PATIENCE", 60.0)


async def _more(database: Database, cell: int, more: int = 1) -> Any:
    """The row of a transaction of its own; ``None`` where there is no such cell."""
    link = await database.begin()
    try:
        rows = await link.lasting(_MORE, {"id": cell, "more": more}, Own(mark=cell, locks=cell))
    except BaseException:
        await link.throw_away()
        raise
    link.give_back()
    return rows[0] if rows else None


@asynccontextmanager
async def _held(raw: Any, cell: int) -> AsyncIterator[None]:
    """Somebody else has locked that cell."""
    async with raw.transaction():
        await raw.execute("UPDATE cells SET held = held WHERE id = $1", cell)
        yield


async def _until_locked(raw: Any) -> None:
    async def somebody_waits() -> bool:
        return bool(await raw.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await until(somebody_waits, 10, "somebody waits for a lock")


@asynccontextmanager
async def _under_way(database: Database) -> AsyncIterator[None]:
    """One of the text is under way for as long as this lasts."""
    joint: Any = database._batches
    send, begun, over = joint._send, asyncio.Event(), asyncio.Event()

    async def held_up(sql: str, batch: Any) -> bool:
        line._send = send
        begun.set()
        await over.wait()
        result: bool = await send(sql, batch)
        return result

    await _more(database, 0, 0)
    (line,) = joint._lines.values()
    line._send = held_up
    first = asyncio.create_task(_more(database, 0))
    await begun.wait()
    try:
        yield
    finally:
        over.set()
    assert (await first).held == 1


async def _values(raw: Any) -> list[int]:
    return [row["held"] for row in await raw.fetch("SELECT held FROM cells ORDER BY id")]


async def test_what_comes_while_one_is_under_way_is_one_transaction(opened: Opened, raw: Any):
    database = opened()
    async with _under_way(database):
        coming = [asyncio.create_task(_more(database, cell)) for cell in (3, 1, 2, 99)]
        await asyncio.sleep(0)
    rows = await asyncio.gather(*coming)
    assert [row and (row.id, row.held) for row in rows] == [(3, 1), (1, 1), (2, 1), None]
    assert len({row.transaction for row in rows if row is not None}) == 1
    assert database.in_use == 0


async def test_of_two_with_one_mark_one_goes_by_itself(opened: Opened, raw: Any):
    database = opened()
    async with _under_way(database):
        coming = [asyncio.create_task(_more(database, cell)) for cell in (1, 2, 1, 3)]
        await asyncio.sleep(0)
        assert (await coming[2]).held == 1
    rows = await asyncio.gather(*coming)
    assert [row.held for row in rows] == [2, 1, 1, 1]
    assert rows[0].transaction == rows[1].transaction == rows[3].transaction != rows[2].transaction


async def test_rows_are_locked_in_one_order(opened: Opened, raw: Any, monkeypatch: pytest.MonkeyPatch):
    """So that two processes that change the same rows together do not deadlock."""
    orders: list[list[int]] = []
    send = batches.Batches._send

    async def noted(self: Any, sql: str, batch: Any) -> bool:
        orders.append([one.own.locks for one in batch])
        return await send(self, sql, batch)

    monkeypatch.setattr(batches.Batches, "_send", noted)
    database = opened()
    async with _under_way(database):
        coming = [asyncio.create_task(_more(database, cell)) for cell in (5, 2, 7, 1)]
        await asyncio.sleep(0)
    await asyncio.gather(*coming)
    assert orders[-1] == [1, 2, 5, 7]


async def test_one_that_is_refused_is_told_so_and_the_others_are_done(opened: Opened, raw: Any):
    database = opened()
    async with _under_way(database):
        coming = [asyncio.create_task(_more(database, cell, more)) for cell, more in ((1, 1), (2, 10), (3, 1))]
        await asyncio.sleep(0)
    found: list[Any] = await asyncio.gather(*coming, return_exceptions=True)
    assert isinstance(found[1], exc.IntegrityError)
    assert [found[0].held, found[2].held] == [1, 1]
    assert (await _values(raw))[:4] == [1, 1, 0, 1]
    assert database.in_use == 0


async def test_a_row_that_somebody_holds_does_not_hold_up_the_others_of_a_batch(
    opened: Opened, raw: Any, postgres_url: str
):
    database = opened(replace(PATIENT, batch_lock=0.01))
    another = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    try:
        async with _held(another, 2):
            async with _under_way(database):
                coming = [asyncio.create_task(_more(database, cell)) for cell in (1, 2, 3)]
                await asyncio.sleep(0)
            one, three = await asyncio.gather(coming[0], coming[2])
            assert (one.held, three.held) == (1, 1)
            assert not coming[1].done()
            # And for a while nobody is put into one with it.
            assert (await _more(database, 4)).held == 1
        assert (await coming[1]).held == 1
    finally:
        await another.close()


async def test_who_has_waited_for_others_long_enough_goes_by_itself(
    opened: Opened, raw: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "PATIENCE", 0.0)
    database = opened()
    async with _under_way(database):
        assert (await _more(database, 1)).held == 1
        assert (await _more(database, 2)).held == 1


async def test_for_who_has_left_before_they_were_sent_nothing_is_done(opened: Opened, raw: Any):
    database = opened()
    async with _under_way(database):
        leaving, *staying = (asyncio.create_task(_more(database, cell)) for cell in (1, 2, 3))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
    await asyncio.gather(*staying)
    assert (await _values(raw))[:4] == [1, 0, 1, 1]


async def test_who_leaves_while_it_is_sent_leaves_the_others_in_peace(opened: Opened, raw: Any):
    database = opened()
    for turns in range(30):
        coming = [asyncio.create_task(_more(database, cell, 0)) for cell in (0, 1, 2, 3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        coming[turns % 4].cancel()
        rows: list[Any] = await asyncio.gather(*coming, return_exceptions=True)
        stayed = [row for number, row in enumerate(rows) if number != turns % 4]
        assert all(row.held == 0 for row in stayed)
    assert database.in_use == 0


async def test_where_the_connection_is_lost_all_of_the_batch_are_told_so(opened: Opened, raw: Any, postgres_url: str):
    """Of none it is known whether it was done; those who come later are none the worse."""
    database = opened()
    another = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    try:
        async with _held(another, 1):
            async with _under_way(database):
                coming = [asyncio.create_task(_more(database, cell)) for cell in (1, 2)]
                await asyncio.sleep(0)
            await _until_locked(raw)
            await raw.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
            errors = await asyncio.gather(*coming, return_exceptions=True)
    finally:
        await another.close()
    assert all(isinstance(error, exc.DBAPIError) for error in errors)
    assert (await _more(database, 3)).held == 1
    assert database.in_use == 0


async def test_one_connection_alone_is_enough(opened: Opened, raw: Any):
    database = opened(replace(PATIENT, pool_size=1))
    rows = await asyncio.gather(*(_more(database, cell) for cell in (1, 2, 3)))
    assert [row.held for row in rows] == [1, 1, 1]

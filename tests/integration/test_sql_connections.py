"""Connections that are handed on, and what SQLite's writer commits together."""

import asyncio
import gc
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import json
from sqlalchemy import exc

from adapters.sql import engine
from adapters.sql.engine import DEFAULT_LIMITS, Database
from adapters.sql.failures import outcome_unknown, translated
from adapters.sql.group import GroupWriter
from adapters.sql.links import SqliteLink
from adapters.sql.procedures import Procedure
from adapters.sql.writer import WriterProcess
from adapters.sql.writing import COMMITTED
from entrypoints.logs import request_id

_numbers = sa.table("numbers", sa.column("number", sa.Integer))
_pointers = sa.table("pointers", sa.column("number", sa.Integer))
_NUMBER = sa.bindparam("number", type_=sa.Integer)


def _procedure(name: str, statement: sa.Executable) -> Procedure:
    """Finds its number, where it is there afterwards."""
    known = sa.func.json_each(sa.bindparam("known")).table_valued("key", "value").alias("known")
    found = sa.func.json_group_array(sa.func.json_array(known.c.key, _numbers.c.number))
    return Procedure(
        name,
        statement,
        known_by="number",
        finds=sa.select(found).select_from(known.join(_numbers, _numbers.c.number == known.c.value)),
        reads=json.Decoder(list[tuple[int, int]]).decode,
    )


ADD = _procedure("add", sa.insert(_numbers).from_select(["number"], sa.select(_NUMBER)))
ADD_ANOTHER = _procedure("add_another", sa.insert(_numbers).from_select(["number"], sa.select(_NUMBER + 100)))
#: At nothing, which is found out when it is committed.
POINT = _procedure("point", sa.insert(_pointers).from_select(["number"], sa.select(_NUMBER + 100)))


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(engine, "PROCEDURES", (ADD, ADD_ANOTHER, POINT))
    database = Database(f"sqlite:///{tmp_path}/numbers.db", replace(DEFAULT_LIMITS, busy=2))
    await _says(database, "CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    await _says(database, "CREATE TABLE pointers (number INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    yield database
    await database.close()


async def _says(database: Database, statement: str) -> None:
    """In a transaction that this process does by itself."""
    link = await database.begin()
    await link.run(sa.text(statement), {})
    await link.commit()
    link.give_back()


async def _calls(database: Database, procedure: Procedure, number: int) -> Any:
    """As a transaction of its own."""
    link = await _called(database)
    try:
        found = await link.together(procedure, procedure.given({"number": number}), commits=True)
        await link.commit()
    finally:
        link.give_back()
    return found


async def _called(database: Database) -> SqliteLink:
    link = await database.begin()
    assert isinstance(link, SqliteLink)
    return link


async def _there(database: Database) -> list[int]:
    link = await database.begin(readonly=True)
    rows = await link.rows(sa.select(_numbers.c.number).order_by(_numbers.c.number), {})
    await link.rollback()
    link.give_back()
    return [row.number for row in rows]


@contextmanager
def _locked(database: Database) -> Iterator[None]:
    """Another process writes for as long as this lasts."""
    other = sqlite3.connect(str(database.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def _process(database: Database) -> WriterProcess:
    assert database._group is not None
    assert database._group._writer is not None
    return database._group._writer


async def _begun(database: Database) -> None:
    """Something is with the writer."""
    while database._group is None or not database._group._under_way:  # noqa: ASYNC110 - a turn of the loop is enough
        await asyncio.sleep(0)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each transaction had."""
    sizes: list[int] = []
    hear = GroupWriter._hear

    def counted(group: GroupWriter, said: tuple[Any, ...]) -> None:
        if said[0] == COMMITTED:
            sizes.append(len(said[1]))
        hear(group, said)

    monkeypatch.setattr(GroupWriter, "_hear", counted)
    return sizes


async def test_what_comes_while_the_writer_is_busy_is_one_transaction(database: Database, turns: list[int]):
    with _locked(database):
        first = asyncio.create_task(_calls(database, ADD, 20))
        await _begun(database)
        others = [asyncio.create_task(_calls(database, ADD, number)) for number in range(20)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*others, first) == [*range(20), 20]
    # The first one by itself, if the writer had it before the others came.
    assert turns in ([1, 20], [21])
    assert await _there(database) == list(range(21))


async def test_no_more_than_so_many_are_with_the_writer_and_all_are_done(database: Database, turns: list[int]):
    numbers = range(200)
    assert await asyncio.gather(*(_calls(database, ADD, number) for number in numbers)) == list(numbers)
    assert sum(turns) == 200
    assert max(turns) <= 64


async def test_one_that_fails_is_told_so_and_the_others_go_on(database: Database):
    done = await asyncio.gather(*(_calls(database, ADD, number) for number in (1, 2, 1, 3)), return_exceptions=True)
    assert [done[0], done[1], done[3]] == [1, 2, 3]
    assert isinstance(done[2], exc.IntegrityError)
    assert str(done[2].orig) == "UNIQUE constraint failed: numbers.number"
    assert await _there(database) == [1, 2, 3]


async def test_of_one_that_comes_to_nothing_nothing_is_left(database: Database):
    done = await asyncio.gather(_calls(database, ADD_ANOTHER, 7), _calls(database, ADD, 8))
    assert list(done) == [None, 8]
    assert await _there(database) == [8]


async def test_where_the_commit_fails_all_are_told_so(database: Database):
    await _calls(database, ADD, 1)
    done = await asyncio.gather(
        _calls(database, ADD, 2), _calls(database, POINT, 1), _calls(database, ADD, 3), return_exceptions=True
    )
    assert all(isinstance(each, exc.IntegrityError) for each in done)
    assert await _there(database) == [1]
    await _calls(database, ADD, 2)
    assert await _there(database) == [1, 2]


async def test_what_comes_of_it_is_told_before_the_commit_and_that_may_fail(database: Database):
    await _calls(database, ADD, 1)
    link = await _called(database)
    assert await link.together(POINT, POINT.given({"number": 1}), commits=True) == 1
    with pytest.raises(exc.IntegrityError):
        await link.commit()
    link.give_back()


async def test_who_leaves_before_the_commit_stops_nothing(database: Database):
    link = await _called(database)
    assert await link.together(ADD, ADD.given({"number": 1}), commits=True) == 1
    link.give_back()
    await _calls(database, ADD, 2)
    assert await _there(database) == [1, 2]


async def test_what_the_writer_has_begun_ends_before_the_connections_are_closed(database: Database):
    link = await _called(database)
    await link.together(ADD, ADD.given({"number": 1}), commits=True)
    link.give_back()
    process = _process(database)
    await database.close()
    assert process._transport.get_returncode() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    again = Database(database.url)
    assert await _there(again) == [1]
    await again.close()


async def test_of_a_commit_that_fails_nobody_is_told_who_has_left(database: Database, caplog: pytest.LogCaptureFixture):
    await _calls(database, ADD, 1)
    link = await _called(database)
    await link.together(POINT, POINT.given({"number": 1}), commits=True)
    link.give_back()
    del link
    await _calls(database, ADD, 2)
    gc.collect()
    assert caplog.records == []


async def test_for_who_has_left_before_their_turn_nothing_is_done(database: Database):
    held = database._held[database.write]
    writing = await held.take()
    leaving, staying = (asyncio.create_task(_calls(database, ADD, number)) for number in (1, 2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    held.give_back(writing)
    await staying
    assert await _there(database) == [2]


async def test_a_transaction_of_several_steps_has_its_turn_however_much_else_there_is(database: Database):
    ended = asyncio.Event()

    async def goes_on(first: int) -> int:
        number = first
        while not ended.is_set():
            assert await _calls(database, ADD, number) == number
            number += 8
        return number

    busy = [asyncio.create_task(goes_on(first)) for first in range(8)]
    await _begun(database)
    for number in range(-10, 0):
        await _says(database, f"INSERT INTO numbers VALUES ({number})")  # noqa: S608 - a number
    ended.set()
    nexts = await asyncio.gather(*busy)
    assert await _there(database) == sorted(
        [*range(-10, 0), *(number for end in nexts for number in range(end % 8, end, 8))]
    )


async def test_who_finds_another_process_writing_is_told_so_after_a_while(database: Database):
    hasty = Database(database.url, replace(DEFAULT_LIMITS, busy=0.1))
    await _calls(hasty, ADD, 1)
    with _locked(database), pytest.raises(exc.OperationalError, match="database is locked") as caught:
        await _calls(hasty, ADD, 2)
    assert translated(caught.value) is not None
    assert not outcome_unknown(caught.value)
    assert await _calls(hasty, ADD, 2) == 2
    await hasty.close()


async def test_nobody_knows_what_a_writer_had_done_that_was_killed(
    database: Database, caplog: pytest.LogCaptureFixture
):
    await _calls(database, ADD, 1)
    killed = _process(database)
    with _locked(database):
        under_way = [asyncio.create_task(_calls(database, ADD, number)) for number in (2, 3)]
        await _begun(database)
        os.kill(killed._transport.get_pid(), signal.SIGKILL)
        done = await asyncio.gather(*under_way, return_exceptions=True)
    for each in done:
        assert isinstance(each, exc.OperationalError)
        assert outcome_unknown(each)
        assert translated(each) is not None
    assert await _calls(database, ADD, 4) == 4
    assert _process(database) is not killed
    assert await _there(database) == [1, 4]
    await killed._ended
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_the_writer_is_no_business_of_the_request_that_needs_it_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    """What is logged about it, hours later perhaps, would bear that request's id."""
    started_by: list[str] = []
    start = WriterProcess.start

    async def noted(*given: Any) -> WriterProcess:
        started_by.append(request_id.get())
        return await start(*given)

    monkeypatch.setattr(WriterProcess, "start", noted)
    token = request_id.set("the first one")
    await _calls(database, ADD, 1)
    request_id.reset(token)
    assert started_by == ["-"]


async def test_the_writer_minds_no_signal_that_is_meant_for_the_service(database: Database):
    await _calls(database, ADD, 1)
    process = _process(database)
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(process._transport.get_pid(), each)
    assert os.getsid(process._transport.get_pid()) != os.getsid(0)
    assert await _calls(database, ADD, 2) == 2
    assert _process(database) is process


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

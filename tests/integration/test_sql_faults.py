"""What a caller meets when the database is locked, away, silent or full of others."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from adapters.sql.engine import DEFAULT_LIMITS, Database, Limits, normalize_url
from adapters.sql.statements import SqlStatements
from adapters.sql.unit_of_work import SqlUnitOfWork
from chat_core.domain.ids import RoomId, UserId, uuid7
from chat_core.errors import Contention, OutcomeUnknown, StorageUnavailable
from chat_core.testing.samples import MOMENT, a_user, said, stored_room, stored_user
from tests.servers import PostgresServer

QUICK = replace(DEFAULT_LIMITS, busy=0.3, acquire=0.3)

Opened = Callable[..., SqlUnitOfWork]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens databases, and closes them after the test."""
    databases: list[Database] = []

    def open_database(url: str, limits: Limits = DEFAULT_LIMITS) -> SqlUnitOfWork:
        databases.append(Database(url, limits))
        return SqlUnitOfWork(databases[-1])

    yield open_database
    for database in databases:
        await database.close()


def _database(uow: SqlUnitOfWork) -> Database:
    return uow._database


def _in_use(uow: SqlUnitOfWork) -> int:
    return _database(uow).in_use


@asynccontextmanager
async def _locked_by_another_process(url: str) -> AsyncIterator[Callable[[], None]]:
    """Holds SQLite's write lock until told to let go, or to the end of the block."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
        "print('locked', flush=True); sys.stdin.readline(); c.execute('ROLLBACK')"
    )
    path = str(normalize_url(url).database)
    holder = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"

    def let_go() -> None:
        holder.communicate("\n")

    try:
        yield let_go
    finally:
        if holder.returncode is None:
            holder.communicate("\n")


class TestSqlite:
    async def test_a_short_lock_is_waited_for(self, sqlite_url: str, opened: Opened) -> None:
        uow = opened(sqlite_url)
        async with _locked_by_another_process(sqlite_url) as let_go:
            storing = asyncio.create_task(stored_user(uow))
            assert not (await asyncio.wait([storing], timeout=0.1))[0]
            let_go()
            user = await storing
        async with uow.read() as tx:
            assert await tx.users.get(user.id) == user

    async def test_a_long_lock_is_the_storage_being_away_and_then_heals(self, sqlite_url: str, opened: Opened) -> None:
        uow = opened(sqlite_url, QUICK)
        async with _locked_by_another_process(sqlite_url):
            with pytest.raises(StorageUnavailable):
                await stored_user(uow)
            async with uow.read() as tx:
                assert await tx.users.by_login("ann") is None
        await stored_user(uow)

    async def test_those_who_queue_up_behind_a_long_lock_wait_no_longer_than_the_first(
        self, sqlite_url: str, opened: Opened
    ) -> None:
        """Time spent in the queue for this process's writer is taken off the wait for other processes."""
        uow = opened(sqlite_url, QUICK)
        await stored_user(uow, "first")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with _locked_by_another_process(sqlite_url):
            found = await asyncio.gather(
                *(stored_user(uow, f"user{number}") for number in range(5)), return_exceptions=True
            )
            assert [type(error) for error in found] == [StorageUnavailable] * 5
            # Five waits one after the other would be far more than two of them.
            assert loop.time() - begun < 0.3 * 4
        await stored_user(uow)

    async def test_a_full_disk_is_the_storage_being_away_and_nothing_is_stored(
        self, sqlite_url: str, opened: Opened
    ) -> None:
        uow = opened(sqlite_url)
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        statements = SqlStatements(await _database(uow).begin())
        [[pages]] = await statements.rows(sa.text("PRAGMA page_count"))
        await statements.rows(sa.text(f"PRAGMA max_page_count = {pages}"))
        await statements.leave()
        with pytest.raises(StorageUnavailable):
            await said(uow, room, user, "x" * 32_000)
        async with uow.read() as tx:
            assert (await tx.messages.page(room.id, 10)).messages == []

    async def test_a_file_that_cannot_be_opened_is_the_storage_being_away(
        self, opened: Opened, tmp_path: object
    ) -> None:
        uow = opened(f"sqlite:///{tmp_path}/no/such/directory/chat.db")
        for transaction in (uow, uow.read):
            with pytest.raises(StorageUnavailable):
                async with transaction() as tx:
                    await tx.rooms.get(RoomId(uuid7()))

    async def test_a_transaction_that_reads_cannot_write(self, sqlite_url: str, opened: Opened) -> None:
        uow = opened(sqlite_url)
        with pytest.raises(StorageUnavailable):
            async with uow.read() as tx:
                await tx.users.add(a_user())

    async def test_what_was_committed_survives_without_a_polite_end(self, sqlite_url: str, opened: Opened) -> None:
        """A process that ends by ``os._exit`` has checkpointed nothing."""
        script = (
            "import asyncio, os, sys; from adapters.sql.engine import Database\n"
            "from adapters.sql.unit_of_work import SqlUnitOfWork; from chat_core.testing.samples import stored_user\n"
            "async def main():\n"
            "    await stored_user(SqlUnitOfWork(Database(sys.argv[1])))\n"
            "    os._exit(9)\n"
            "asyncio.run(main())"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, sqlite_url)
        assert await process.wait() == 9
        uow = opened(sqlite_url)
        async with uow.read() as tx:
            assert await tx.users.by_login("ann") is not None
        with sqlite3.connect(str(normalize_url(sqlite_url).database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


class TestPostgres:
    async def test_a_killed_server_is_the_storage_being_away_and_then_heals(
        self, postgres: PostgresServer, postgres_url: str, opened: Opened
    ) -> None:
        """At once, in every transaction, and without a restart of ours when it is back."""
        if not postgres.is_own:
            pytest.skip("this server is not ours to kill")
        uow = opened(postgres_url)
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        postgres.kill()
        try:
            async with asyncio.timeout(2):
                for transaction in (uow, uow.read):
                    with pytest.raises(StorageUnavailable):
                        async with transaction() as tx:
                            await tx.users.get(user.id)
                with pytest.raises(StorageUnavailable):
                    await _database(uow).ping()
        finally:
            postgres.start()
        assert (await said(uow, room, user)).seq == 1
        async with uow.read() as tx:
            assert await tx.users.get(user.id) == user
        assert _in_use(uow) == 0

    async def test_a_server_killed_in_a_transaction_is_away_for_the_next_statement(
        self, postgres: PostgresServer, postgres_url: str, opened: Opened
    ) -> None:
        if not postgres.is_own:
            pytest.skip("this server is not ours to kill")
        uow = opened(postgres_url)
        user = a_user()
        try:
            with pytest.raises(StorageUnavailable):
                async with uow() as tx:
                    await tx.users.add(user)
                    postgres.kill()
                    await tx.users.get(user.id)
            assert _in_use(uow) == 0
        finally:
            postgres.start()
        async with uow.read() as tx:
            assert await tx.users.get(user.id) is None

    async def test_a_server_lost_at_the_commit_leaves_the_outcome_unknown(
        self, postgres: PostgresServer, postgres_url: str, opened: Opened
    ) -> None:
        """Never a success, and never an error that says that nothing was written."""
        if not postgres.is_own:
            pytest.skip("this server is not ours to kill")
        uow = opened(postgres_url)
        try:
            with pytest.raises(OutcomeUnknown):
                async with uow() as tx:
                    await tx.users.add(a_user())
                    postgres.kill()
                    await tx.commit()
            assert _in_use(uow) == 0
        finally:
            postgres.start()

    async def test_a_server_that_falls_silent_is_the_storage_being_away_and_then_heals(
        self, postgres: PostgresServer, postgres_url: str, opened: Opened
    ) -> None:
        """Its connections are thrown away at once, without a good-bye that it would not answer."""
        if not postgres.is_own:
            pytest.skip("this server is not ours to stop")
        uow = opened(postgres_url, replace(DEFAULT_LIMITS, connect=0.3, statement=0.2, grace=0.1))
        user = await stored_user(uow)
        postgres.pause()
        try:
            async with asyncio.timeout(2):
                for transaction in (uow, uow.read, uow):
                    with pytest.raises(StorageUnavailable):
                        async with transaction() as tx:
                            await tx.users.get(user.id)
        finally:
            postgres.resume()
        async with uow.read() as tx:
            assert await tx.users.get(user.id) == user
        assert _in_use(uow) == 0

    async def test_connections_that_are_all_in_use_are_the_storage_being_away(
        self, postgres_url: str, opened: Opened
    ) -> None:
        # Two of them are for what is committed together.
        uow = opened(postgres_url, replace(QUICK, pool_size=4))
        nobody = UserId(uuid7())
        async with uow() as one, uow() as two:
            await one.users.get(nobody)
            await two.users.get(nobody)
            with pytest.raises(StorageUnavailable, match="in use"):
                async with uow.read() as three:
                    await three.users.get(nobody)
        await stored_user(uow)

    async def test_a_lock_held_for_long_is_the_storage_being_away(self, postgres_url: str, opened: Opened) -> None:
        uow = opened(postgres_url, replace(DEFAULT_LIMITS, lock=0.1))
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        async with uow() as tx:
            await tx.rooms.advance(room.id, user.id, at=MOMENT)
            with pytest.raises(StorageUnavailable) as failure:
                await said(uow, room, user)
        assert not isinstance(failure.value, Contention)
        assert (await said(uow, room, user)).seq == 1

    async def test_of_two_that_lock_each_other_one_meets_contention(self, postgres_url: str, opened: Opened) -> None:
        """And tried again as a whole it succeeds."""
        async with asyncio.timeout(10):
            uow = opened(postgres_url, replace(DEFAULT_LIMITS, lock=5, statement=5))
            user = await stored_user(uow)
            rooms = [await stored_room(uow, user) for _ in range(2)]
            met = asyncio.Barrier(2)

            async def cross(first: RoomId, second: RoomId, *, wait: bool) -> None:
                async with uow() as tx:
                    await tx.rooms.advance(first, user.id, at=MOMENT)
                    if wait:
                        await met.wait()
                    await tx.rooms.advance(second, user.id, at=MOMENT)
                    await tx.commit()

            one, two = rooms[0].id, rooms[1].id
            found = await asyncio.gather(cross(one, two, wait=True), cross(two, one, wait=True), return_exceptions=True)
            assert [type(error) for error in found if error is not None] == [Contention]
            await cross(one, two, wait=False)
            async with uow.read() as tx:
                doors = [await tx.rooms.door(room.id, user.id) for room in rooms]
            assert [door.room.last_seq for door in doors if door is not None] == [2, 2]

    async def test_a_commit_after_a_failed_statement_is_refused(self, postgres_url: str, opened: Opened) -> None:
        """PostgreSQL would roll back and call it a success."""
        uow = opened(postgres_url)
        user = await stored_user(uow)
        async with uow() as tx:
            with pytest.raises(sa.exc.IntegrityError):
                await tx.users.add(replace(user, username="ben", email="ben@example.org"))
            with pytest.raises(RuntimeError, match="can only be left"):
                await tx.commit()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
class TestBoth:
    @pytest.fixture
    def url(self, kind: str, request: pytest.FixtureRequest) -> str:
        return str(request.getfixturevalue(f"{kind}_url"))

    async def test_whoever_is_cancelled_gives_the_connection_back(self, url: str, opened: Opened) -> None:
        """At whatever point of a transaction it happens; nothing half-done is kept."""
        uow = opened(url, replace(DEFAULT_LIMITS, pool_size=2))
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        for turns in range(60):
            task = asyncio.create_task(said(uow, room, user))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            last = await said(uow, room, user)
        async with uow.read() as tx:
            page = await tx.messages.page(room.id, 200)
        assert [message.seq for message in page.messages] == list(range(1, last.seq + 1))
        assert _in_use(uow) == 0

    async def test_whoever_is_cancelled_while_waiting_for_a_lock_gives_the_connection_back(
        self, url: str, opened: Opened
    ) -> None:
        uow = opened(url)
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        async with uow() as tx:
            await tx.rooms.advance(room.id, user.id, at=MOMENT)
            waiting = asyncio.create_task(said(uow, room, user))
            assert not (await asyncio.wait([waiting], timeout=0.1))[0]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert (await said(uow, room, user)).seq == 1
        assert _in_use(uow) == 0

    async def test_a_ping_answers(self, url: str, opened: Opened) -> None:
        await _database(opened(url)).ping()

    async def test_a_fault_of_ours_is_not_called_the_storages(self, url: str, opened: Opened) -> None:
        uow = opened(url)
        statements = SqlStatements(await _database(uow).begin(readonly=True))
        try:
            with pytest.raises(sa.exc.DBAPIError):
                await statements.row(sa.text("SELECT * FROM no_such_table"))
        finally:
            await statements.leave()

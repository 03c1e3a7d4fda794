"""Streams without number, storms of those who come back, and pages far down."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import sqlalchemy as sa
import websockets
from sqlalchemy.util import greenlet_spawn

from adapters.sql.compiled import Compiled
from adapters.sql.engine import Database, Limits, normalize_url
from adapters.sql.links import Link
from chat_core.errors import StorageUnavailable
from tests.abuse.conftest import Build, Start
from tests.e2e.live import PATIENCE, socket, stream
from tests.e2e.service import Person, people, served

LIMITED: dict[str, Any] = {"rate_limits": "on"}

# --- streams ---


@pytest.mark.abuse("A88")
async def test_of_two_hundred_streams_of_one_person_ten_are_open_and_the_rest_refused(start: Start):
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await ada.room()
        reply = (await ada.send(room, "hello")).json()["data"]["reply"]["id"]
        async with AsyncExitStack() as stack:
            opened = await asyncio.gather(*(stack.enter_async_context(stream(ada, room)) for _ in range(196)))
            refused = [one.response for one in opened if one.response.status_code != 200]
            assert len(refused) == 186
            for _ in range(4):
                with pytest.raises(websockets.InvalidStatus) as no:
                    await stack.enter_async_context(socket(ada))
                assert no.value.response.status_code == 429
            for response in refused:
                assert response.status_code == 429
                assert int(response.headers["Retry-After"]) >= 1
            events = {"Accept": "text/event-stream"}
            for path in (f"/rooms/{room}/events", f"/replies/{reply}/events"):
                assert (await ada.get(path, headers=events)).status_code == 429
            streamed = await ada.post(f"/chat/{room}", {"content": "hello"}, headers=events)
            assert streamed.status_code == 429
            assert (await ada.get(f"/rooms/{room}")).json()["message_count"] == 2
            async with stream(bob, room) as theirs:
                assert theirs.response.status_code == 200
        async with stream(ada, room) as again:
            assert again.response.status_code == 200


@pytest.mark.abuse("A88")
async def test_whoever_was_cut_off_is_told_to_come_back_in_their_own_time(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        reply = (await ada.send(room, "hello")).json()["data"]["reply"]["id"]
        for path in (f"/rooms/{room}/events", f"/replies/{reply}/events"):
            pauses = set()
            for _ in range(20):
                async with ada.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
                    first = await anext(response.aiter_lines())
                name, _, pause = first.partition(": ")
                assert name == "retry"
                pauses.add(int(pause))
            assert len(pauses) > 5
            assert all(500 <= pause <= 1500 for pause in pauses)


# --- storms ---


class Load:
    """What a database is asked: how many statements, and how many of them at once."""

    def __init__(self) -> None:
        self.statements = self.running = self.most = 0


@contextmanager
def counted() -> Iterator[Load]:
    load, said = Load(), Link._said

    async def counting(link: Link, saying: Awaitable[Any], sql: str) -> Any:
        load.statements += sql not in ("BEGIN", "COMMIT", "ROLLBACK")
        load.running += 1
        load.most = max(load.most, load.running)
        try:
            return await said(link, saying, sql)
        finally:
            load.running -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "_said", counting)
        yield load


class Viewer:
    """A stream on a bare connection: of these one process holds thousands."""

    def __init__(self, person: Person, path: str) -> None:
        self._where = urlsplit(str(person.http.base_url))
        lines = [f"GET {path} HTTP/1.1", "Host: test", "Accept: text/event-stream", "Connection: close"]
        lines.append(f"Authorization: {person.http.headers['Authorization']}")
        self._writer: asyncio.StreamWriter | None = None
        self._request = "\r\n".join([*lines, "", ""]).encode()

    async def comes_back(self) -> None:
        """As clients do: at a time of its own within the pause that they are told, and later where that is said."""
        await asyncio.sleep(random.uniform(0.0, 1.0))
        while True:
            self._reader, self._writer = await asyncio.open_connection(self._where.hostname, self._where.port)
            self._writer.write(self._request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200"):
                return
            assert head.startswith(b"HTTP/1.1 503"), head
            assert b"\r\nretry-after: " in head
            self.leaves()
            await asyncio.sleep(random.uniform(1.0, 2.0))

    def leaves(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def sees(self, what: str) -> None:
        await self._reader.readuntil(what.encode())


@pytest.mark.abuse("A88")
@pytest.mark.parametrize("clients", [200, pytest.param(2000, marks=pytest.mark.long)])
async def test_a_storm_of_those_who_come_back_asks_the_database_for_little(build: Build, clients: int):
    container = build()
    async with served(container) as url, people(url, "ada", "bob", "eve") as crowd:
        ada = crowd[0]
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        for number in range(5):
            await ada.send(room, f"message {number}")
        last = (await ada.get(f"/rooms/{room}")).json()["last_seq"]
        viewers = [Viewer(crowd[number % 3], f"/rooms/{room}/events?after={last - 1}") for number in range(clients)]
        async with asyncio.timeout(PATIENCE * 8), AsyncExitStack() as stack:
            for viewer in viewers:
                stack.callback(viewer.leaves)
            with counted() as load:
                await asyncio.gather(*(viewer.comes_back() for viewer in viewers))
                for viewer in viewers:
                    await viewer.sees(f"id: {last}\n")
                # Each costs the look at a door, a page of what was missed and another look; and there are the own
                # rounds of the service.
                assert load.statements < 6 * clients + 200
                assert load.most <= container.settings().database_pool_size
            with counted() as load:
                await ada.send(room, "for all of them")
                for viewer in viewers:
                    await viewer.sees("for all of them")
                # One reading for all who are there, however many.
                assert load.statements < 100


# --- far down ---


async def fill(url: str, room: str, user: str, count: int) -> None:
    """So many messages behind those that are there, by the database's own means."""
    database = Database(url, Limits(statement=300.0))
    values = "SELECT {} FROM {}"
    if database.dialect == "sqlite":
        numbers = (
            "(WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < "  # noqa: S608
            f"{count}) SELECT i FROM n)"
        )
        id_, room_id, user_id = "lower(hex(randomblob(16)))", f"'{room.replace('-', '')}'", f"'{user.replace('-', '')}'"
        blob, moment = "x'00'", "(SELECT created_at FROM rooms LIMIT 1)"
    else:
        numbers, id_ = f"generate_series(2, {count}) AS n(i)", "gen_random_uuid()"
        room_id, user_id, blob, moment = f"'{room}'::uuid", f"'{user}'::uuid", "'\\x00'::bytea", "now()"
    columns = "id, m_id, room_id, seq, user_id, message_type, content, fingerprint, created_at, status"
    row = f"{id_}, 'm-' || i, {room_id}, i, {user_id}, 'user', 'message ' || i, {blob}, {moment}, 'complete'"

    def insert(engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO messages ({columns}) " + values.format(row, numbers))
            connection.exec_driver_sql(f"UPDATE rooms SET last_seq = {count} WHERE id = {room_id}")  # noqa: S608
        if engine.dialect.name == "postgresql":
            with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.exec_driver_sql("ANALYZE")

    try:
        await greenlet_spawn(insert, database.write)
    finally:
        await database.close()


@contextmanager
def recorded() -> Iterator[list[tuple[str, Any]]]:
    """The statements that are run, with their parameters as the driver gets them."""
    found: list[tuple[str, Any]] = []
    make_ready = Compiled.ready

    def noting(compiled: Compiled, parameters: Mapping[str, Any]) -> Any:
        ready = make_ready(compiled, parameters)
        found.append((ready.sql, ready.parameters))
        return ready

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compiled, "ready", noting)
        yield found


def _rows_read(plan: dict[str, Any]) -> int:
    """The rows that a plan of PostgreSQL took from tables and indexes, those that it then threw away included."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Scan" in plan["Node Type"] else 0
    return round(own * plan["Actual Loops"]) + sum(map(_rows_read, plan.get("Plans", ())))


async def work(url: str, statements: Sequence[tuple[str, Any]]) -> int:
    """What these cost: on PostgreSQL the rows that are read, on SQLite the steps of its machine."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(str(normalize_url(url).database))
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.set_progress_handler(step, 1)
        for statement, parameters in statements:
            connection.execute(statement, parameters).fetchall()
        connection.close()
        return steps
    where = sa.make_url(url)
    host = where.host or where.query.get("host")
    server = await asyncpg.connect(host=host, port=where.port, user=where.username, database=where.database)
    try:
        plans = [
            json.loads(await server.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters))
            for statement, parameters in statements
        ]
        return sum(_rows_read(plan[0]["Plan"]) for plan in plans)
    finally:
        await server.close()


@pytest.mark.abuse("A90")
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_a_page_far_down_costs_what_the_newest_one_does(build: Build, database_url: str, count: int):
    container = build()
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        await fill(database_url, room, ada.id, count)

        async def cost(path: str, name: str) -> tuple[int, int]:
            with recorded() as statements:
                page = await ada.get(f"/rooms/{room}/{path}")
            assert page.status_code == 200, page.text
            asked = [one for one in statements if "FROM messages" in one[0] or "FROM log_entries" in one[0]]
            assert asked
            return len(page.json()[name]), await work(database_url, asked)

        found, newest = await cost("messages?limit=50", "messages")
        assert found == 50
        assert newest < count / 4
        for place in (60, count // 2, count - 60):
            for way in ("before", "after", "around"):
                found, far = await cost(f"messages?limit=50&{way}={place}", "messages")
                assert found == 50
                # Of the other side it takes one row more, to say whether there are more.
                assert far <= newest * 1.5 + 10, (way, place)
        _, early = await cost(f"events?limit=50&after={count - 60}", "events")
        for place in (60, count // 2):
            _, far = await cost(f"events?limit=50&after={place}", "events")
            assert far <= early * 1.5 + 10, place


def said_of(engine: sa.Engine, statement: str) -> Any:
    with engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar_one()


@pytest.mark.abuse("A90")
@pytest.mark.postgres
async def test_no_statement_runs_for_long(postgres_url: str):
    database = Database(postgres_url)
    try:
        for name, most in (("statement_timeout", 2000), ("lock_timeout", 2000)):
            shown = await greenlet_spawn(said_of, database.read, f"SHOW {name}")
            assert 0 < int(shown.removesuffix("ms")) < most
        with pytest.raises((sa.exc.DBAPIError, StorageUnavailable), match="statement timeout"):
            await greenlet_spawn(said_of, database.read, "SELECT pg_sleep(30)")
    finally:
        await database.close()

"""Every revision goes up and down, and ends at the schema that the tables describe."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from adapters.sql.engine import Database
from adapters.sql.migrate import (
    SchemaMismatch,
    SchemaState,
    alembic_config,
    check,
    downgrade,
    migrating,
    upgrade,
)
from adapters.sql.tables import SCHEMA_REVISION, metadata
from tests.servers import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.fresh_database(migrated=False)
    yield url
    server.drop(url)


async def _state(url: str) -> SchemaState:
    database = Database(url)
    try:
        return await check(database)
    finally:
        await database.close()


async def _differences(url: str) -> object:
    async with migrating(url) as connection:
        return await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))


async def _tables(url: str) -> set[str]:
    async with migrating(url) as connection:
        return set(await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names()))


def test_the_head_of_the_revisions_is_the_one_that_servers_ask_for() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [SCHEMA_REVISION]


async def test_each_revision_goes_up_down_and_up_again(empty_url: str) -> None:
    revisions = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    for revision in reversed(revisions):
        await upgrade(empty_url, revision.revision)
        await downgrade(empty_url, str(revision.down_revision or "base"))
        await upgrade(empty_url, revision.revision)
    assert (await _state(empty_url)).fits
    await downgrade(empty_url, "base")
    assert await _tables(empty_url) == {"alembic_version"}


async def test_nobody_is_there_from_the_start(empty_url: str) -> None:
    """No account that everybody knows."""
    await upgrade(empty_url)
    async with migrating(empty_url) as connection:
        count = sa.select(sa.func.count()).select_from(metadata.tables["users"])
        assert await connection.run_sync(lambda sync: sync.scalar(count)) == 0


async def test_the_migrated_schema_is_the_one_of_the_tables(empty_url: str) -> None:
    await upgrade(empty_url)
    assert await _differences(empty_url) == []


async def test_checks_and_partial_indexes_are_those_of_the_tables(empty_url: str) -> None:
    """What Alembic's comparison does not look at."""

    def names(sync: sa.Connection) -> set[str]:
        inspector = sa.inspect(sync)
        checks = {str(check["name"]) for table in metadata.tables for check in inspector.get_check_constraints(table)}
        partial = {
            str(index["name"])
            for table in metadata.tables
            for index in inspector.get_indexes(table)
            if any(option.endswith("_where") for option in index.get("dialect_options", {}))
        }
        return checks | partial

    await upgrade(empty_url)
    async with migrating(empty_url) as connection:
        found = await connection.run_sync(names)
    assert found == {
        *(
            str(check.name)
            for table in metadata.tables.values()
            for check in table.constraints
            if isinstance(check, sa.CheckConstraint)
        ),
        "ix_rooms_activity",
        "ix_replies_due",
        "uq_replies_unfinished",
        "ix_users_departing",
        "ix_replies_unfinished_for",
        "uq_summaries_due",
    }


async def test_two_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    """In processes of their own, as two servers of one deployment."""
    script = "import asyncio, sys; from adapters.sql.migrate import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, empty_url, stderr=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    assert (await _state(empty_url)).fits


async def test_a_database_without_tables_does_not_fit(empty_url: str) -> None:
    state = await _state(empty_url)
    assert state == SchemaState(current=None, head=SCHEMA_REVISION)
    with pytest.raises(SchemaMismatch, match=r"has no tables yet, this version needs .*: run `chat-api migrate`"):
        state.require()


async def test_a_database_at_another_revision_does_not_fit(empty_url: str) -> None:
    await upgrade(empty_url)
    async with migrating(empty_url) as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=r"is at revision 9999, this version needs .*: run `chat-api migrate`"):
        (await _state(empty_url)).require()


async def test_an_upgrade_of_what_is_at_the_head_changes_nothing(empty_url: str) -> None:
    await upgrade(empty_url)
    await upgrade(empty_url)
    assert (await _state(empty_url)).fits

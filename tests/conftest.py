"""Databases to test with: ``sqlite_url`` and ``postgres_url`` are fresh and migrated for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Missing, PostgresServer, SqliteFiles


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole run. Skips where there is none, and fails where that must not be (``CI`` is set)."""
    try:
        server = PostgresServer()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"no PostgreSQL: {missing}")
        pytest.skip(f"no PostgreSQL: {missing}")
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.fresh_database()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> SqliteFiles:
    return SqliteFiles(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def sqlite_url(sqlite_files: SqliteFiles, tmp_path: Path) -> str:
    return sqlite_files.fresh_database(tmp_path)

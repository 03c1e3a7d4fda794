"""The servers that fault tests share."""

from collections.abc import Iterator

import pytest

from tests.faults.servers import Missing
from tests.faults.world import World, must_have_servers


@pytest.fixture(scope="session")
def fault_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One PostgreSQL for all. What is missing skips a test, and fails it where that must not be (``CI`` is set)."""
    world = World(sends=300, quick=True, directory=tmp_path_factory.mktemp("faults"))
    try:
        world.find_servers()
    except Missing as missing:
        if must_have_servers():
            pytest.fail(f"no server to break: {missing}")
        pytest.skip(f"no server to break: {missing}")
    yield world
    world.close()

"""A world for each test that asks for one, and the proof after it that nothing was left open."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_core.testing.models import Script
from tests.world import NewWorld, World


@pytest.fixture
async def new_world() -> AsyncIterator[NewWorld]:
    worlds: list[World] = []

    def made(*scripts: Script, held: bool = False, **settings: Any) -> World:
        worlds.append(World(*scripts, held=held, **settings))
        return worlds[-1]

    yield made
    for world in worlds:
        await world.close()


@pytest.fixture
def world(new_world: NewWorld) -> World:
    """One whose model says "Hello.", by itself."""
    return new_world()


@pytest.fixture
def held(new_world: NewWorld) -> World:
    """One in which nothing is answered until the test has it made."""
    return new_world(held=True)

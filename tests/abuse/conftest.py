from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from dependency_injector import providers

from adapters.memory.security import MemoryPasswords
from entrypoints.container import Container, build_container
from tests.e2e.conftest import settings
from tests.e2e.service import served

#: Makes the container of the service with these settings.
Build = Callable[..., Container]
#: Starts the service with these settings; gives its URL while it runs.
Start = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new database of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def build(database_url: str) -> Build:
    """Makes containers on that database, by default without limits; passwords are not hashed, which takes long."""

    def built(**more: Any) -> Container:
        container = build_container(settings(database_url, **{"rate_limits": "off"} | more))
        container.passwords.override(providers.Singleton(MemoryPasswords))
        return container

    return built


@pytest.fixture
def start(build: Build) -> Start:
    """Starts the service on that database, by default without limits."""

    def started(**more: Any) -> AbstractAsyncContextManager[str]:
        return served(build(**more))

    return started

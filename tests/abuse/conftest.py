from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from dependency_injector import providers

from adapters.memory.security import MemoryPasswords
from entrypoints.container import build_container
from tests.e2e.conftest import settings
from tests.e2e.service import served

#: Starts the service with these settings; gives its URL while it runs.
Start = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new database of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start(database_url: str) -> Start:
    """Starts the service on that database, by default without limits; passwords are not hashed, which takes long."""

    def started(**more: Any) -> AbstractAsyncContextManager[str]:
        container = build_container(settings(database_url, **{"rate_limits": "off"} | more))
        container.passwords.override(providers.Singleton(MemoryPasswords))
        return served(container)

    return started

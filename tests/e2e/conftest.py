import pytest

from entrypoints.container import Container, build_container, memory_container
from entrypoints.settings import NO_RATES, Settings

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

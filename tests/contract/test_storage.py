"""Every storage passes the same suite."""

from collections.abc import AsyncIterator

import pytest

from adapters.memory.storage import MemoryUnitOfWork
from adapters.sql.engine import Database
from adapters.sql.unit_of_work import SqlUnitOfWork
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.storage import StorageContract


class TestMemory(StorageContract):
    @pytest.fixture
    def uow(self) -> UnitOfWork:
        return MemoryUnitOfWork()


class TestSqlite(StorageContract):
    @pytest.fixture
    async def uow(self, sqlite_url: str) -> AsyncIterator[UnitOfWork]:
        database = Database(sqlite_url)
        yield SqlUnitOfWork(database)
        await database.close()


class TestPostgres(StorageContract):
    @pytest.fixture
    async def uow(self, postgres_url: str) -> AsyncIterator[UnitOfWork]:
        database = Database(postgres_url)
        yield SqlUnitOfWork(database)
        await database.close()

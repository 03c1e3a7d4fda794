"""A connection of the pool's with a transaction on it, spoken to through its driver."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import PoolProxiedConnection

from adapters.sql.batches import Batches, Found, Own
from adapters.sql.compiled import Compiled, Compiler, Ready, Row
from adapters.sql.failures import in_words_of_sqlalchemy, in_words_of_the_core
from adapters.sql.group import GroupWriter
from adapters.sql.held import HeldConnections
from adapters.sql.procedures import Procedure
from adapters.sql.writing import Given

T = TypeVar("T")

#: A connection, and what is to be said on it before anything else.
Opening = Callable[[], Awaitable[tuple[PoolProxiedConnection, tuple[str, ...]]]]


class Link(ABC):
    """Runs statements, from the first one on in a transaction where it is one that may write.

    Raises what SQLAlchemy would for the same failure. After one the transaction can only be undone.
    """

    def __init__(self, compiler: Compiler, held: HeldConnections) -> None:
        self._compiler = compiler
        self._held = held
        self._proxied: PoolProxiedConnection | None = None
        self.in_transaction = False

    @property
    def dialect(self) -> str:
        return self._compiler.dialect.name

    @abstractmethod
    async def found(self, compiled: Compiled, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """What it finds, as the driver gives it."""

    async def rows(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> list[Row]:
        """What it finds."""
        compiled = self._compiler(statement, parameters)
        return compiled.rows(await self.found(compiled, parameters))

    async def values(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The same without the names of its columns, for those who know their order."""
        compiled = self._compiler(statement, parameters)
        return compiled.values(await self.found(compiled, parameters))

    async def lasting(
        self, statement: sa.Executable, parameters: Mapping[str, Any], own: Own | None = None
    ) -> list[Row]:
        """As ``rows``; where it is the first one, it may be a transaction of its own, committed together with others
        of its text where ``own`` tells it from them."""
        return await self.rows(statement, parameters)

    @abstractmethod
    async def run(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> int:
        """How many rows it changes."""

    @abstractmethod
    async def run_many(self, statement: sa.Executable, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Once with each set of parameters."""

    @abstractmethod
    async def commit(self) -> None: ...

    @abstractmethod
    async def rollback(self) -> None: ...

    def give_back(self) -> None:
        """Give the connection back, after its transaction has ended. Never waits."""
        if self._proxied is not None:
            self._held.give_back(self._proxied)

    async def throw_away(self) -> None:
        """Close it, for another one to be opened in its place."""
        if self._proxied is not None:
            await self._held.throw_away(self._proxied)

    async def _said(self, saying: Awaitable[T], sql: str | None) -> T:
        connection = self._proxied.dbapi_connection if self._proxied else None
        with in_words_of_sqlalchemy(self._compiler.dialect, connection, sql):
            return await saying


class PostgresLink(Link):
    """asyncpg's connection. What only reads needs no transaction: at READ COMMITTED each statement sees a moment of
    its own anyway, and a BEGIN and a ROLLBACK around it would cost two round trips and promise nothing more."""

    def __init__(self, compiler: Compiler, held: HeldConnections, batches: Batches | None, *, readonly: bool) -> None:
        super().__init__(compiler, held)
        self._batches = batches
        self._begins = not readonly
        self._raw: Any = None

    async def open(self) -> None:
        """Take the connection, if that was not done yet."""
        if self._proxied is None:
            with in_words_of_the_core():
                self._proxied = await self._held.take()
            self._raw = self._proxied.driver_connection

    async def found(self, compiled: Compiled, parameters: Mapping[str, Any]) -> Found:
        ready = compiled.ready(parameters)
        await self._begin()
        return await self._fetch(ready)

    async def lasting(
        self, statement: sa.Executable, parameters: Mapping[str, Any], own: Own | None = None
    ) -> list[Row]:
        compiled = self._compiler(statement, parameters)
        ready = compiled.ready(parameters)
        if own is None or self._batches is None or self._proxied is not None:
            return compiled.rows(await self._by_itself(ready))
        return compiled.rows(
            await self._batches.found(ready.sql, ready.parameters, own, lambda: self._by_itself(ready))
        )

    async def _by_itself(self, ready: Ready) -> Found:
        await self.open()
        return await self._fetch(ready)

    async def _fetch(self, ready: Ready) -> Found:
        found: Found = await self._said(self._raw.fetch(ready.sql, *ready.parameters), ready.sql)
        return found

    async def run(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> int:
        ready = self._compiler(statement, parameters).ready(parameters)
        await self._begin()
        # Such as "UPDATE 1", or "INSERT 0 1".
        tag = await self._said(self._raw.execute(ready.sql, *ready.parameters), ready.sql)
        return int(tag.rpartition(" ")[2])

    async def run_many(self, statement: sa.Executable, parameters: Sequence[Mapping[str, Any]]) -> None:
        ready = [self._compiler(statement, one).ready(one) for one in parameters]
        await self._begin()
        await self._said(self._raw.executemany(ready[0].sql, [one.parameters for one in ready]), ready[0].sql)

    async def _begin(self) -> None:
        await self.open()
        if self._begins and not self.in_transaction:
            self.in_transaction = True
            await self._said(self._raw.execute("BEGIN"), "BEGIN")

    async def commit(self) -> None:
        if self.in_transaction:
            self.in_transaction = False
            await self._said(self._raw.execute("COMMIT"), "COMMIT")

    async def rollback(self) -> None:
        if self.in_transaction:
            self.in_transaction = False
            await self._said(self._raw.execute("ROLLBACK"), "ROLLBACK")

    async def throw_away(self) -> None:
        # At once: a polite good-bye would wait for a server that does not answer.
        if self._raw is not None:
            self._raw.terminate()
        await super().throw_away()


class SqliteLink(Link):
    """aiosqlite's connection; each statement is one trip to its thread, and BEGIN rides along with the first.

    What is a transaction of its own is done by ``group``, on no connection of this one's.
    """

    def __init__(
        self, compiler: Compiler, held: HeldConnections, opening: Opening, group: GroupWriter | None = None
    ) -> None:
        super().__init__(compiler, held)
        self._open, self._group = opening, group
        self._first: tuple[str, ...] = ()
        self._committed: Awaitable[None] | None = None

    async def open(self) -> None:
        """Take the connection, if that was not done yet."""
        if self._proxied is None:
            self._proxied, self._first = await self._open()

    async def found(self, compiled: Compiled, parameters: Mapping[str, Any]) -> Sequence[Any]:
        ready = compiled.ready(parameters)
        return await self._trip(lambda raw: raw.execute(ready.sql, ready.parameters).fetchall(), ready.sql)

    async def run(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> int:
        ready = self._compiler(statement, parameters).ready(parameters)
        changed: int = await self._trip(lambda raw: raw.execute(ready.sql, ready.parameters).rowcount, ready.sql)
        return changed

    async def run_many(self, statement: sa.Executable, parameters: Sequence[Mapping[str, Any]]) -> None:
        ready = [self._compiler(statement, one).ready(one) for one in parameters]
        await self._trip(lambda raw: raw.executemany(ready[0].sql, [one.parameters for one in ready]), ready[0].sql)

    async def together(self, procedure: Procedure, given: Given, *, commits: bool) -> Any:
        """What comes of a call, in one trip, and the commit with it where something does and it ``commits``: that goes
        on then whatever happens, and ``commit`` waits for it."""
        if commits and self._group is not None and self._proxied is None:
            doing = self._group.begin(procedure, given)
            found = await self._said(doing.found, None)
            self._committed = doing.committed if found is not None else None
            return found

        def all_of_it(raw: Any) -> Any:
            [done] = procedure.do(raw, [given])
            if done is not None and commits:
                raw.commit()
            return done

        done = await self._trip(all_of_it)
        if done is not None and commits:
            self.in_transaction = False
        return done

    async def _trip(self, work: Callable[[Any], T], sql: str | None = None) -> T:
        await self.open()
        first, self._first, self.in_transaction = self._first, (), True

        def in_thread(raw: Any) -> T:
            for statement in first:
                raw.execute(statement)
            return work(raw)

        return await self._said(self._connection.in_thread(in_thread), sql)

    @property
    def _connection(self) -> Any:
        return self._proxied.dbapi_connection if self._proxied else None

    async def commit(self) -> None:
        if self._committed is not None:
            committed, self._committed = self._committed, None
            await self._said(committed, "COMMIT")
        if self.in_transaction:
            await self._trip(lambda raw: raw.commit())
            self.in_transaction = False

    async def rollback(self) -> None:
        if self.in_transaction:
            self.in_transaction = False
            await self._said(self._connection.in_thread(lambda raw: raw.rollback()), "ROLLBACK")

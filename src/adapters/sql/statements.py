"""Statements on one connection. Here, and nowhere else, do failures of the database turn into errors of the core."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.sql.batches import Own
from adapters.sql.compiled import Row
from adapters.sql.failures import outcome_unknown, translated
from adapters.sql.links import Link, SqliteLink
from adapters.sql.procedures import Procedure
from adapters.sql.writing import Given
from chat_core.errors import OutcomeUnknown

T = TypeVar("T")

_NONE: Mapping[str, Any] = MappingProxyType({})


class SqlStatements:
    """Runs the repositories' statements on one connection.

    Lets ``IntegrityError`` through, for the repository to say what it means, and translates everything else. After
    any failure the transaction can only be left.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.failed = False
        self.lost = False

    @property
    def dialect(self) -> str:
        return self._link.dialect

    async def rows(self, statement: sa.Executable, parameters: Mapping[str, Any] = _NONE) -> Sequence[Row]:
        return await self._meaning(self._link.rows(statement, parameters))

    async def values(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The same without the names of its columns, for those who know their order."""
        return await self._meaning(self._link.values(statement, parameters))

    async def seen(self, statement: sa.Executable, parameters: Mapping[str, Any], own: Own) -> Sequence[Row]:
        """As ``rows``, of one that only reads, and whose transaction has said nothing yet: it may be sent together with
        others of its text."""
        return await self._meaning(self._link.lasting(statement, parameters, own))

    async def lasting(
        self, statement: sa.Executable, parameters: Mapping[str, Any], own: Own | None = None
    ) -> Sequence[Row]:
        """As ``rows``, of a statement that is a transaction of its own: its success is the commit."""
        return await self._meaning(self._link.lasting(statement, parameters, own), commits=True)

    async def row(self, statement: sa.Executable, parameters: Mapping[str, Any] = _NONE) -> Row | None:
        rows = await self.rows(statement, parameters)
        return rows[0] if rows else None

    async def run(self, statement: sa.Executable, parameters: Mapping[str, Any] = _NONE) -> int:
        """How many rows it changed."""
        return await self._meaning(self._link.run(statement, parameters))

    async def run_many(self, statement: sa.Executable, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run it with each of these sets of parameters."""
        await self._meaning(self._link.run_many(statement, parameters))

    async def together(self, procedure: Procedure, given: Given, *, commits: bool = False) -> Any:
        """What comes of a call, in one trip (SQLite), and the commit, where it ``commits`` and something does."""
        link = cast("SqliteLink", self._link)
        return await self._meaning(link.together(procedure, given, commits=commits), commits=commits)

    async def _meaning(self, running: Awaitable[T], *, commits: bool = False) -> T:
        try:
            return await running
        except exc.IntegrityError:
            self.failed = True
            raise
        except Exception as error:
            self.failed = True
            if commits and outcome_unknown(error):
                self.lost = True
                raise OutcomeUnknown from error
            away = translated(error)
            if away is None:
                raise
            self.lost = not isinstance(error, exc.DBAPIError) or error.connection_invalidated
            raise away from error
        except BaseException:
            # Cut off in the middle: what the driver was doing may still go on.
            self.failed = self.lost = True
            raise

    async def commit(self) -> None:
        if self.failed:
            # PostgreSQL would answer this COMMIT with a silent ROLLBACK.
            raise RuntimeError("a transaction in which a statement failed can only be left")
        try:
            await self._link.commit()
        except Exception as error:
            self.failed = True
            if outcome_unknown(error):
                self.lost = True
                raise OutcomeUnknown from error
            away = translated(error)
            if away is None:
                raise
            raise away from error
        except BaseException:
            self.failed = self.lost = True
            raise

    async def leave(self) -> None:
        """Undo what is not committed and give the connection back; a dead or silent one is thrown away."""
        if self.lost or self._link.in_transaction:
            # To its end even when the caller is cancelled meanwhile: a connection given back half-way is a lost one.
            await asyncio.shield(asyncio.ensure_future(self._undo()))
        else:
            self._link.give_back()

    async def _undo(self) -> None:
        if not self.lost:
            try:
                await self._link.rollback()
            except (exc.SQLAlchemyError, OSError):
                # A rollback that fails has no news: the database undoes by itself what nobody commits.
                self.lost = True
        if self.lost:
            await self._link.throw_away()
        else:
            self._link.give_back()

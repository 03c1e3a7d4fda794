"""Statements on one connection. Here, and nowhere else, do failures of the database turn into errors of the core."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.failures import outcome_unknown, translated
from chat_core.errors import OutcomeUnknown


class SqlStatements:
    """Runs the repositories' statements on one connection.

    Lets ``IntegrityError`` through, for the repository to say what it means, and translates everything else. After
    any failure the transaction can only be left.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.failed = False
        self.lost = False

    @property
    def dialect(self) -> str:
        return self._connection.dialect.name

    async def rows(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[sa.Row[Any]]:
        return (await self._run(statement, parameters)).fetchall()

    async def row(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> sa.Row[Any] | None:
        return (await self._run(statement, parameters)).first()

    async def run(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> int:
        """How many rows it changed. With several sets of parameters, it is run with each of them."""
        return (await self._run(statement, parameters)).rowcount

    async def _run(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    ) -> sa.CursorResult[Any]:
        try:
            return await self._connection.execute(statement, parameters)
        except exc.IntegrityError:
            self.failed = True
            raise
        except Exception as error:
            self.failed = True
            away = translated(error)
            if away is None:
                raise
            self.lost = not isinstance(error, exc.DBAPIError) or error.connection_invalidated
            raise away from error

    async def commit(self) -> None:
        if self.failed:
            # PostgreSQL would answer this COMMIT with a silent ROLLBACK.
            raise RuntimeError("a transaction in which a statement failed can only be left")
        try:
            await self._connection.commit()
        except Exception as error:
            self.failed = True
            if outcome_unknown(error):
                self.lost = True
                raise OutcomeUnknown from error
            away = translated(error)
            if away is None:
                raise
            raise away from error

    async def leave(self) -> None:
        """Undo what is not committed and give the connection back; a dead or silent one is thrown away."""
        if self.lost:
            closing = self._throw_away()
        elif self._connection.in_transaction():
            closing = self._connection.close()
        else:
            # Nothing to undo: this never waits, so that it cannot be cut off half-way either.
            await self._connection.close()
            return
        # To its end even when the caller is cancelled meanwhile: a connection given back half-way is a lost one.
        await asyncio.shield(asyncio.ensure_future(_quietly(closing)))

    async def _throw_away(self) -> None:
        if not self._connection.closed and not self._connection.invalidated:
            raw = (await self._connection.get_raw_connection()).driver_connection
            if raw is not None and hasattr(raw, "terminate"):
                # At once: a polite good-bye would wait for a server that does not answer.
                raw.terminate()
            await self._connection.invalidate()
        await self._connection.close()


async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
    """A rollback that fails has no news: the database undoes by itself what nobody commits."""
    with suppress(exc.SQLAlchemyError, OSError):
        await closing

"""Transactions."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from adapters.sql.claims import SqlClaims
from adapters.sql.engine import Database
from adapters.sql.messages import SqlMessages
from adapters.sql.replies import SqlReplies
from adapters.sql.rooms import SqlRooms
from adapters.sql.sessions import SqlSessions
from adapters.sql.statements import SqlStatements
from adapters.sql.steps import SqlSteps
from adapters.sql.summaries import SqlSummaries
from adapters.sql.users import SqlUsers
from chat_core.domain.ids import ReplyId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.ports.storage import Accepted, Answered, Claim, Claimed, Offer, Transaction, UnitOfWork


class SqlTransaction(Transaction):
    """One transaction on one connection."""

    def __init__(self, statements: SqlStatements) -> None:
        self._statements = statements
        self._users = SqlUsers(statements)
        self._summaries = SqlSummaries(statements)
        self._rooms = SqlRooms(statements, self._summaries)
        self._replies = SqlReplies(statements)
        self._messages = SqlMessages(statements, self._replies, self._summaries)
        self._sessions = SqlSessions(statements)
        self._claims = SqlClaims(statements, self._summaries)
        self._steps = SqlSteps(statements, rooms=self._rooms, messages=self._messages, replies=self._replies)

    @property
    def users(self) -> SqlUsers:
        return self._users

    @property
    def rooms(self) -> SqlRooms:
        return self._rooms

    @property
    def messages(self) -> SqlMessages:
        return self._messages

    @property
    def replies(self) -> SqlReplies:
        return self._replies

    @property
    def summaries(self) -> SqlSummaries:
        return self._summaries

    @property
    def sessions(self) -> SqlSessions:
        return self._sessions

    async def accept(self, offer: Offer) -> Accepted | None:
        return await self._steps.accept(offer)

    async def claim(self, claim: Claim) -> Claimed | None:
        if self._statements.dialect == "postgresql":
            return await self._claims.claim(claim)
        return await super().claim(claim)

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        return await self._steps.answer(message, fingerprint, reply, attempt, alone=alone)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        return await self._steps.answered(reply_id)

    async def commit(self) -> None:
        await self._statements.commit()


class SqlUnitOfWork(UnitOfWork):
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self) -> AbstractAsyncContextManager[SqlTransaction]:
        return self._transaction(readonly=False)

    def read(self) -> AbstractAsyncContextManager[SqlTransaction]:
        return self._transaction(readonly=True)

    @asynccontextmanager
    async def _transaction(self, *, readonly: bool) -> AsyncIterator[SqlTransaction]:
        statements = SqlStatements(await self._database.begin(readonly=readonly))
        try:
            yield SqlTransaction(statements)
        finally:
            await statements.leave()

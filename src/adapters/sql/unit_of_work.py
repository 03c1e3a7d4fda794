"""Transactions."""

from contextlib import AbstractAsyncContextManager

from adapters.sql.claims import SqlClaims
from adapters.sql.engine import Database
from adapters.sql.messages import SqlMessages
from adapters.sql.replies import SqlReplies
from adapters.sql.rooms import SqlRooms
from adapters.sql.sessions import SqlSessions
from adapters.sql.statements import SqlStatements
from adapters.sql.steps import SqlSteps
from adapters.sql.summaries import KnownSummaries, SqlSummaries
from adapters.sql.users import SqlUsers
from chat_core.domain.ids import ReplyId, RoomId, UserId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.ports.storage import (
    Accepted,
    Answered,
    Claim,
    Claimed,
    MessagePage,
    Offer,
    Transaction,
    UnitOfWork,
)


class SqlTransaction(Transaction):
    """One transaction on one connection."""

    # A repository is made when it is asked for: most transactions need one or two.

    def __init__(self, statements: SqlStatements, known: KnownSummaries) -> None:
        self._statements, self._known = statements, known

    @property
    def users(self) -> SqlUsers:
        return SqlUsers(self._statements)

    @property
    def rooms(self) -> SqlRooms:
        return SqlRooms(self._statements, self.summaries)

    @property
    def messages(self) -> SqlMessages:
        return SqlMessages(self._statements, self.replies, self.summaries)

    @property
    def replies(self) -> SqlReplies:
        return SqlReplies(self._statements)

    @property
    def summaries(self) -> SqlSummaries:
        return SqlSummaries(self._statements, self._known)

    @property
    def sessions(self) -> SqlSessions:
        return SqlSessions(self._statements)

    @property
    def _claims(self) -> SqlClaims:
        return SqlClaims(self._statements, self.summaries)

    @property
    def _steps(self) -> SqlSteps:
        return SqlSteps(self._statements, self.summaries)

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

    async def page_for(
        self,
        user_id: UserId,
        room_id: RoomId,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
    ) -> MessagePage | None:
        return await self.messages.page_for(user_id, room_id, limit, before=before, after=after, around=around)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        return await self._steps.answered(reply_id)

    async def commit(self) -> None:
        await self._statements.commit()


class _Opened(AbstractAsyncContextManager[SqlTransaction]):
    def __init__(self, database: Database, known: KnownSummaries, *, readonly: bool) -> None:
        self._database, self._known, self._readonly = database, known, readonly

    async def __aenter__(self) -> SqlTransaction:
        self._statements = SqlStatements(await self._database.begin(readonly=self._readonly))
        return SqlTransaction(self._statements, self._known)

    async def __aexit__(self, *_: object) -> None:
        await self._statements.leave()


class SqlUnitOfWork(UnitOfWork):
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = KnownSummaries()

    def __call__(self) -> AbstractAsyncContextManager[SqlTransaction]:
        return _Opened(self._database, self._known, readonly=False)

    def read(self) -> AbstractAsyncContextManager[SqlTransaction]:
        return _Opened(self._database, self._known, readonly=True)

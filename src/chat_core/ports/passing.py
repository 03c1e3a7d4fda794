"""A transaction around a transaction, for whoever counts what is done in one or changes a thing about it."""

from chat_core.domain.ids import ReplyId
from chat_core.domain.message import Message
from chat_core.domain.reply import Attempt, Reply
from chat_core.ports.storage import (
    Accepted,
    Answered,
    Claim,
    Claimed,
    Messages,
    Offer,
    Replies,
    Rooms,
    Sessions,
    Summaries,
    Transaction,
    Users,
)


class PassingTransaction(Transaction):
    """A transaction like the one within; a subclass says what is different about it."""

    def __init__(self, inner: Transaction) -> None:
        self.inner = inner

    @property
    def users(self) -> Users:
        return self.inner.users

    @property
    def rooms(self) -> Rooms:
        return self.inner.rooms

    @property
    def messages(self) -> Messages:
        return self.inner.messages

    @property
    def replies(self) -> Replies:
        return self.inner.replies

    @property
    def summaries(self) -> Summaries:
        return self.inner.summaries

    @property
    def sessions(self) -> Sessions:
        return self.inner.sessions

    async def accept(self, offer: Offer) -> Accepted | None:
        return await self.inner.accept(offer)

    async def claim(self, claim: Claim) -> Claimed | None:
        return await self.inner.claim(claim)

    async def answer(
        self, message: Message, fingerprint: bytes, reply: Reply, attempt: Attempt | None, *, alone: bool = False
    ) -> int | None:
        return await self.inner.answer(message, fingerprint, reply, attempt, alone=alone)

    async def answered(self, reply_id: ReplyId) -> Answered | None:
        return await self.inner.answered(reply_id)

    async def commit(self) -> None:
        await self.inner.commit()

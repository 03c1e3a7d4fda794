"""What an answer was made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_core.domain.ids import MessageId
from chat_core.domain.message import MessageKind
from chat_core.domain.reply import Attempt, Reply
from chat_core.domain.room import open_door
from chat_core.domain.summary import Summary
from chat_core.domain.user import Actor
from chat_core.errors import NotFound
from chat_core.ports.storage import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerContext:
    """The messages that a model was shown, the summary of what was said before them (without its text where that is
    void by now), the reply, and the requests that were made for it."""

    message_ids: Sequence[MessageId]
    summary: Summary | None
    reply: Reply
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadContext:
    """What an AI's message was made from. Raises ``NotFound``, also for a message of somebody's, and where its room is
    closed to the person."""

    uow: UnitOfWork

    async def __call__(self, *, actor: Actor, message_id: MessageId) -> AnswerContext:
        async with self.uow.read() as tx:
            message = await tx.messages.get(message_id)
            if message is None:
                raise NotFound
            open_door(await tx.rooms.door(message.room_id, actor.user_id))
            if message.kind is not MessageKind.AI or message.reply_to is None:
                raise NotFound
            # Once there is an answer there is no later try.
            reply = await tx.replies.newest_for(message.reply_to)
            if reply is None:
                raise NotFound
            sources = reply.sources
            return AnswerContext(
                message_ids=await tx.messages.at(message.room_id, sources.seqs) if sources else (),
                summary=await tx.summaries.get(sources.summary_id) if sources and sources.summary_id else None,
                reply=reply,
                attempts=await tx.replies.attempts(reply.id),
            )

"""Requests that are put on the bill a little before they are announced."""

from datetime import datetime
from functools import cache
from typing import cast

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Attempt
from chat_core.ports.language_model import Conversation, ForeseeableModel, LanguageModel


@cache
def _foresees(kind: type[LanguageModel]) -> bool:
    # Of a protocol Python finds this out member by member, each time anew.
    return issubclass(kind, ForeseeableModel)


def first_attempt(
    model: LanguageModel, reply_id: ReplyId, epoch: int, conversation: Conversation, at: datetime
) -> Attempt | None:
    """The request that the making of this reply begins with, where it can be foreseen: then it is stored in the same
    transaction as the claim, instead of in one of its own."""
    foreseen = cast("ForeseeableModel", model).foresee(conversation) if _foresees(type(model)) else None
    if foreseen is None:
        return None
    return Attempt(
        reply_id=reply_id,
        number=1,
        epoch=epoch,
        provider=foreseen.provider,
        model=foreseen.model,
        started_at=at,
    )

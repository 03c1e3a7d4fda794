"""What is kept of a conversation once its messages no longer fit into a prompt."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from chat_core.domain.ids import RoomId, SummaryId
from chat_core.values import value

#: A summary longer than this is cut: it is part of every later prompt.
SUMMARY_MAX = 8_000


class SummaryStatus(StrEnum):
    """To be made; there to be used; or no more to be used, because something that it drew on was edited or deleted."""

    DUE = "due"
    READY = "ready"
    VOID = "void"


@value(kw_only=True)
class Summary:
    """What was said in a room up to a place in its log, in the words of the room's model.

    ``epoch`` is raised by every claim and fences out earlier makers; ``requests`` counts those to providers, each of
    them before it is made, with the ``provider`` and ``model`` of the last. Token counts are those of all of them.
    """

    id: SummaryId
    room_id: RoomId
    up_to: int
    created_at: datetime
    status: SummaryStatus = SummaryStatus.DUE
    text: str = ""
    epoch: int = 0
    failures: int = 0
    requests: int = 0
    provider: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    def made(self, text: str) -> "Summary":
        """With its text, ready to be used."""
        return replace(self, status=SummaryStatus.READY, text=text[:SUMMARY_MAX])

    def void(self) -> "Summary":
        """Without its text, which may hold what is to be nowhere any more."""
        return replace(self, status=SummaryStatus.VOID, text="")

"""Answers in the making, shown to everyone who has their room open."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field

from chat_core.domain.ids import ReplyId, RoomId
from chat_core.domain.reply import Reply
from chat_core.errors import NotFound, Unavailable
from chat_core.ports.delivery import ReplyChanged
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.follow import Delta, Ended, FollowReply, Reset, Started
from chat_core.use_cases.live.events import LiveEvent
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.live.room import Subscription

log = logging.getLogger(__name__)

#: So many answers are shown at once on one process; those beyond are seen when they are stored.
MOST = 1000


@dataclass(frozen=True, slots=True)
class ReplyText:
    """Text to append to an answer, or, empty, the sign to forget what there was."""

    reply_id: ReplyId
    text: str


@dataclass(slots=True)
class _Shown:
    """An answer that is shown: what those who come now have to be told first."""

    room_id: RoomId
    reply: Reply | None = None
    text: list[str] = field(default_factory=list[str])


class LiveReplies:
    """Follows each answer once for all who have its room open on this process."""

    def __init__(self, uow: UnitOfWork, follow: FollowReply, hub: Hub) -> None:
        self._uow = uow
        self._follow = follow
        self._hub = hub
        self._shown: dict[ReplyId, _Shown] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        hub.on_reply = self._heard
        hub.on_start = self._greet

    async def keep(self) -> None:
        """One round: find answers that no news told of. Raises ``Unavailable``."""
        rooms = self._hub.viewed_rooms()
        if not rooms:
            return
        async with self._uow.read() as tx:
            unfinished = await tx.replies.unfinished_in(*rooms)
        for reply in unfinished:
            self._show(reply.room_id, reply.id)

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _heard(self, news: ReplyChanged) -> None:
        if self._hub.has_viewers(news.room_id):
            self._show(news.room_id, news.reply_id)

    def _greet(self, subscription: Subscription) -> None:
        """Tell somebody who comes now what the others have seen already."""
        for reply_id, shown in self._shown.items():
            if shown.room_id == subscription.room.id and shown.reply is not None:
                subscription.connection.show(LiveEvent(shown.room_id, "reply.started", shown.reply))
                if shown.text:
                    so_far = ReplyText(reply_id, "".join(shown.text))
                    subscription.connection.show(LiveEvent(shown.room_id, "reply.delta", so_far))

    def _show(self, room_id: RoomId, reply_id: ReplyId) -> None:
        if reply_id in self._shown or len(self._shown) >= MOST:
            return
        self._shown[reply_id] = _Shown(room_id)
        task = asyncio.get_running_loop().create_task(self._run(reply_id, self._shown[reply_id]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reply_id: ReplyId, shown: _Shown) -> None:
        def deserted() -> bool:
            return not self._hub.has_viewers(shown.room_id)

        try:
            async with aclosing(self._follow(reply_id=reply_id, leave=deserted)) as events:
                async for event in events:
                    if isinstance(event, Started) and event.reply.room_id != shown.room_id:
                        return  # news that were made up: those who have this room open may not be let into the other
                    self._tell(shown, reply_id, event)
        except (NotFound, Unavailable) as error:
            log.debug("an answer is not shown: %s", error.detail)
        except Exception:
            # A task's exception has nobody to go to; the next round shows the answer anew while it is made.
            log.exception("an answer could not be shown")
        finally:
            del self._shown[reply_id]

    def _tell(self, shown: _Shown, reply_id: ReplyId, event: object) -> None:
        match event:
            case Started(reply):
                shown.reply = reply
                self._hub.show(LiveEvent(shown.room_id, "reply.started", reply))
            case Delta(text):
                shown.text.append(text)
                self._hub.show(LiveEvent(shown.room_id, "reply.delta", ReplyText(reply_id, text)))
            case Reset():
                shown.text.clear()
                self._hub.show(LiveEvent(shown.room_id, "reply.reset", ReplyText(reply_id, "")))
            case Ended(reply):
                self._hub.show(LiveEvent(shown.room_id, "reply.ended", reply))
            case _:
                pass

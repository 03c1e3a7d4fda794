"""The end of an account, and its way out of its rooms."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chat_core.domain.ids import ReplyId, RoomId, UserId, utc_now
from chat_core.domain.reply import Reply, ReplyStatus
from chat_core.domain.room import EventKind, LogEntry, Membership, Role, Standing
from chat_core.domain.user import Actor, User
from chat_core.errors import Unavailable
from chat_core.ports.delivery import LogGrew, ReplyFeed, RoomFeed
from chat_core.ports.storage import Transaction, UnitOfWork
from chat_core.use_cases.accounts import CheckPassword
from chat_core.use_cases.authentication import RecentSessions
from chat_core.use_cases.rooms import cancel_unfinished
from chat_core.use_cases.transactions import again_on_contention

log = logging.getLogger(__name__)


async def _stop_replies(tx: Transaction, user_id: UserId, at: datetime) -> Sequence[ReplyId]:
    """Ask for the end of all that the person asked for, as ``StopReply`` does; returns whom to announce."""
    replies = await tx.replies.unfinished_for(user_id)
    for reply in replies:
        await tx.replies.request_stop(reply.id)
        # Looked at again now that its row is locked: it may have been claimed, or have ended, meanwhile.
        now = await tx.replies.get(reply.id)
        if now is not None and now.status is ReplyStatus.QUEUED:
            await cancel_unfinished(tx, [now], at)
    return [reply.id for reply in replies]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRooms:
    """Take somebody whose account was ended out of all rooms. Harmless to repeat.

    Each room in a transaction of its own: it is a member of any number, and each one's row is a lock that its people
    wait for. An owner's room passes to its longest-standing member, or ends.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    room_feed: RoomFeed
    now: Callable[[], datetime] = utc_now

    async def __call__(self, user_id: UserId) -> None:
        async with self.uow.read() as tx:
            rooms = await tx.rooms.rooms_of(user_id)
        for room_id in rooms:
            seq, ended = await self._leave(room_id, user_id)
            if seq:
                await self.room_feed.tell(LogGrew(room_id=room_id, seq=seq))
            for reply in ended:
                await self.feed.announce(reply.id)

    @again_on_contention
    async def _leave(self, room_id: RoomId, user_id: UserId) -> tuple[int, Sequence[Reply]]:
        """How far the room's log has come by that (0: nothing was to be done), and the replies that ended with it."""
        async with self.uow() as tx:
            at = self.now()
            door = await tx.rooms.advance(room_id, user_id, at=at)
            if door is None or door.membership is None or not door.is_member:
                return 0, ()
            leaver, seq = door.membership, door.room.last_seq
            ended: Sequence[Reply] = ()
            heirs = [member for member in await tx.rooms.members(room_id) if member.user_id != user_id]
            if door.is_owner and not heirs:
                ended = await self._end(tx, room_id, seq, at)
            else:
                await self._step_out(tx, leaver, seq, at)
                # They may name the one who leaves, and nothing else does from now on.
                await tx.summaries.void(room_id, 0)
                if door.is_owner:
                    seq = await self._inherit(tx, heirs[0], at)
            await tx.commit()
        return seq, ended

    async def _end(self, tx: Transaction, room_id: RoomId, seq: int, at: datetime) -> Sequence[Reply]:
        await tx.rooms.add_entry(LogEntry(room_id=room_id, seq=seq, kind=EventKind.ROOM_DELETED, created_at=at))
        ended = await cancel_unfinished(tx, await tx.replies.unfinished_in(room_id), at)
        await tx.rooms.delete(room_id, at)
        return ended

    async def _step_out(self, tx: Transaction, leaver: Membership, seq: int, at: datetime) -> None:
        await tx.rooms.save_membership(replace(leaver, role=Role.MEMBER, standing=Standing.LEFT))
        await tx.rooms.add_entry(
            LogEntry(
                room_id=leaver.room_id,
                seq=seq,
                kind=EventKind.MEMBER_LEFT,
                created_at=at,
                user_id=leaver.user_id,
            )
        )

    async def _inherit(self, tx: Transaction, heir: Membership, at: datetime) -> int:
        door = await tx.rooms.advance(heir.room_id, heir.user_id, at=at)
        if door is None:
            raise LookupError("a room cannot go while its row is locked")
        await tx.rooms.save_membership(replace(heir, role=Role.OWNER))
        await tx.rooms.add_entry(
            LogEntry(room_id=heir.room_id, seq=door.room.last_seq, kind=EventKind.ROOM_UPDATED, created_at=at)
        )
        return door.room.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAccount:
    """End the account that asks, for ever; see ``Users.end`` for what stays. Raises ``WrongPassword``.

    Once the account is ended, in one transaction with its sessions and replies, the rest is a matter of time: should
    the storage go away meanwhile, ``FinishDepartures`` goes on where this one stopped.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    check: CheckPassword
    leave_rooms: LeaveRooms
    recent: RecentSessions
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, actor: Actor, password: str) -> None:
        while True:
            user = await self.check(user_id=actor.user_id, password=password)
            stopping = await self._end(user)
            if stopping is not None:
                break
        self.recent.forget_account(user.id)
        for reply_id in stopping:
            await self.feed.announce(reply_id)
        try:
            await self.leave_rooms(user.id)
        except Unavailable as error:
            log.warning("an account's rooms are yet to be left: %s", error.detail, extra={"user_id": str(user.id)})

    @again_on_contention
    async def _end(self, user: User) -> Sequence[ReplyId] | None:
        """The replies to announce; ``None`` where the password was changed meanwhile."""
        async with self.uow() as tx:
            held = await tx.users.hold(user.id)
            if held is None or held.password_hash != user.password_hash:
                return None
            at = self.now()
            await tx.users.end(user.id, at)
            stopping = await _stop_replies(tx, user.id, at)
            await tx.commit()
        return stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishDepartures:
    """Do what is left to do for accounts that were ended: rooms that were not reached, and what came in late.

    A request that was let in just before the end may store a message, join a room or ask for a reply just after it. An
    account is done with when it was looked after ``grace`` seconds after its end, when no such request can be left.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    leave_rooms: LeaveRooms
    grace: float = 60.0
    limit: int = 20
    now: Callable[[], datetime] = utc_now

    async def __call__(self) -> int:
        """How many were done with."""
        async with self.uow.read() as tx:
            due = await tx.users.departing(self.now() - timedelta(seconds=self.grace), self.limit)
        for user_id in due:
            await self.leave_rooms(user_id)
            for reply_id in await self._finish(user_id):
                await self.feed.announce(reply_id)
        return len(due)

    @again_on_contention
    async def _finish(self, user_id: UserId) -> Sequence[ReplyId]:
        async with self.uow() as tx:
            stopping = await _stop_replies(tx, user_id, self.now())
            await tx.users.departed(user_id)
            await tx.commit()
        return stopping

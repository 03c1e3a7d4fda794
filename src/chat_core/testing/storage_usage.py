"""The clauses of what somebody's replies took, and of how many are on their way."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from chat_core.domain.ids import MessageId, ReplyId, uuid7
from chat_core.domain.reply import Reply, ReplyStatus, Sources
from chat_core.domain.room import Room
from chat_core.domain.user import User
from chat_core.ports.storage import DayUsage, Load, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import MOMENT, a_message, asked, claimed, said, stored_room, stored_user

DAY = timedelta(days=1)
MIDNIGHT = MOMENT.replace(hour=0, minute=0, second=0, microsecond=0)


async def _reply(uow: UnitOfWork, room: Room, user: User, **changes: Any) -> Reply:
    return await asked(uow, await said(uow, room, user), **changes)


async def _ended(uow: UnitOfWork, reply: Reply, status: ReplyStatus = ReplyStatus.FAILED, **changes: Any) -> None:
    async with uow() as tx:
        assert await tx.replies.finish(replace(reply.ended(status, MOMENT), **changes))
        await tx.commit()


async def _answered(uow: UnitOfWork, room: Room, reply: Reply, **changes: Any) -> None:
    async with uow() as tx:
        door = await tx.rooms.advance(room.id, None, at=MOMENT, messages=1)
        assert door is not None
        message = a_message(room, None, door.room.last_seq, id=MessageId(uuid7()))
        await tx.messages.add(message, b"")
        ended = reply.ended(ReplyStatus.COMPLETE, MOMENT, message_id=message.id)
        assert await tx.replies.finish(replace(ended, **changes))
        await tx.commit()


class UsageClauses(Contract):
    """``load_of``, ``tokens_of`` and ``usage_of``; what a reply was made from."""

    async def test_a_load_is_what_is_not_final(self, uow: UnitOfWork) -> None:
        """Queued and running ones, of this person alone, in all rooms."""
        ann, bob = await stored_user(uow), await stored_user(uow, "bob")
        room, other = await stored_room(uow, ann), await stored_room(uow, bob)
        await claimed(uow, await _reply(uow, room, ann))
        await _reply(uow, other, ann)
        await _ended(uow, await _reply(uow, room, ann))
        await _reply(uow, room, bob)
        async with uow() as tx:
            assert await tx.replies.load_of(ann.id, None) == Load(unfinished=2, tokens=0)

    async def test_a_load_counts_tokens_since_a_moment(self, uow: UnitOfWork) -> None:
        """What was counted, wasted tokens too; what was reserved while it is not final, and for an answer that nobody
        counted. A reply that took nothing is free."""
        ann = await stored_user(uow)
        room = await stored_room(uow, ann)
        late = {"created_at": MOMENT - DAY}
        await _ended(uow, await _reply(uow, room, ann, reserved_tokens=1, **late), input_tokens=1000)
        await _answered(
            uow,
            room,
            await _reply(uow, room, ann, reserved_tokens=5),
            input_tokens=10,
            output_tokens=20,
            wasted_tokens=3,
        )
        await _answered(uow, room, await _reply(uow, room, ann, reserved_tokens=100))
        await _ended(uow, await _reply(uow, room, ann, reserved_tokens=1000))
        await _reply(uow, room, ann, reserved_tokens=10_000)
        async with uow() as tx:
            assert await tx.replies.load_of(ann.id, MIDNIGHT) == Load(unfinished=1, tokens=10_133)
        async with uow.read() as tx:
            assert await tx.replies.tokens_of(ann.id, MIDNIGHT) == 10_133
            assert await tx.replies.tokens_of(ann.id, MOMENT + DAY) == 0

    async def test_two_that_look_at_one_load_do_so_one_after_the_other(self, uow: UnitOfWork) -> None:
        """Each sees what those before it have stored: of any number at once, no two take the same place."""
        ann = await stored_user(uow)
        rooms = [await stored_room(uow, ann) for _ in range(4)]
        prompts = [await said(uow, room, ann) for room in rooms]

        async def take(number: int) -> int:
            async with uow() as tx:
                seen = (await tx.replies.load_of(ann.id, None)).unfinished
                reply = Reply(
                    id=ReplyId(uuid7()),
                    room_id=rooms[number].id,
                    prompt_id=prompts[number].id,
                    asked_by=ann.id,
                    created_at=MOMENT,
                    deadline_at=MOMENT + DAY,
                )
                await tx.replies.add(reply)
                await tx.commit()
            return seen

        assert sorted(await asyncio.gather(*(take(number) for number in range(4)))) == [0, 1, 2, 3]

    async def test_usage_is_by_day_and_room(self, uow: UnitOfWork) -> None:
        """Latest day first; by the day of asking in UTC; without those that took nothing."""
        ann, bob = await stored_user(uow), await stored_user(uow, "bob")
        room, other = sorted([await stored_room(uow, ann), await stored_room(uow, ann)], key=lambda room: room.id)
        for where, who, days, tokens in (
            (room, ann, 0, 1),
            (room, ann, 0, 2),
            (other, ann, 0, 4),
            (room, ann, 1, 8),
            (room, ann, 9, 16),
            (room, bob, 0, 32),
        ):
            reply = await _reply(uow, where, who, created_at=MOMENT - days * DAY)
            await _ended(uow, reply, input_tokens=tokens, output_tokens=10 * tokens, wasted_tokens=100 * tokens)
        await _ended(uow, await _reply(uow, other, ann, created_at=MOMENT - DAY))

        def used(day: date, where: Room, tokens: int) -> DayUsage:
            return DayUsage(
                date=day,
                room_id=where.id,
                input_tokens=tokens,
                output_tokens=10 * tokens,
                wasted_tokens=100 * tokens,
            )

        today = MOMENT.date()
        async with uow.read() as tx:
            assert await tx.replies.usage_of(ann.id, MIDNIGHT - 5 * DAY) == [
                used(today, room, 3),
                used(today, other, 4),
                used(today - DAY, room, 8),
            ]

    async def test_what_an_answer_was_made_from_is_stored_with_its_end(self, uow: UnitOfWork) -> None:
        """Places, summary and model, as they were given; nothing before the end."""
        ann = await stored_user(uow)
        room = await stored_room(uow, ann)
        for sources in (
            Sources(seqs=(1,)),
            Sources(seqs=(2, 3, 4, 7, 9, 10), model="house:m1"),
            Sources(seqs=()),
        ):
            reply = await _reply(uow, room, ann)
            async with uow.read() as tx:
                queued = await tx.replies.get(reply.id)
            assert queued is not None
            assert queued.sources is None
            await _ended(uow, reply, sources=sources)
            async with uow.read() as tx:
                ended = await tx.replies.get(reply.id)
            assert ended is not None
            assert ended.sources == sources

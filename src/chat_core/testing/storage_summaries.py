"""The clauses of ``Summaries``, and of the one that comes with a room's context."""

from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import SummaryId, UserId, uuid7
from chat_core.domain.room import Room
from chat_core.domain.summary import Summary, SummaryStatus
from chat_core.domain.user import User
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import MOMENT, said, stored_room, stored_user


async def _a_room(uow: UnitOfWork, messages: int = 6) -> tuple[User, Room]:
    user = await stored_user(uow)
    room = await stored_room(uow, user)
    for number in range(messages):
        await said(uow, room, user, str(number))
    return user, room


def _a_summary(room: Room, up_to: int, later: int = 0) -> Summary:
    created_at = MOMENT + timedelta(seconds=later)
    return Summary(id=SummaryId(uuid7()), room_id=room.id, up_to=up_to, created_at=created_at)


async def _asked(uow: UnitOfWork, summary: Summary, *, alone: bool = False) -> Summary:
    async with uow() as tx:
        await tx.summaries.ask(summary, alone=alone)
        await tx.commit()
    return summary


async def _claimed(uow: UnitOfWork, summary: Summary, lease: float = 60.0) -> Summary | None:
    async with uow() as tx:
        claimed = await tx.summaries.claim(summary.id, lease)
        await tx.commit()
    return claimed


async def _made(uow: UnitOfWork, room: Room, up_to: int, text: str) -> Summary:
    claimed = await _claimed(uow, await _asked(uow, _a_summary(room, up_to)))
    assert claimed is not None
    async with uow() as tx:
        assert await tx.summaries.finish(claimed.made(text))
        await tx.commit()
    return claimed.made(text)


async def _due(uow: UnitOfWork) -> list[SummaryId]:
    async with uow.read() as tx:
        return list(await tx.summaries.due(10))


async def _stored(uow: UnitOfWork, summary: Summary) -> Summary | None:
    async with uow.read() as tx:
        return await tx.summaries.get(summary.id)


async def _shown(uow: UnitOfWork, room: Room, up_to: int) -> Summary | None:
    async with uow.read() as tx:
        return (await tx.messages.context(room.id, up_to, 3)).summary


async def _voided(uow: UnitOfWork, user: User, room: Room, seq: int) -> None:
    async with uow() as tx:
        await tx.rooms.advance(room.id, UserId(user.id), at=MOMENT)
        await tx.summaries.void(room.id, seq)
        await tx.commit()


class SummaryClauses(Contract):
    """``Summaries``."""

    @pytest.mark.parametrize("alone", [False, True])
    async def test_what_is_asked_for_is_due_oldest_first(self, uow: UnitOfWork, alone: bool) -> None:
        """And stands there as it was asked for; one that nobody knows is ``None``."""
        user, room = await _a_room(uow)
        other = await stored_room(uow, user)
        newer = await _asked(uow, _a_summary(room, 4, later=1), alone=alone)
        older = await _asked(uow, _a_summary(other, 1), alone=alone)
        assert await _due(uow) == [older.id, newer.id]
        assert await _stored(uow, newer) == newer
        assert await _stored(uow, _a_summary(room, 1)) is None

    @pytest.mark.parametrize("alone", [False, True])
    async def test_a_room_has_one_that_is_due(self, uow: UnitOfWork, alone: bool) -> None:
        """Asking for a second one changes nothing, also while the first is being made."""
        _, room = await _a_room(uow)
        first = await _asked(uow, _a_summary(room, 3), alone=alone)
        second = await _asked(uow, _a_summary(room, 4, later=1), alone=alone)
        assert await _due(uow) == [first.id]
        assert await _claimed(uow, first) is not None
        await _asked(uow, second, alone=alone)
        assert await _due(uow) == []
        assert await _stored(uow, second) is None

    async def test_what_is_ready_as_far_is_not_asked_for_again(self, uow: UnitOfWork) -> None:
        """Only a summary that reaches further is worth the making."""
        _, room = await _a_room(uow)
        await _made(uow, room, 4, "notes")
        await _asked(uow, _a_summary(room, 4))
        assert await _due(uow) == []
        further = await _asked(uow, _a_summary(room, 5))
        assert await _due(uow) == [further.id]

    async def test_of_those_that_claim_it_one_has_it(self, uow: UnitOfWork) -> None:
        """Until the lease is over; each claim raises the epoch."""
        _, room = await _a_room(uow)
        asked = await _asked(uow, _a_summary(room, 4))
        claimed = await _claimed(uow, asked, lease=0.0)
        assert claimed is not None
        assert claimed.epoch == 1
        again = await _claimed(uow, asked)
        assert again is not None
        assert again.epoch == 2
        assert await _claimed(uow, asked) is None

    async def test_an_earlier_maker_changes_nothing(self, uow: UnitOfWork) -> None:
        """Whose lease was over, and whose summary somebody else makes."""
        _, room = await _a_room(uow)
        asked = await _asked(uow, _a_summary(room, 4))
        early = await _claimed(uow, asked, lease=0.0)
        late = await _claimed(uow, asked)
        assert early is not None
        async with uow() as tx:
            assert not await tx.summaries.count_request(early)
            assert not await tx.summaries.finish(early.made("too late"))
            await tx.summaries.put_off(early, 0.0)
            await tx.commit()
        assert await _stored(uow, asked) == late

    async def test_a_request_is_counted_with_whom_it_asks(self, uow: UnitOfWork) -> None:
        """Before it is made, so that no provider is asked without a trace."""
        _, room = await _a_room(uow)
        claimed = await _claimed(uow, await _asked(uow, _a_summary(room, 4)))
        assert claimed is not None
        counted = replace(claimed, requests=1, provider="house", model="m1")
        async with uow() as tx:
            assert await tx.summaries.count_request(counted)
            await tx.commit()
        assert await _stored(uow, claimed) == counted

    async def test_one_that_is_put_off_is_due_later(self, uow: UnitOfWork) -> None:
        """With its failures and what they took."""
        _, room = await _a_room(uow)
        claimed = await _claimed(uow, await _asked(uow, _a_summary(room, 4)))
        assert claimed is not None
        failed = replace(claimed, failures=1, input_tokens=7, output_tokens=1)
        async with uow() as tx:
            await tx.summaries.put_off(failed, 60.0)
            await tx.commit()
        assert await _due(uow) == []
        assert await _stored(uow, claimed) == failed
        async with uow() as tx:
            await tx.summaries.put_off(failed, 0.0)
            await tx.commit()
        assert await _due(uow) == [claimed.id]

    async def test_a_context_comes_with_the_summary_that_reaches_furthest_before_it(self, uow: UnitOfWork) -> None:
        """Not with one that covers the last message, nor with one of another room, nor with one in the making."""
        user, room = await _a_room(uow)
        other = await stored_room(uow, user)
        await said(uow, other, user)
        first, second = await _made(uow, room, 2, "first"), await _made(uow, room, 4, "second")
        await _asked(uow, _a_summary(room, 5))
        assert await _shown(uow, room, 6) == second
        assert await _shown(uow, room, 5) == second
        assert await _shown(uow, room, 4) == first
        assert await _shown(uow, room, 2) is None
        assert await _shown(uow, other, 1) is None

    @pytest.mark.parametrize(("seq", "left"), [(5, "second"), (4, "first"), (3, "first"), (2, None), (0, None)])
    async def test_what_drew_on_a_void_place_is_used_no_more(self, uow: UnitOfWork, seq: int, left: str | None) -> None:
        """Those that end before it are; the text of the others is gone, and their row says that they are void."""
        user, room = await _a_room(uow)
        made = [await _made(uow, room, 2, "first"), await _made(uow, room, 4, "second")]
        await _voided(uow, user, room, seq)
        shown = await _shown(uow, room, 7)
        assert (shown.text if shown else None) == left
        for summary in made:
            stored = await _stored(uow, summary)
            assert stored is not None
            gone = summary.up_to >= seq
            assert (stored.status, stored.text) == (
                (SummaryStatus.VOID, "") if gone else (SummaryStatus.READY, summary.text)
            )

    async def test_one_in_the_making_that_is_void_is_not_finished(self, uow: UnitOfWork) -> None:
        """Nor due any more: whoever needs one asks for another."""
        user, room = await _a_room(uow)
        claimed = await _claimed(uow, await _asked(uow, _a_summary(room, 4)))
        assert claimed is not None
        await _voided(uow, user, room, 3)
        async with uow() as tx:
            assert not await tx.summaries.finish(claimed.made("what was deleted"))
            await tx.commit()
        assert await _shown(uow, room, 7) is None
        again = await _asked(uow, _a_summary(room, 4))
        assert await _due(uow) == [again.id]

    async def test_a_room_that_is_deleted_has_no_summary(self, uow: UnitOfWork) -> None:
        """Its text goes with those of the messages."""
        _, room = await _a_room(uow)
        made = await _made(uow, room, 4, "notes")
        async with uow() as tx:
            await tx.rooms.delete(room.id, MOMENT)
            await tx.commit()
        stored = await _stored(uow, made)
        assert stored is not None
        assert stored.text == ""

"""What the storage promises of answers in the making."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import MessageId, ReplyId, RoomId, uuid7
from chat_core.domain.message import fingerprint
from chat_core.domain.reply import Attempt, Cuts, Part, Place, Reply, ReplyStatus
from chat_core.errors import Contention, NotAuthenticated
from chat_core.ports.storage import Asks, DuplicateMessage, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_message,
    a_prompt,
    a_queued_reply,
    a_reply,
    a_user,
    any_texts,
    asked,
    claimed,
    finished,
    said,
    stored_room,
    stored_user,
)

FINAL = [status for status in ReplyStatus if status.final]


async def _stored(uow: UnitOfWork, reply: Reply) -> Reply | None:
    async with uow.read() as tx:
        return await tx.replies.get(reply.id)


async def _due(uow: UnitOfWork, limit: int = 10) -> list[ReplyId]:
    async with uow.read() as tx:
        return list(await tx.replies.due(limit))


def _an_attempt(reply: Reply, number: int = 1) -> Attempt:
    return Attempt(
        reply_id=reply.id,
        number=number,
        epoch=reply.epoch,
        provider="provider",
        model="model",
        started_at=MOMENT,
    )


class ReplyClauses(Contract):
    """Replies: who makes them, what they cost, and that each ends once."""

    async def test_a_reply_comes_back_as_it_was_stored(self, uow: UnitOfWork) -> None:
        """Every field of a queued one, and then every one that goes with its final status, whatever text is in it."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        for number, text in enumerate(any_texts(6)):
            prompt, answer = await said(uow, room, user), await said(uow, room, None)
            reply = a_reply(
                prompt,
                created_at=MOMENT + timedelta(microseconds=number),
                deadline_at=MOMENT + timedelta(microseconds=2 * number),
                try_number=number + 1,
                stop_requested=number % 2 == 0,
                asked_by=user.id if number % 3 else None,
            )
            async with uow() as tx:
                await tx.replies.add(reply)
                await tx.commit()
            assert await _stored(uow, reply) == reply
            ended = replace(
                await claimed(uow, reply),
                status=FINAL[number % len(FINAL)],
                message_id=answer.id,
                provider=text,
                model=text,
                finish_reason=text,
                error_code=text,
                input_tokens=2**40,
                output_tokens=number,
                wasted_tokens=2**40 + number,
                finished_at=MOMENT + timedelta(microseconds=3 * number),
                cuts=(None, Cuts(0, ()), Cuts(3, (1, 200_000)))[number % 3],
            )
            async with uow() as tx:
                assert await tx.replies.finish(ended)
                await tx.commit()
            assert await _stored(uow, reply) == ended

    async def test_there_is_no_reply_with_an_unknown_id(self, uow: UnitOfWork) -> None:
        """Not to be got, claimed, extended or finished; none to an unknown prompt."""
        ghost = a_reply(await a_prompt(uow))
        async with uow() as tx:
            assert await tx.replies.get(ghost.id) is None
            assert await tx.replies.newest_for(MessageId(uuid7())) is None
            assert list(await tx.replies.unfinished_in(RoomId(uuid7()))) == []
            assert await tx.replies.claim(ghost.id, 60) is None
            assert await tx.replies.extend(ghost.id, 0, 60) is None
            assert not await tx.replies.finish(ghost.ended(ReplyStatus.FAILED, MOMENT))

    async def test_the_newest_try_answers_for_its_prompt(self, uow: UnitOfWork) -> None:
        """By its number, whatever the dates say."""
        first = await finished(uow, await a_queued_reply(uow))
        async with uow() as tx:
            prompt = await tx.messages.get(first.prompt_id)
        assert prompt is not None
        second = await asked(uow, prompt, try_number=2, created_at=MOMENT - timedelta(days=1))
        async with uow.read() as tx:
            assert await tx.replies.newest_for(prompt.id) == second

    async def test_a_prompt_has_one_unfinished_reply_and_one_for_each_try(self, uow: UnitOfWork) -> None:
        """A second one is refused while the first is not final, and so is the same try for ever."""
        prompt = await a_prompt(uow)
        first = await asked(uow, prompt)
        with pytest.raises(Exception):  # noqa: B017, PT011 - a fault of the caller's: each storage has its own
            await asked(uow, prompt, try_number=2)
        await finished(uow, first)
        with pytest.raises(Exception):  # noqa: B017, PT011
            await asked(uow, prompt, try_number=1)
        await asked(uow, prompt, try_number=2)

    async def test_unfinished_replies_are_found_by_their_room_oldest_first(self, uow: UnitOfWork) -> None:
        """Queued and running ones; final ones and those of other rooms are not among them."""
        user = await stored_user(uow)
        room, elsewhere = await stored_room(uow, user), await stored_room(uow, user)
        replies = [
            await asked(uow, await said(uow, room, user), created_at=MOMENT - timedelta(hours=hours))
            for hours in range(4)
        ]
        await asked(uow, await said(uow, elsewhere, user))
        running = await claimed(uow, replies[1])
        await finished(uow, replies[2])
        async with uow.read() as tx:
            assert list(await tx.replies.unfinished_in(room.id)) == [replies[3], running, replies[0]]
            assert list(await tx.replies.unfinished_in(RoomId(uuid7()), room.id)) == [replies[3], running, replies[0]]
            assert list(await tx.replies.unfinished_in()) == []

    async def test_a_claim_takes_a_queued_reply(self, uow: UnitOfWork) -> None:
        """It runs in a new epoch, and no crash is counted."""
        reply = await a_queued_reply(uow)
        taken = await claimed(uow, reply)
        assert taken == replace(reply, status=ReplyStatus.RUNNING, epoch=1)
        assert await _stored(uow, reply) == taken

    async def test_of_twenty_claims_at_once_one_wins(self, uow: UnitOfWork) -> None:
        """The others get ``None``."""
        reply = await a_queued_reply(uow)

        async def claim() -> Reply | None:
            async with uow() as tx:
                found = await tx.replies.claim(reply.id, 60)
                await tx.commit()
                return found

        won = [found for found in await asyncio.gather(*(claim() for _ in range(20))) if found is not None]
        assert [found.epoch for found in won] == [1]

    async def test_a_reply_on_a_live_lease_is_not_to_be_had(self, uow: UnitOfWork) -> None:
        """A claim of it changes nothing."""
        taken = await claimed(uow, await a_queued_reply(uow), 60)
        async with uow() as tx:
            assert await tx.replies.claim(taken.id, 60) is None
            await tx.commit()
        assert await _stored(uow, taken) == taken

    async def test_a_lease_that_is_over_can_be_claimed_and_counts_a_crash(self, uow: UnitOfWork) -> None:
        """Each time: the epoch rises, and so do the crashes."""
        reply = await a_queued_reply(uow)
        for crashes in range(4):
            taken = await claimed(uow, reply, 0)
            assert (taken.status, taken.epoch, taken.crashes) == (ReplyStatus.RUNNING, crashes + 1, crashes)

    async def test_of_twenty_claims_of_a_lease_that_is_over_one_wins(self, uow: UnitOfWork) -> None:
        """And one crash is counted."""
        reply = await claimed(uow, await a_queued_reply(uow), -1)

        async def claim() -> Reply | None:
            async with uow() as tx:
                found = await tx.replies.claim(reply.id, 60)
                await tx.commit()
                return found

        won = [found for found in await asyncio.gather(*(claim() for _ in range(20))) if found is not None]
        assert [(found.epoch, found.crashes) for found in won] == [(2, 1)]

    async def test_a_claim_that_is_undone_leaves_the_reply_to_others(self, uow: UnitOfWork) -> None:
        """Nothing of it is kept."""
        reply = await a_queued_reply(uow)
        async with uow() as tx:
            assert await tx.replies.claim(reply.id, 60) is not None
        assert await _stored(uow, reply) == reply
        assert (await claimed(uow, reply)).epoch == 1

    async def test_a_final_reply_cannot_be_claimed(self, uow: UnitOfWork) -> None:
        """Nor can its lease be extended."""
        taken = await claimed(uow, await a_queued_reply(uow), 0)
        await finished(uow, taken)
        async with uow() as tx:
            assert await tx.replies.claim(taken.id, 60) is None
            assert await tx.replies.extend(taken.id, taken.epoch, 60) is None

    async def test_a_lease_is_extended_in_its_own_epoch_alone(self, uow: UnitOfWork) -> None:
        """From now on; an earlier maker, and one whose reply does not run, get ``None``."""
        reply = await a_queued_reply(uow)
        async with uow() as tx:
            assert await tx.replies.extend(reply.id, 0, 60) is None
        first = await claimed(uow, reply, 0)
        async with uow() as tx:
            assert await tx.replies.extend(reply.id, first.epoch, 60) == first
            await tx.commit()
        async with uow() as tx:
            assert await tx.replies.claim(reply.id, 60) is None
            assert await tx.replies.extend(reply.id, first.epoch, 0) == first
            await tx.commit()
        second = await claimed(uow, reply)
        async with uow() as tx:
            assert await tx.replies.extend(reply.id, first.epoch, 60) is None
            assert await tx.replies.extend(reply.id, second.epoch, 60) == second

    async def test_a_final_status_never_changes(self, uow: UnitOfWork) -> None:
        """``finish`` says ``False`` after the first, also to the same maker."""
        taken = await claimed(uow, await a_queued_reply(uow))
        ended = await finished(uow, taken, ReplyStatus.COMPLETE)
        async with uow() as tx:
            assert not await tx.replies.finish(taken.ended(ReplyStatus.FAILED, MOMENT))
        assert await _stored(uow, taken) == ended

    async def test_of_two_who_finish_at_once_one_does(self, uow: UnitOfWork) -> None:
        """The other is told so."""
        taken = await claimed(uow, await a_queued_reply(uow))

        async def finish(status: ReplyStatus) -> bool:
            async with uow() as tx:
                done = await tx.replies.finish(taken.ended(status, MOMENT))
                if done:
                    await tx.commit()
                return done

        assert sorted(await asyncio.gather(*map(finish, FINAL))) == [False] * (len(FINAL) - 1) + [True]

    async def test_an_older_epoch_finishes_nothing(self, uow: UnitOfWork) -> None:
        """Once a later maker has claimed it, the earlier one's end is refused."""
        reply = await a_queued_reply(uow)
        older = await claimed(uow, reply, 0)
        newer = await claimed(uow, reply)
        async with uow() as tx:
            assert not await tx.replies.finish(older.ended(ReplyStatus.COMPLETE, MOMENT))
            assert not await tx.replies.finish(reply.ended(ReplyStatus.CANCELLED, MOMENT))
            assert await tx.replies.finish(newer.ended(ReplyStatus.COMPLETE, MOMENT))

    async def test_a_queued_reply_can_be_finished_without_a_claim(self, uow: UnitOfWork) -> None:
        """One that is cancelled before anybody makes it."""
        reply = await a_queued_reply(uow)
        ended = await finished(uow, reply, ReplyStatus.CANCELLED)
        assert await _stored(uow, reply) == ended

    async def test_due_are_the_replies_that_nobody_makes(self, uow: UnitOfWork) -> None:
        """Queued ones, and running ones on a lease that is over, oldest first and no more than asked for."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        replies = [
            await asked(uow, await said(uow, room, user), created_at=MOMENT - timedelta(hours=hours))
            for hours in range(5)
        ]
        await claimed(uow, replies[0], 60)
        await claimed(uow, replies[1], 0)
        await finished(uow, replies[2])
        assert await _due(uow) == [replies[4].id, replies[3].id, replies[1].id]
        assert await _due(uow, 2) == [replies[4].id, replies[3].id]

    async def test_an_attempt_is_stored_and_counted_before_it_is_made(self, uow: UnitOfWork) -> None:
        """And its end is stored beside it: the bill holds every field, in order."""
        reply = await claimed(uow, await a_queued_reply(uow))
        bill: list[Attempt] = []
        for number, text in enumerate(any_texts(4), start=1):
            attempt = replace(_an_attempt(reply, number), provider=text, model=text)
            async with uow() as tx:
                assert await tx.replies.begin_attempt(attempt)
                await tx.commit()
            ended = replace(
                attempt,
                ended_at=MOMENT + timedelta(microseconds=number),
                outcome=text,
                input_tokens=2**40,
                output_tokens=number,
            )
            async with uow() as tx:
                assert list(await tx.replies.attempts(reply.id)) == [*bill, attempt]
                await tx.replies.end_attempt(ended)
                await tx.commit()
            bill.append(ended)
        async with uow.read() as tx:
            assert list(await tx.replies.attempts(reply.id)) == bill
        stored = await _stored(uow, reply)
        last = bill[-1]
        assert stored == replace(reply, attempts=len(bill), provider=last.provider, model=last.model)

    async def test_an_attempt_that_is_stored_again_counts_once(self, uow: UnitOfWork) -> None:
        """A maker that does not know whether its commit happened repeats it: insert where there is none, and set the
        count to the attempt's number instead of adding to it."""
        reply = await claimed(uow, await a_queued_reply(uow))
        for _ in range(2):
            async with uow() as tx:
                assert await tx.replies.begin_attempt(_an_attempt(reply))
                await tx.commit()
        async with uow.read() as tx:
            assert list(await tx.replies.attempts(reply.id)) == [_an_attempt(reply)]
        stored = await _stored(uow, reply)
        assert stored is not None
        assert stored.attempts == 1

    async def test_a_reply_is_handed_over_without_a_crash(self, uow: UnitOfWork) -> None:
        """Released, it is queued and free at once; its next maker has a new epoch, and no crash is counted."""
        reply = await claimed(uow, await a_queued_reply(uow))
        async with uow() as tx:
            assert not await tx.replies.release(reply.id, reply.epoch - 1)
            assert await tx.replies.release(reply.id, reply.epoch)
            await tx.commit()
        next_one = await claimed(uow, reply)
        assert (next_one.epoch, next_one.crashes, next_one.status) == (reply.epoch + 1, 0, ReplyStatus.RUNNING)
        async with uow() as tx:
            assert not await tx.replies.release(reply.id, reply.epoch)

    async def test_a_wish_to_stop_stays_until_the_end(self, uow: UnitOfWork) -> None:
        """It shows in what ``extend`` gives back, and among the running ones that are to stop; a final one has none."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        reply = await claimed(uow, await asked(uow, await said(uow, room, user)))
        other = await claimed(uow, await asked(uow, await said(uow, room, user)))
        async with uow() as tx:
            await tx.replies.request_stop(reply.id)
            await tx.commit()
        async with uow() as tx:
            assert list(await tx.replies.stopping(10)) == [reply.id]
            renewed = await tx.replies.extend(reply.id, reply.epoch, 15)
            assert renewed is not None
            assert renewed.stop_requested
            kept = await tx.replies.extend(other.id, other.epoch, 15)
            assert kept is not None
            assert not kept.stop_requested
        await finished(uow, reply)
        async with uow() as tx:
            await tx.replies.request_stop(other.id)
            assert list(await tx.replies.stopping(10)) == [other.id]

    async def test_a_reply_that_was_queued_just_now_is_taken_to_be_on_its_way(self, uow: UnitOfWork) -> None:
        """``due`` leaves it out where it is asked for those that wait for longer; an expired lease is always due."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        waiting = await asked(uow, await said(uow, room, user))
        left = await claimed(uow, await asked(uow, await said(uow, room, user)), 0)
        async with uow.read() as tx:
            assert set(await tx.replies.due(10)) == {waiting.id, left.id}
            assert list(await tx.replies.due(10, 3600)) == [left.id]

    async def test_a_prompt_has_one_unfinished_reply(self, uow: UnitOfWork) -> None:
        """Of two that try it again at once, the second gets ``Contention``: looking again, it finds the first one's."""
        reply = await a_queued_reply(uow)
        second = replace(reply, id=ReplyId(uuid7()), try_number=2)
        async with uow() as tx:
            with pytest.raises(Contention):
                await tx.replies.add(second)
        await finished(uow, await claimed(uow, reply))
        async with uow() as tx:
            with pytest.raises(Contention):
                await tx.replies.add(replace(second, try_number=1))
        async with uow() as tx:
            await tx.replies.add(second)
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.replies.newest_for(reply.prompt_id) == second

    async def test_an_attempt_of_an_epoch_that_no_longer_runs_is_refused(self, uow: UnitOfWork) -> None:
        """Neither stored nor counted: queued, claimed by another, or final."""
        reply = await a_queued_reply(uow)
        older = await claimed(uow, reply, 0)
        newer = await claimed(uow, reply)
        async with uow() as tx:
            assert not await tx.replies.begin_attempt(_an_attempt(reply))
            assert not await tx.replies.begin_attempt(_an_attempt(older))
            await tx.commit()
        ended = await finished(uow, newer)
        async with uow() as tx:
            assert not await tx.replies.begin_attempt(_an_attempt(newer))
            assert list(await tx.replies.attempts(reply.id)) == []
            await tx.commit()
        assert await _stored(uow, reply) == ended

    async def test_the_count_of_attempts_is_the_storages_own(self, uow: UnitOfWork) -> None:
        """A maker's value from before an attempt does not undo its count when it ends the reply."""
        reply = await claimed(uow, await a_queued_reply(uow))
        async with uow() as tx:
            assert await tx.replies.begin_attempt(_an_attempt(reply))
            await tx.commit()
        ended = await finished(uow, reply)
        assert await _stored(uow, reply) == replace(ended, attempts=1)

    async def test_kept_parts_come_back_in_order(self, uow: UnitOfWork) -> None:
        """Those behind a place, of its epoch alone, whatever text is in them; keeping one again changes nothing."""
        reply = await claimed(uow, await a_queued_reply(uow))
        texts = [*any_texts(6), None, "x" * 10_000]
        parts = [Part(reply.epoch, number, text) for number, text in enumerate(texts, 1)]
        async with uow() as tx:
            assert await tx.replies.keep_parts(reply.id, parts[:3])
            assert await tx.replies.keep_parts(reply.id, parts[2:])
            await tx.commit()
        async with uow.read() as tx:
            assert list(await tx.replies.parts(reply.id, Place(reply.epoch, 0))) == parts
            assert list(await tx.replies.parts(reply.id, Place(reply.epoch, 5))) == parts[5:]
            assert list(await tx.replies.parts(reply.id, Place(reply.epoch, len(parts)))) == []
            assert list(await tx.replies.parts(reply.id, Place(reply.epoch + 1, 0))) == []

    async def test_parts_of_an_epoch_that_does_not_run_are_not_kept(self, uow: UnitOfWork) -> None:
        """Those of a maker that another one has followed, or of a reply that has its end."""
        reply = await a_queued_reply(uow)
        older = await claimed(uow, reply, 0)
        newer = await claimed(uow, reply)
        async with uow() as tx:
            assert not await tx.replies.keep_parts(reply.id, [Part(older.epoch, 1, "old")])
            assert await tx.replies.keep_parts(reply.id, [Part(newer.epoch, 1, "new")])
            await tx.commit()
        async with uow.read() as tx:
            assert list(await tx.replies.parts(reply.id, Place(older.epoch, 0))) == []
            assert list(await tx.replies.parts(reply.id, Place(newer.epoch, 0))) == [Part(newer.epoch, 1, "new")]
        await finished(uow, newer)
        async with uow() as tx:
            assert not await tx.replies.keep_parts(reply.id, [Part(newer.epoch, 2, "late")])

    async def test_parts_can_be_dropped_once_the_reply_has_its_end(self, uow: UnitOfWork) -> None:
        """Those of a running one are not spent; what is dropped is gone."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        replies = [await claimed(uow, await asked(uow, await said(uow, room, user))) for _ in range(3)]
        async with uow() as tx:
            for reply in replies[:2]:
                assert await tx.replies.keep_parts(reply.id, [Part(reply.epoch, 1, "text"), Part(reply.epoch, 2, None)])
            await tx.commit()
        async with uow.read() as tx:
            assert list(await tx.replies.spent_parts(10)) == []
        for reply in (replies[0], replies[2]):
            await finished(uow, reply)
        async with uow() as tx:
            assert list(await tx.replies.spent_parts(10)) == [replies[0].id]
            await tx.replies.drop_parts([replies[0].id, replies[2].id])
            await tx.commit()
        async with uow.read() as tx:
            assert list(await tx.replies.spent_parts(10)) == []
            assert list(await tx.replies.parts(replies[0].id, Place(replies[0].epoch, 0))) == []
            assert len(await tx.replies.parts(replies[1].id, Place(replies[1].epoch, 0))) == 2

    async def test_a_message_and_its_reply_are_stored_at_once(self, uow: UnitOfWork) -> None:
        """Queued, or claimed already: then it is leased as after a claim, and due when the lease is over."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        stored: list[Reply] = []
        for lease in (0.0, 60.0, 0.0):
            async with uow() as tx:
                door = await tx.rooms.advance(room.id, user.id, at=MOMENT, messages=1)
                assert door is not None
                message = a_message(room, user, door.room.last_seq, "hello")
                reply = a_reply(message)
                reply = reply if not stored else reply.claimed()
                await tx.messages.add(message, fingerprint("hello"), Asks(reply=reply, lease=lease))
                await tx.commit()
            stored.append(reply)
            assert await _stored(uow, reply) == reply
        queued, leased, over = stored
        assert await _due(uow) == [queued.id, over.id]
        async with uow() as tx:
            assert await tx.replies.claim(leased.id, 60) is None
            assert await tx.replies.extend(leased.id, leased.epoch, 60) == leased
            taken = await tx.replies.claim(over.id, 60)
            assert taken is not None
            assert (taken.epoch, taken.crashes) == (over.epoch + 1, 1)

    async def test_a_message_its_reply_and_the_first_request_are_stored_at_once(self, uow: UnitOfWork) -> None:
        """The reply shows the attempt's number, provider and model; harmless to begin it again."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        async with uow() as tx:
            door = await tx.rooms.advance(room.id, user.id, at=MOMENT, messages=1)
            assert door is not None
            message = a_message(room, user, door.room.last_seq, "hello")
            claimed_reply = a_reply(message).claimed()
            attempt = _an_attempt(claimed_reply)
            reply = claimed_reply.asks(attempt)
            await tx.messages.add(message, fingerprint("hello"), Asks(reply=reply, lease=60, attempt=attempt))
            await tx.commit()
        assert await _stored(uow, reply) == reply
        assert (reply.attempts, reply.provider, reply.model) == (1, attempt.provider, attempt.model)
        async with uow() as tx:
            assert await tx.replies.begin_attempt(attempt)
            assert list(await tx.replies.attempts(reply.id)) == [attempt]

    async def test_where_a_message_is_refused_so_is_its_reply(self, uow: UnitOfWork) -> None:
        """A repeat of its key, or an account that is gone: nothing of either is there."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        first = await said(uow, room, user, m_id="k")
        for author, key, error in ((user, "k", DuplicateMessage), (a_user("ghost"), "other", NotAuthenticated)):
            message = replace(a_message(room, author, 2, "hello"), m_id=key)
            reply = a_reply(message)
            with pytest.raises(error):
                async with uow() as tx:
                    await tx.rooms.advance(room.id, user.id, at=MOMENT, messages=1)
                    await tx.messages.add(message, fingerprint("hello"), Asks(reply=reply))
            assert await _stored(uow, reply) is None
        async with uow.read() as tx:
            assert [message.id for message in (await tx.messages.page(room.id, 10)).messages] == [first.id]

"""What the storage promises of what it does in one step: the same as step by step, or nothing."""

import asyncio
from dataclasses import replace

import pytest

from chat_core.domain.ids import MessageId, ReplyId, RoomId, uuid7
from chat_core.domain.message import Message, MessageKind, Said, fingerprint
from chat_core.domain.reply import Attempt, Reply, ReplyStatus
from chat_core.domain.room import AIMode, EventKind, LogEntry, Room, RoomAI, Standing, WhenBusy
from chat_core.domain.summary import Summary
from chat_core.domain.user import User
from chat_core.errors import Contention
from chat_core.ports.storage import Accepted, Asks, DuplicateMessage, Offer, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_message,
    a_prompt,
    a_reply,
    asked,
    claimed,
    finished,
    said,
    stored_member,
    stored_room,
    stored_user,
)

_AI = RoomAI(mode=AIMode.MENTION, model="a:b", system_prompt="Be brief.", temperature=0.3, max_output_tokens=99)


def _attempt(reply: Reply) -> Attempt:
    return Attempt(reply_id=reply.id, number=1, epoch=reply.epoch, provider="p", model="m", started_at=MOMENT)


def _an_offer(room: Room, user: User, content: str = "hello", **changes: object) -> Offer:
    message = replace(a_message(room, user, 0, content), **{"m_id": str(uuid7()), **changes})  # type: ignore[arg-type]
    return Offer(message=message, sender=user.id, fingerprint=fingerprint(content), ai=room.ai)


def _with_reply(offer: Offer) -> Offer:
    reply = a_reply(offer.message).claimed()
    attempt = _attempt(reply)
    return replace(offer, asks=Asks(reply=reply.asks(attempt), lease=60.0, attempt=attempt))


async def _accepted(uow: UnitOfWork, offer: Offer) -> Accepted:
    """Stored in one step; a storage that has no such step need not show how it does it."""
    while True:
        try:
            async with uow() as tx:
                accepted = await tx.accept(offer)
                if accepted is None:
                    pytest.skip("this storage takes one step after the other")
                await tx.commit()
            return accepted
        except Contention:
            continue


async def _last_seq(uow: UnitOfWork, room_id: RoomId) -> int:
    async with uow.read() as tx:
        return (await tx.rooms.last_seqs([room_id]))[room_id]


def _an_answer(prompt: Message, reply: Reply) -> tuple[Message, Reply]:
    message_id = MessageId(uuid7())
    message = Message(
        id=message_id,
        m_id=str(message_id),
        seq=0,
        content="An answer.",
        user_id=None,
        room_id=prompt.room_id,
        kind=MessageKind.AI,
        username="AI Assistant",
        created_at=MOMENT,
        reply_to=prompt.id,
    )
    ended = replace(reply.ended(ReplyStatus.COMPLETE, MOMENT, message_id=message_id), input_tokens=3, output_tokens=4)
    return message, ended


async def _answered(
    uow: UnitOfWork, message: Message, reply: Reply, attempt: Attempt | None = None, *, alone: bool = False
) -> int | None:
    async with uow() as tx:
        place = await tx.answer(message, fingerprint(message.content), reply, attempt, alone=alone)
        if place is not None:
            await tx.commit()
    return place


class StepClauses(Contract):
    """``Transaction.accept``, ``answer`` and ``answered``."""

    @pytest.mark.parametrize("alone", [False, True])
    async def test_a_message_is_accepted_at_the_next_place_with_what_it_asks_for(
        self, uow: UnitOfWork, alone: bool
    ) -> None:
        """The message, its claimed reply and the request that it begins with, and the room's count."""
        user = await stored_user(uow)
        room = await stored_room(uow, user, ai=_AI)
        first = await said(uow, room, user)
        offer = _with_reply(_an_offer(room, user, "second", m_id="key"))
        accepted = await _accepted(uow, replace(offer, alone=alone))
        assert offer.asks is not None
        assert accepted.message == replace(offer.message, seq=first.seq + 1)
        async with uow.read() as tx:
            assert await tx.messages.get(offer.message.id) == accepted.message
            assert await tx.replies.get(offer.asks.reply.id) == offer.asks.reply
            assert list(await tx.replies.attempts(offer.asks.reply.id)) == [offer.asks.attempt]
            stored = await tx.rooms.get(room.id)
            assert stored is not None
            assert (stored.last_seq, stored.message_count, stored.last_activity_at) == (2, 2, MOMENT)
            assert await tx.replies.due(10) == []

    async def test_a_queued_reply_or_none_is_accepted_too(self, uow: UnitOfWork) -> None:
        """A queued one is due at once."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        plain = _an_offer(room, user)
        await _accepted(uow, plain)
        queued = replace(plain, message=replace(plain.message, id=MessageId(uuid7()), m_id="other"))
        reply = a_reply(queued.message)
        await _accepted(uow, replace(queued, asks=Asks(reply=reply)))
        async with uow.read() as tx:
            assert await tx.replies.newest_for(plain.message.id) is None
            assert await tx.replies.due(10) == [reply.id]

    @pytest.mark.parametrize("alone", [False, True])
    async def test_the_context_ends_with_what_was_accepted(self, uow: UnitOfWork, alone: bool) -> None:
        """As ``messages.context`` gives it: so many, oldest first, none that is deleted, and the summary."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        earlier = [await said(uow, room, user, f"number {number}") for number in range(5)]
        async with uow() as tx:
            await tx.messages.save(earlier[3].deleted(MOMENT))
            await tx.summaries.ask(Summary(id=uuid7(), room_id=room.id, up_to=2, created_at=MOMENT))  # type: ignore[arg-type]
            await tx.commit()
        async with uow() as tx:
            [summary_id] = await tx.summaries.due(1)
            summary = await tx.summaries.claim(summary_id, 60.0)
            assert summary is not None
            assert await tx.summaries.finish(summary.made("what was said"))
            await tx.commit()
        accepted = await _accepted(uow, replace(_an_offer(room, user), context=4, alone=alone))
        async with uow.read() as tx:
            assert accepted.context is not None
            assert accepted.context == await tx.messages.context(room.id, accepted.message.seq, 4)
        assert [message.seq for message in accepted.context.messages] == [2, 3, 5, 6]
        assert accepted.context.summary is not None
        only = await _accepted(uow, replace(_an_offer(room, user), context=1))
        assert only.context is not None
        assert only.context.messages == [Said.of(only.message)]
        assert (await _accepted(uow, _an_offer(room, user))).context is None

    @pytest.mark.parametrize("why", ["used", "stranger", "removed", "left", "ended", "settings", "busy", "no room"])
    async def test_what_has_to_be_done_step_by_step_is_left_alone(self, uow: UnitOfWork, why: str) -> None:
        """``None``, and nothing is stored: the same transaction may go on and do it."""
        user, ben = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_room(uow, user, ai=_AI)
        await said(uow, room, user, m_id="used")
        standings = {"removed": Standing.REMOVED, "left": Standing.LEFT}
        if why != "stranger":
            await stored_member(uow, room, ben, standings.get(why, Standing.ACTIVE))
        if why == "ended":
            async with uow() as tx:
                await tx.users.end(ben.id, MOMENT)
                await tx.commit()
        offer = _with_reply(_an_offer(room, user if why == "used" else ben, m_id="used"))
        if why == "settings":
            offer = replace(offer, ai=replace(_AI, model=None))
        if why == "busy":
            offer = replace(offer, ai=replace(_AI, busy=WhenBusy.REJECT))
        if why == "no room":
            offer = replace(offer, message=replace(offer.message, room_id=RoomId(uuid7())))
        async with uow() as tx:
            assert await tx.accept(offer) is None
            assert await tx.messages.get(offer.message.id) is None
            await tx.commit()
        assert await _last_seq(uow, room.id) == 1
        assert (await said(uow, room, user)).seq == 2

    async def test_what_was_accepted_and_not_committed_leaves_no_hole(self, uow: UnitOfWork) -> None:
        """The next message gets the same place."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)
        async with uow() as tx:
            await tx.accept(_with_reply(_an_offer(room, user)))
        assert (await said(uow, room, user)).seq == 1

    @pytest.mark.parametrize("alone", [False, True])
    async def test_of_many_offers_with_one_key_one_is_accepted(self, uow: UnitOfWork, alone: bool) -> None:
        """Also when they come at once: the others find it used, or meet ``DuplicateMessage``."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)

        async def send() -> bool:
            try:
                async with uow() as tx:
                    accepted = await tx.accept(replace(_an_offer(room, user, m_id="key"), alone=alone))
                    await tx.commit()
            except (DuplicateMessage, Contention):
                return False
            return accepted is not None

        assert sum(await asyncio.gather(*(send() for _ in range(8)))) <= 1
        assert await _last_seq(uow, room.id) <= 1

    @pytest.mark.parametrize("alone", [False, True])
    async def test_places_are_dense_however_many_are_accepted_at_once(self, uow: UnitOfWork, alone: bool) -> None:
        """And each context is of what was said before."""
        user = await stored_user(uow)
        room = await stored_room(uow, user)

        async def send() -> None:
            accepted = await _accepted(uow, replace(_an_offer(room, user), context=100, alone=alone))
            assert accepted.context is not None
            seqs = [message.seq for message in accepted.context.messages]
            assert seqs == list(range(1, accepted.message.seq + 1))

        await asyncio.gather(*(send() for _ in range(9)))
        assert await _last_seq(uow, room.id) == 9

    async def test_each_context_is_what_had_been_said_by_then(self, uow: UnitOfWork) -> None:
        """However many are accepted at the same moment, in one room and in others, each with a size of its own: it ends
        with the message itself, and without a hole."""
        user = await stored_user(uow)
        rooms = [await stored_room(uow, user, ai=_AI) for _ in range(3)]
        sizes = [1, 4, 20]

        async def send(number: int) -> Accepted:
            offer = _with_reply(_an_offer(rooms[number % 3], user, f"number {number}"))
            return await _accepted(uow, replace(offer, context=sizes[number % 2], alone=True))

        for _ in range(2):
            for number, accepted in enumerate(await asyncio.gather(*(send(number) for number in range(24)))):
                assert accepted.context is not None
                *_, last = accepted.context.messages
                assert (last.seq, last.content) == (accepted.message.seq, f"number {number}")
                size = min(sizes[number % 2], last.seq)
                places = [message.seq for message in accepted.context.messages]
                assert places == list(range(last.seq - size + 1, last.seq + 1))

    @pytest.mark.parametrize("alone", [False, True])
    async def test_nobody_is_accepted_after_their_removal(self, uow: UnitOfWork, alone: bool) -> None:
        """Whoever is removed while the offer waits for the room meets ``Contention``, or is left to the steps."""
        user, ben = await stored_user(uow), await stored_user(uow, "ben")
        room = await stored_room(uow, user)
        membership = await stored_member(uow, room, ben)
        async with uow() as tx:
            await tx.rooms.advance(room.id, user.id, at=MOMENT)

            async def send() -> Accepted | None:
                async with uow() as other:
                    return await other.accept(replace(_an_offer(room, ben), alone=alone))

            sending = asyncio.create_task(send())
            # Time for it to come to the room's row, where it has to wait: it is the same outcome if it does not.
            await asyncio.wait({sending}, timeout=0.05)
            await tx.rooms.save_membership(replace(membership, standing=Standing.REMOVED))
            await tx.rooms.add_entry(
                LogEntry(room_id=room.id, seq=1, kind=EventKind.MEMBER_LEFT, created_at=MOMENT, user_id=ben.id)
            )
            await tx.commit()
        try:
            assert await sending is None
        except Contention:
            pass
        assert await _last_seq(uow, room.id) == 1

    @pytest.mark.parametrize("alone", [False, True])
    async def test_an_answer_ends_its_reply_and_its_request(self, uow: UnitOfWork, alone: bool) -> None:
        """The message takes the next place in the same step."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        attempt = _attempt(reply)
        async with uow() as tx:
            assert await tx.replies.begin_attempt(attempt)
            await tx.commit()
        message, ended = _an_answer(prompt, reply)
        closed = replace(attempt, ended_at=MOMENT, outcome="stop", input_tokens=3, output_tokens=4)
        assert await _answered(uow, message, ended, closed, alone=alone) == prompt.seq + 1
        async with uow.read() as tx:
            found = await tx.answered(reply.id)
            assert found is not None
            assert found.message == replace(message, seq=prompt.seq + 1)
            assert (found.reply.status, found.reply.message_id) == (ReplyStatus.COMPLETE, message.id)
            assert (found.reply.attempts, found.reply.output_tokens) == (1, 4)
            assert await tx.replies.get(reply.id) == found.reply
            assert list(await tx.replies.attempts(reply.id)) == [closed]
            room = await tx.rooms.get(prompt.room_id)
            assert room is not None
            assert (room.last_seq, room.message_count) == (2, 2)

    async def test_an_answer_needs_no_request(self, uow: UnitOfWork) -> None:
        """Of a model that announces none."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        assert await _answered(uow, *_an_answer(prompt, reply)) == prompt.seq + 1

    @pytest.mark.parametrize("alone", [False, True])
    async def test_an_answer_of_an_earlier_epoch_is_none(self, uow: UnitOfWork, alone: bool) -> None:
        """Nothing of it is stored, and no place is taken."""
        prompt = await a_prompt(uow)
        late = await claimed(uow, await asked(uow, prompt), lease=0.0)
        now = await claimed(uow, late)
        assert await _answered(uow, *_an_answer(prompt, late), alone=alone) is None
        assert await _last_seq(uow, prompt.room_id) == prompt.seq
        assert await _answered(uow, *_an_answer(prompt, now), alone=alone) == prompt.seq + 1

    @pytest.mark.parametrize("alone", [False, True])
    async def test_an_answer_to_a_reply_that_is_final_is_none(self, uow: UnitOfWork, alone: bool) -> None:
        """A final status never changes; there is one answer to a prompt."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        await finished(uow, reply, ReplyStatus.CANCELLED)
        assert await _answered(uow, *_an_answer(prompt, reply), alone=alone) is None
        assert await _last_seq(uow, prompt.room_id) == prompt.seq

    @pytest.mark.parametrize("alone", [False, True])
    async def test_an_answer_in_a_room_that_was_deleted_is_none(self, uow: UnitOfWork, alone: bool) -> None:
        """``None``."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        async with uow() as tx:
            await tx.rooms.delete(prompt.room_id, MOMENT)
            await tx.commit()
        assert await _answered(uow, *_an_answer(prompt, reply), alone=alone) is None

    @pytest.mark.parametrize("alone", [False, True])
    async def test_of_many_answers_to_one_reply_one_is_stored(self, uow: UnitOfWork, alone: bool) -> None:
        """Also when they come at once."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        places = await asyncio.gather(*(_answered(uow, *_an_answer(prompt, reply), alone=alone) for _ in range(6)))
        assert sorted(places, key=str) == [prompt.seq + 1, *[None] * 5]

    async def test_a_reply_is_shown_with_its_message_as_that_is_now(self, uow: UnitOfWork) -> None:
        """Without one where there is none yet; ``None`` for one that there is not."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        async with uow.read() as tx:
            assert await tx.answered(ReplyId(uuid7())) is None
            running = await tx.answered(reply.id)
            assert running is not None
            assert (running.reply, running.message) == (reply, None)
        message, ended = _an_answer(prompt, reply)
        place = await _answered(uow, message, ended)
        assert place is not None
        gone = replace(message, seq=place).deleted(MOMENT)
        async with uow() as tx:
            await tx.messages.save(gone)
            await tx.commit()
        async with uow.read() as tx:
            found = await tx.answered(reply.id)
            assert found is not None
            assert found.message == gone

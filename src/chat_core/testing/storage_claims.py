"""What the storage promises of a claim that brings what the maker needs: the same as step by step."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import ReplyId, SummaryId, uuid7
from chat_core.domain.message import Message
from chat_core.domain.reply import CRASHES_MAX, Attempt, Reply
from chat_core.domain.room import AIMode, RoomAI
from chat_core.domain.summary import Summary
from chat_core.ports.storage import Claim, Claimed, UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import (
    MOMENT,
    a_prompt,
    a_queued_reply,
    asked,
    claimed,
    finished,
    said,
    stored_room,
    stored_user,
)

_AI = RoomAI(mode=AIMode.ALWAYS, model="a:b", system_prompt="Be brief.", temperature=0.3, max_output_tokens=99)
_FORESEEN: dict[str | None, tuple[str, str]] = {None: ("own", "first"), "a:b": ("a", "b-1"), "c:d": ("c", "d")}


def _a_claim(reply: Reply, *, alone: bool = False) -> Claim:
    return Claim(reply_id=reply.id, lease=60.0, at=MOMENT, foreseen=_FORESEEN, context=10, alone=alone)


async def _taken(uow: UnitOfWork, claim: Claim) -> Claimed | None:
    async with uow() as tx:
        found = await tx.claim(claim)
        await tx.commit()
    return found


async def _stored(uow: UnitOfWork, reply: Reply) -> tuple[Reply | None, list[Attempt]]:
    async with uow.read() as tx:
        return await tx.replies.get(reply.id), list(await tx.replies.attempts(reply.id))


async def _asked_in_a_room(uow: UnitOfWork, ai: RoomAI = _AI) -> tuple[Message, Reply]:
    user = await stored_user(uow)
    prompt = await said(uow, await stored_room(uow, user, ai=ai), user)
    return prompt, await asked(uow, prompt)


class ClaimClauses(Contract):
    """``Transaction.claim``."""

    @pytest.mark.parametrize("alone", [False, True])
    @pytest.mark.parametrize("chosen", [None, "a:b"])
    async def test_a_claim_begins_the_request_that_its_room_s_model_leads_to(
        self, uow: UnitOfWork, alone: bool, chosen: str | None
    ) -> None:
        """The reply runs in a new epoch, with its first request stored and counted; the room's settings come along."""
        ai = replace(_AI, model=chosen)
        _, reply = await _asked_in_a_room(uow, ai)
        found = await _taken(uow, _a_claim(reply, alone=alone))
        assert found is not None
        provider, model = _FORESEEN[chosen]
        begun = reply.claimed().first_attempt(provider, model, MOMENT)
        assert (found.reply, found.begun, found.ai) == (reply.claimed().asks(begun), begun, ai)
        assert await _stored(uow, reply) == (found.reply, [begun])

    @pytest.mark.parametrize("alone", [False, True])
    async def test_a_claim_brings_the_context_of_the_message_to_be_answered(self, uow: UnitOfWork, alone: bool) -> None:
        """As ``messages.context`` gives it: so many, none that is deleted or was said later, and the summary."""
        user = await stored_user(uow)
        room = await stored_room(uow, user, ai=_AI)
        earlier = [await said(uow, room, user, f"number {number}") for number in range(4)]
        prompt = await said(uow, room, user, "the question")
        await said(uow, room, user, "later")
        async with uow() as tx:
            await tx.messages.save(earlier[2].deleted(MOMENT))
            await tx.summaries.ask(Summary(id=SummaryId(uuid7()), room_id=room.id, up_to=1, created_at=MOMENT))
            [summary_id] = await tx.summaries.due(1)
            summary = await tx.summaries.claim(summary_id, 60.0)
            assert summary is not None
            assert await tx.summaries.finish(summary.made("what was said"))
            await tx.commit()
        reply = await asked(uow, prompt)
        found = await _taken(uow, replace(_a_claim(reply, alone=alone), context=3))
        assert found is not None
        assert found.context is not None
        async with uow.read() as tx:
            assert found.context == await tx.messages.context(room.id, prompt.seq, 3)
        assert [message.seq for message in found.context.messages] == [2, 4, 5]
        assert found.context.summary is not None

    @pytest.mark.parametrize("why", ["not foreseen", "stopping", "late", "handed over", "crashed"])
    async def test_a_claim_begins_no_request_that_may_not_be_made_or_is_not_the_first(
        self, uow: UnitOfWork, why: str
    ) -> None:
        """The reply is claimed all the same, for its maker to end it, or to go on with it."""
        prompt, reply = await _asked_in_a_room(uow)
        claim = _a_claim(reply)
        if why == "not foreseen":
            claim = replace(claim, foreseen={None: ("own", "first")})
        if why == "late":
            claim = replace(claim, at=reply.deadline_at)
        if why == "stopping":
            async with uow() as tx:
                await tx.replies.request_stop(reply.id)
                await tx.commit()
        if why in ("handed over", "crashed"):
            reply = await claimed(uow, reply, lease=0.0 if why == "crashed" else 60.0)
        if why == "handed over":
            async with uow() as tx:
                assert await tx.replies.begin_attempt(reply.first_attempt("a", "b-0", MOMENT))
                assert await tx.replies.release(reply.id, reply.epoch)
                await tx.commit()
        _, before = await _stored(uow, reply)
        found = await _taken(uow, claim)
        assert found is not None
        assert found.begun is None
        assert found.context is not None
        assert [message.seq for message in found.context.messages] == [prompt.seq]
        assert found.reply.epoch == reply.epoch + 1
        assert await _stored(uow, reply) == (found.reply, before)

    @pytest.mark.parametrize("gone", ["room", "message"])
    async def test_where_there_is_nothing_to_answer_a_claim_brings_nothing(self, uow: UnitOfWork, gone: str) -> None:
        """And begins no request; the reply is claimed, for its maker to end it."""
        prompt, reply = await _asked_in_a_room(uow)
        async with uow() as tx:
            if gone == "room":
                await tx.rooms.delete(prompt.room_id, MOMENT)
            else:
                await tx.messages.save(prompt.deleted(MOMENT))
            await tx.commit()
        found = await _taken(uow, _a_claim(reply))
        assert found == Claimed(reply=reply.claimed())
        assert await _stored(uow, reply) == (reply.claimed(), [])

    async def test_what_is_not_to_be_had_is_none(self, uow: UnitOfWork) -> None:
        """One that runs on a lease, one that has its end, one that there is not."""
        prompt = await a_prompt(uow)
        reply = await claimed(uow, await asked(uow, prompt))
        assert await _taken(uow, _a_claim(reply)) is None
        await finished(uow, reply)
        assert await _taken(uow, _a_claim(reply)) is None
        assert await _taken(uow, _a_claim(replace(reply, id=ReplyId(uuid7())))) is None

    @pytest.mark.parametrize("alone", [False, True])
    async def test_of_many_claims_at_once_one_has_it_and_begins_one_request(self, uow: UnitOfWork, alone: bool) -> None:
        """The others find nothing to be had."""
        _, reply = await _asked_in_a_room(uow)
        found = await asyncio.gather(*(_taken(uow, _a_claim(reply, alone=alone)) for _ in range(8)))
        [one] = [claimed for claimed in found if claimed is not None]
        assert await _stored(uow, reply) == (one.reply, [one.begun])

    async def test_a_claim_that_is_not_committed_leaves_the_reply_queued(self, uow: UnitOfWork) -> None:
        """Nothing of it is stored."""
        _, reply = await _asked_in_a_room(uow)
        async with uow() as tx:
            assert await tx.claim(_a_claim(reply)) is not None
        assert await _stored(uow, reply) == (reply, [])

    async def test_a_claim_holds_for_its_lease_and_counts_crashes(self, uow: UnitOfWork) -> None:
        """One that is over is to be had again, in the next epoch."""
        reply = await a_queued_reply(uow)
        for number in range(1, CRASHES_MAX + 1):
            found = await _taken(uow, replace(_a_claim(reply), lease=0.0))
            assert found is not None
            assert (found.reply.epoch, found.reply.crashes) == (number, number - 1)
        last = await _taken(uow, replace(_a_claim(reply), at=MOMENT + timedelta(seconds=1)))
        assert last is not None
        assert last.reply.crashes == CRASHES_MAX
        assert not last.reply.may_be_made(MOMENT)
        assert await _taken(uow, _a_claim(reply)) is None

"""The end of an account."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from chat_core.domain.ids import ReplyId, UserId, utc_now, uuid7
from chat_core.domain.message import DELETED_NAME
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.room import Membership, Role, Room
from chat_core.domain.user import Actor, User
from chat_core.errors import (
    NotAuthenticated,
    NotFound,
    StorageUnavailable,
    UsernameTaken,
    WrongCredentials,
    WrongPassword,
)
from chat_core.ports.delivery import LogGrew, RoomFeed, RoomNews
from chat_core.ports.language_model import Text
from chat_core.testing.models import Gate, answer
from chat_core.use_cases.accounts import CheckPassword
from chat_core.use_cases.departures import LeaveRooms
from chat_core.use_cases.rooms import cancel_unfinished
from tests.world import PASSWORD, NewWorld, World


async def end(world: World, actor: Actor, password: str = PASSWORD) -> None:
    await world.container.end_account()(actor=actor, password=password)


async def members(world: World, actor: Actor, room: Room) -> list[tuple[str, Role]]:
    found = await world.container.list_members()(actor=actor, room_id=room.id)
    return [(membership.username, membership.role) for membership in found]


async def finish(world: World, later: float = 61.0) -> int:
    """What a process does from time to time, so many seconds later."""
    known = world.container.finish_departures()
    done: int = await replace(known, now=lambda: utc_now() + timedelta(seconds=later))()
    return done


@pytest.mark.abuse("A13")
async def test_an_ended_account_cannot_be_used(world: World):
    ann = await world.person("ann")
    begun = [await world.container.log_in()(login="ann", password=PASSWORD) for _ in range(2)]
    for one in begun:
        await world.container.authenticate()(one.token.text)
    await end(world, ann)
    for one in begun:
        with pytest.raises(NotAuthenticated):
            await world.container.authenticate()(one.token.text)
        with pytest.raises(NotAuthenticated):
            await world.container.refresh()(refresh_token=one.refresh_token)
    for login in ("ann", "ann@example.com", DELETED_NAME, ""):
        for password in (PASSWORD, ""):
            with pytest.raises(WrongCredentials):
                await world.container.log_in()(login=login, password=password)
    with pytest.raises(NotAuthenticated):
        await end(world, ann)


async def test_it_takes_the_password_to_end_an_account(world: World):
    ann = await world.person("ann")
    with pytest.raises(WrongPassword):
        await end(world, ann, "wrong")
    assert (await world.container.log_in()(login="ann", password=PASSWORD)).user.id == ann.user_id


@pytest.mark.parametrize("name", ["ann", "ANN", "Ann"])
async def test_the_name_is_never_given_again(world: World, name: str):
    await end(world, await world.person("ann"))
    with pytest.raises(UsernameTaken):
        await world.container.sign_up()(username=name, email="new@example.com", password=PASSWORD)


async def test_the_address_may_sign_up_anew(world: World):
    await end(world, await world.person("ann"))
    again = await world.container.sign_up()(username="anna", email="ann@example.com", password=PASSWORD)
    assert (await world.container.log_in()(login="ann@example.com", password=PASSWORD)).user == again


async def test_nothing_of_the_person_is_kept_but_the_name(world: World):
    ann = await world.person("ann")
    await world.container.log_in()(login="ann", password=PASSWORD, user_agent="a browser of hers")
    async with world.uow.read() as tx:
        user = await tx.users.get(ann.user_id)
    assert user is not None
    await end(world, ann)
    tables = world.uow._inner._tables  # type: ignore[attr-defined]
    kept = repr(tables.users) + repr(tables.sessions)
    for text in ("ann@example.com", user.password_hash, "a browser of hers"):
        assert text not in kept


async def test_messages_stay_from_nobody(world: World):
    ann, ben = await world.person("ann"), await world.person("ben")
    room = await world.room(ben, mode="off")
    await world.say(ann, room, "I was here")
    await world.say(ben, room, "so was I")
    await end(world, ann)
    _, shown = await world.container.read_room()(actor=ben, room_id=room.id)
    assert [(message.user_id, message.username, message.content) for message in shown] == [
        (None, DELETED_NAME, "I was here"),
        (ben.user_id, "ben", "so was I"),
    ]


async def test_a_member_leaves_and_the_log_says_so(world: World):
    ann, ben = await world.person("ann"), await world.person("ben")
    room = await world.room(ben, mode="off")
    await world.say(ann, room, "hello")
    await end(world, ann)
    assert await members(world, ben, room) == [("ben", Role.OWNER)]
    assert (await world.log(room))[-1] == "member.left"


@pytest.mark.abuse("A45")
async def test_a_room_passes_to_its_longest_standing_member(world: World):
    ann, ben, cid = [await world.person(name) for name in ("ann", "ben", "cid")]
    room = await world.room(ann, mode="off", private=True)
    for name in ("ben", "cid"):
        await world.container.add_member()(actor=ann, room_id=room.id, username=name)
    before = await world.log(room)
    await end(world, ann)
    assert await members(world, cid, room) == [("ben", Role.OWNER), ("cid", Role.MEMBER)]
    assert (await world.log(room))[len(before) :] == ["member.left", "room.updated"]
    shown, _ = await world.container.read_room()(actor=cid, room_id=room.id)
    assert shown.created_by is None
    await world.set_ai(ben, room.id, mode="always")
    await end(world, ben)
    assert await members(world, cid, room) == [("cid", Role.OWNER)]
    await world.container.delete_room()(actor=cid, room_id=room.id)


@pytest.mark.abuse("A45")
async def test_a_room_without_other_members_ends(world: World):
    """Also where those who wrote in it have left, were removed, or ended their own accounts."""
    ann, ben, cid, dan = [await world.person(name) for name in ("ann", "ben", "cid", "dan")]
    room = await world.room(ann, mode="off")
    message = (await world.say(ann, room, "a secret")).message
    for actor in (ben, cid, dan):
        await world.say(actor, room, "hello")
    await world.container.remove_member()(actor=ben, room_id=room.id, user_id=ben.user_id)
    await world.container.remove_member()(actor=ann, room_id=room.id, user_id=cid.user_id)
    await end(world, dan)
    await end(world, ann)
    with pytest.raises(NotFound):
        await world.container.read_room()(actor=ben, room_id=room.id)
    assert (await world.log(room))[-1] == "room.deleted"
    assert (await world.message(message.id)).content == ""


@pytest.mark.abuse("A45")
async def test_running_replies_of_the_person_stop_in_every_room(new_world: NewWorld):
    """With the text so far, and without another request to the model; those of others go on."""
    gate, other_gate = Gate(), Gate()
    world = new_world([Text("So far"), gate, *answer(" and on")], [Text("Ben's"), other_gate, *answer(" answer")])
    ann, ben = await world.person("ann"), await world.person("ben")
    room = await world.room(ben)
    running = await world.ask(ann, room, "one")
    await gate.reached()
    bens = await world.ask(ben, room, "two")
    await other_gate.reached()
    await end(world, ann)
    ended = await world.ended(running.id)
    assert ended.reply.status is ReplyStatus.INCOMPLETE
    assert ended.message is not None
    assert ended.message.content == "So far"
    other_gate.open()
    assert (await world.ended(bens.id)).reply.status is ReplyStatus.COMPLETE


async def test_queued_replies_of_the_person_are_cancelled(held: World):
    ann, ben = await held.person("ann"), await held.person("ben")
    room, own = await held.room(ben), await held.room(ann)
    queued = [await held.ask(ann, where, "hello") for where in (room, own)]
    bens = await held.ask(ben, room, "hello")
    await end(held, ann)
    for reply in queued:
        assert (await held.reply(reply.id)).status is ReplyStatus.CANCELLED
    assert (await held.reply(bens.id)).status is ReplyStatus.QUEUED


async def test_a_password_that_is_changed_meanwhile_has_to_be_given_anew(world: World):
    ann = await world.person("ann")

    class ChangedMeanwhile(CheckPassword):
        async def __call__(self, *, user_id: UserId, password: str) -> User:
            user: User = await world.container.check_password()(user_id=user_id, password=password)
            await world.container.change_password()(
                actor=ann, current_password=PASSWORD, new_password="another password"
            )
            return user

    check = ChangedMeanwhile(uow=world.uow, passwords=world.container.passwords())
    end_account = replace(world.container.end_account(), check=check)
    with pytest.raises(WrongPassword):
        await end_account(actor=ann, password=PASSWORD)
    assert (await world.container.log_in()(login="ann", password="another password")).user.id == ann.user_id


async def test_rooms_that_could_not_be_left_at_once_are_left_later(world: World):
    ann, ben = await world.person("ann"), await world.person("ben")
    rooms = [await world.room(ben, mode="off") for _ in range(3)]
    for room in rooms:
        await world.say(ann, room, "hello")

    class Away(LeaveRooms):
        async def __call__(self, user_id: UserId) -> None:
            raise StorageUnavailable

    away = Away(uow=world.uow, feed=world.container.feed(), room_feed=world.container.room_feed())
    await replace(world.container.end_account(), leave_rooms=away)(actor=ann, password=PASSWORD)
    for room in rooms:
        assert await members(world, ben, room) == [("ben", Role.OWNER)]
        assert (await world.log(room))[-1] == "message.created"
    assert await finish(world, later=30) == 0
    assert await finish(world) == 1
    for room in rooms:
        assert (await world.log(room))[-1] == "member.left"
    assert await finish(world) == 0


async def test_what_a_request_does_that_was_let_in_just_before_the_end_is_undone_later(held: World):
    """As if a message had been on its way through another process: it has joined a room, and asked for a reply."""
    ann, ben = await held.person("ann"), await held.person("ben")
    room = await held.room(ben, private=True)
    asked = await held.ask(ben, room, "hello")
    await end(held, ann)
    late = Membership(room_id=room.id, user_id=ann.user_id, username="ann", role=Role.MEMBER, joined_at=utc_now())
    async with held.uow() as tx:
        await tx.rooms.save_membership(late)
        await cancel_unfinished(tx, [asked], utc_now())
        await tx.replies.add(replace(asked, id=ReplyId(uuid7()), asked_by=ann.user_id, try_number=2))
        await tx.commit()
    assert await finish(held) == 1
    async with held.uow.read() as tx:
        assert await tx.rooms.rooms_of(ann.user_id) == []
        assert await tx.replies.unfinished_for(ann.user_id) == []
    assert (await held.log(room))[-1] == "member.left"
    assert await finish(held) == 0


async def test_the_news_of_a_room_goes_to_those_who_listen(world: World):
    ann, ben = await world.person("ann"), await world.person("ben")
    rooms = [await world.room(ann, mode="off"), await world.room(ben, mode="off")]
    await world.say(ben, rooms[0], "hello")
    await world.say(ann, rooms[1], "hello")
    told: list[RoomNews] = []

    class Listening(RoomFeed):
        async def tell(self, news: RoomNews) -> None:
            told.append(news)

        def listen(self, heard: Callable[[RoomNews], None]) -> AbstractContextManager[None]:
            return nullcontext()

    leave_rooms = replace(world.container.leave_rooms(), room_feed=Listening())
    await replace(world.container.end_account(), leave_rooms=leave_rooms)(actor=ann, password=PASSWORD)
    assert told == [LogGrew(room_id=room.id, seq=len(await world.log(room))) for room in rooms]
    await leave_rooms(ann.user_id)
    assert len(told) == 2


async def test_two_who_end_their_accounts_at_once_leave_no_room_behind(world: World):
    people = [await world.person(f"person{number}") for number in range(4)]
    rooms = [await world.room(person, mode="off") for person in people]
    for person in people:
        for room in rooms:
            await world.say(person, room, "hello")
    eve = await world.person("eve")
    await asyncio.gather(*(end(world, person) for person in people))
    page = await world.container.list_rooms()(actor=eve, limit=10)
    assert page.rooms == []
    for room in rooms:
        assert (await world.log(room))[-1] == "room.deleted"

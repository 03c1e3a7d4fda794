"""Rooms: who may see them, who may change them, and who belongs to them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from chat_core.domain.ids import MessageId, RoomId, UserId, uuid7
from chat_core.domain.reply import ReplyStatus
from chat_core.domain.room import AIMode, Role, Room, Visibility, WhenBusy
from chat_core.domain.user import Actor
from chat_core.errors import AlreadyMember, Conflict, Forbidden, Invalid, NotFound, OwnerCannotLeave
from chat_core.testing.models import Gate, answer
from tests.world import NewWorld, World


class People:
    """Ann owns the room; Bob is a member, Cem was removed, Dee left, and Eve never was one."""

    ann: Actor
    bob: Actor
    cem: Actor
    dee: Actor
    eve: Actor
    room: Room


async def people(world: World, *, private: bool = False, **ai: Any) -> People:
    all_of_them = People()
    for name in ("ann", "bob", "cem", "dee", "eve"):
        setattr(all_of_them, name, await world.person(name))
    room = all_of_them.room = await world.room(all_of_them.ann, private=private, **({"mode": "off"} | ai))
    for name in ("bob", "cem", "dee"):
        await add(world, all_of_them.ann, room, name)
    await remove(world, all_of_them.ann, room, all_of_them.cem)
    await remove(world, all_of_them.dee, room, all_of_them.dee)
    return all_of_them


async def add(world: World, actor: Actor, room: Room, name: str):
    return await world.container.add_member()(actor=actor, room_id=room.id, username=name)


async def remove(world: World, actor: Actor, room: Room, who: Actor) -> None:
    await world.container.remove_member()(actor=actor, room_id=room.id, user_id=who.user_id)


async def members(world: World, actor: Actor, room: Room) -> list[tuple[str, Role]]:
    found = await world.container.list_members()(actor=actor, room_id=room.id)
    return [(membership.username, membership.role) for membership in found]


async def visible(world: World, actor: Actor) -> list[RoomId]:
    page = await world.container.list_rooms()(actor=actor, limit=50)
    assert page.total == len(page.rooms)
    return [room.id for room in page.rooms]


async def update(world: World, actor: Actor, room: Room, **changes: Any) -> Room:
    return await world.container.update_room()(
        actor=actor, room_id=room.id, change=lambda stored: replace(stored, **changes)
    )


async def test_a_new_room_is_public_and_its_maker_owns_it(world: World):
    ann = await world.person("ann")
    room = await world.container.create_room()(actor=ann, name="Tea", description="About tea")
    assert (room.name, room.description, room.created_by) == ("Tea", "About tea", ann.user_id)
    assert room.visibility is Visibility.PUBLIC
    assert (room.ai.mode, room.ai.busy) == (AIMode.ALWAYS, WhenBusy.QUEUE)
    assert await members(world, ann, room) == [("ann", Role.OWNER)]


async def test_making_a_room_takes_no_place_in_its_log(world: World):
    room = await world.room(await world.person("ann"))
    assert (room.last_seq, room.message_count) == (0, 0)
    assert await world.log(room) == []


@pytest.mark.parametrize(
    ("name", "description", "pointers"),
    [
        ("", "", ["/name", "/name"]),
        ("   ", "", ["/name"]),
        ("x" * 101, "", ["/name"]),
        ("a\x00b", "", ["/name"]),
        ("ok", "x" * 2001, ["/description"]),
        ("ok", "a\x00b", ["/description"]),
        ("x" * 101, "x" * 2001, ["/name", "/description"]),
    ],
)
async def test_names_and_descriptions_have_bounds(world: World, name: str, description: str, pointers: list[str]):
    ann = await world.person("ann")
    with pytest.raises(Invalid) as raised:
        await world.container.create_room()(actor=ann, name=name, description=description)
    assert [fault.pointer for fault in raised.value.faults] == pointers
    assert await visible(world, ann) == []


async def test_names_and_descriptions_may_be_as_long_as_that(world: World):
    ann = await world.person("ann")
    room = await world.container.create_room()(actor=ann, name="🫖" * 100, description="x" * 2000)
    assert (len(room.name), len(room.description)) == (100, 2000)


async def test_two_rooms_may_have_one_name(world: World):
    ann = await world.person("ann")
    assert (await world.room(ann)).id != (await world.room(ann)).id


async def test_a_room_shows_its_last_ten_messages_oldest_first(world: World):
    ann = await world.person("ann")
    room = await world.room(ann, mode="off")
    for number in range(12):
        await world.say(ann, room, f"message {number}")
    shown, messages = await world.container.read_room()(actor=ann, room_id=room.id)
    assert [message.content for message in messages] == [f"message {number}" for number in range(2, 12)]
    assert (shown.message_count, shown.last_seq) == (12, 13)


async def test_rooms_are_listed_with_the_latest_activity_first(world: World):
    ann = await world.person("ann")
    rooms = [await world.room(ann, mode="off") for _ in range(3)]
    await world.say(ann, rooms[0], "hello")
    assert (await visible(world, ann))[0] == rooms[0].id


async def test_a_list_of_rooms_is_read_page_by_page(world: World):
    ann = await world.person("ann")
    rooms = {(await world.room(ann)).id for _ in range(5)}
    found: list[RoomId] = []
    cursor = None
    for _ in range(3):
        page = await world.container.list_rooms()(actor=ann, limit=2, after=cursor)
        assert page.total == 5
        found += [room.id for room in page.rooms]
        cursor = page.next_cursor
    assert cursor is None
    assert len(found) == 5
    assert set(found) == rooms


#: What each person gets from each room: (public, private).
DOORS = {"ann": (True, True), "bob": (True, True), "cem": (False, False), "dee": (True, False), "eve": (True, False)}


def ways_in(world: World, actor: Actor, room_id: RoomId) -> dict[str, Callable[[], Awaitable[object]]]:
    """Everything that somebody at a room's door may try, for an ordinary member."""
    at: dict[str, Any] = {"actor": actor, "room_id": room_id}
    container = world.container
    return {
        "read": lambda: container.read_room()(**at),
        "members": lambda: container.list_members()(**at),
        "messages": lambda: container.list_messages()(**at, limit=10),
        "send": lambda: container.send_message()(**at, content="hello"),
    }


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("way", ["read", "members", "messages", "send", "list"])
async def test_a_door_is_open_to_whom_it_should_be(world: World, name: str, private: bool, way: str):
    all_of_them = await people(world, private=private)
    actor: Actor = getattr(all_of_them, name)
    log = await world.log(all_of_them.room)
    is_open = DOORS[name][private]
    if way == "list":
        assert await visible(world, actor) == ([all_of_them.room.id] if is_open else [])
    elif is_open:
        assert await ways_in(world, actor, all_of_them.room.id)[way]()
    else:
        with pytest.raises(NotFound) as closed:
            await ways_in(world, actor, all_of_them.room.id)[way]()
        with pytest.raises(NotFound) as missing:
            await ways_in(world, actor, RoomId(uuid7()))[way]()
        assert closed.value.detail == missing.value.detail
        assert await world.log(all_of_them.room) == log


@pytest.mark.parametrize("name", ["bob", "cem", "dee", "eve"])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("deed", ["update", "delete", "add", "remove"])
async def test_only_the_owner_rules_a_room(world: World, name: str, private: bool, deed: str):
    all_of_them = await people(world, private=private)
    actor: Actor = getattr(all_of_them, name)
    room = all_of_them.room
    log = await world.log(room)
    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "update": lambda: update(world, actor, room, name="Mine"),
        "delete": lambda: world.container.delete_room()(actor=actor, room_id=room.id),
        "add": lambda: add(world, actor, room, "eve"),
        "remove": lambda: remove(world, actor, room, all_of_them.ann),
    }
    with pytest.raises(Forbidden if DOORS[name][private] else NotFound):
        await deeds[deed]()
    assert await world.log(room) == log
    assert (await world.stored_room(room)).name == "A room"


async def test_an_owner_changes_what_a_room_is(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    changed = await update(world, ann, room, name="Tea", description="New", visibility=Visibility.PRIVATE)
    assert (changed.name, changed.description, changed.visibility) == ("Tea", "New", Visibility.PRIVATE)
    assert await world.stored_room(room) == changed
    assert await world.log(room) == ["room.updated"]
    assert changed.last_seq == 1


async def test_a_change_that_changes_nothing_takes_no_place(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    assert await update(world, ann, room, name=room.name) == room
    assert await world.log(room) == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"system_prompt": "x" * 8001}, "/ai/system_prompt"),
        ({"system_prompt": "a\x00b"}, "/ai/system_prompt"),
        ({"temperature": -0.1}, "/ai/temperature"),
        ({"temperature": 2.1}, "/ai/temperature"),
        ({"temperature": float("nan")}, "/ai/temperature"),
        ({"temperature": float("inf")}, "/ai/temperature"),
        ({"max_output_tokens": 0}, "/ai/max_output_tokens"),
        ({"max_output_tokens": 65_537}, "/ai/max_output_tokens"),
        ({"model": "gemini:unheard-of"}, "/ai/model"),
    ],
)
async def test_the_settings_of_a_rooms_ai_have_bounds(world: World, change: dict[str, Any], pointer: str):
    ann = await world.person("ann")
    room = await world.room(ann)
    with pytest.raises(Invalid) as raised:
        await world.set_ai(ann, room.id, **change)
    assert [fault.pointer for fault in raised.value.faults] == [pointer]
    assert await world.log(room) == []


async def test_a_room_may_choose_a_model_that_is_offered_and_keep_one_that_was(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    offering = replace(world.container.update_room(), models=frozenset({"gemini:one"}))
    await offering(
        actor=ann, room_id=room.id, change=lambda stored: replace(stored, ai=replace(stored.ai, model="gemini:one"))
    )
    renamed = await update(world, ann, room, name="Tea")
    assert (renamed.ai.model, renamed.name) == ("gemini:one", "Tea")


async def test_a_change_of_a_public_room_to_private_closes_it_to_others(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, mode="off")
    await world.container.read_room()(actor=eve, room_id=room.id)
    await update(world, ann, room, visibility=Visibility.PRIVATE)
    with pytest.raises(NotFound):
        await world.container.read_room()(actor=eve, room_id=room.id)


async def test_who_wrote_stays_a_member_when_a_room_becomes_private(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, mode="off")
    await world.say(eve, room, "hello")
    await update(world, ann, room, visibility=Visibility.PRIVATE)
    assert (await world.say(eve, room, "still here")).message.seq == 5


async def test_the_first_message_makes_a_member_who_joins_before_it(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, mode="off")
    sent = await world.say(eve, room, "hello")
    assert await world.log(room) == ["room.updated", "member.joined", "message.created"]
    assert sent.message.seq == 3
    assert await members(world, ann, room) == [("ann", Role.OWNER), ("eve", Role.MEMBER)]
    assert (await world.stored_room(room)).message_count == 1


async def test_the_second_message_joins_no_more(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, mode="off")
    for text in ("one", "two"):
        await world.say(eve, room, text)
    assert (await world.log(room))[1:] == ["member.joined", "message.created", "message.created"]


async def test_of_many_first_messages_at_once_one_joins(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann, mode="off")
    await asyncio.gather(*(world.say(eve, room, f"message {number}") for number in range(10)))
    log = await world.log(room)
    assert log.count("member.joined") == 1
    assert log.index("member.joined") < log.index("message.created")
    assert log.count("message.created") == 10


async def test_reading_a_public_room_makes_nobody_a_member(world: World):
    ann, eve = await world.person("ann"), await world.person("eve")
    room = await world.room(ann)
    await world.container.read_room()(actor=eve, room_id=room.id)
    assert await members(world, ann, room) == [("ann", Role.OWNER)]


async def test_an_owner_adds_somebody_by_name(world: World):
    ann, bob = await world.person("ann"), await world.person("Bob")
    room = await world.room(ann, private=True)
    membership = await add(world, ann, room, "bOB")
    assert (membership.user_id, membership.username, membership.role) == (bob.user_id, "Bob", Role.MEMBER)
    assert await world.log(room) == ["member.joined"]
    assert await world.container.read_room()(actor=bob, room_id=room.id)


@pytest.mark.parametrize("name", ["nobody", "", "bob@example.com", "bob\x00", "bob ", "' OR 1=1--"])
async def test_a_name_that_nobody_has_cannot_be_added(world: World, name: str):
    ann = await world.person("ann")
    await world.person("bob")
    room = await world.room(ann)
    with pytest.raises(NotFound):
        await add(world, ann, room, name)
    assert await world.log(room) == []


@pytest.mark.parametrize("name", ["ann", "bob"])
async def test_a_member_cannot_be_added_again(world: World, name: str):
    all_of_them = await people(world)
    log = await world.log(all_of_them.room)
    with pytest.raises(AlreadyMember):
        await add(world, all_of_them.ann, all_of_them.room, name)
    assert await world.log(all_of_them.room) == log


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("name", ["cem", "dee"])
async def test_who_was_removed_or_left_can_be_added_again(world: World, private: bool, name: str):
    all_of_them = await people(world, private=private)
    await add(world, all_of_them.ann, all_of_them.room, name)
    await world.say(getattr(all_of_them, name), all_of_them.room, "back again")
    assert (await world.log(all_of_them.room))[-2:] == ["member.joined", "message.created"]


async def test_who_left_a_public_room_comes_back_by_writing(world: World):
    all_of_them = await people(world)
    await world.say(all_of_them.dee, all_of_them.room, "back again")
    assert ("dee", Role.MEMBER) in await members(world, all_of_them.ann, all_of_them.room)


async def test_of_many_who_add_somebody_at_once_one_does(world: World):
    ann = await world.person("ann")
    await world.person("bob")
    room = await world.room(ann)
    done = await asyncio.gather(*(add(world, ann, room, "bob") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(error, AlreadyMember) for error in done) == 4
    assert await world.log(room) == ["member.joined"]


@pytest.mark.parametrize("private", [False, True])
async def test_an_owner_cannot_leave(world: World, private: bool):
    all_of_them = await people(world, private=private)
    log = await world.log(all_of_them.room)
    with pytest.raises(OwnerCannotLeave):
        await remove(world, all_of_them.ann, all_of_them.room, all_of_them.ann)
    assert await world.log(all_of_them.room) == log


async def test_leaving_and_removing_take_a_place_each(world: World):
    all_of_them = await people(world)
    log = await world.log(all_of_them.room)
    assert log == ["room.updated"] + ["member.joined"] * 3 + ["member.left"] * 2
    assert [name for name, _ in await members(world, all_of_them.ann, all_of_them.room)] == ["ann", "bob"]


@pytest.mark.parametrize("name", ["cem", "dee", "eve"])
async def test_who_is_no_member_cannot_be_removed(world: World, name: str):
    all_of_them = await people(world)
    log = await world.log(all_of_them.room)
    with pytest.raises(NotFound):
        await remove(world, all_of_them.ann, all_of_them.room, getattr(all_of_them, name))
    assert await world.log(all_of_them.room) == log


@pytest.mark.parametrize("private", [False, True])
async def test_leaving_twice_is_leaving_once(world: World, private: bool):
    all_of_them = await people(world, private=private)
    log = await world.log(all_of_them.room)
    with pytest.raises(NotFound):
        await remove(world, all_of_them.dee, all_of_them.room, all_of_them.dee)
    assert await world.log(all_of_them.room) == log


async def test_a_removal_and_the_sends_have_an_order(world: World):
    ann, bob = await world.person("ann"), await world.person("bob")
    room = await world.room(ann, mode="off")
    await add(world, ann, room, "bob")
    sends = [world.say(bob, room, f"message {number}") for number in range(10)]
    done = await asyncio.gather(*sends[:5], remove(world, ann, room, bob), *sends[5:], return_exceptions=True)
    log = await world.log(room)
    refused = sum(isinstance(error, NotFound) for error in done)
    assert log.count("message.created") == 10 - refused
    assert log[-1] == "member.left"


async def test_a_deleted_room_is_gone_for_everyone(world: World):
    all_of_them = await people(world)
    room = all_of_them.room
    message = (await world.say(all_of_them.bob, room, "secret")).message
    await world.container.delete_room()(actor=all_of_them.ann, room_id=room.id)
    for actor in (all_of_them.ann, all_of_them.bob, all_of_them.eve):
        assert await visible(world, actor) == []
        for way in ways_in(world, actor, room.id).values():
            with pytest.raises(NotFound):
                await way()
    with pytest.raises(NotFound):
        await world.container.delete_room()(actor=all_of_them.ann, room_id=room.id)
    assert (await world.message(message.id)).content == ""
    assert (await world.log(room))[-1] == "room.deleted"


async def test_deleting_a_room_stops_its_answers(new_world: NewWorld):
    gate = Gate()
    world = new_world([gate, *answer("too late")])
    ann = await world.person("ann")
    room, other = await world.room(ann), await world.room(ann)
    replies = [await world.ask(ann, room, text) for text in ("one", "two")]
    elsewhere = await world.ask(ann, other, "three")
    await gate.reached()
    await world.container.delete_room()(actor=ann, room_id=room.id)
    for reply in replies:
        ended = await world.ended(reply.id)
        assert ended.reply.status is ReplyStatus.CANCELLED
        assert ended.message is None
    gate.open()
    assert (await world.ended(elsewhere.id)).reply.status is ReplyStatus.COMPLETE


async def test_a_message_of_another_room_is_not_here(world: World):
    ann = await world.person("ann")
    room, other = await world.room(ann, mode="off"), await world.room(ann, mode="off")
    message = (await world.say(ann, other, "hello")).message
    edit, delete = world.container.edit_message(), world.container.delete_message()
    for message_id in (message.id, MessageId(uuid7())):
        with pytest.raises(NotFound):
            await edit(actor=ann, room_id=room.id, message_id=message_id, content="x")
        with pytest.raises(NotFound):
            await delete(actor=ann, room_id=room.id, message_id=message_id)
    assert await world.texts(other) == ["hello"]


async def test_a_person_who_does_not_exist_cannot_be_removed(world: World):
    ann = await world.person("ann")
    room = await world.room(ann)
    with pytest.raises(NotFound):
        await world.container.remove_member()(actor=ann, room_id=room.id, user_id=UserId(uuid7()))


def test_a_refusal_says_what_kind_it_is():
    assert issubclass(OwnerCannotLeave, Conflict)
    assert issubclass(AlreadyMember, Conflict)

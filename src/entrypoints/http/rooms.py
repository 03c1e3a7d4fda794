"""``/rooms``: rooms, their members and their history."""

from dataclasses import replace
from typing import Any

from litestar import Router, delete, get, patch, post
from litestar.params import JSONBody
from msgspec import UNSET, Struct

from chat_core.domain.room import Room
from chat_core.domain.user import Actor
from chat_core.use_cases.messages import DeleteMessage, EditMessage, ListMessages
from chat_core.use_cases.rooms import (
    AddMember,
    CreateRoom,
    DeleteRoom,
    ListMembers,
    ListRooms,
    ReadRoom,
    RemoveMember,
    UpdateRoom,
)
from entrypoints.http.auth import signed_in
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import (
    Cursor,
    Id,
    PageLimit,
    Seq,
    limit_of,
    message_of,
    place_of,
    read_cursor,
    room_of,
    user_of,
    write_cursor,
)
from entrypoints.http.schemas import (
    AddMemberIn,
    CreateRoomIn,
    EditMessageIn,
    MemberOut,
    MembersOut,
    MessageOut,
    MessagesOut,
    RoomCreatedOut,
    RoomData,
    RoomOut,
    RoomsOut,
    RoomWithMessagesOut,
    UpdateRoomIn,
)


@post("/", summary="Open a room")
async def create_room(data: JSONBody[CreateRoomIn], actor: Use[Actor], create_room: Use[CreateRoom]) -> RoomCreatedOut:
    """Open a room, owned by the caller."""
    room = await create_room(actor=actor, name=data.name, description=data.description, visibility=data.visibility)
    return RoomCreatedOut(message="Room created successfully", data=RoomData(room=RoomOut.of(room)))


@get("/", responses=refusals(400), summary="List rooms")
async def list_rooms(
    actor: Use[Actor],
    list_rooms: Use[ListRooms],
    limit: PageLimit = "50",
    cursor: Cursor = None,
) -> RoomsOut:
    """The rooms that the caller may see, latest activity first."""
    page = await list_rooms(actor=actor, limit=limit_of(limit), after=read_cursor(cursor))
    return RoomsOut(
        rooms=[RoomOut.of(room) for room in page.rooms],
        count=page.total,
        next_cursor=write_cursor(page.next_cursor),
    )


@get("/{room_id:str}", responses=refusals(404), summary="Read a room")
async def read_room(room_id: Id, actor: Use[Actor], read_room: Use[ReadRoom]) -> RoomWithMessagesOut:
    """The room and its last 10 messages, oldest first."""
    room, messages = await read_room(actor=actor, room_id=room_of(room_id))
    return RoomWithMessagesOut.with_messages(room, messages)


def _given(data: Struct) -> dict[str, Any]:
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}


@patch("/{room_id:str}", responses=refusals(403, 404), summary="Change a room")
async def update_room(
    room_id: Id, data: JSONBody[UpdateRoomIn], actor: Use[Actor], update_room: Use[UpdateRoom]
) -> RoomOut:
    """Change what is given; `ai` is merged. The owner only."""

    def change(room: Room) -> Room:
        given = _given(data)
        ai = given.pop("ai", None)
        return replace(room, **given, ai=replace(room.ai, **_given(ai)) if ai is not None else room.ai)

    return RoomOut.of(await update_room(actor=actor, room_id=room_of(room_id), change=change))


@delete("/{room_id:str}", responses=refusals(403, 404), summary="Delete a room")
async def delete_room(room_id: Id, actor: Use[Actor], delete_room: Use[DeleteRoom]) -> None:
    """End the room with all that was said in it; running replies stop. The owner only."""
    await delete_room(actor=actor, room_id=room_of(room_id))


@get("/{room_id:str}/members", responses=refusals(404), summary="List members")
async def list_members(room_id: Id, actor: Use[Actor], list_members: Use[ListMembers]) -> MembersOut:
    """The members, longest-standing first."""
    found = await list_members(actor=actor, room_id=room_of(room_id))
    return MembersOut(members=[MemberOut.of(membership) for membership in found])


@post("/{room_id:str}/members", responses=refusals(403, 404, 409), summary="Add a member")
async def add_member(
    room_id: Id, data: JSONBody[AddMemberIn], actor: Use[Actor], add_member: Use[AddMember]
) -> MemberOut:
    """Let somebody in, also somebody who was removed. The owner only."""
    return MemberOut.of(await add_member(actor=actor, room_id=room_of(room_id), username=data.username))


@delete("/{room_id:str}/members/{user_id:str}", responses=refusals(403, 404, 409), summary="Remove a member, or leave")
async def remove_member(room_id: Id, user_id: Id, actor: Use[Actor], remove_member: Use[RemoveMember]) -> None:
    """The owner removes somebody, who finds the room closed until added again; or a member leaves."""
    await remove_member(actor=actor, room_id=room_of(room_id), user_id=user_of(user_id))


@get("/{room_id:str}/messages", responses=refusals(400, 404), summary="Read the history")
async def list_messages(
    room_id: Id,
    actor: Use[Actor],
    list_messages: Use[ListMessages],
    limit: PageLimit = "50",
    before: Seq = None,
    after: Seq = None,
    around: Seq = None,
) -> MessagesOut:
    """A page of messages, oldest first: the newest, or those before, after or around a `seq`."""
    page = await list_messages(
        actor=actor,
        room_id=room_of(room_id),
        limit=limit_of(limit),
        before=place_of("before", before),
        after=place_of("after", after),
        around=place_of("around", around),
    )
    return MessagesOut(
        messages=[MessageOut.of(message) for message in page.messages],
        has_older=page.has_older,
        has_newer=page.has_newer,
    )


@patch("/{room_id:str}/messages/{message_id:str}", responses=refusals(403, 404), summary="Edit a message")
async def edit_message(
    room_id: Id, message_id: Id, data: JSONBody[EditMessageIn], actor: Use[Actor], edit_message: Use[EditMessage]
) -> MessageOut:
    """Give it another text. Its author only."""
    return MessageOut.of(
        await edit_message(
            actor=actor, room_id=room_of(room_id), message_id=message_of(message_id), content=data.content
        )
    )


@delete("/{room_id:str}/messages/{message_id:str}", responses=refusals(403, 404), summary="Delete a message")
async def delete_message(room_id: Id, message_id: Id, actor: Use[Actor], delete_message: Use[DeleteMessage]) -> None:
    """It stays in its place with empty content; an answer that is still being made is cancelled."""
    await delete_message(actor=actor, room_id=room_of(room_id), message_id=message_of(message_id))


router = Router(
    "/rooms",
    route_handlers=[
        create_room,
        list_rooms,
        read_room,
        update_room,
        delete_room,
        list_members,
        add_member,
        remove_member,
        list_messages,
        edit_message,
        delete_message,
    ],
    before_request=signed_in,
    security=SECURED,
    tags=["Rooms"],
)

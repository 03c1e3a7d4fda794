"""One door: who may do what in a room, for every operation there is, by HTTP, by streams and by sockets."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from entrypoints.http import page, system
from entrypoints.http.socket_frames import KNOWN
from tests.abuse.conftest import Start
from tests.e2e.live import socket
from tests.e2e.service import Person, people

#: In this order: no token, a stranger to the private room, somebody who was removed from it, a member, its owner.
ROLES = ("nobody", "stranger", "former", "member", "owner")

Statuses = tuple[int, int, int, int, int]
READ: Statuses = (401, 404, 404, 200, 200)
OWNER_ONLY: Statuses = (401, 404, 404, 403, 200)
SSE = {"Accept": "text/event-stream"}

#: What each role gets for what belongs to a private room. The bodies are good ones; ``{...}`` stands for an id.
IN_ROOM: dict[str, tuple[Statuses, Any]] = {
    "GET /rooms/{room_id}": (READ, None),
    "PATCH /rooms/{room_id}": (OWNER_ONLY, {"name": "Another name"}),
    "DELETE /rooms/{room_id}": ((401, 404, 404, 403, 204), None),
    "GET /rooms/{room_id}/members": (READ, None),
    "POST /rooms/{room_id}/members": ((401, 404, 404, 403, 201), {"username": "guest"}),
    # The one who goes is the member: they themself may, too.
    "DELETE /rooms/{room_id}/members/{user_id}": ((401, 404, 404, 204, 204), None),
    "GET /rooms/{room_id}/messages": (READ, None),
    # The message is the owner's own.
    "PATCH /rooms/{room_id}/messages/{message_id}": (OWNER_ONLY, {"content": "Another text"}),
    "DELETE /rooms/{room_id}/messages/{message_id}": ((401, 404, 404, 403, 204), None),
    "GET /rooms/{room_id}/events": (READ, None),
    "POST /chat/{room_id}": ((401, 404, 404, 201, 201), {"content": "Hello"}),
    "GET /replies/{reply_id}": (READ, None),
    "GET /replies/{reply_id}/events": (READ, None),
    "POST /replies/{reply_id}/stop": (READ, None),
    # It is complete, which only those are told who may see it.
    "POST /replies/{reply_id}/retry": ((401, 404, 404, 409, 409), None),
    "GET /messages/{message_id}/context": (READ, None),
}
#: The same as streams of events.
STREAMS: dict[str, tuple[Statuses, Any]] = {
    "GET /rooms/{room_id}/events": (READ, None),
    "POST /chat/{room_id}": ((401, 404, 404, 200, 200), {"content": "Hello"}),
    "GET /replies/{reply_id}/events": (READ, None),
}
#: Frames of a socket; nobody gets one without a token.
FRAMES: dict[str, tuple[tuple[str, str, str, str], dict[str, Any]]] = {
    "subscribe": (("error", "error", "ok", "ok"), {"room_id": "{room_id}"}),
    "send": (("error", "error", "ok", "ok"), {"room_id": "{room_id}", "content": "Hello", "m_id": "m-{unique}"}),
    "typing": (("error", "error", "ok", "ok"), {"room_id": "{room_id}"}),
    "unsubscribe": (("ok", "ok", "ok", "ok"), {"room_id": "{room_id}"}),
    "ping": (("ok", "ok", "ok", "ok"), {}),
}
#: Of one's own account: 401 without a token, and never another's.
OWN = {
    "GET /auth/me",
    "DELETE /auth/me",
    "POST /auth/logout",
    "POST /auth/password",
    "GET /auth/sessions",
    "DELETE /auth/sessions/{session_id}",
    "POST /auth/ws-ticket",
    "GET /rooms",
    "POST /rooms",
    "GET /usage",
}
#: For everybody, with or without a token.
OPEN = {
    "POST /auth/signup",
    "POST /auth/login",
    "POST /auth/refresh",
    "GET /",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
}
#: Not in the document: pages for people, the same for everybody.
PAGES = {"/docs", "/redoc", "/docs/assets/{name:str}", "/openapi.json", "/app", "/app/assets/{name:str}"}


@dataclass
class Place:
    """A private room, its ids, and somebody of each role."""

    roles: dict[str, Person]
    ids: dict[str, str]

    def path(self, operation: str, **others: str) -> str:
        return operation.partition(" ")[2].format(**{**self.ids, **others})

    async def ask(self, role: str, operation: str, body: Any, headers: dict[str, str], **others: str) -> httpx.Response:
        request = self.roles[role].http.build_request(
            operation.partition(" ")[0], self.path(operation, **others), json=body, headers=headers
        )
        answer = await self.roles[role].http.send(request, stream=True)
        try:
            endless = answer.is_success and answer.headers.get("content-type", "").startswith("text/event-stream")
            if not endless:
                await answer.aread()
        finally:
            await answer.aclose()
        return answer


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[dict[str, Person]]:
    async with AsyncExitStack() as stack:
        nobody = Person(url, "nobody")
        stack.push_async_callback(nobody.http.aclose)
        known = await stack.enter_async_context(people(url, "stranger", "former", "member", "owner", "guest"))
        yield {"nobody": nobody, **{person.name: person for person in known}}


async def place(roles: dict[str, Person]) -> Place:
    """A new room: operations may leave nothing of it."""
    owner = roles["owner"]
    room = await owner.room(visibility="private")
    for name in ("former", "member"):
        added = await owner.post(f"/rooms/{room}/members", {"username": name})
        assert added.status_code == 201
    assert (await roles["former"].send(room, "I was here")).status_code == 201
    assert (await owner.delete(f"/rooms/{room}/members/{roles['former'].id}")).status_code == 204
    sent = (await owner.send(room, "What was said")).json()["data"]
    ids = {
        "room_id": room,
        "user_id": roles["member"].id,
        "message_id": sent["messages"]["user_message"]["id"],
        "reply_id": sent["reply"]["id"],
        "answer_id": sent["messages"]["ai_message"]["id"],
    }
    return Place(roles, ids)


def for_operation(there: Place, operation: str) -> dict[str, str]:
    return {"message_id": there.ids["answer_id"]} if "/context" in operation else {}


def told(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """All that an answer tells, but for what is another one each time."""
    body = json.loads(answer.content)
    body.pop("instance")
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, body, headers


async def test_every_operation_has_an_entry(start: Start):
    async with start() as url, httpx.AsyncClient(base_url=url) as http:
        document = (await http.get("/openapi.json")).json()
    there_are = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert there_are == IN_ROOM.keys() | OWN | OPEN
    streaming = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "text/event-stream" in str(operation) or "stream of events" in str(operation)
    }
    assert streaming == STREAMS.keys()
    pages = [*system.docs_router.routes, *page.routes.router.routes]
    assert {route.path for route in pages} == PAGES
    assert FRAMES.keys() == KNOWN.keys()


@pytest.mark.abuse("A33", "A34", "A36", "A40")
@pytest.mark.parametrize("operation", IN_ROOM)
async def test_each_role_gets_what_is_its_own_and_no_more(start: Start, operation: str):
    statuses, body = IN_ROOM[operation]
    async with start() as url, crowd(url) as roles:
        for role, status in zip(ROLES, statuses, strict=True):
            there = await place(roles)
            answer = await there.ask(role, operation, body, {}, **for_operation(there, operation))
            assert answer.status_code == status, (role, answer.content)
            if status == 404:
                # The same as for what does not exist.
                unknown = {name: str(uuid4()) for name in there.ids}
                nothing = await there.ask(role, operation, body, {}, **unknown)
                assert told(answer) == told(nothing)
            if status >= 400 and not operation.startswith("GET"):
                kept = (await roles["owner"].get(f"/rooms/{there.ids['room_id']}")).json()
                assert kept["name"] == "A room"
                assert kept["last_seq"] == there_was(kept)


def there_was(room: dict[str, Any]) -> int:
    """Two members came, one asked and was answered, was removed, and the owner asked and was answered."""
    assert [message["status"] for message in room["messages"]] == ["complete"] * 4
    return 7


@pytest.mark.abuse("A33", "A34", "A36")
@pytest.mark.parametrize("operation", STREAMS)
async def test_a_stream_opens_for_those_who_may_read(start: Start, operation: str):
    statuses, body = STREAMS[operation]
    async with start() as url, crowd(url) as roles:
        there = await place(roles)
        for role, status in zip(ROLES, statuses, strict=True):
            answer = await there.ask(role, operation, body, SSE)
            assert answer.status_code == status, role
            assert answer.headers["content-type"].startswith("text/event-stream") == (status == 200)
            if status == 404:
                nothing = await there.ask(role, operation, body, SSE, **{name: str(uuid4()) for name in there.ids})
                assert told(answer) == told(nothing)


@pytest.mark.abuse("A33", "A34")
async def test_a_socket_does_for_each_role_what_is_its_own(start: Start):
    async with start() as url, crowd(url) as roles:
        there = await place(roles)
        for at, role in enumerate(ROLES[1:]):
            async with socket(roles[role]) as opened:
                for type_, (answers, fields) in FRAMES.items():

                    def filled(room_id: str, fields: dict[str, Any] = fields, role: str = role) -> dict[str, Any]:
                        unique = f"{role}-{room_id}"
                        return {name: text.format(room_id=room_id, unique=unique) for name, text in fields.items()}

                    answer = await opened.ask(type_, **filled(there.ids["room_id"]))
                    assert answer["type"] == answers[at], (role, type_, answer)
                    if answer["type"] == "error":
                        nothing = await opened.ask(type_, **filled(str(uuid4())))
                        for found in (answer, nothing):
                            found.pop("ref")
                            found["data"].pop("instance", None)
                        assert answer == nothing


@pytest.mark.abuse("A42")
async def test_lists_and_counts_know_nothing_of_rooms_that_are_closed(start: Start):
    async with start() as url, crowd(url) as roles:
        there = await place(roles)
        for role in ROLES[1:]:
            listed = (await roles[role].get("/rooms/")).json()
            sees = role in ("member", "owner")
            assert [room["id"] for room in listed["rooms"]] == [there.ids["room_id"]] * sees
            assert listed["count"] == int(sees)
            usage = (await roles[role].get("/usage")).json()
            assert {day["room_id"] for day in usage["days"]} <= {there.ids["room_id"]} if role != "stranger" else True
            if role == "stranger":
                assert usage["days"] == []


@pytest.mark.parametrize("operation", sorted(OWN))
async def test_nothing_of_ones_own_is_there_without_a_token(start: Start, operation: str):
    method, _, path = operation.partition(" ")
    async with start() as url:
        nobody = Person(url, "nobody")
        answer = await nobody.call(method, path.format(session_id=uuid4()))
        assert answer.status_code == 401
        await nobody.http.aclose()


async def test_a_session_of_somebody_else_is_like_none(start: Start):
    async with start() as url, people(url, "ada", "bob") as [ada, bob]:
        [session] = (await ada.get("/auth/sessions")).json()["sessions"]
        foreign = await bob.delete(f"/auth/sessions/{session['id']}")
        assert foreign.status_code == 404
        assert told(foreign) == told(await bob.delete(f"/auth/sessions/{uuid4()}"))
        assert (await ada.get("/auth/me")).status_code == 200


@pytest.mark.abuse("A43")
async def test_nobody_is_shown_what_is_private_of_others(start: Start):
    async with start() as url, crowd(url) as roles:
        there = await place(roles)
        for operation in IN_ROOM:
            answer = await there.ask("member", operation, IN_ROOM[operation][1], {}, **for_operation(there, operation))
            for secret in (b"@example.com", b"argon2", b"password", b"127.0.0.1", b"user_agent"):
                assert secret not in getattr(answer, "_content", b""), operation
            if operation.startswith("DELETE"):
                there = await place(roles)


@pytest.mark.abuse("A40")
async def test_a_member_makes_nobody_an_owner(start: Start):
    async with start() as url, crowd(url) as roles:
        there = await place(roles)
        room, member = there.ids["room_id"], roles["member"]
        for body in ({"created_by": member.id}, {"owner": member.id}, {"role": "owner"}, {"visibility": "public"}):
            assert (await member.patch(f"/rooms/{room}", body)).status_code in (400, 403)
        promoted = await member.post(f"/rooms/{room}/members", {"username": "member", "role": "owner"})
        assert promoted.status_code == 400
        assert (await member.delete(f"/rooms/{room}/members/{roles['owner'].id}")).status_code == 403
        members = (await roles["owner"].get(f"/rooms/{room}/members")).json()["members"]
        assert {one["username"]: one["role"] for one in members} == {"owner": "owner", "member": "member"}

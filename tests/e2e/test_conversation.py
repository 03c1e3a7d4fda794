"""The first conversation, as a newcomer has it, in exactly the shapes of the contract."""

import re
from typing import Any

import pytest

from tests.e2e.service import PASSWORD, Person, people, served

USER = {"id", "username", "email", "created_at"}
ROOM = {
    "id", "name", "description", "created_by", "created_at", "message_count", "visibility", "last_seq", "ai",
}  # fmt: skip
AI = {"mode", "model", "system_prompt", "temperature", "max_output_tokens", "busy"}
MEMBER = {"user_id", "username", "role", "joined_at"}
MESSAGE = {
    "id", "m_id", "seq", "content", "user_id", "room_id", "message_type", "username", "created_at", "reply_to",
    "edited_at", "status",
}  # fmt: skip
REPLY = {
    "id", "room_id", "prompt_id", "message_id", "status", "provider", "model", "attempts", "finish_reason", "error",
    "usage", "created_at", "finished_at",
}  # fmt: skip

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def has(value: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    assert fields <= value.keys()
    for name, found in value.items():
        if name == "id" and found is not None:
            assert UUID7.fullmatch(found), name
        if name.endswith("_at") and found is not None:
            assert TIME.fullmatch(found), name
    return value


async def test_a_newcomer_signs_up_opens_a_room_and_gets_an_answer(container):
    async with served(container) as url:
        ada = Person(url, "ada")
        signed_up = await ada.post(
            "/auth/signup", {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
        )
        assert signed_up.status_code == 201
        assert signed_up.json()["message"] == "User created successfully"
        user = has(signed_up.json()["data"]["user"], USER)

        logged_in = await ada.post("/auth/login", {"username": "ada@example.com", "password": PASSWORD})
        assert logged_in.status_code == 200
        session = logged_in.json()
        assert session["token_type"] == "bearer"
        assert session["expires_in"] == 1800
        assert session["user"] == user
        ada.http.headers["Authorization"] = f"Bearer {session['access_token']}"
        assert (await ada.get("/auth/me")).json() == user

        created = await ada.post("/rooms/", {"name": "Engines", "description": "On machines"})
        assert created.status_code == 201
        assert created.json()["message"] == "Room created successfully"
        room = has(created.json()["data"]["room"], ROOM)
        assert has(room["ai"], AI)["mode"] == "always"
        assert (room["message_count"], room["last_seq"], room["visibility"]) == (0, 0, "public")

        sent = await ada.send(room["id"], "What can it do?", "first-1")
        assert sent.status_code == 201
        assert sent.json()["message"] == "Messages sent successfully"
        asked = has(sent.json()["data"]["messages"]["user_message"], MESSAGE)
        answered = has(sent.json()["data"]["messages"]["ai_message"], MESSAGE)
        reply = has(sent.json()["data"]["reply"], REPLY)
        assert (asked["seq"], asked["m_id"], asked["message_type"], asked["username"]) == (1, "first-1", "user", "ada")
        assert (answered["seq"], answered["message_type"], answered["username"]) == (2, "ai", "AI Assistant")
        assert (answered["user_id"], answered["reply_to"], answered["status"]) == (None, asked["id"], "complete")
        assert "What can it do?" in answered["content"]
        assert (reply["status"], reply["message_id"], reply["attempts"]) == ("complete", answered["id"], 1)

        read = await ada.get(f"/rooms/{room['id']}")
        assert read.status_code == 200
        assert has(read.json(), ROOM | {"messages"})["messages"] == [asked, answered]
        assert (read.json()["message_count"], read.json()["last_seq"]) == (2, 2)

        listed = (await ada.get("/rooms/")).json()
        assert listed["count"] == 1
        assert listed["next_cursor"] is None
        has(listed["rooms"][0], ROOM)
        history = (await ada.get(f"/rooms/{room['id']}/messages")).json()
        assert history == {"messages": [asked, answered], "has_older": False, "has_newer": False}
        members = (await ada.get(f"/rooms/{room['id']}/members")).json()["members"]
        assert [has(member, MEMBER)["role"] for member in members] == ["owner"]
        await ada.http.aclose()


async def test_a_repeat_gives_back_the_same_pair(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        first = await ada.send(room, "Once", "k1")
        again = await ada.send(room, "Once", "k1")
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert again.json() == first.json()
        other = await ada.send(room, "Twice", "k1")
        assert other.status_code == 422
        assert other.json()["type"].endswith("message-id-reused")


async def test_an_idempotency_key_stands_in_for_the_m_id(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        first = await ada.send(room, "Once", headers={"Idempotency-Key": "key-1"})
        again = await ada.send(room, "Once", headers={"Idempotency-Key": '"key-1"'})
        assert again.json() == first.json()
        assert first.json()["data"]["messages"]["user_message"]["m_id"] == "key-1"


async def test_a_room_whose_ai_is_off_stores_the_message_alone(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        assert (await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})).json()["ai"]["mode"] == "off"
        sent = await ada.send(room, "Anybody?")
        assert sent.status_code == 201
        assert sent.json()["data"]["reply"] is None
        assert sent.json()["data"]["messages"]["ai_message"] is None


async def test_people_meet_in_rooms_and_leave_them(container):
    async with served(container) as url, people(url, "ada", "grace") as [ada, grace]:
        public, private = await ada.room(), await ada.room(visibility="private")
        joined = await grace.send(public, "Hello")
        assert joined.json()["data"]["messages"]["user_message"]["seq"] == 2  # her joining took the first place
        assert (await grace.get(f"/rooms/{private}")).status_code == 404
        assert (await grace.get("/rooms/")).json()["count"] == 1

        added = await ada.post(f"/rooms/{private}/members", {"username": "GRACE"})
        assert (added.status_code, added.json()["username"]) == (201, "grace")
        assert (await ada.post(f"/rooms/{private}/members", {"username": "grace"})).status_code == 409
        assert (await ada.post(f"/rooms/{private}/members", {"username": "nobody"})).status_code == 404
        assert (await grace.post(f"/rooms/{private}/members", {"username": "ada"})).status_code == 403
        assert (await grace.get(f"/rooms/{private}")).status_code == 200
        assert (await ada.delete(f"/rooms/{private}/members/{ada.id}")).status_code == 409

        assert (await ada.delete(f"/rooms/{private}/members/{grace.id}")).status_code == 204
        assert (await grace.get(f"/rooms/{private}")).status_code == 404
        assert (await ada.delete(f"/rooms/{public}/members/{grace.id}")).status_code == 204
        assert (await grace.send(public, "Still here?")).status_code == 404


async def test_messages_are_edited_and_deleted_in_their_place(container):
    async with served(container) as url, people(url, "ada", "grace") as [ada, grace]:
        room = await ada.room()
        asked = (await ada.send(room, "Frist", "k1")).json()["data"]["messages"]["user_message"]
        path = f"/rooms/{room}/messages/{asked['id']}"
        edited = (await ada.patch(path, {"content": "First"})).json()
        assert (edited["content"], edited["seq"], edited["m_id"]) == ("First", 1, "k1")
        assert edited["edited_at"] is not None
        assert (await grace.patch(path, {"content": "Mine"})).status_code == 403
        assert (await grace.delete(path)).status_code == 403
        assert (await ada.send(room, "Frist", "k1")).status_code == 200  # the key stands for the first text
        assert (await ada.delete(path)).status_code == 204
        gone = (await ada.get(f"/rooms/{room}/messages")).json()["messages"][0]
        assert (gone["id"], gone["content"], gone["status"]) == (asked["id"], "", "deleted")
        assert (await ada.delete(f"/rooms/{room}")).status_code == 204
        assert (await ada.get(f"/rooms/{room}")).status_code == 404


async def test_history_is_read_in_pages_from_any_place(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})  # takes the first place
        for number in range(2, 12):
            assert (await ada.send(room, f"text {number}")).status_code == 201

        async def page(query: str) -> tuple[list[int], bool, bool]:
            found = (await ada.get(f"/rooms/{room}/messages?{query}")).json()
            return [message["seq"] for message in found["messages"]], found["has_older"], found["has_newer"]

        assert await page("limit=3") == ([9, 10, 11], True, False)
        assert await page("limit=3&before=9") == ([6, 7, 8], True, True)
        assert await page("limit=3&after=0") == ([2, 3, 4], False, True)
        assert await page("limit=3&after=9") == ([10, 11], True, False)
        assert await page("limit=3&around=5") == ([4, 5, 6], True, True)
        assert await page("limit=200&after=11") == ([], True, False)


@pytest.mark.parametrize("count", [5])
async def test_the_room_list_turns_by_latest_activity(container, count):
    async with served(container) as url, people(url, "ada") as [ada]:
        rooms = [await ada.room(name=f"room {number}") for number in range(count)]
        await ada.send(rooms[0], "Up with you")
        found: list[str] = []
        cursor = ""
        while True:
            page = (await ada.get(f"/rooms/?limit=2{cursor}")).json()
            assert page["count"] == count
            found += [room["id"] for room in page["rooms"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == [rooms[0], *reversed(rooms[1:])]

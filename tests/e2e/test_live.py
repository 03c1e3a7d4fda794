"""Live rooms, over server-sent events and WebSockets, on each kind of storage."""

import asyncio
from typing import Any

import httpx
import pytest
import websockets

from tests.e2e.live import Socket, socket, stream
from tests.e2e.service import Person, people, served


async def quiet_room(person, **fields) -> str:
    """A room in which no AI answers."""
    room: str = await person.room(**fields)
    assert (await person.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})).status_code == 200
    return room


async def test_pages_streams_and_sockets_show_one_log_by_one_cursor(container):
    async with served(container) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada)
        first = (await ada.send(room, "one")).json()["data"]["messages"]["user_message"]
        async with socket(ada) as live, stream(ada, room, after="0") as events:
            answer = await live.ask("subscribe", room_id=room, after=0)
            assert answer["data"] == {"room_id": room, "seq": 0}
            await bob.send(room, "two")  # and joins with it
            await ada.patch(f"/rooms/{room}/messages/{first['id']}", {"content": "changed"})
            await ada.delete(f"/rooms/{room}/messages/{first['id']}")
            await ada.delete(f"/rooms/{room}/members/{bob.id}")
            by_socket, by_stream = await live.events_to(7), await events.events_to(7)
        kinds = [
            "room.updated",
            "message.created",
            "member.joined",
            "message.created",
            "message.edited",
            "message.deleted",
            "member.left",
        ]
        pages, after = [], 0
        while page := (await ada.get(f"/rooms/{room}/events?after={after}&limit=2")).json()["events"]:
            pages += page
            after = page[-1]["seq"]
        for found in (by_socket, by_stream, pages):
            assert [event["type"] for event in found] == kinds
            assert [event["seq"] for event in found] == list(range(1, 8))
        # What was deleted is nowhere, also not where it was said.
        assert [pages[index]["data"]["content"] for index in (1, 4, 5)] == ["", "", ""]
        assert by_socket[2:4] == by_stream[2:4]


async def test_a_stream_without_a_cursor_begins_now(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        await ada.send(room, "before")
        async with stream(ada, room) as events:
            await ada.send(room, "after")
            assert (await events.event())["data"]["content"] == "after"


async def test_a_stream_goes_on_behind_the_last_id(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        for number in range(5):
            await ada.send(room, str(number))
        async with stream(ada, room, Last_Event_ID="3", after="5") as events:
            assert [event["seq"] for event in await events.events_to(6)] == [4, 5, 6]
            await ada.send(room, "more")
            assert (await events.event())["seq"] == 7


async def test_a_long_absence_is_made_up_for_in_order(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        for _ in range(10):
            await asyncio.gather(*(ada.send(room, "hello") for _ in range(25)))
        async with socket(ada) as live:
            await live.ask("subscribe", room_id=room, after=0)
            await ada.send(room, "meanwhile")
            assert [event["seq"] for event in await live.events_to(252)] == list(range(1, 253))


async def test_a_cursor_beyond_the_end_is_told_to_start_again(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        async with stream(ada, room, after="2") as events:
            assert events.response.status_code == 409
            assert events.response.json()["type"].endswith(":cursor-ahead")
        async with socket(ada) as live:
            answer = await live.ask("subscribe", room_id=room, after=2)
            assert (answer["type"], answer["data"]["status"]) == ("error", 409)
        page = await ada.get(f"/rooms/{room}/events?after=2")
        assert page.json() == {"events": [], "last_seq": 1, "has_newer": False}


@pytest.mark.parametrize("id_", ["x", "-1", "1.0", "1-2", "9" * 30])
async def test_a_last_id_that_is_none_is_refused(memory, id_):
    async with (
        served(memory) as url,
        people(url, "ada") as [ada],
        stream(ada, await ada.room(), Last_Event_ID=id_) as it,
    ):
        assert it.response.status_code == 400
        assert it.response.json()["errors"][0]["pointer"] == "Last-Event-ID"


async def test_what_is_closed_is_not_there(memory):
    async with served(memory) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada, visibility="private")
        assert (await bob.get(f"/rooms/{room}/events")).status_code == 404
        async with stream(bob, room) as events:
            assert events.response.status_code == 404
        async with socket(bob) as live:
            assert (await live.ask("subscribe", room_id=room, after=None))["data"]["status"] == 404
            assert (await live.ask("typing", room_id=room))["data"]["status"] == 404
            assert (await live.ask("subscribe", room_id="no id"))["data"]["status"] == 404


async def test_a_removal_closes_what_is_open_and_leaving_does_not(container):
    async with served(container) as url, people(url, "ada", "bob", "cid") as [ada, bob, cid]:
        room = await quiet_room(ada)
        await bob.send(room, "b")
        await cid.send(room, "c")
        async with socket(bob) as live, stream(bob, room) as events, socket(cid) as other:
            await live.ask("subscribe", room_id=room)
            await other.ask("subscribe", room_id=room)
            await cid.delete(f"/rooms/{room}/members/{cid.id}")
            assert (await live.event())["type"] == "member.left"
            assert (await ada.delete(f"/rooms/{room}/members/{bob.id}")).status_code == 204
            await ada.send(room, "after")
            assert await live.closed() == 4403
            assert [event["seq"] for event in await events.ended()] == [6]
            assert [event["seq"] for event in await other.events_to(8)] == [6, 7, 8]


async def test_a_room_made_private_is_closed_to_those_who_do_not_belong(memory):
    async with served(memory) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada)
        async with stream(bob, room) as events, stream(ada, room) as hers:
            await ada.patch(f"/rooms/{room}", {"visibility": "private"})
            await ada.send(room, "secret")
            assert await events.ended() == []
            assert [event["seq"] for event in await hers.events_to(3)] == [2, 3]


async def test_the_end_of_a_room_is_shown_to_those_inside(container):
    async with served(container) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada)
        async with stream(bob, room) as events, socket(ada) as live:
            await live.ask("subscribe", room_id=room)
            await ada.send(room, "last words")
            await live.event()
            assert (await events.event())["data"]["content"] == "last words"
            await ada.delete(f"/rooms/{room}")
            assert [event["type"] for event in await events.ended()] == ["room.deleted"]
            assert (await live.event())["type"] == "room.deleted"
            assert await live.closed() == 4403


async def test_a_send_over_a_socket_is_a_send(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        async with socket(ada) as live:
            sent = await live.ask("send", room_id=room, m_id="k", content="hello")
            assert sent["data"]["user_message"]["content"] == "hello"
            assert (sent["data"]["reply"], sent["data"]["replayed"]) == (None, False)
            again = await live.ask("send", room_id=room, m_id="k", content="hello")
            assert again["data"]["user_message"] == sent["data"]["user_message"]
            assert again["data"]["replayed"] is True
            other = await live.ask("send", room_id=room, m_id="k", content="other")
            assert other["data"]["status"] == 422
            over_http = await ada.send(room, "other", "k")
            assert {**over_http.json(), "instance": ""} == {**other["data"], "instance": ""}
            blank = await live.ask("send", room_id=room, content=" ")
            assert blank["data"]["errors"] == [{"pointer": "/content", "detail": "must not be blank"}]
            more = await live.ask("send", room_id=room, content="x", model="y")
            assert more["data"]["errors"][0]["pointer"] == "/model"


async def test_an_answer_of_the_ai_is_an_event(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        async with socket(ada) as live:
            await live.ask("subscribe", room_id=room)
            sent = await live.ask("send", room_id=room, content="hello")
            assert sent["data"]["reply"]["status"] == "queued"
            found = await live.events_to(2)
            assert [event["data"]["message_type"] for event in found] == ["user", "ai"]


async def test_sends_are_done_in_their_order(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        async with socket(ada) as live:
            for number in range(50):
                await live.raw.send(f'{{"type":"send","room_id":"{room}","content":"{number}","ref":{number}}}')
            refs = [(await live._next())["ref"] for _ in range(50)]
            assert refs == list(range(50))
        found = (await ada.get(f"/rooms/{room}/messages?limit=200")).json()["messages"]
        assert [message["content"] for message in found] == [str(number) for number in range(50)]


async def test_people_see_each_other_come_type_and_go(memory):
    async with served(memory) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada)
        async with socket(ada) as live:
            await live.ask("subscribe", room_id=room)
            assert (await live.event("presence"))["data"] == {"user_id": ada.id, "username": "ada", "present": True}
            async with socket(bob) as other:
                await other.ask("subscribe", room_id=room)
                there = [(await other.event("presence"))["data"]["username"] for _ in range(2)]
                assert there == ["ada", "bob"]
                assert (await live.event("presence"))["data"]["username"] == "bob"
                await other.ask("typing", room_id=room)
                typing = await live.event("typing")
                assert typing == {
                    "type": "typing",
                    "room_id": room,
                    "seq": None,
                    "data": {"user_id": bob.id, "username": "bob"},
                }
            gone = await live.event("presence")
            assert gone["data"] == {"user_id": bob.id, "username": "bob", "present": False}


async def test_what_is_no_longer_subscribed_to_is_not_shown(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room, other = await quiet_room(ada), await quiet_room(ada)
        async with socket(ada) as live:
            await live.ask("subscribe", room_id=room)
            await live.ask("subscribe", room_id=other)
            assert (await live.ask("unsubscribe", room_id=room))["data"] == {"room_id": room}
            await ada.send(room, "unseen")
            await ada.send(other, "seen")
            assert (await live.event())["data"]["content"] == "seen"


@pytest.mark.parametrize(
    "frame", ["", "{", "[]", '{"type":"dance"}', '{"kind":"ping"}', b"\x00", b'{"type":"ping"}', '{"type":"ping"}' * 2]
)
async def test_what_is_no_frame_ends_the_socket(memory, frame):
    async with served(memory) as url, people(url, "ada") as [ada], socket(ada) as live:
        await live.raw.send(frame)
        assert await live.closed() == 1008


async def test_a_deep_frame_ends_the_socket(memory):
    async with served(memory) as url, people(url, "ada") as [ada], socket(ada) as live:
        await live.raw.send('{"type":"ping","ref":' + "[" * 100_000)
        assert await live.closed() == 1008


async def test_a_frame_that_is_too_big_ends_the_socket(memory):
    async with served(memory) as url, people(url, "ada") as [ada], socket(ada) as live:
        await live.raw.send("x" * (512 * 1024 + 1))
        assert await live.closed() == 1009


async def test_too_many_frames_end_the_socket(memory):
    async with served(memory) as url, people(url, "ada") as [ada], socket(ada) as live:
        try:
            for _ in range(1000):
                await live.raw.send('{"type":"ping"}')
        except websockets.ConnectionClosed:
            pass
        assert await live.closed() == 4429


async def refused(url: str, **more) -> httpx.Response:
    """The answer of HTTP to a handshake."""
    try:
        async with websockets.connect(url.replace("http", "ws") + "/ws", **more):
            raise AssertionError("it was let in")
    except websockets.InvalidStatus as error:
        answer = error.response
        headers = list(answer.headers.raw_items())
        return httpx.Response(answer.status_code, headers=headers, content=bytes(answer.body or b""))


async def test_without_a_token_or_ticket_there_is_no_socket(memory):
    async with served(memory) as url:
        for more in (
            {},
            {"additional_headers": {"Authorization": "Bearer none"}},
            {"subprotocols": ["chat.v1"]},
            {"subprotocols": ["chat.v1", "ticket.none"]},
        ):
            answer = await refused(url, **more)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["type"].endswith(":not-authenticated")
            assert answer.json()["instance"] == answer.headers["X-Request-ID"]


async def test_a_page_of_another_site_opens_no_socket(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        token = {"Authorization": ada.http.headers["Authorization"]}
        for origin in ("https://evil.example", "null", f"{url}.evil.example", "http://127.0.0.1"):
            answer = await refused(url, additional_headers=token, origin=origin)
            assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (403, "forbidden")
        async with socket(ada, origin=url) as live:
            assert (await live.ask("ping"))["type"] == "ok"


async def ticket_of(person) -> str:
    ticket: str = (await person.post("/auth/ws-ticket")).json()["ticket"]
    return ticket


async def test_a_ticket_opens_one_socket(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        ws, ticket = url.replace("http", "ws") + "/ws", await ticket_of(ada)
        offered: dict[str, Any] = {"subprotocols": ["chat.v1", f"ticket.{ticket}"], "origin": url}
        async with websockets.connect(ws, **offered) as raw:
            assert raw.subprotocol == "chat.v1"
            assert (await Socket(raw).ask("subscribe", room_id=room, after=None))["type"] == "ok"
        assert (await refused(url, **offered)).status_code == 401


async def test_who_logs_out_loses_streams_and_sockets(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        there = Person(url, "ada")
        await there.log_in()
        async with socket(ada) as live, stream(ada, room) as events, socket(there) as other:
            await live.ask("subscribe", room_id=room, after=None)
            await other.ask("subscribe", room_id=room, after=None)
            await ada.post("/auth/logout")
            assert await live.closed() == 4401
            assert await events.ended() == []
            await there.send(room, "still here")
            assert (await other.event())["data"]["content"] == "still here"
        await there.http.aclose()


async def test_each_person_has_so_many_streams_and_sockets(memory):
    async with served(memory) as url, people(url, "ada", "bob") as [ada, bob]:
        room = await quiet_room(ada)
        sockets = [socket(ada) for _ in range(5)]
        streams = [stream(ada, room) for _ in range(5)]
        opened = [await one.__aenter__() for one in (*sockets, *streams)]
        token = {"Authorization": ada.http.headers["Authorization"]}
        answer = await refused(url, additional_headers=token)
        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
        async with stream(ada, room) as one_more:
            assert one_more.response.status_code == 429
        async with socket(bob):
            pass
        for one in reversed((*sockets, *streams)):
            await one.__aexit__(None, None, None)
        assert len(opened) == 10
        async with asyncio.timeout(10):
            while memory.open_streams()._open or memory.hub()._connections or memory.hub()._rooms:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not memory.hub()._tasks


async def test_a_process_that_is_about_to_end_lets_go_politely(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        async with socket(ada) as live, stream(ada, room) as events:
            await live.ask("subscribe", room_id=room)
            memory.draining().begin()
            assert await live.closed() == 1012
            assert await events.ended() == []
        async with stream(ada, room) as late:
            assert late.response.status_code == 503
            assert "Retry-After" in late.response.headers
        answer = await refused(url, additional_headers={"Authorization": ada.http.headers["Authorization"]})
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


async def test_who_reads_nothing_is_cut_off_and_comes_back_with_its_cursor(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await quiet_room(ada)
        async with socket(ada, max_queue=1) as slow, socket(ada) as quick:
            await slow.ask("subscribe", room_id=room)
            await quick.ask("subscribe", room_id=room)
            last = 1
            # What the system buffers for it comes on top of what the service does.
            while not any(connection.ended for connection in memory.hub()._connections):
                assert last < 1500
                sent = await ada.send(room, "x" * 30_000)
                last = sent.json()["data"]["messages"]["user_message"]["seq"]
                assert (await quick.event())["seq"] == last
            assert await slow.closed() == 1013
            seen = [event["seq"] for event in slow._events if event["seq"] is not None]
            assert seen == list(range(2, len(seen) + 2))
        async with socket(ada) as back:
            await back.ask("subscribe", room_id=room, after=seen[-1])
            assert [event["seq"] for event in await back.events_to(last)] == list(range(seen[-1] + 1, last + 1))


async def test_a_socket_may_follow_so_many_rooms(memory, monkeypatch):
    monkeypatch.setattr("entrypoints.http.socket_frames.SUBSCRIPTIONS_MAX", 2)
    async with served(memory) as url, people(url, "ada") as [ada], socket(ada) as live:
        rooms = [await ada.room() for _ in range(3)]
        answers = [await live.ask("subscribe", room_id=room) for room in (*rooms, rooms[0])]
        assert [answer["type"] for answer in answers] == ["ok", "ok", "error", "ok"]
        assert answers[2]["data"]["status"] == 429

"""Sockets that are abused, and sockets without number."""

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets

from tests.abuse.conftest import Build, Start
from tests.e2e.live import PATIENCE, Socket, socket
from tests.e2e.service import Person, people, served
from tests.faults.polling import until

#: With the limits of frames, and without those of requests.
LIMITED: dict[str, Any] = {"rate_limits": "on"}
TEXT, BINARY, CONTINUED, PING, PONG = 0x1, 0x2, 0x0, 0x9, 0xA
PING_FRAME = '{"type": "ping", "ref": 1}'


def frame(opcode: int, payload: bytes = b"", *, last: bool = True) -> bytes:
    """One frame of a client (RFC 6455, section 5.2), masked with zeros."""
    first = bytes([opcode | (0x80 if last else 0)])
    size = len(payload)
    if size < 126:
        return first + bytes([0x80 | size]) + b"\0\0\0\0" + payload
    if size < 65_536:
        return first + b"\xfe" + struct.pack("!H", size) + b"\0\0\0\0" + payload
    return first + b"\xff" + struct.pack("!Q", size) + b"\0\0\0\0" + payload


@asynccontextmanager
async def mistreated(person: Person) -> AsyncIterator[Socket]:
    """A socket of theirs that the service has to close: after that a good-bye makes no sense any more."""
    url = str(person.http.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"
    headers = {"Authorization": person.http.headers["Authorization"]}
    raw = await websockets.connect(url, additional_headers=headers, compression=None)
    yield Socket(raw)
    assert raw.state is websockets.State.CLOSED


async def pour(live: Socket, pieces: Iterator[bytes]) -> int:
    """Send these bytes, as they are, for as long as they are taken; the code that the socket is closed with."""
    closed = asyncio.create_task(live.closed())
    for number, piece in enumerate(pieces):
        if closed.done() or live.raw.transport.is_closing():
            break
        live.raw.transport.write(piece)
        if number % 50 == 0:
            await asyncio.sleep(0)
    code = await closed
    async with asyncio.timeout(PATIENCE):
        await live.raw.wait_closed()
    return code


async def still_served(person: Person, live: Socket) -> None:
    """Nobody else has to suffer."""
    assert (await live.ask("ping"))["type"] == "ok"
    assert (await person.get("/auth/me")).status_code == 200


@pytest.mark.abuse("A85")
async def test_frames_by_the_thousand_close_the_socket_and_no_other(start: Start):
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        async with mistreated(ada) as live:
            ping = frame(TEXT, PING_FRAME.encode())
            assert await pour(live, (ping * 100 for _ in range(100))) == 4429
            assert len(live._events) < 250
        await still_served(bob, calm)
        async with socket(ada) as again:
            assert (await again.ask("ping"))["type"] == "ok"


@pytest.mark.abuse("A85")
@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_flood_of_pings_closes_the_socket_and_no_other(start: Start, opcode: int):
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        async with mistreated(ada) as live:
            assert await pour(live, (frame(opcode, b"x" * 125) * 100 for _ in range(500))) == 4429
        await still_served(bob, calm)


@pytest.mark.abuse("A85")
async def test_a_frame_that_is_too_big_closes_the_socket_and_one_that_is_large_does_not(start: Start):
    limits = LIMITED | {"max_body_bytes": 100_000}
    async with start(**limits) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        room = await ada.room()
        async with mistreated(ada) as live:
            large = await live.ask("send", room_id=room, content="x" * 65_536)
            assert (large["type"], large["data"]["status"]) == ("error", 400)
            assert await pour(live, iter([frame(TEXT, b"x" * 100_001)])) == 1009
        async with mistreated(ada) as live:
            # Announced, and never sent.
            assert await pour(live, iter([b"\x81\xff" + struct.pack("!Q", 1 << 40) + b"\0\0\0\0"])) == 1009
        await still_served(bob, calm)


@pytest.mark.abuse("A85")
@pytest.mark.parametrize("size", [1000, 1, 0])
async def test_a_message_without_an_end_closes_the_socket(start: Start, size: int):
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        async with mistreated(ada) as live:
            pieces = (frame(CONTINUED, b"x" * size, last=False) * 100 for _ in range(1000))
            live.raw.transport.write(frame(TEXT, b'{"type": "', last=False))
            assert await pour(live, pieces) in (1008, 1009)
        await still_served(bob, calm)


@pytest.mark.abuse("A85")
async def test_a_message_in_pieces_with_pings_between_is_one(start: Start):
    async with start(**LIMITED) as url, people(url, "ada") as [ada], socket(ada) as live:
        for piece in (b'{"type": ', b'"ping", ', b'"ref": 1'):
            live.raw.transport.write(frame(TEXT if b"type" in piece else CONTINUED, piece, last=False))
            live.raw.transport.write(frame(PING, b"between"))
        live.raw.transport.write(frame(CONTINUED, b"}"))
        assert (await live._next())["type"] == "ok"


GARBAGE = {
    "nothing": "",
    "a word": "hello",
    "a list": "[]",
    "null": "null",
    "a number": "1",
    "no type": "{}",
    "a type that is none": '{"type": 1}',
    "an unknown type": '{"type": "shutdown"}',
    "an unfinished one": '{"type": "ping"',
    "two": '{"type": "ping"}{"type": "ping"}',
    "deep": '{"type": ' + "[" * 100_000,
    "deep beside the type": '{"type": "ping", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "no number": '{"type": "ping", "ref": NaN}',
    "a lone surrogate": '{"type": "\\ud800"}',
}


@pytest.mark.abuse("A85")
async def test_what_is_no_frame_closes_the_socket(start: Start, caplog: pytest.LogCaptureFixture):
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        for name, text in GARBAGE.items():
            async with mistreated(ada) as live:
                assert await pour(live, iter([frame(TEXT, text.encode())])) == 1008, name
        for payload in (b"", b"\0" * 1000, PING_FRAME.encode()):
            async with mistreated(ada) as live:
                assert await pour(live, iter([frame(BINARY, payload)])) == 1008
        await still_served(bob, calm)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.abuse("A85")
async def test_what_breaks_the_protocol_closes_the_socket(start: Start, caplog: pytest.LogCaptureFixture):
    broken = {
        "no UTF-8": (frame(TEXT, b'{"type": "\xff"}'), 1007),
        "half a character": (frame(TEXT, b'{"type": "\xf0\x9f"}'), 1007),
        "without a mask": (b"\x81\x02{}", 1002),
        "a kind that is none": (frame(0x3, b"x"), 1002),
        "a reserved bit": (b"\xc1" + frame(TEXT, PING_FRAME.encode())[1:], 1002),
        "a long ping": (frame(PING, b"x" * 126), 1002),
        "a ping in pieces": (frame(PING, b"x", last=False), 1002),
        "a rest without a start": (frame(CONTINUED, b"x"), 1002),
        "a start within a message": (frame(TEXT, b"x", last=False) * 2, 1002),
    }
    async with start(**LIMITED) as url, people(url, "ada", "bob") as [ada, bob], socket(bob) as calm:
        for name, (sent, code) in broken.items():
            async with mistreated(ada) as live:
                assert await pour(live, iter([sent])) == code, name
        await still_served(bob, calm)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.abuse("A85")
async def test_a_frame_that_asks_for_what_is_not_there_is_answered_and_closes_nothing(start: Start):
    async with start(**LIMITED) as url, people(url, "ada") as [ada], socket(ada) as live:
        for fields in (
            {"type": "subscribe", "room_id": "' OR 1=1"},
            {"type": "subscribe", "room_id": 1},
            {"type": "send", "room_id": "x", "content": "a\u0000b"},
            {"type": "subscribe", "room_id": "x", "after": -1},
            {"type": "ping", "more": True},
            {"type": "ping", "ref": "r" * 1000},
        ):
            await live.raw.send(json.dumps({"ref": 1, **fields}))
            answer = await live._next()
            assert answer["type"] == "error", fields
            assert answer["data"]["status"] in (400, 404), fields


@pytest.mark.abuse("A85", "A89")
async def test_sends_over_a_socket_are_limited_as_all_others(start: Start):
    limits = LIMITED | {"send_limit": (5, 60_000.0)}
    async with start(**limits) as url, people(url, "ada") as [ada], socket(ada) as live:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        answers = [await live.ask("send", room_id=room, content="hello") for _ in range(8)]
        assert [answer["type"] for answer in answers] == ["ok"] * 5 + ["error"] * 3
        assert answers[-1]["data"]["type"] == "urn:chat-api:problem:rate-limited"
        assert (await ada.send(room, "hello")).status_code == 429


@pytest.mark.abuse("A85")
async def test_frames_are_compressed_for_nobody(start: Start):
    async with start(**LIMITED) as url, people(url, "ada") as [ada]:
        address = url.replace("http", "ws") + "/ws"
        headers = {"Authorization": ada.http.headers["Authorization"]}
        async with websockets.connect(address, additional_headers=headers, compression="deflate") as raw:
            assert raw.request is not None
            assert "permessage-deflate" in raw.request.headers["Sec-WebSocket-Extensions"]
            assert raw.response is not None
            assert "Sec-WebSocket-Extensions" not in raw.response.headers
            assert raw.protocol.extensions == []
            live = Socket(raw)
            assert (await live.ask("ping"))["type"] == "ok"


def handshake(authorization: str = "", protocols: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "additional_headers": {"Authorization": authorization} if authorization else {},
        "subprotocols": [websockets.Subprotocol(name) for name in protocols] or None,
    }


NOBODY = (
    handshake(),
    handshake("Bearer x"),
    handshake("Basic eDp4"),
    handshake("", ("chat.v1",)),
    handshake("", ("chat.v1", "ticket.x")),
    handshake("", ("chat.v1", "ticket.x", "ticket.y")),
    handshake("", ("ticket.x",)),
)


@pytest.mark.abuse("A86")
async def test_sockets_without_a_token_are_refused_by_the_hundred_and_leave_nothing(build: Build):
    container = build(**LIMITED)
    async with served(container) as url, people(url, "ada") as [ada]:
        address, told = url.replace("http", "ws") + "/ws", set()

        async def knock(how: dict[str, Any]) -> int:
            try:
                async with websockets.connect(address, **how):
                    return 101
            except websockets.InvalidStatus as refused:
                told.add(json.loads(refused.response.body or b"{}")["type"])
                return refused.response.status_code

        assert [await knock(how) for how in NOBODY] == [401] * len(NOBODY)
        before = len(asyncio.all_tasks())
        for _ in range(10):
            found = await asyncio.gather(*(knock(NOBODY[number % len(NOBODY)]) for number in range(50)))
            assert set(found) == {401}
        assert told == {"urn:chat-api:problem:not-authenticated"}
        await until(lambda: len(asyncio.all_tasks()) <= before, PATIENCE, "nothing is left of those who knocked")
        assert not container.hub()._connections
        assert not container.open_sockets()._open
        assert not container.open_streams()._open
        async with socket(ada) as live:
            assert (await live.ask("ping"))["type"] == "ok"


@pytest.mark.abuse("A86")
async def test_knocking_without_end_is_a_request_like_any_other(start: Start):
    limits = LIMITED | {"request_limit": (30, 90_000.0)}
    async with start(**limits) as url, people(url, "ada") as [ada]:
        address = url.replace("http", "ws") + "/ws"
        found = []
        for _ in range(40):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(address)
            found.append(refused.value.response.status_code)
        # Signing up and logging in were two of this address.
        assert found == [401] * 28 + [429] * 12
        async with socket(ada) as live:
            assert (await live.ask("ping"))["type"] == "ok"

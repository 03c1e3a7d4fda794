"""What comes over the wire and is no proper request."""

import asyncio
import json
import re
import zlib

import pytest

from entrypoints.container import memory_container
from entrypoints.http.guarded import GuardedProtocol
from tests.e2e.service import people, served

PATIENCE = 15.0


async def raw(url: str, *pieces: bytes, close: bool = False) -> bytes:
    """What the service answers to these bytes until it closes the connection."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def status_of(answer: bytes) -> int:
    return int(answer[9:12])


def is_problem(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == status, answer[:300]
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    assert b"cache-control: no-store" in head.lower()
    assert json.loads(body)["status"] == status


def head(method: str, path: str, token: str = "", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"Authorization: {token}"] if token else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.abuse("A12")
@pytest.mark.parametrize("size", [65_536, 1_000_000])
async def test_a_huge_token_is_not_looked_at(size: int):
    async with served(memory_container()) as url:
        is_problem(await raw(url, head("GET", "/auth/me", "Bearer " + "a" * size)), 431)


@pytest.mark.abuse("A12")
async def test_a_token_that_is_merely_long_is_like_any_other_that_is_none():
    async with served(memory_container()) as url:
        is_problem(await raw(url, head("GET", "/auth/me", "Bearer " + "a" * 16_000)), 401)


@pytest.mark.abuse("A12")
async def test_headers_without_number_or_end_are_refused():
    async with served(memory_container()) as url:
        many = {f"x_{number}": "a" for number in range(101)}
        is_problem(await raw(url, head("GET", "/health", **many)), 431)
        endless = [b"GET /health HTTP/1.1\r\n", *[b"x: " + b"a" * 8000 + b"\r\n"] * 6]
        is_problem(await raw(url, *endless), 431)
        is_problem(await raw(url, head("GET", "/health?" + "a" * 40_000)), 431)


@pytest.mark.abuse("A54")
async def test_a_body_over_the_limit_is_refused_however_it_comes():
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        token, json_type = ada.http.headers["Authorization"], {"content_type": "application/json"}
        whole = head("POST", "/rooms/", token, **json_type, content_length="600000")
        assert status_of(await raw(url, whole, b" " * 600_000)) == 413
        # Announced, and never sent.
        assert status_of(await raw(url, head("POST", "/rooms/", token, **json_type, content_length="600000"))) == 413
        chunked = head("POST", "/rooms/", token, **json_type, transfer_encoding="chunked")
        piece = b"%x\r\n%b\r\n" % (50_000, b" " * 50_000)
        assert status_of(await raw(url, chunked, *[piece] * 12)) == 413


@pytest.mark.abuse("A54")
async def test_a_length_that_is_not_true_is_refused():
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        token, body = ada.http.headers["Authorization"], b'{"name": "a room"}'
        json_type = {"content_type": "application/json"}
        short = await raw(url, head("POST", "/rooms/", token, **json_type, content_length="9"), body[:9])
        assert status_of(short) == 400
        for length in ("-1", "1e3", "18, 19", "0x12"):
            wrong = await raw(url, head("POST", "/rooms/", token, **json_type, content_length=length), body)
            is_problem(wrong, 400)
        both = head("POST", "/rooms/", token, **json_type, content_length="18", transfer_encoding="chunked")
        is_problem(await raw(url, both, body), 400)
        assert (await ada.get("/rooms/")).json()["count"] == 0


@pytest.mark.abuse("A54")
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_what_is_compressed_is_not_opened(encoding: str):
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        bomb = zlib.compress(b" " * 10_000_000)
        answer = await ada.http.post(
            "/rooms/", content=bomb, headers={"Content-Type": "application/json", "Content-Encoding": encoding}
        )
        assert answer.status_code == 415


@pytest.mark.abuse("A53", "A67")
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/jsonp",
        "application/json, text/plain",
        "text/json",
    ],
)
async def test_a_body_that_is_not_said_to_be_json_is_not_read(content_type: str):
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        parts = b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n" * 5000
        for body in (b'{"name": "a room"}', parts):
            answer = await ada.http.post("/rooms/", content=body, headers={"Content-Type": content_type})
            assert answer.status_code == 415, answer.text
        assert (await ada.get("/rooms/")).json()["count"] == 0


@pytest.mark.abuse("A55")
async def test_whoever_dribbles_is_cut_off_and_nobody_else_is_held_up(monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "SECONDS", 1.0)
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        token = ada.http.headers["Authorization"]
        announced = head("POST", "/rooms/", token, content_type="application/json", content_length="5000")
        slow = [
            asyncio.create_task(raw(url, piece))
            for piece in [b"", b"GET /health HTTP/1.1\r\nHost", announced, announced + b'{"name'] * 50
        ]
        for _ in range(5):
            assert (await ada.get("/auth/me")).status_code == 200
        for answer in await asyncio.gather(*slow):
            is_problem(answer, 408)
        assert (await ada.get("/rooms/")).json()["count"] == 0


@pytest.mark.abuse("A55")
async def test_whoever_is_slow_but_comes_on_is_let_finish(monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "SECONDS", 0.5)
    monkeypatch.setattr(GuardedProtocol, "PACE", 10)
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        body = b'{"name": "a room", "description": "' + b"a" * 300 + b'"}'
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        length = {"content_type": "application/json", "content_length": str(len(body))}
        writer.write(head("POST", "/rooms/", ada.http.headers["Authorization"], **length))
        for at in range(0, len(body), 100):
            writer.write(body[at : at + 100])
            await writer.drain()
            # Time has to pass: a pace is what is tried.
            await asyncio.sleep(0.4)
        answer = await reader.read()
        writer.close()
        assert status_of(answer) == 201, answer


@pytest.mark.abuse("A55")
async def test_waiting_for_an_answer_is_not_being_slow(monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "SECONDS", 0.1)
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stream = head("GET", f"/rooms/{room}/events", ada.http.headers["Authorization"], accept="text/event-stream")
        writer.write(stream)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.5)
        await ada.send(room, "still there?")
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"still there?")
        writer.close()


@pytest.mark.abuse("A65")
@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PUT", "FROB", "get", "SUBSCRIBE"])
async def test_a_method_that_a_path_has_not_is_refused_with_those_that_it_has(method: str):
    async with served(memory_container()) as url:
        answer = await raw(url, head(method, "/rooms/"))
        is_problem(answer, 405)
        found = re.search(rb"(?i)\r\nallow: (.*?)\r\n", answer)
        assert found
        allowed = set(found[1].decode().split(", "))
        assert {"GET", "HEAD", "OPTIONS", "POST"} <= allowed
        assert (method in ("FROB", "get")) == ("PATCH" in allowed)


@pytest.mark.abuse("A65")
async def test_the_service_is_no_proxy():
    async with served(memory_container()) as url:
        is_problem(await raw(url, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"), 400)
        answer = await raw(
            url, b"GET http://example.com/health HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
        )
        assert status_of(answer) in (200, 400)


@pytest.mark.abuse("A63")
@pytest.mark.parametrize(
    "host", ["evil.example", "appXexample.com", "a b", "évil", "x" * 300, "[::1", "evil.example:99999"]
)
async def test_no_answer_is_built_from_the_host_that_a_client_names(host: str):
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        token = ada.http.headers["Authorization"]
        for path in ("/", "/rooms/", f"/rooms/{room}", "/openapi.json", "/docs", "/nowhere"):
            lines = head("GET", path, token).replace(b"Host: test", b"Host: " + host.encode("latin-1"))
            answer = await raw(url, lines.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Host: evil.example\r\n\r\n"))
            assert status_of(answer) in (200, 400, 404)
            assert b"evil" not in answer.lower()
            assert b"appx" not in answer.lower()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: \x00\r\n\r\n",
        b"\r\n\r\nfoo\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_document(rubbish: bytes):
    async with served(memory_container()) as url:
        answer = await raw(url, rubbish, close=True)
        assert status_of(answer) in (400, 405)
        is_problem(answer, status_of(answer))

"""What a browser does for whoever has a page of another site open."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets

from entrypoints.container import memory_container
from entrypoints.http.request_log import HEADERS
from entrypoints.settings import NO_RATES, Settings
from tests.abuse.test_wire import raw
from tests.e2e.service import Person, people, served

ALLOWED = "https://chat.example.com"
#: None of these is the one that is allowed.
OTHERS = (
    "https://evil.example",
    "null",
    "https://chat.example.com.evil.example",
    "https://evilchat.example.com",
    "https://chat.example.community",
    "http://chat.example.com",
    "https://chat.example.com:444",
    "https://chatXexample.com",
    "https://chat.example.com/",
    "https://CHAT.example.com.",
    "https://user@chat.example.com",
    "file://",
    "*",
    "",
)


def told_to_browsers(answer: httpx.Response) -> dict[str, str]:
    return {name: text for name, text in answer.headers.items() if name.startswith("access-control-")}


def with_origins(*origins: str) -> Any:
    return memory_container(Settings(**{**NO_RATES, "cors_origins": origins}))


@pytest.mark.abuse("A68")
@pytest.mark.parametrize("origins", [(), (ALLOWED,)])
async def test_a_page_of_another_site_is_let_read_nothing(origins: tuple[str, ...]):
    async with served(with_origins(*origins)) as url, people(url, "ada") as [ada]:
        for origin in OTHERS + (() if origins else (ALLOWED,)):
            for path in ("/auth/me", "/rooms/", "/nowhere", f"/rooms/{uuid4()}", "/health", "/app"):
                read = await ada.get(path, headers={"Origin": origin})
                assert "access-control-allow-origin" not in read.headers, (origin, path)
                assert "access-control-allow-credentials" not in read.headers
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = await ada.call("OPTIONS", "/rooms/", headers=asks)
            assert "access-control-allow-origin" not in preflight.headers, origin


@pytest.mark.abuse("A68")
async def test_a_page_of_the_one_site_reads_all_answers_and_never_by_cookies():
    async with served(with_origins(ALLOWED)) as url, people(url, "ada") as [ada]:
        here = {"Origin": ALLOWED}
        room = await ada.room()
        answers = [
            await ada.get("/auth/me", headers=here),
            await ada.get("/nowhere", headers=here),
            await ada.get(f"/rooms/{uuid4()}", headers=here),
            await ada.get("/auth/me", headers={**here, "Authorization": "Bearer x"}),
            await ada.send(room, "hello", headers=here),
            await ada.send(room, " ", headers=here),
            await ada.call("PUT", "/rooms/", headers=here),
        ]
        assert [answer.status_code for answer in answers] == [200, 404, 404, 401, 201, 400, 405]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == ALLOWED, answer.request.url
            assert "access-control-allow-credentials" not in answer.headers
            assert "origin" in answer.headers["vary"].lower()
        for method in ("GET", "POST", "PATCH", "DELETE"):
            asks = {**here, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
            preflight = await ada.http.options(f"/rooms/{room}", headers=asks)
            assert preflight.status_code == 204
            told = told_to_browsers(preflight)
            assert told["access-control-allow-origin"] == ALLOWED
            assert method in told["access-control-allow-methods"]
            assert "authorization" in told["access-control-allow-headers"].lower()
            assert "*" not in "".join(told.values())


@pytest.mark.abuse("A69")
@pytest.mark.parametrize("origin", [other for other in OTHERS if other])
async def test_a_page_of_another_site_opens_no_socket(origin: str):
    async with served(with_origins(ALLOWED)) as url, people(url, "ada") as [ada]:
        ticket = (await ada.post("/auth/ws-ticket")).json()["ticket"]
        address = url.replace("http", "ws") + "/ws"
        token = ada.http.headers["Authorization"]
        for headers in ({}, {"Authorization": token}, {"Cookie": f"token={token.removeprefix('Bearer ')}"}):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(
                    address,
                    additional_headers={**headers, "Origin": origin},
                    subprotocols=["chat.v1", f"ticket.{ticket}"],  # type: ignore[list-item]
                )
            assert refused.value.response.status_code == 403
        # What was refused for the page's sake has not used the ticket up.
        subprotocols: Any = ["chat.v1", f"ticket.{ticket}"]
        async with websockets.connect(address, additional_headers={"Origin": ALLOWED}, subprotocols=subprotocols):
            pass


@pytest.mark.abuse("A69")
async def test_without_an_origin_a_socket_needs_its_token_or_ticket():
    async with served(memory_container()) as url:
        for headers in ({}, {"Cookie": "session=1"}, {"Origin": url}):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(url.replace("http", "ws") + "/ws", additional_headers=headers)
            assert refused.value.response.status_code == 401


@pytest.mark.abuse("A70")
async def test_what_a_form_of_another_site_posts_does_nothing():
    """A form sends no ``Authorization``, and none of its three content types is taken."""
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        forms = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
        for type_ in forms:
            headers = {"Content-Type": type_, "Origin": "https://evil.example"}
            body = json.dumps({"content": "forged"}).encode()
            for path in (f"/chat/{room}", "/rooms/", "/auth/signup", "/auth/login", "/auth/refresh"):
                async with httpx.AsyncClient(base_url=url) as visitor:
                    posted = await visitor.post(path, content=body, headers=headers)
                assert posted.status_code in (401, 415), path
                with_token = await ada.post(path, content=body, headers=headers)
                assert with_token.status_code == 415, path
                assert "set-cookie" not in posted.headers
        assert (await ada.get(f"/rooms/{room}")).json()["last_seq"] == 0
        assert (await ada.get("/rooms/")).json()["count"] == 1


PATHS = ("/", "/health", "/health/ready", "/docs", "/redoc", "/openapi.json", "/app", "/auth/me", "/rooms/", "/nowhere")


@pytest.mark.abuse("A71")
async def test_every_answer_carries_its_safe_headers():
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        answers = [await ada.get(path) for path in PATHS]
        answers += [await ada.get(path, headers={"Authorization": "Bearer x"}) for path in ("/auth/me", "/rooms/")]
        answers.append(await ada.call("PUT", "/rooms/"))
        answers.append(await ada.call("OPTIONS", "/rooms/"))
        answers.append(await ada.post("/rooms/", content=b"x"))
        answers.append(await ada.post("/rooms/", content=b"x" * 600_000, headers={"Content-Type": "application/json"}))
        answers.append(await ada.send(room, "hello"))
        async with ada.http.stream("GET", f"/rooms/{room}/events", headers={"Accept": "text/event-stream"}) as stream:
            answers.append(stream)
        for answer in answers:
            told = {name: answer.headers[name.decode()].encode() for name in HEADERS}
            policy = told.pop(b"content-security-policy")
            assert b"default-src 'none'" in policy, answer.request.url
            # Neither falls back on the default.
            assert b"base-uri 'none'" in policy
            assert b"frame-ancestors 'none'" in policy
            kept = told.pop(b"cache-control")
            assert kept == b"no-store" or "assets" in str(answer.request.url) or answer.request.url.path == "/app"
            assert told == {name: HEADERS[name] for name in told}
            assert "server" not in answer.headers
            assert "x-powered-by" not in answer.headers
            assert "set-cookie" not in answer.headers


@pytest.mark.abuse("A71")
async def test_what_the_server_itself_refuses_carries_them_too():
    async with served(memory_container()) as url:
        for rubbish in (b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n"):
            head = (await raw(url, rubbish, close=True)).partition(b"\r\n\r\n")[0].lower()
            for name, value in HEADERS.items():
                assert name + b": " + value.lower() in head, head


@pytest.mark.abuse("A47")
async def test_answers_to_two_people_never_cross_and_no_cache_keeps_them():
    async with served(memory_container()) as url, people(url, "olga", "yuri") as [olga, yuri]:
        await olga.room(visibility="private", name="Olga's own")
        await yuri.room(visibility="private", name="Yuri's own")

        async def asks(person: Person, path: str) -> tuple[Person, httpx.Response]:
            return person, await person.get(path, headers={"If-None-Match": "*", "Cache-Control": "only-if-cached"})

        found = await asyncio.gather(
            *(asks(person, path) for _ in range(20) for person in (olga, yuri) for path in ("/auth/me", "/rooms/"))
        )
        for person, answer in found:
            # No id can hold these names: its digits are hexadecimal, and "ada" is made of such.
            other = "yuri" if person is olga else "olga"
            assert answer.status_code == 200
            assert other not in answer.text.lower()
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers

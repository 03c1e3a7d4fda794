"""What a real process writes to its log, and what it never does."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import websockets

from tests.e2e.processes import environ, fake_provider, free_port, running, serving, wait_for_http
from tests.e2e.service import people

FIELDS = ("time", "level", "logger", "message", "request_id")
KEY = "canary-secret-key-0123456789-abcdefghij"
OLDER_KEY = "canary-older-key-9876543210-jihgfedcba"
PASSWORD = "canary password"
API_KEY = "canary-api-key"
TEXT = "canary text"
ANSWER = "canary answer"


def lines(log: Path) -> list[dict[str, Any]]:
    """The log's lines, each of which has to be one JSON object with the fields of all."""
    found = []
    for line in log.read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        assert isinstance(entry, dict)
        assert all(isinstance(entry[name], str) for name in FIELDS), line
        found.append(entry)
    assert found
    return found


def line_of(log: Path, id_: str) -> dict[str, Any]:
    """The line of the request with this id. It is written after the answer, so it may be yet to come."""
    end = time.monotonic() + 5
    while True:
        found = [entry for entry in lines(log) if entry["request_id"] == id_ and "status" in entry]
        if found:
            assert len(found) == 1
            return found[0]
        assert time.monotonic() < end, f"no line for {id_}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def echoing(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A service with an echo, and its log."""
    directory = tmp_path_factory.mktemp("logs")
    log = directory / "log"
    with serving(directory, log=log, LOG_LEVEL="DEBUG", SECRET_KEY=KEY) as url:
        yield url, log


def raw(url: str, request: bytes) -> bytes:
    """The head of the answer to these very bytes."""
    where = urlsplit(url)
    with socket.create_connection((str(where.hostname), where.port or 0), 5) as connection:
        connection.sendall(request)
        connection.settimeout(5)
        answer = b""
        while b"\r\n\r\n" not in answer and (more := connection.recv(65_536)):
            answer += more
    return answer


async def test_a_socket_has_a_line_at_its_end_and_no_token_or_ticket_is_in_it(echoing):
    url, log = echoing
    ws = url.replace("http", "ws") + "/ws?ticket=canary-in-query"
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(
            ws,
            additional_headers={"X-Request-ID": "refused-socket"},
            subprotocols=[websockets.Subprotocol("chat.v1"), websockets.Subprotocol("ticket.canary-ticket")],
        ):
            pass
    assert line_of(log, "refused-socket")["status"] == 401
    async with people(url, "sockets") as [person]:
        token = person.http.headers["Authorization"]
        headers = {"Authorization": token, "X-Request-ID": "opened-socket"}
        async with websockets.connect(ws, additional_headers=headers):
            pass
    line = line_of(log, "opened-socket")
    assert (line["message"], line["status"], line["close"]) == ("WEBSOCKET /ws", 101, 1000)
    assert line["ms"] > 0
    written = log.read_text()
    assert not [secret for secret in ("canary-in-query", "canary-ticket", token.split()[1]) if secret in written]
    assert "without completing handshake" not in written


def test_every_line_is_an_object_from_the_first_to_the_last(tmp_path):
    log = tmp_path / "log"
    with serving(tmp_path, log=log) as url:
        assert httpx.get(f"{url}/health").status_code == 200
    found = lines(log)
    assert any("echoes" in entry["message"] and entry["level"] == "WARNING" for entry in found), "that it is no AI"
    assert any("shutdown" in entry["message"] for entry in found)


def test_the_id_of_a_request_is_in_its_line(echoing):
    url, log = echoing
    given = "from-the-balancer.7:a_b"
    answer = httpx.get(f"{url}/rooms/", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == answer.json()["instance"] == given
    entry = line_of(log, given)
    assert (entry["logger"], entry["status"]) == ("chat_api.access", 401)
    assert entry["message"].startswith("GET /rooms")
    made = httpx.get(f"{url}/health").headers["X-Request-ID"]
    assert line_of(log, made)["message"] == "GET /health"


async def test_a_line_says_who_asked_and_from_where(echoing):
    url, log = echoing
    async with people(url, "lines") as [person]:
        account = {"username": "lines", "password": "correct horse battery"}
        wrong = await person.post("/auth/login", account | {"password": "a wrong guess"})
        begun = await person.post("/auth/login", account)
        gone_on = await person.post("/auth/refresh", {"refresh_token": begun.json()["refresh_token"]})
        forbidden = await person.delete(f"/rooms/{person.id}")
        headed = await person.call("HEAD", "/auth/me")
        async with websockets.connect(
            url.replace("http", "ws") + "/ws",
            additional_headers={"Authorization": person.http.headers["Authorization"], "X-Request-ID": "whose-socket"},
        ):
            pass
        of_the_socket = line_of(log, "whose-socket")
        refused = line_of(log, wrong.headers["X-Request-ID"])
        known = [line_of(log, answer.headers["X-Request-ID"]) for answer in (begun, gone_on, forbidden, headed)]
    assert [line["status"] for line in (refused, *known)] == [401, 200, 200, 404, 200]
    assert "user" not in refused
    assert {line["user"] for line in (*known, of_the_socket)} == {person.id}
    assert {line["peer"] for line in (refused, *known, of_the_socket)} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "id_",
    [b'x" , "level": "FORGED', b"a b", b"x" * 129, b"\xc3\xa9", b"a\tb", b""],
    ids=["quotes", "a space", "long", "not ASCII", "a tab", "empty"],
)
def test_an_id_that_could_do_harm_is_not_taken_over(echoing, id_):
    url, log = echoing
    head = raw(url, b"GET /health HTTP/1.1\r\nhost: x\r\nx-request-id: " + id_ + b"\r\nconnection: close\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n", 1)[0]
    if id_:
        assert id_ not in head
    assert all(entry["level"] != "FORGED" and entry["request_id"].encode() != id_ for entry in lines(log))


@pytest.mark.parametrize(
    "path",
    [
        b"/%0A%7B%22level%22%3A%22FORGED%22%7D",
        b"/%0d%0aFORGED",
        b"/%E2%80%A8FORGED%C2%85",
        b"/%1b[31mFORGED",
        b'/"},{"FORGED',
        b"/\x85\xffFORGED",
    ],
)
def test_a_path_stays_on_its_line(echoing, path):
    url, log = echoing
    before = len(lines(log))
    raw(url, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\nuser-agent: FORGED\\nagent\r\nconnection: close\r\n\r\n")
    line_of(log, httpx.get(f"{url}/health").headers["X-Request-ID"])
    new = lines(log)[before:]
    assert 1 <= len(new) <= 3
    assert all(entry["level"] in ("DEBUG", "INFO", "WARNING") for entry in new)
    assert not any("\n" in entry["message"] or "\x1b" in entry["message"] for entry in new)
    assert not any("\u2028" in entry["message"] or "\x85" in entry["message"] for entry in new)


def test_a_query_is_not_logged(echoing):
    url, log = echoing
    httpx.get(f"{url}/rooms/?token=canary-query")
    assert "canary-query" not in log.read_text()


@pytest.mark.abuse("A29", "A77", "A96")
def test_no_secret_and_no_text_is_logged(tmp_path):
    """At the most talkative level, through everything that handles them, failures included."""
    log = tmp_path / "log"
    settings = {
        "SECRET_KEY": KEY,
        "SECRET_KEY_PREVIOUS": OLDER_KEY,
        "GEMINI_API_KEY": API_KEY,
        "LOG_LEVEL": "DEBUG",
    }
    with (
        fake_provider(tmp_path) as provider,
        serving(tmp_path, log=log, GEMINI_BASE_URL=provider, **settings) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        person = {"username": "canary", "email": "canary@example.com", "password": PASSWORD}
        assert http.post("/auth/signup", json=person).status_code == 201
        assert http.post("/auth/signup", json=person).status_code == 409
        wrong = {"username": "canary", "password": f"{PASSWORD}!"}
        assert http.post("/auth/login", json=wrong).status_code == 401
        assert http.post("/auth/login", json={"password": PASSWORD}).status_code == 400
        token = http.post("/auth/login", json={"username": "canary", "password": PASSWORD}).json()["access_token"]
        assert http.get("/auth/me", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
        http.headers["Authorization"] = f"Bearer {token}"
        room = http.post("/rooms/", json={"name": "canary name"}).json()["data"]["room"]["id"]
        for marker, status in ((f"[[say:{ANSWER}]]", "complete"), ("[[403]]", "failed"), ("[[blocked]]", "blocked")):
            sent = http.post(f"/chat/{room}", json={"content": f"{TEXT} {marker}"}).json()
            assert sent["data"]["reply"]["status"] == status
        broken = f'{{"content": "{TEXT}"'.encode()
        assert http.post(f"/chat/{room}", content=broken, headers={"Content-Type": "application/json"}).is_error
    found = lines(log)
    assert any("model failed" in entry["message"] for entry in found)
    written = log.read_text()
    secrets = (PASSWORD, token, token.rpartition(".")[2], KEY, OLDER_KEY, API_KEY)
    for canary in (*secrets, TEXT, ANSWER, "canary@", "canary name"):
        assert canary not in written


FAULTY = """
import sys, uvicorn
from entrypoints.container import memory_container
from entrypoints.http.app import create_app
from entrypoints.logs import configure_logs
from entrypoints.settings import Settings

async def broken(**_):
    raise RuntimeError("a bug\\nwith a second line")

configure_logs("INFO")
container = memory_container(Settings())
container.list_rooms.override(broken)
uvicorn.run(create_app(container), port=int(sys.argv[1]), log_config=None, access_log=False)
"""


def test_an_error_that_nobody_expected_is_logged_with_its_stack_and_its_id(tmp_path):
    log, port = tmp_path / "log", free_port()
    with running([sys.executable, "-c", FAULTY, str(port)], tmp_path, log, environ()) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", process, log)
        person = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
        httpx.post(f"{url}/auth/signup", json=person)
        session = httpx.post(f"{url}/auth/login", json={"username": "ada", "password": PASSWORD}).json()
        headers = {"Authorization": f"Bearer {session['access_token']}", "X-Request-ID": "the-unlucky-one"}
        answer = httpx.get(f"{url}/rooms/", headers=headers)
        assert httpx.get(f"{url}/health").status_code == 200
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["instance"] == "the-unlucky-one"
    assert "bug" not in answer.text
    found = [entry for entry in lines(log) if entry["request_id"] == "the-unlucky-one"]
    [error] = [entry for entry in found if entry["level"] == "ERROR"]
    assert "RuntimeError: a bug\nwith a second line" in error["exc_info"]
    assert "Traceback" in error["exc_info"]
    assert [entry["status"] for entry in found if "status" in entry] == [500]

"""What operators get wrong, and what shows of the inner workings: at the start, in errors, beside the API."""

import logging
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from dependency_injector import providers

from adapters.sql.statements import SqlStatements
from entrypoints.container import Container
from tests.abuse.conftest import Build, Start
from tests.e2e.live import socket
from tests.e2e.processes import chat_api, free_port
from tests.e2e.service import Person, people, served

GOOD = "unguessable-0123456789-abcdefghijklmnop"

# --- what is on show ---

NOT_THERE = (
    "/metrics", "/debug", "/debug/pprof", "/env", "/config", "/settings", "/status", "/info", "/trace", "/admin",
    "/actuator/health", "/console", "/server-status", "/.env", "/.git/HEAD", "/stats", "/internal", "/health/env",
)  # fmt: skip
#: What tells of the inside: a stack, a path, a variable, a library.
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/home/|SECRET_KEY|DATABASE_URL|sqlite|postgres|asyncpg|sqlalchemy|litestar"
    r"|uvicorn|msgspec|redis|SELECT ",
    re.IGNORECASE,
)


@pytest.mark.abuse("A93")
async def test_nothing_of_the_inside_is_on_show(start: Start):
    async with start(debug=True) as url, people(url, "ada") as [ada]:
        for path in NOT_THERE:
            answer = await ada.get(path)
            assert answer.status_code == 404, path
            assert not INSIDE.search(answer.text), path
        for path in ("/", "/health", "/health/live", "/health/ready"):
            answer = await ada.get(path)
            assert answer.status_code == 200
            assert not INSIDE.search(re.sub(r'"redis":', "", answer.text)), (path, answer.text)
            assert not {"server", "x-powered-by", "via"} & set(answer.headers)


# --- errors of ours ---

#: What no client may be told, as a failure in the depth might have it in its message.
DEPTHS = f"near users: SELECT password_hash; /srv/chat/.env; SECRET_KEY={GOOD}; ada@example.com"


async def _bug(**_: object) -> None:
    raise RuntimeError(DEPTHS)


async def _bug_midway(**_asked: object) -> AsyncIterator[None]:
    for _ in range(0):
        yield
    raise RuntimeError(DEPTHS)


def tells_only_where_to_ask(answer: httpx.Response, caplog: pytest.LogCaptureFixture) -> None:
    assert answer.status_code == 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document.keys() <= {"type", "title", "status", "detail", "instance"}
    assert document["instance"] == answer.headers["x-request-id"]
    assert document["detail"] == document["title"]
    assert not INSIDE.search(answer.text)
    assert not any(word in str(answer.headers) for word in ("password_hash", GOOD))
    assert logs_the_stack(caplog)
    caplog.clear()


def logs_the_stack(caplog: pytest.LogCaptureFixture) -> bool:
    return any(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


BROKEN: dict[str, tuple[str, Callable[[Person, str], Any]]] = {
    "a read": ("list_rooms", lambda ada, room: ada.get("/rooms/")),
    "a write": ("create_room", lambda ada, room: ada.post("/rooms/", {"name": "x"})),
    "a send": ("send_message", lambda ada, room: ada.send(room, "hello")),
    "a log-in": ("log_in", lambda ada, room: ada.post("/auth/login", {"username": "ada", "password": "x"})),
    "a page of events": ("read_log", lambda ada, room: ada.get(f"/rooms/{room}/events")),
}


@pytest.mark.abuse("A94")
@pytest.mark.parametrize("what", BROKEN)
async def test_a_failure_of_ours_tells_a_client_where_to_ask_and_nothing_else(
    build: Build, caplog: pytest.LogCaptureFixture, what: str
):
    name, ask = BROKEN[what]
    container = build(debug=True)
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        getattr(container, name).override(providers.Object(_bug))
    async with served(container) as url:
        ada.http = httpx.AsyncClient(base_url=url, headers=dict(ada.http.headers))
        tells_only_where_to_ask(await ask(ada, room), caplog)
        assert (await ada.get("/health")).status_code == 200
        await ada.http.aclose()


@pytest.mark.abuse("A94")
async def test_a_failure_behind_the_guards_is_told_no_other_way(build: Build, caplog: pytest.LogCaptureFixture):
    container = build(debug=True)
    container.authenticate.override(providers.Object(_bug_of_a_token))
    async with served(container) as url, httpx.AsyncClient(base_url=url) as http:
        tells_only_where_to_ask(await http.get("/rooms/", headers={"Authorization": "Bearer x"}), caplog)


async def _bug_of_a_token(_: str) -> None:
    raise RuntimeError(DEPTHS)


@pytest.mark.abuse("A94")
async def test_a_failure_on_a_socket_is_an_answer_like_any_other(build: Build, caplog: pytest.LogCaptureFixture):
    container = build(debug=True)
    container.send_message.override(providers.Object(_bug))
    async with served(container) as url, people(url, "ada") as [ada], socket(ada) as live:
        room = await ada.room()
        answer = await live.ask("send", room_id=room, content="hello")
        assert (answer["type"], answer["data"]["status"]) == ("error", 500)
        assert not INSIDE.search(str(answer))
        assert logs_the_stack(caplog)
        assert (await live.ask("ping"))["type"] == "ok"


@pytest.mark.abuse("A94")
async def test_a_failure_in_the_middle_of_a_stream_ends_it_without_a_word(
    build: Build, caplog: pytest.LogCaptureFixture
):
    container = build(debug=True)
    container.follow_reply.override(providers.Object(_bug_midway))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        body = b""
        headers = {"Accept": "text/event-stream"}
        with pytest.raises(httpx.HTTPError):
            async with ada.http.stream("POST", f"/chat/{room}", json={"content": "hello"}, headers=headers) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
        assert b"user_message" in body
        assert not INSIDE.search(body.decode().partition("data:")[0])
        assert b"password_hash" not in body
        assert logs_the_stack(caplog)


@pytest.mark.abuse("A94")
async def test_what_a_database_says_is_told_to_no_client(build: Build, caplog: pytest.LogCaptureFixture):
    container: Container = build(debug=True)
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.send(room, "canary text")
        statements = SqlStatements(await container.database().begin())
        await statements.rows(sa.text("ALTER TABLE messages RENAME COLUMN content TO contents"))
        await statements.commit()
        await statements.leave()
        tells_only_where_to_ask(await ada.get(f"/rooms/{room}/messages"), caplog)
        sent = await ada.send(room, "canary words")
        assert "canary" not in caplog.text
        tells_only_where_to_ask(sent, caplog)


# --- the start ---

PRODUCTION = {"DEBUG": "false", "HOST": "0.0.0.0"}
#: Settings, what has to be said of them, and the words that must not be.
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no key": (PRODUCTION, "SECRET_KEY is not set"),
    "an empty key": (PRODUCTION | {"SECRET_KEY": ""}, "SECRET_KEY is not set"),
    "a short key": (PRODUCTION | {"SECRET_KEY": "x1y2z3-canary"}, "SECRET_KEY is too short"),
    "a default": (
        PRODUCTION | {"SECRET_KEY": "your-secret-key-change-this-in-production-canary"},
        "SECRET_KEY is a well",
    ),
    "one of a provider's": (
        PRODUCTION | {"SECRET_KEY": f"canary-{GOOD}", "GEMINI_API_KEY": f"canary-{GOOD}"},
        "SECRET_KEY is also in GEMINI_API_KEY",
    ),
    "that of the database": (
        PRODUCTION | {"SECRET_KEY": f"canary-{GOOD}", "DATABASE_URL": f"postgresql://a:canary-{GOOD}@127.0.0.1/b"},
        "SECRET_KEY is also in DATABASE_URL",
    ),
    "any origin": (PRODUCTION | {"SECRET_KEY": GOOD, "CORS_ORIGINS": "*"}, "CORS_ORIGINS"),
    "any origin among others": (
        PRODUCTION | {"SECRET_KEY": GOOD, "CORS_ORIGINS": "https://a.example,https://*.example"},
        "CORS_ORIGINS",
    ),
    "DEBUG for others": ({"HOST": "0.0.0.0", "SECRET_KEY": GOOD}, "DEBUG is true"),
}


def refused(done: "subprocess.CompletedProcess[str]", said: str) -> None:
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.abuse("A95")
@pytest.mark.parametrize("why", REFUSED)
def test_a_start_with_bad_secrets_is_refused_in_a_clear_sentence(tmp_path: Path, why: str):
    settings, said = REFUSED[why]
    refused(chat_api("serve", "--port", str(free_port()), cwd=tmp_path, **settings), said)


@pytest.mark.abuse("A95")
@pytest.mark.parametrize("command", ["serve", "worker", "doctor", "migrate"])
def test_secrets_that_everybody_on_the_machine_can_read_are_refused(tmp_path: Path, command: str):
    file = tmp_path / ".env"
    file.write_text(f"DEBUG=false\nSECRET_KEY=canary-{GOOD}\n")
    file.chmod(0o644)
    refused(chat_api(command, cwd=tmp_path), ".env can be read by everybody on this machine, and holds SECRET_KEY")


@pytest.mark.abuse("A95")
def test_a_file_of_ones_own_or_without_secrets_is_read(tmp_path: Path):
    file = tmp_path / ".env"
    for text, mode in ((f"DEBUG=false\nSECRET_KEY={GOOD}\n", 0o600), ("DEBUG=false\nPORT=8001\n", 0o644)):
        file.write_text(text)
        file.chmod(mode)
        assert chat_api("migrate", cwd=tmp_path, SECRET_KEY=GOOD).returncode == 0
    # A trial on this machine goes on.
    file.write_text(f"SECRET_KEY={GOOD}\nGEMINI_API_KEY=canary\n")
    file.chmod(0o644)
    assert chat_api("migrate", cwd=tmp_path).returncode == 0

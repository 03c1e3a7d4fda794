"""Everything that handles a secret or a text, once: and then they are looked for wherever they must not be."""

import re
import socket as sockets
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
import websockets

from tests.e2e.live import Socket, stream
from tests.e2e.processes import COMMAND, environ, fake_provider, running, serving
from tests.e2e.service import Person
from tests.faults.polling import until
from tests.raw_http import answering, whole
from tests.streams import resumed, streamed

KEYS = {
    "SECRET_KEY": "canary-signing-key-0123456789-abcdefghij",
    "SECRET_KEY_PREVIOUS": "canary-earlier-key-9876543210-jihgfedcba",
    "GEMINI_API_KEY": "canary-key-of-gemini",
    "OPENAI_API_KEY": "canary-key-of-openai",
}
PASSWORD, CHANGED, WRONG = "canary-password-first", "canary-password-second", "canary-password-wrong"
#: What people say, and what the AI does.
TEXT, ANSWER = "canary-text", "canary-answer"
LEAKY = b'{"error": {"message": "Incorrect API key provided: canary-key-of-openai", "type": "invalid_request_error"}}'


class Monitor:
    """All that a Redis is told, from its start on."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._connection = sockets.create_connection((str(where.hostname), where.port or 6379), 5)
        self._connection.settimeout(None)
        self._connection.sendall(b"MONITOR\r\n")
        self._taken: list[bytes] = []
        assert self._connection.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while piece := self._connection.recv(65_536):
            self._taken.append(piece)

    def close(self) -> None:
        self._connection.shutdown(sockets.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    @property
    def lines(self) -> list[str]:
        """The commands, one a line."""
        return b"".join(self._taken).decode().splitlines()


class Watched(Person):
    """Somebody of whose answers nothing is forgotten, and whose secrets are known."""

    def __init__(self, url: str, name: str, answers: list[tuple[str, str]], secrets: set[str]) -> None:
        super().__init__(url, name)
        self._answers, self._secrets = answers, secrets
        self.http.event_hooks["response"].append(self._note)

    async def _note(self, response: httpx.Response) -> None:
        if "event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
            self._answers.append((response.request.url.path.rstrip("/"), f"{response.headers}{response.text}"))

    async def enter(self, password: str = PASSWORD) -> dict[str, str]:
        answer = (await self.post("/auth/login", {"username": self.name, "password": password})).json()
        return self.takes(answer)

    def takes(self, answer: dict[str, str]) -> dict[str, str]:
        token = answer["access_token"]
        self._secrets |= {token, token.rpartition(".")[2], answer["refresh_token"]}
        self.http.headers["Authorization"] = f"Bearer {token}"
        return answer

    async def ticket(self) -> str:
        found: str = (await self.post("/auth/ws-ticket")).json()["ticket"]
        self._secrets.add(found)
        return found

    async def join(self, name: str) -> None:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        assert (await self.post("/auth/signup", body)).status_code == 201
        await self.enter()


async def accounts(ada: Watched, bob: Watched) -> None:
    """Everything that takes or gives a password or a token, rightly and wrongly."""
    await ada.join("ada")
    await bob.join("bob")
    assert (await ada.post("/auth/signup", {"username": "ada", "email": "x", "password": PASSWORD})).is_error
    begun = await ada.enter()
    ada.takes((await ada.post("/auth/refresh", {"refresh_token": begun["refresh_token"]})).json())
    assert (await ada.post("/auth/refresh", {"refresh_token": begun["refresh_token"]})).status_code == 409
    assert (await ada.post("/auth/refresh", {"refresh_token": begun["refresh_token"] + "x"})).status_code == 401
    token = ada.http.headers["Authorization"]
    for headers in ({"Authorization": f"{token}x"}, {"Authorization": token.replace("Bearer", "Basic")}):
        assert (await ada.get("/auth/me", headers=headers)).status_code == 401
    await ada.get("/auth/me", params={"access_token": token.split()[1], "password": PASSWORD})
    await ada.get(f"/{token.split()[1][:20]}-not-a-path")
    tried = [await bob.post("/auth/login", {"username": "bob", "password": WRONG}) for _ in range(6)]
    assert tried[-1].status_code == 429
    await bob.post("/auth/login", {"username": "bob", "password": WRONG, "more": PASSWORD})
    changed = {"current_password": WRONG, "new_password": CHANGED}
    assert (await ada.post("/auth/password", changed)).status_code == 403
    assert (await ada.post("/auth/password", changed | {"current_password": PASSWORD})).status_code == 204
    await ada.enter(CHANGED)
    assert len((await ada.get("/auth/sessions")).json()["sessions"]) >= 1


async def talk(ada: Watched, there: Watched) -> str:
    """Everything that takes or gives a text; ``there`` is she at the other process. Returns the room."""
    room = await ada.room(name="a room", description=TEXT)
    await ada.patch(f"/rooms/{room}", {"ai": {"system_prompt": f"{TEXT} prompt"}})
    async with stream(there, room) as live:
        said = (await ada.send(room, f"{TEXT} [[say:{ANSWER} one]]", "m-1")).json()["data"]
        assert said["messages"]["ai_message"]["content"].strip() == f"{ANSWER} one", said
        await live.events_to(said["messages"]["ai_message"]["seq"])
    assert (await there.send(room, f"{TEXT} [[say:{ANSWER} one]]", "m-1")).status_code == 200
    assert (await ada.send(room, f"{TEXT} other", "m-1")).status_code == 422
    seen = await streamed(there.http, room, f"{TEXT} [[say:{ANSWER} {ANSWER} two]]")
    assert ANSWER in seen.text
    later = await ada.send(room, f"{TEXT} [[say:{ANSWER}]]", headers={"Prefer": "respond-async"})
    reply = later.json()["data"]["reply"]["id"]
    assert ANSWER in (await resumed(there.http, reply)).text
    for marker in ("[[403]]", "[[blocked]]", "[[garbage]]", "[[cut@1]]"):
        failed = (await ada.send(room, f"{TEXT} {marker}")).json()["data"]["reply"]
        assert failed["status"] in ("failed", "blocked"), failed
        again = (await ada.post(f"/replies/{failed['id']}/retry")).json()
        await ada.post(f"/replies/{again['id']}/stop")
    message = said["messages"]["user_message"]["id"]
    assert (await ada.patch(f"/rooms/{room}/messages/{message}", {"content": f"{TEXT} edited"})).status_code == 200
    assert (await ada.post(f"/chat/{room}", content=f'{{"content": "{TEXT}"'.encode())).is_error
    assert (await ada.post(f"/chat/{room}", {"content": TEXT, TEXT: TEXT})).status_code == 400
    await ada.get(f"/messages/{said['messages']['ai_message']['id']}/context")
    return room


async def live(ada: Watched, url: str, room: str) -> None:
    """The same over sockets, with tickets that are good and ones that are not."""
    address = url.replace("http", "ws") + "/ws"
    ticket = await ada.ticket()
    offered = [websockets.Subprotocol("chat.v1"), websockets.Subprotocol(f"ticket.{ticket}")]
    async with websockets.connect(f"{address}?password={PASSWORD}", subprotocols=offered) as raw:
        socket = Socket(raw)
        await socket.ask("subscribe", room_id=room)
        sent = await socket.ask("send", room_id=room, content=f"{TEXT} [[say:{ANSWER}]]")
        assert sent["type"] == "ok", sent
        while (await socket.event("reply.ended", "message.created"))["type"] != "reply.ended":
            pass
        await socket.ask("send", room_id=TEXT, content=TEXT)
        await raw.send(TEXT)
        assert await socket.closed() == 1008
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(f"{address}?ticket={ticket}", subprotocols=offered)
    await ada.ticket()


@contextmanager
def deployment(
    directory: Path, level: str, database_url: str, redis_url: str, leaky: str
) -> Iterator[tuple[list[str], list[Path]]]:
    """Two APIs, a worker and a provider; their URLs and logs."""
    logs = [directory / f"{name}.log" for name in ("api0", "api1", "worker")]
    with ExitStack() as stack:
        settings = KEYS | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "LLM": "openai:leaky,gemini:gemini-3.8-flash",
            "OPENAI_BASE_URL": leaky,
            "GEMINI_BASE_URL": stack.enter_context(fake_provider(directory)),
            "LOG_LEVEL": level,
            "DRAIN_DELAY": "0",
            "SEND_WAIT": "30",
        }
        urls = [stack.enter_context(serving(directory, log=log, **settings)) for log in logs[:2]]
        stack.enter_context(running([*COMMAND, "worker"], directory, logs[2], environ(**settings)))
        yield urls, logs


@pytest.mark.abuse("A29", "A77", "A96")
@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize("level", ["INFO", pytest.param("DEBUG", marks=pytest.mark.long)])
async def test_no_secret_and_no_text_is_where_it_must_not_be(
    tmp_path: Path, postgres_url: str, redis_url: str, level: str
):
    secrets = {PASSWORD, CHANGED, WRONG, *KEYS.values(), "$argon2"}
    answers: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        client: Any = stack.enter_context(redis.Redis.from_url(redis_url))
        monitor = stack.enter_context(closing(Monitor(redis_url)))
        leaky = await stack.enter_async_context(answering(whole(401, LEAKY, "content-type: application/json\r\n")))
        urls, logs = stack.enter_context(deployment(tmp_path, level, postgres_url, redis_url, f"{leaky}/v1"))
        ada, bob, there = (
            Watched(url, name, answers, secrets) for url, name in ((urls[0], "ada"), (urls[0], "bob"), (urls[1], "ada"))
        )
        for person in (ada, bob, there):
            stack.push_async_callback(person.http.aclose)
        await until(lambda: client.pubsub_numsub("chat:replies")[0][1] >= 3, 30, "all three listen")
        await accounts(ada, bob)
        there.http.headers["Authorization"] = ada.http.headers["Authorization"]
        room = await talk(ada, there)
        await live(there, urls[1], room)
        assert (await ada.call("DELETE", "/auth/me", {"password": WRONG})).status_code == 403
        assert (await ada.call("DELETE", "/auth/me", {"password": CHANGED})).status_code == 204
        await bob.post("/auth/logout")
    look(secrets, logs, monitor.lines, answers)


def look(secrets: set[str], logs: list[Path], told: list[str], answers: list[tuple[str, str]]) -> None:
    """For each of them, everywhere."""
    for log in logs:
        written = log.read_text()
        assert len(written.splitlines()) > 5
        assert "the model failed" in written or "worker" not in log.name
        assert not [secret for secret in (*secrets, TEXT, ANSWER) if secret in written], log.name
    assert any(is_a_bare_id(line) for line in told)
    assert any("EVALSHA" in line.upper() for line in told)
    assert any(ANSWER in line for line in told)
    for line in told:
        assert not [secret for secret in (*secrets, TEXT) if secret in line], line
        # The parts of an answer, on their way to those who follow it, and nothing else.
        assert ANSWER not in line or '"chat:reply:' in line, line
        assert '"RPUSH"' not in line or is_a_bare_id(line), line
    handing_out = ("/auth/login", "/auth/refresh", "/auth/ws-ticket")
    of_keys = {PASSWORD, CHANGED, WRONG, *KEYS.values(), "$argon2"}
    for path, text in answers:
        assert not [secret for secret in of_keys if secret in text], path
        assert path in handing_out or not [secret for secret in secrets if secret in text], path
    assert {path for path, _ in answers} > set(handing_out)


def is_a_bare_id(line: str) -> bool:
    """Whether a job on the queue is an id and no more."""
    return re.search(r'"RPUSH" "chat:queue" "[0-9a-f-]{36}"$', line) is not None

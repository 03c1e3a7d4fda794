"""Somebody writes into Redis: what is in it is hints, and no forged one becomes a message, a door or an end."""

import asyncio
import json
import pickle
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from chat_core.domain.ids import uuid7
from tests.abuse.conftest import Build
from tests.e2e.live import PATIENCE, socket
from tests.e2e.processes import COMMAND, environ, running, serving
from tests.e2e.service import people, served
from tests.faults.polling import until
from tests.streams import Seen, resumed, sending

pytestmark = pytest.mark.redis

#: The client's own types leave open whether texts or bytes come back.
Server = Any

FORGED = "FORGED"
QUEUE = "chat:queue"
#: Longer than a maker that has to find out by itself what is due.
WAIT = "20"


@pytest.fixture
def server(redis_url: str) -> Iterator[Server]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def processes(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The URL of an API, and a worker beside it."""
    settings = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "a-key-of-tests-with-enough-characters-0123456789",
        "LLM": "echo",
        "ECHO_DELAY_MS": "20",
        "SEND_WAIT": WAIT,
        "DRAIN_DELAY": "0",
        "RATE_LIMITS": "off",
    }
    with ExitStack() as stack:
        url = stack.enter_context(serving(tmp_path, log=tmp_path / "api.log", **settings))
        command = [*COMMAND, "worker"]
        worker = stack.enter_context(running(command, tmp_path, tmp_path / "worker.log", environ(**settings)))
        yield url, worker


async def ready(server: Server) -> None:
    """A worker listens."""
    await until(lambda: server.pubsub_numsub("chat:replies")[0][1] >= 2, PATIENCE, "both processes listen")


def job(**changes: Any) -> bytes:
    """A message as Dramatiq writes them, which other brokers of it would obey, with these changes."""
    id_ = str(uuid4())
    fields: dict[str, Any] = {
        "queue_name": "replies",
        "actor_name": "make_reply",
        "args": [str(uuid7())],
        "kwargs": {},
        "options": {"redis_message_id": id_},
        "message_id": id_,
        "message_timestamp": 1,
    }
    return json.dumps({**fields, **changes}).encode()


class Boom:
    """What would be run by whoever unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("pwned").write_text, ("pwned",))


JUNK: tuple[bytes, ...] = (
    b"",
    b"\xff\xfe garbage",
    pickle.dumps(Boom()),
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b"1" * 5_000,
    b'{"queue_name": NaN}',
    FORGED.encode(),
    str(uuid7()).encode(),
    str(uuid7()).upper().encode(),
    uuid7().hex.encode(),
    f"{{{uuid7()}}}".encode(),
    f"urn:uuid:{uuid7()}".encode(),
    f"{uuid7()}\n".encode(),
    f"{uuid7()} {FORGED}".encode(),
    str(uuid7()).encode("utf-16"),
    job(),
    job(actor_name="os.system"),
    job(options={"redis_message_id": "x", "eta": 99_999_999_999_999}),
    job(options={"redis_message_id": "x", "pipe_target": {"actor_name": "os.system"}}),
)


@pytest.mark.abuse("A98")
@pytest.mark.postgres
async def test_forged_jobs_make_nothing_and_the_worker_goes_on(processes, server: Server, tmp_path: Path):
    url, worker = processes
    async with people(url, "ada") as [ada]:
        room = await ada.room()
        await ready(server)
        for _ in range(3):
            server.rpush(QUEUE, *JUNK)
        for number in range(10):
            sent = (await ada.send(room, f"hello {number}")).json()["data"]
            assert sent["reply"]["status"] == "complete", sent
        await until(lambda: server.llen(QUEUE) == 0, PATIENCE, "all was taken from the queue")
        page = (await ada.get(f"/rooms/{room}/messages?limit=200")).json()["messages"]
        assert len(page) == 20
        assert FORGED not in json.dumps(page)
        assert worker.poll() is None
        report = (await ada.get("/health/ready")).json()
        assert report["workers"]["status"] == "ok", report
    assert not (tmp_path / "pwned").exists()
    log = (tmp_path / "worker.log").read_text()
    assert "Traceback" not in log
    assert FORGED not in log


@pytest.mark.abuse("A98")
@pytest.mark.postgres
async def test_where_the_queue_is_none_replies_are_made_all_the_same(processes, server: Server):
    url, worker = processes
    async with people(url, "ada") as [ada]:
        room = await ada.room()
        await ready(server)
        server.set(QUEUE, FORGED)
        for number in range(3):
            sent = (await ada.send(room, f"hello {number}")).json()["data"]
            assert sent["reply"]["status"] == "complete", (number, sent)
        assert worker.poll() is None


LONG = " ".join(f"word{number}" for number in range(60))


def forge(server: Server, key: str, how: str) -> None:
    """Write into a reply's stream."""
    if how == "next parts":
        last = server.xrevrange(key, count=1)[0][0].decode()
        epoch, offset = map(int, last.split("-"))
        for number in range(1, 4):
            server.xadd(key, {"t": f" {FORGED} {number}"}, id=f"{epoch}-{offset + number}")
    elif how == "a later epoch":
        server.xadd(key, {"b": ""}, id="999-0")
        server.xadd(key, {"t": FORGED}, id="999-1")
    elif how == "the last epoch":
        server.xadd(key, {"t": FORGED}, id=f"{2**64 - 1}-{2**64 - 1}")
    elif how == "garbage":
        last = server.xrevrange(key, count=1)[0][0].decode()
        epoch, offset = map(int, last.split("-"))
        server.xadd(key, {b"\xff": b"\xff", "t": b"\xff\xfe"}, id=f"{epoch}-{offset + 1}")
    elif how == "no stream":
        server.delete(key)
        server.set(key, FORGED)
    else:
        server.delete(key)


@pytest.mark.abuse("A98")
@pytest.mark.postgres
async def test_what_is_forged_in_the_stream_of_a_reply_is_never_stored(processes, server: Server):
    url, _ = processes
    async with people(url, "ada") as [ada]:
        room = await ada.room()
        await ready(server)
        for how in ("next parts", "a later epoch", "the last epoch", "garbage", "no stream", "gone"):
            viewer = Seen()
            async with sending(ada.http, room, LONG) as events:
                async for event in events:
                    viewer.events.append(event)
                    if len([one for one in viewer.events if one.event == "delta"]) == 3 and event.event == "delta":
                        [key] = server.keys("chat:reply:*")
                        forge(server, key.decode(), how)
            assert viewer.ended, how
            stored = (await ada.get(f"/rooms/{room}")).json()["messages"][-1]
            assert stored["content"].endswith(LONG), how
            assert FORGED not in stored["content"], how
            # Whatever was shown meanwhile: the message is told as it is stored, and so is it to whoever comes later.
            told, reply = viewer.data("ai_message"), viewer.data("end")
            assert (told["id"], told["content"]) == (stored["id"], stored["content"]), how
            assert (await resumed(ada.http, reply["id"])).text == stored["content"], how
            server.flushall()
            assert (await resumed(ada.http, reply["id"])).text == stored["content"], how


@asynccontextmanager
async def one_process(build: Build, redis_url: str, **more: Any) -> AsyncIterator[str]:
    container = build(redis_url=redis_url, **more)
    line: Any = container.line()
    async with served(container) as url:
        await until(lambda: line.connected, PATIENCE, "Redis is there")
        yield url


@pytest.mark.abuse("A98")
async def test_forged_news_show_nobody_a_room_that_is_closed_to_them(build: Build, server: Server, redis_url: str):
    async with one_process(build, redis_url) as url, people(url, "ada", "eve") as [ada, eve]:
        closed = await ada.room(name="closed", visibility="private")
        answered = (await ada.send(closed, "the secret")).json()["data"]
        public = await ada.room()
        room, secret = public.replace("-", ""), closed.replace("-", "")
        reply, user = answered["reply"]["id"].replace("-", ""), eve.id.replace("-", "")
        news = (
            f"r{room}{reply}",
            f"r{secret}{reply}",
            f"g{secret} 2",
            f"g{secret} 9999999999999999999",
            f"g{room} 9999999999999999999",
            f"g{room} 9223372036854775807",
            f"g{room} 0",
            f"t{secret}{user} eve",
            f"p{secret}{user} +eve",
            f"p{room}{user} -eve",
            f"t{room}{user} <b>{FORGED}</b>",
            f"x{room} {FORGED}",
            "g",
            "",
            FORGED,
        )
        async with socket(eve) as live:
            assert (await live.ask("subscribe", room_id=closed))["data"]["status"] == 404
            await live.ask("subscribe", room_id=public)
            seqs: list[int] = []
            for line in news:
                server.publish("chat:rooms", f"forger\n{line}")
                server.publish("chat:replies", line)
                sent = (await ada.send(public, f"after {len(seqs)}")).json()["data"]["messages"]
                seqs += [event["seq"] for event in await live.events_to(sent["ai_message"]["seq"])]
            for payload in (b"\xff\xfe", b"forger\n\xff", b"x" * 1_000_000, b"\n" * 10_000):
                server.publish("chat:rooms", payload)
                server.publish("chat:replies", payload)
            server.publish("chat:workers", FORGED)
            server.publish("chat:replies", answered["reply"]["id"])
            sent = (await ada.send(public, "the last")).json()["data"]["messages"]
            seqs += [event["seq"] for event in await live.events_to(sent["ai_message"]["seq"])]
            assert seqs == list(range(1, seqs[-1] + 1))
            seen = json.dumps(live.all)
            assert "the secret" not in seen
            assert answered["reply"]["id"] not in seen
            assert closed not in seen
            assert FORGED not in seen


UNBELIEVABLE = (
    "",
    FORGED,
    "nan nan",
    "nan 0",
    "-1 0",
    "-1e300 0",
    "0 1e300",
    "0 inf",
    "0",
    "inf 0",
    "0 0 0",
    "1e300 0",
)


@pytest.mark.abuse("A98")
async def test_a_forged_limit_neither_locks_anybody_out_nor_lets_them_go_on(
    build: Build, server: Server, redis_url: str
):
    limits: dict[str, Any] = {"rate_limits": "on", "send_limit": (3, 90_000.0)}
    async with one_process(build, redis_url, **limits) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        key = f"chat:limit:sends:{ada.id}"
        for forged in UNBELIEVABLE:
            server.set(key, forged)
            statuses = [(await ada.send(room, "hello")).status_code for _ in range(5)]
            assert statuses == [201] * 3 + [429] * 2, forged
            assert 0 < server.pttl(key) <= 90_000_000
        for kind in ("rpush", "sadd"):
            server.delete(key)
            getattr(server, kind)(key, FORGED)
            # What is no bucket is counted in the process itself.
            assert {(await ada.send(room, "hello")).status_code for _ in range(5)} <= {201, 429}
        assert (await ada.get("/auth/me")).status_code == 200
        await asyncio.to_thread(server.flushall)
        assert (await ada.send(room, "hello")).status_code == 201

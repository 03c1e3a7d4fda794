"""Metrics: on a port of their own, off unless asked for, and with nothing in them that is anybody's."""

import asyncio
import re
import socket as sockets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from entrypoints.container import build_container
from entrypoints.settings import SettingsError, load_settings
from tests.e2e.conftest import settings
from tests.e2e.live import socket, stream
from tests.e2e.processes import COMMAND, environ, free_port, running, serving, wait_for_http
from tests.e2e.service import people, served
from tests.faults.polling import until

KEY = "a-key-of-tests-with-enough-characters-0123456789"
SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


class Scrape:
    """What one process tells."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def read(self) -> "Scrape":
        async with httpx.AsyncClient() as http:
            answer = await http.get(self._url)
        assert answer.status_code == 200
        self.text = answer.text
        lines = [SAMPLE.fullmatch(line) for line in self.text.splitlines() if not line.startswith("#")]
        assert all(lines)
        self.samples = {(found["name"], found["labels"] or ""): float(found["value"]) for found in lines if found}
        return self

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for (sample, found), value in self.samples.items()
            if sample == name and all(label in found for label in wanted)
        )


def free_ports(count: int) -> int:
    """The first of so many ports of which none is in use."""
    while True:
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(sockets.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
        return first


@pytest.fixture
def port() -> int:
    return free_ports(4)


@pytest.mark.abuse("A93")
async def test_metrics_are_told_on_their_own_port_alone(sqlite_url: str, port: int):
    container = build_container(settings(sqlite_url, metrics_port=port))
    async with served(container) as url, people(url, "olga") as [olga]:
        scrape = Scrape(port)
        assert (await scrape.read())("chat_http_requests_total", route="/auth/signup", status="201") == 1
        for path in ("/metrics", "/metrics/", "/app/metrics"):
            assert (await olga.get(path)).status_code == 404
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for path in ("/rooms/", "/auth/me", "/health"):
                answer = await http.get(path, headers=dict(olga.http.headers))
                assert "olga" not in answer.text


@pytest.mark.abuse("A93")
async def test_there_are_none_unless_they_are_asked_for(sqlite_url: str, port: int):
    container = build_container(settings(sqlite_url))
    assert container.metrics() is None
    async with served(container):
        with pytest.raises(httpx.ConnectError):
            await Scrape(port).read()


async def test_what_happens_is_counted(sqlite_url: str, port: int):
    container = build_container(settings(sqlite_url, metrics_port=port, rate_limits="on", send_limit=(3, 90_000.0)))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = [(await ada.send(room, "hello")).status_code for _ in range(5)]
        assert sent == [201] * 3 + [429] * 2
        scrape = Scrape(port)
        async with stream(ada, room), socket(ada), socket(ada):
            await scrape.read()
            assert (scrape("chat_open_streams"), scrape("chat_open_sockets")) == (3, 2)
        chat = {"method": "POST", "route": "/chat/{room_id}"}
        assert scrape("chat_http_requests_total", **chat, status="201") == 3
        assert scrape("chat_http_requests_total", **chat, status="429") == 2
        assert scrape("chat_http_request_seconds_count", **chat) == 5
        assert 0 < scrape("chat_http_request_seconds_sum", **chat) < 60
        assert scrape("chat_replies_total", status="complete", provider="echo") == 3
        assert scrape("chat_refused_total", limit="sends") == 2
        assert scrape("chat_replies_in_hand") == 0
        assert scrape("process_resident_memory_bytes") > 1_000_000

        async def all_left() -> bool:
            await scrape.read()
            return scrape("chat_open_streams") == scrape("chat_open_sockets") == 0

        await until(all_left, 10, "nothing is open")
        assert scrape("chat_http_requests_total", method="WEBSOCKET", route="/ws", status="101") == 2


async def test_a_reply_that_is_stopped_or_fails_is_counted_as_what_it_was(sqlite_url: str, port: int):
    environ = {"ECHO_DELAY_MS": "1000"}
    container = build_container(settings(sqlite_url, metrics_port=port, llm="echo", environ=environ))
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = await ada.send(room, "word " * 50, headers={"Prefer": "respond-async"})
        reply = sent.json()["data"]["reply"]["id"]
        scrape = await Scrape(port).read()
        assert scrape("chat_replies_in_hand") == 1
        stopped = (await ada.post(f"/replies/{reply}/stop")).json()["status"]
        assert stopped in ("cancelled", "incomplete")
        await scrape.read()
        assert scrape("chat_replies_total", status=stopped) == scrape("chat_replies_total") == 1


@pytest.mark.abuse("A93")
async def test_no_label_has_anything_that_a_client_chose(sqlite_url: str, port: int):
    canary = "canary"
    container = build_container(settings(sqlite_url, metrics_port=port, cors_origins=("https://canary.example",)))
    async with served(container) as url, people(url, canary) as [ada]:
        room = await ada.room(name=canary)
        scrape = Scrape(port)
        before = len((await scrape.read()).samples)
        for number in range(50):
            await ada.get(f"/{canary}/{number}")
            await ada.get(f"/rooms/{uuid4()}")
            await ada.get(f"/rooms/{canary}{number}/messages?after={number}&{canary}={number}")
            await ada.call(f"CANARY{number}", f"/rooms/{room}")
            await ada.call("OPTIONS", f"/rooms/{room}", headers={"Origin": f"https://{canary}{number}.example"})
            await ada.send(room, canary, headers={"X-Request-ID": f"{canary}-{number}", "User-Agent": canary})
        await scrape.read()
        assert canary not in scrape.text.lower()
        assert room not in scrape.text
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", scrape.text)
        # However much is asked: what there is to tell grows with the code, and not with the requests.
        assert len(scrape.samples) < before + 250
        assert scrape("chat_http_requests_total", route="-", status="404") >= 50


async def test_a_blocked_loop_is_told_of_while_it_lasts_and_afterwards(sqlite_url: str, port: int):
    container = build_container(settings(sqlite_url, metrics_port=port))
    async with served(container):
        scrape = await Scrape(port).read()
        assert scrape("chat_loop_delay_seconds_sum") < 30
        during: list[float] = []

        def look() -> None:
            end = time.monotonic() + 20
            while time.monotonic() < end and not any(lag > 0.7 for lag in during):
                text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
                during.append(float(re.findall(r"^chat_loop_lag_seconds (\S+)$", text, re.MULTILINE)[0]))

        looking = asyncio.get_running_loop().run_in_executor(None, look)
        time.sleep(1.5)  # noqa: ASYNC251 - what is tried
        await looking
        assert max(during) > 0.7

        async def noted() -> bool:
            await scrape.read()
            return scrape("chat_loop_delay_seconds_count") > scrape("chat_loop_delay_seconds_bucket", le="0.5")

        await until(noted, 10, "the delay is noted")


@pytest.fixture
def deployment(tmp_path: Path, postgres_url: str, redis_url: str, port: int) -> Iterator[str]:
    """Two processes of an API and a worker, on one machine."""
    given = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_url, "SECRET_KEY": KEY, "LLM": "echo", "DRAIN_DELAY": "0"}
    given |= {"METRICS_PORT": str(port), "RATE_LIMITS": "off"}
    with ExitStack() as stack:
        url = stack.enter_context(serving(tmp_path, "--workers", "2", log=tmp_path / "api.log", **given))
        for number in range(2):
            with running(["sleep", "600"], tmp_path, tmp_path / "none", {}) as waiting:
                wait_for_http(f"http://127.0.0.1:{port + number}/metrics", waiting, tmp_path / "none")
        log = tmp_path / "worker.log"
        worker = stack.enter_context(running([*COMMAND, "worker"], tmp_path, log, environ(**given)))
        wait_for_http(f"http://127.0.0.1:{port + 2}/metrics", worker, log)
        yield url


@pytest.mark.postgres
@pytest.mark.redis
async def test_each_process_has_a_port_of_its_own(deployment: str, port: int):
    async with people(deployment, "ada") as [ada]:
        room = await ada.room()
        for number in range(10):
            assert (await ada.send(room, f"hello {number}")).status_code == 201
        apis = [await Scrape(port + number).read() for number in range(2)]
        worker = await Scrape(port + 2).read()
        asked = [api("chat_http_requests_total", route="/chat/{room_id}") for api in apis]
        assert sum(asked) == 10
        made = [process("chat_replies_total", status="complete") for process in (*apis, worker)]
        assert sum(made) == 10
        assert made[2] > 0


def test_metrics_have_no_port_of_the_apis():
    with pytest.raises(SettingsError, match="METRICS_PORT"):
        load_settings({"SECRET_KEY": KEY, "PORT": "8001", "METRICS_PORT": "8001"})
    assert load_settings({"SECRET_KEY": KEY}).metrics_port is None
    assert load_settings({"SECRET_KEY": KEY, "METRICS_PORT": "9100"}).metrics_host == "127.0.0.1"

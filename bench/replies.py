"""What the way to an answer costs: the hop through Redis and a worker, and the memory of a worker with many answers.

Run by hand, on a machine that does nothing else: ``.venv/bin/python -m bench.replies [sends]``. It starts PostgreSQL
and Valkey from their wheels, the fake provider, one API that makes replies itself and one with Redis and a worker, and
asks them in turn, one blocking send at a time, so that a drift of the machine's speed meets both alike.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from chat_core.testing.fake_provider import FakeProvider
from tests.faults.servers import Postgres, Valkey
from tests.faults.service import Service

HOP_TARGET_MS = 15.0
ANSWERS = 200
#: Ten words a second apart: an answer that takes some ten seconds.
SLOW = "[[slow:1000]] one two three four five six seven"
PASSWORD = "correct horse battery"


class Client:
    """One person in one room, who asks one of two APIs on the same database."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http, self.url = http, url

    async def sign_in(self, name: str) -> None:
        await self.http.post(
            f"{self.url}/auth/signup",
            json={"username": name, "email": f"{name}@example.com", "password": PASSWORD},
        )
        logged_in = await self.http.post(f"{self.url}/auth/login", json={"username": name, "password": PASSWORD})
        self.headers = {"authorization": f"Bearer {(await logged_in.json())['access_token']}"}

    async def open_room(self) -> None:
        made = await self.http.post(f"{self.url}/rooms/", json={"name": "bench"}, headers=self.headers)
        self.room = (await made.json())["data"]["room"]["id"]

    async def send(self, content: str, **headers: str) -> float:
        """Milliseconds until the answer is there; it has to be one."""
        began = time.perf_counter()
        async with self.http.post(
            f"{self.url}/chat/{self.room}", json={"content": content}, headers={**self.headers, **headers}
        ) as answer:
            body = await answer.json()
            assert answer.status in (201, 202), body
            assert answer.status == 202 or body["data"]["messages"]["ai_message"]["status"] == "complete", body
        return (time.perf_counter() - began) * 1000


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def late(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[len(values) * 95 // 100]


async def hop(here: Client, remote: Client, sends: int) -> None:
    times: dict[str, list[float]] = {"in process": [], "Redis and a worker": []}
    for number in range(sends + 10):
        for name, client in (("in process", here), ("Redis and a worker", remote)):
            took = await client.send(f"hello {number}")
            if number >= 10:
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"blocking send, {name:<20} median {medians[name]:6.1f} ms   95th {late(values):6.1f} ms")
    cost = medians["Redis and a worker"] - medians["in process"]
    print(f"the hop adds at the median       {cost:6.1f} ms   target {HOP_TARGET_MS:g} ms or less")


async def memory(remote: Client, worker: int, provider: FakeProvider) -> None:
    before = memory_mb(worker)
    began = time.perf_counter()
    sends = asyncio.gather(*(remote.send(SLOW) for _ in range(ANSWERS)))
    most, highest = 0, before
    while not sends.done():
        most = max(most, sum(entry.status == 200 and entry.open for entry in provider.ledger))
        highest = max(highest, memory_mb(worker))
        await asyncio.sleep(0.25)
    await sends
    seconds = time.perf_counter() - began
    print(f"{ANSWERS} answers of some 10 s each were done after {seconds:.1f} s, at most {most} at once in one worker")
    print(f"memory of the worker: {before:.0f} MB idle, {highest:.0f} MB with all of them")


async def main(sends: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    async with AsyncExitStack() as stack:
        postgres = Postgres()
        stack.callback(postgres.close)
        await postgres.start()
        redis = Valkey(directory)
        stack.callback(redis.kill)
        await redis.start()
        provider = await stack.enter_async_context(FakeProvider())
        environ = {
            "DATABASE_URL": postgres.url(await postgres.fresh_database()),
            "SECRET_KEY": "a-key-of-benchmarks-0123456789-0123456789",
            "DEBUG": "false",
            "LOG_LEVEL": "WARNING",
            "LLM": "gemini:fake",
            "GEMINI_API_KEY": "a-key-of-no-worth",
            "GEMINI_BASE_URL": provider.url,
        }
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        clients: list[Client] = []
        services = [
            Service(directory, environ, apis=1, workers=0),
            Service(directory, environ | {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}, apis=1, workers=1),
        ]
        for number, service in enumerate(services):
            stack.callback(service.kill)
            await service.start()
            client = Client(http, service.urls[0])
            await client.sign_in(f"person{number}")
            await client.open_room()
            clients.append(client)
        await hop(clients[0], clients[1], sends)
        await memory(clients[1], services[1].workers[0].pid, provider)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))

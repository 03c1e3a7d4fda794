"""The time to the first token of an answer: through the service, as a stream, and asking the provider directly.

Run by hand, on a machine that does nothing else: ``.venv/bin/python -m bench.first_token [answers]``. The double of a
provider and the service are processes of their own, one service at a time. It and the provider are asked in turn, one
answer at a time, by one client, so that a drift of the machine's speed meets both alike. Each connection to a database
has to learn the statements first.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from bench.replies import Client, late

from tests.e2e.processes import fake_provider
from tests.faults.servers import Postgres, Valkey
from tests.faults.service import Service

Ask = Callable[[str], Awaitable[float]]

TARGET_MS = 10.0
WARM_UP = 150


class Streaming(Client):
    async def first_token(self, content: str) -> float:
        """Milliseconds until the first text of the answer is there."""
        began = time.perf_counter()
        headers = {**self.headers, "accept": "text/event-stream"}
        async with self.http.post(f"{self.url}/chat/{self.room}", json={"content": content}, headers=headers) as answer:
            assert answer.status == 200
            async for line in answer.content:
                if line.startswith(b"event: delta"):
                    took = (time.perf_counter() - began) * 1000
                    break
            else:
                raise AssertionError("no text came")
            await answer.content.read()
        return took


async def directly(http: aiohttp.ClientSession, provider: str, content: str) -> float:
    """The same of the provider, as an adapter would ask it."""
    began = time.perf_counter()
    url = f"{provider}/v1beta/models/fake:streamGenerateContent?alt=sse"
    body = {"contents": [{"role": "user", "parts": [{"text": content}]}]}
    async with http.post(url, json=body, headers={"x-goog-api-key": "a-key-of-no-worth"}) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if b'"text"' in line:
                took = (time.perf_counter() - began) * 1000
                break
        else:
            raise AssertionError("no text came")
        await answer.content.read()
    return took


async def compare(name: str, answers: int, through: Ask, direct: Ask) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(answers + WARM_UP):
        for found, ask in zip(times, (through, direct), strict=True):
            took = await ask(f"hello {number}")
            if number >= WARM_UP:
                found.append(took)
    median, floor = (statistics.median(found) for found in times)
    print(
        f"first token, {name:<30} median {median:5.1f} ms   95th {late(times[0]):5.1f} ms   directly {floor:4.1f} ms   "
        f"+{median - floor:4.1f} ms   target +{TARGET_MS:g} ms or less"
    )


async def main(answers: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    async with AsyncExitStack() as stack:
        postgres = Postgres()
        stack.callback(postgres.close)
        await postgres.start()
        redis = Valkey(directory)
        stack.callback(redis.kill)
        await redis.start()
        provider = stack.enter_context(fake_provider(directory))
        environ = {
            "SECRET_KEY": "a-key-of-benchmarks-0123456789-0123456789",
            "DEBUG": "false",
            "LOG_LEVEL": "WARNING",
            "RATE_LIMITS": "off",
            "LLM": "gemini:fake",
            "GEMINI_API_KEY": "a-key-of-no-worth",
            "GEMINI_BASE_URL": provider,
        }
        database = {"DATABASE_URL": postgres.url(await postgres.fresh_database())}
        line = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"}
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for name, more, workers in (
            ("SQLite, in process", {"DATABASE_URL": f"sqlite:///{directory}/chat.db"}, 0),
            ("PostgreSQL, in process", database, 0),
            ("PostgreSQL, Redis and a worker", database | line, 1),
        ):
            service = Service(directory, environ | more, apis=1, workers=workers)
            await service.start()
            try:
                client = Streaming(http, service.urls[0])
                await client.sign_in(name.replace(",", "").replace(" ", "-").lower())
                await client.open_room()
                await compare(name, answers, client.first_token, lambda content: directly(http, provider, content))
            finally:
                service.kill()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))

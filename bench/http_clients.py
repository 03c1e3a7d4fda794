"""What one streamed POST costs the caller: aiohttp against httpx, and our adapter for Gemini on top.

Run by hand: ``PYTHONPATH=src python bench/http_clients.py [requests]``. The server is the fake provider in a process of
its own; CPU time is this process's, user and system together.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import aiohttp
import httpx

from adapters.llm import gemini
from chat_core.ports.language_model import Conversation, Turn, TurnRole

PROMPT = "[[say:one two three four five six seven eight nine ten]]"
BODY = b'{"contents":[{"role":"user","parts":[{"text":"%b"}]}]}' % PROMPT.encode()
PATH = "/v1beta/models/m:streamGenerateContent?alt=sse"
HEADERS = {"x-goog-api-key": "k", "content-type": "application/json"}


async def cpu_ms(deed: Callable[[], Awaitable[None]], requests: int) -> float:
    """The best of five rounds, after one to warm up, in milliseconds for each request."""
    rounds: list[float] = []
    for _ in range(6):
        before = time.process_time()
        for _ in range(requests):
            await deed()
        rounds.append((time.process_time() - before) * 1000 / requests)
    return min(rounds[1:])


async def compare(url: str, requests: int) -> None:
    async with (
        aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session,
        httpx.AsyncClient(headers=HEADERS) as client,
    ):

        async def with_aiohttp() -> None:
            async with session.post(url + PATH, data=BODY) as response:
                async for _ in response.content.iter_any():
                    pass

        async def with_httpx() -> None:
            async with client.stream("POST", url + PATH, content=BODY) as response:
                async for _ in response.aiter_bytes():
                    pass

        of_aiohttp = await cpu_ms(with_aiohttp, requests)
        of_httpx = await cpu_ms(with_httpx, requests)
    model = gemini.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": url})
    asked = Conversation(turns=(Turn(role=TurnRole.USER, parts=(PROMPT,)),))

    async def with_the_adapter() -> None:
        async with aclosing(model.stream(asked)) as stream:
            async for _ in stream:
                pass

    of_adapter = await cpu_ms(with_the_adapter, requests)
    await model.aclose()
    print(f"aiohttp {aiohttp.__version__:8} {of_aiohttp:.3f} ms CPU per streamed POST of 11 events")
    print(f"httpx   {httpx.__version__:8} {of_httpx:.3f} ms, {of_httpx / of_aiohttp:.1f} times as much")
    print(f"our adapter      {of_adapter:.3f} ms, parsing included")


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    server = subprocess.Popen(
        [sys.executable, "-m", "chat_core.testing.fake_provider", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        asyncio.run(compare(server.stdout.readline().split()[-1], requests))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

"""What one chunk of a stream costs: our adapters for OpenAI and Gemini, Google's library, and a floor.

Run by hand: ``PYTHONPATH=src python bench/chunk.py [chunks]``. A process of its own sends what was recorded of a
provider, either all at once or each chunk by itself, a millisecond apart. CPU time is this process's, user and system
together; the best of five rounds, after one to warm up, less what a stream of one chunk costs. The loop is uvloop's, as
in the service. The floor splits the bytes into lines and has msgspec decode them into the adapter's own types: with
nothing under it, and with aiohttp.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import aiohttp
import uvloop
from google import genai
from google.genai import types

from adapters.llm import chat_completions, chat_completions_format, gemini, gemini_format, gemini_sdk
from chat_core.ports.language_model import Conversation, LanguageModel, Text, Turn, TurnRole

OPENAI = (
    b'data: {"id":"chatcmpl-CbQ0lVqYd1n3vT5rX7","object":"chat.completion.chunk","created":1795000000,'
    b'"model":"gpt-5.2-2025-12-11","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,'
    b'"delta":%b,"finish_reason":%b}],"usage":null,"obfuscation":"k3Jd92xP"}\n\n'
)
OPENAI_END = OPENAI % (b"{}", b'"stop"') + b"data: [DONE]\n\n"
GEMINI = (
    b'data: {"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"}%b,"index": 0}],"usageMetadata": '
    b'{"promptTokenCount": 12,"candidatesTokenCount": 34,"totalTokenCount": 90,"promptTokensDetails": '
    b'[{"modality": "TEXT","tokenCount": 12}],"thoughtsTokenCount": 44},"modelVersion": "gemini-3.8-flash",'
    b'"responseId": "q7kTaZ3vOuLQz7IPx9mN8AQ"}\r\n\r\n'
)
GEMINI_END = GEMINI % (b"", b',"finishReason": "STOP"')
ASKED = Conversation(turns=(Turn(role=TurnRole.USER, parts=("hello",)),))


def recorded(openai: bool, chunks: int) -> list[bytes]:
    words = [b" word%d" % number for number in range(chunks)]
    if openai:
        return [*(OPENAI % (b'{"content":"%b"}' % word, b"null") for word in words), OPENAI_END]
    return [*(GEMINI % (word, b"") for word in words), GEMINI_END]


async def serve() -> None:
    """Paths begin with how many chunks are sent, and ``all`` or ``each``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := await _head(reader):
            length = next(int(row[15:]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:"))
            await reader.readexactly(length)
            path = head.split(b" ")[1].decode()
            _, how, number, *_ = path.split("/")
            pieces = recorded("completions" in path, int(number))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in pieces if how == "each" else [b"".join(pieces)]:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                if how == "each":
                    await asyncio.sleep(0.001)
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def cpu(deed: Callable[[], Awaitable[None]], rounds: int) -> float:
    """Seconds of CPU for one, the best of some."""
    best = float("inf")
    for number in range(rounds + 1):
        before = time.process_time()
        await deed()
        if number:
            best = min(best, time.process_time() - before)
    return best


async def read(model: LanguageModel, chunks: int) -> None:
    texts = 0
    async with aclosing(model.stream(ASKED)) as stream:  # type: ignore[type-var]
        async for part in stream:
            texts += isinstance(part, Text)
    assert texts == chunks, f"{texts} texts of {chunks}"


async def read_raw(session: aiohttp.ClientSession, url: str, decode: Callable[[bytes], object]) -> None:
    rest = b""
    async with session.post(url, data=b"{}") as response:
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    decode(line[6:])


async def by_library(base: str) -> None:
    """Google's library as it comes."""
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=base, api_version="v1beta"))
    stream = await client.aio.models.generate_content_stream(model="gemini-3.8-flash", contents="hello")
    async for _ in stream:
        pass
    await client.aio.aclose()
    client.close()


def split(wire: bytes, decode: Callable[[bytes], object]) -> None:
    for line in wire.split(b"\n"):
        if line.startswith(b"data: {"):
            decode(line[6:])


async def compare(url: str, how: str, chunks: int) -> None:
    async def cost(make: Callable[[str], LanguageModel], path: str) -> float:
        found: list[float] = []
        for number in (chunks, 1):
            model = make(f"{url}/{how}/{number}{path}")
            found.append(await cpu(lambda m=model, n=number: read(m, n), 5))  # type: ignore[misc]
            await model.aclose()  # type: ignore[attr-defined]
        return (found[0] - found[1]) * 1e6 / (chunks - 1)

    async def floor(path: str, decode: Callable[[bytes], object]) -> float:
        async with aiohttp.ClientSession() as session:
            found = [
                await cpu(lambda n=number: read_raw(session, f"{url}/{how}/{n}{path}", decode), 5)  # type: ignore[misc]
                for number in (chunks, 1)
            ]
        return (found[0] - found[1]) * 1e6 / (chunks - 1)

    def openai(base: str) -> LanguageModel:
        return chat_completions.create("gpt-5.2", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": base})

    def own_gemini(base: str) -> LanguageModel:
        return gemini.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": base})

    def sdk(base: str) -> LanguageModel:
        return gemini_sdk.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": base})

    print(f"{'all at once' if how == 'all' else 'each by itself'}, {chunks} chunks")
    openai_decode, gemini_decode = chat_completions_format._chunk.decode, gemini_format._event.decode  # noqa: SLF001
    for name, decode, is_openai in (("openai", openai_decode, True), ("gemini", gemini_decode, False)):
        wire = b"".join(recorded(is_openai, chunks))
        rounds: list[float] = []
        for _ in range(6):
            before = time.process_time()
            split(wire, decode)
            rounds.append(time.process_time() - before)
        print(f"  floor, {name:26} {min(rounds) * 1e6 / chunks:6.1f} µs a chunk")
    print(f"  floor with aiohttp, openai        {await floor('/v1/chat/completions', openai_decode):6.1f} µs")
    print(f"  floor with aiohttp, gemini        {await floor('/gemini', gemini_decode):6.1f} µs")
    print(f"  openai                            {await cost(openai, '/v1'):6.1f} µs")
    print(f"  gemini                            {await cost(own_gemini, ''):6.1f} µs")
    print(f"  gemini-sdk                        {await cost(sdk, ''):6.1f} µs")
    found = [await cpu(lambda n=number: by_library(f"{url}/{how}/{n}"), 5) for number in (chunks, 1)]  # type: ignore[misc]
    print(f"  google-genai alone                {(found[0] - found[1]) * 1e6 / (chunks - 1):6.1f} µs")


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
        return
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for how, number in (("all", chunks), ("each", min(chunks, 500))):
            uvloop.run(compare(url, how, number))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

"""What a chunk of a stream costs our adapters, and what reading and decoding alone would.

``python -m bench.chunk serve PORT`` sends what was recorded of a provider, either all at once or each chunk by itself,
a millisecond apart; ``python -m bench.chunk read NAME URL ROUNDS`` prints the microseconds of CPU (user and system
together) that a chunk costs that process, all at once and by itself, as JSON: the best of so many rounds, after one to
warm up, less what a stream of one chunk costs. The loop is uvloop's, as in the service. The floor is aiohttp, the lines
of its bytes, and msgspec for the adapter's own types.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

import aiohttp
import uvloop

from adapters.llm import chat_completions, chat_completions_format, gemini, gemini_format
from bench.table import Row, missing
from bench.tools import ROOT
from chat_core.ports.language_model import Conversation, LanguageModel, Text, Turn, TurnRole

if TYPE_CHECKING:
    from bench.plan import Size
    from bench.stage import Stage

#: What is measured, and against what.
NAMES = {"chunk-openai": "openai-floor", "chunk-gemini": "gemini-floor", "chunk-gemini-sdk": "google-genai"}

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


async def serve(port: int) -> None:
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

    await (await asyncio.start_server(answer, "127.0.0.1", port)).serve_forever()


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
    from google import genai
    from google.genai import types

    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=base, api_version="v1beta"))
    stream = await client.aio.models.generate_content_stream(model="gemini-3.8-flash", contents="hello")
    async for _ in stream:
        pass
    await client.aio.aclose()
    client.close()


def _deeds(name: str, url: str) -> Callable[[str, int], Callable[[], Awaitable[None]]]:
    """How so many chunks, sent so, are read by that name."""
    path = "/v1/chat/completions" if name.startswith("openai") else "/gemini"
    decodes: dict[str, Callable[[bytes], object]] = {
        "openai-floor": chat_completions_format._chunk.decode,  # noqa: SLF001
        "gemini-floor": gemini_format._event.decode,  # noqa: SLF001
    }

    def adapter(base: str) -> LanguageModel:
        if name == "chunk-openai":
            return chat_completions.create("gpt-5.2", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{base}/v1"})
        if name == "chunk-gemini":
            return gemini.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": base})
        from adapters.llm import gemini_sdk

        return gemini_sdk.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": base})

    def deed(how: str, count: int) -> Callable[[], Awaitable[None]]:
        base = f"{url}/{how}/{count}"
        if name == "google-genai":
            return lambda: by_library(base)
        if name in decodes:
            session = aiohttp.ClientSession()
            return lambda: read_raw(session, base + path, decodes[name])
        model = adapter(base)
        return lambda: read(model, count)

    return deed


async def measure(name: str, url: str, rounds: int) -> None:
    deed, found = _deeds(name, url), {}
    for how, count in (("all", 2000), ("each", 60 * rounds)):
        many, one = [await cpu(deed(how, number), rounds) for number in (count, 1)]
        found[how] = (many - one) * 1e6 / (count - 1)
    print(json.dumps(found), flush=True)


async def _cost(name: str, url: str, rounds: int) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.chunk", "read", name, url, str(rounds)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, errors = await process.communicate()
    assert out, errors.decode()[-500:]
    found: dict[str, float] = json.loads(out)
    return found


async def chunks(stage: "Stage", size: "Size", names: list[str]) -> list[Row]:
    server = await stage.serve("chunks", [sys.executable, "-m", "bench.chunk", "serve"], {})
    url = f"http://127.0.0.1:{server.port}"
    rows = []
    for name in names:
        what = f"CPU for a streamed chunk, {name.removeprefix('chunk-')}"
        if size.quick and name == "chunk-gemini-sdk":
            rows.append(missing(name, what, "loading Google's library takes too long for this"))
            continue
        floor, ours = [await _cost(each, url, 2 if size.quick else 5) for each in (NAMES[name], name)]
        rows.append(
            Row(
                name=name,
                what=what,
                unit=" µs",
                ours=ours["all"],
                floor=floor["all"],
                ratio=ours["all"] / floor["all"],
                note=f"all at once; each by itself {ours['each']:.0f} µs, floor {floor['each']:.0f}",
            )
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        uvloop.run(measure(sys.argv[2], sys.argv[3], int(sys.argv[4])))

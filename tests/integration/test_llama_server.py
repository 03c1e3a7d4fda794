"""The provider ``openai`` against a server of its format that is not ours: llama.cpp's, from ``llama-cpp-python``.

``LLAMA_SERVER_PYTHON`` names a Python with ``llama-cpp-python[server]`` and ``gguf``; else this one is tried. The
model is made on the spot, and says nothing that makes sense.
"""

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path

import pytest

from adapters.llm import chat_completions
from adapters.llm.chat_completions import ChatCompletions
from chat_core.errors import ModelError
from chat_core.ports.language_model import (
    Conversation,
    End,
    FinishReason,
    ModelCheck,
    OfferedModel,
    Text,
    Turn,
    TurnRole,
)
from tests.e2e.processes import free_port

MAKER = Path(__file__).with_name("tiny_model.py")
NEVER_ENDS, ENDS_SOON = -5.0, 1.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    given = os.environ.get("LLAMA_SERVER_PYTHON")
    if given is None and not all(map(importlib.util.find_spec, ("llama_cpp", "gguf", "fastapi"))):
        pytest.skip("no llama.cpp server: install llama-cpp-python[server] and gguf, or set LLAMA_SERVER_PYTHON")
    return given or sys.executable


class Server:
    def __init__(self, url: str, log: Path) -> None:
        self.url, self._log = url, log

    async def said(self, word: str) -> bool:
        """Whether it writes this into its log within some seconds."""
        for _ in range(200):
            if word in self._log.read_text(errors="replace"):
                return True
            await asyncio.sleep(0.05)
        return False


@contextmanager
def serving(python: str, folder: Path, eos: float) -> Iterator[Server]:
    subprocess.run([python, MAKER, folder / "tiny.gguf", str(eos)], check=True, timeout=120)
    port = free_port()
    log = folder / "log"
    command = [python, "-m", "llama_cpp.server", "--model", "tiny.gguf", "--port", str(port), "--n_ctx", "8192"]
    with log.open("wb") as file:
        # It prints what the tests look for, which would stay in a buffer of its own.
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/models", timeout=5).close()  # noqa: S310
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < until, "the server does not listen"
                time.sleep(0.1)
        yield Server(url, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
            raise


@pytest.fixture(scope="module")
def server(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[float], Server]]:
    """The server of the model that is drawn so much to its end."""
    with ExitStack() as stack:
        running: dict[float, Server] = {}

        def start(eos: float) -> Server:
            if eos not in running:
                running[eos] = stack.enter_context(serving(python, tmp_path_factory.mktemp("llama"), eos))
            return running[eos]

        yield start


@pytest.fixture
async def model(server: Callable[[float], Server]) -> AsyncIterator[ChatCompletions]:
    model = chat_completions.create("tiny.gguf", {"OPENAI_BASE_URL": server(NEVER_ENDS).url})
    yield model
    await model.aclose()


def saying(text: str, limit: int | None) -> Conversation:
    turn = Turn(role=TurnRole.USER, parts=("Ann writes:", text))
    return Conversation(turns=(turn,), system="Be brief.", max_output_tokens=limit, temperature=0.7)


async def test_it_answers_up_to_the_limit_and_in_pieces(model: ChatCompletions):
    async with asyncio.timeout(60), aclosing(model.stream(saying("hello", 40))) as stream:
        parts = [part async for part in stream]
    assert isinstance(parts[-1], End)
    assert parts[-1].reason is FinishReason.LENGTH
    assert len([part for part in parts if isinstance(part, Text)]) > 5


async def test_its_own_end_is_a_proper_end(server: Callable[[float], Server]):
    model = chat_completions.create("tiny.gguf", {"OPENAI_BASE_URL": server(ENDS_SOON).url})
    async with asyncio.timeout(60), aclosing(model.stream(saying("hello", 4000))) as stream:
        parts = [part async for part in stream]
    await model.aclose()
    assert isinstance(parts[-1], End)
    assert parts[-1].reason is FinishReason.STOP


async def test_stopping_is_noticed_by_the_server_and_the_next_answer_comes(
    model: ChatCompletions, server: Callable[[float], Server]
):
    async with asyncio.timeout(60), aclosing(model.stream(saying("talk on", 8000))) as stream:
        async for part in stream:
            if isinstance(part, Text):
                break
    assert await server(NEVER_ENDS).said("Disconnected from client")
    async with asyncio.timeout(60), aclosing(model.stream(saying("hello again", 5))) as stream:
        parts = [part async for part in stream]
    assert isinstance(parts[-1], End)


async def test_it_lists_its_model_and_the_doctor_finds_it(model: ChatCompletions, server: Callable[[float], Server]):
    assert [*await model.models()] == [OfferedModel(name="tiny.gguf")]
    assert (await model.check()).check is ModelCheck.OK
    other = chat_completions.create("other", {"OPENAI_BASE_URL": server(NEVER_ENDS).url})
    assert (await other.check()).check is ModelCheck.MISSING
    await other.aclose()


async def test_a_prompt_beyond_its_context_is_an_error_and_no_text(model: ChatCompletions):
    with pytest.raises(ModelError) as failure:
        async with asyncio.timeout(60), aclosing(model.stream(saying("x" * 20_000, 5))) as stream:
            async for part in stream:
                assert not isinstance(part, Text)
    assert failure.value.detail

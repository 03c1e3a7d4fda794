"""``chat-api ask`` and ``chat-api providers``, as processes of their own, in an empty folder."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chat_core.testing.fake_provider import FakeProvider


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@dataclass
class Terminal:
    """Somebody's shell, where this provider is Gemini."""

    folder: Path
    url: str

    async def start(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        given = {"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": self.url, "LLM": "gemini:fake"} | environ
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entrypoints.cli", *arguments),
            cwd=self.folder,
            env=inherited | given,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environ: str) -> tuple[int | None, str, list[str]]:
        process = await self.start(*arguments, **environ)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode().splitlines()


@pytest.fixture
def terminal(tmp_path: Path, provider: FakeProvider) -> Terminal:
    return Terminal(tmp_path, provider.url)


async def test_the_answer_is_on_the_standard_output_and_what_is_said_of_it_beside(terminal: Terminal):
    code, out, err = await terminal.run("ask", "[[say:Tea is ready.]]")
    assert (code, out) == (0, "Tea is ready.\n")
    assert err[0] == "asking gemini:fake"
    assert err[-1].startswith("complete: stop")
    assert "tokens in" in err[-1]
    assert len(err) == 2
    assert list(terminal.folder.iterdir()) == []


async def test_where_the_first_model_is_away_the_next_one_answers(terminal: Terminal, provider: FakeProvider):
    code, out, err = await terminal.run("ask", "hello [[503]]", LLM="gemini:fake,echo:")
    assert (code, out) == (0, "(echo, no AI) You said: hello [[503]]\n")
    assert [line.split(": ")[0] for line in err] == ["asking gemini:fake", "failed", "asking echo:echo", "complete"]
    assert "provider-unavailable" in err[1]
    assert len(provider.ledger) == 1


async def test_without_an_answer_it_fails(terminal: Terminal):
    code, out, err = await terminal.run("ask", "[[403]]")
    assert (code, out) == (1, "")
    assert err[-1].startswith("failed: provider-refused")
    code, _, err = await terminal.run("ask", "[[blocked]]")
    assert code == 1
    assert err[-1].startswith("not complete: blocked")
    assert ", without a text" in err[-1]


async def test_one_model_may_be_named(terminal: Terminal, provider: FakeProvider):
    code, out, _ = await terminal.run("ask", "hello", "--model", "echo:", LLM_OFFERED="nobody:knows")
    assert (code, out) == (0, "(echo, no AI) You said: hello\n")
    assert len(provider.ledger) == 0
    code, out, err = await terminal.run("ask", "hello", "--model", "nobody:")
    assert (code, out) == (2, "")
    assert "'nobody', which is not installed" in err[0]


async def test_an_interruption_stops_it_and_closes_the_connection(terminal: Terminal, provider: FakeProvider):
    process = await terminal.start("ask", "one two three [[hang@1]]")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err.decode().splitlines()) == (130, ["asking gemini:fake", "stopped"])
    await provider.ledger.wait(requests=1)
    assert provider.ledger[0].client_closed


async def test_providers_are_listed_with_their_places(terminal: Terminal, provider: FakeProvider):
    code, out, _ = await terminal.run("providers", LLM="gemini:fake,echo:,gemini:other")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "echo installed LLM: 2. echo:" in lines
    assert "gemini installed LLM: 1. gemini:fake, 3. gemini:other" in lines
    assert len(provider.ledger) == 0
    code, out, _ = await terminal.run("providers", LLM="nobody:")
    assert code == 1
    assert "nobody not installed LLM: 1. nobody" in " ".join(out.split())


async def test_each_model_is_asked_whether_it_is_there(terminal: Terminal):
    code, out, _ = await terminal.run("providers", "--check", LLM="gemini:fake,echo:")
    assert code == 0
    assert "1. gemini:fake  ok" in out.splitlines()
    assert "2. echo:  ok: The answers are echoes: set LLM for those of an AI" in out.splitlines()
    code, out, _ = await terminal.run("providers", "--check", GEMINI_BASE_URL="http://127.0.0.1:9")
    assert code == 1
    assert "1. gemini:fake  problem: " in out
    assert list(terminal.folder.iterdir()) == []


async def test_what_the_providers_offer_is_listed_with_its_end(terminal: Terminal, provider: FakeProvider):
    provider.offers = {"one": None, "two": datetime(2031, 2, 3, tzinfo=UTC).date(), "three": None}
    openai = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"{provider.url}/v1"}
    code, out, err = await terminal.run("providers", "--models", **openai)
    assert (code, err) == (0, [])
    lines = out.splitlines()
    assert lines[0].startswith("anthropic: not set up: ANTHROPIC_API_KEY is not set")
    assert lines[1:5] == ["echo:echo", "gemini:one", "gemini:two", "gemini:three"]
    assert lines[-3:] == ["openai:one", "openai:two  ends 2031-02-03", "openai:three"]
    assert list(terminal.folder.iterdir()) == []


async def test_a_provider_that_gives_no_list_is_a_line_and_the_others_go_on(terminal: Terminal, provider: FakeProvider):
    broken = {"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    code, out, err = await terminal.run("providers", "--models", **broken)
    assert (code, err) == (1, [])
    assert out.startswith("anthropic: problem: anthropic: no answer: ")
    assert "\ngemini:fake\n" in out


async def test_what_llm_names_has_to_be_set_up_to_be_listed(terminal: Terminal):
    code, out, _ = await terminal.run("providers", "--models", LLM="openai:fake,nobody:")
    assert code == 1
    assert "openai: not set up: OPENAI_API_KEY is not set" in out
    assert out.endswith("nobody: not installed\n")


async def test_the_doctor_warns_of_a_model_that_ends(terminal: Terminal, provider: FakeProvider):
    def llm(model: str, offered: str = "") -> dict[str, str]:
        own = {"LLM": f"openai:{model}", "LLM_OFFERED": offered, "SECRET_KEY": "unguessable-0123456789-abcdefghijk"}
        return own | {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"{provider.url}/v1"}

    today = datetime.now(UTC).date()
    soon, later, past = today + timedelta(days=59), today + timedelta(days=62), today - timedelta(days=1)
    provider.offers = {"soon": soon, "later": later, "past": past, "never": None}
    for model in ("later", "never", "unlisted"):
        code, out, _ = await terminal.run("doctor", **llm(model))
        assert (code, "ends on" in out) == (0, False)
    code, out, _ = await terminal.run("doctor", **llm("soon,openai:never"))
    assert code == 0
    assert f"openai:soon   note     ends on {soon}, in " in out
    code, out, _ = await terminal.run("doctor", **llm("never", "openai:past"))
    assert code == 1
    assert f"openai:past   problem  ended on {past}: set another model" in out
    provider.offers = None
    code, out, _ = await terminal.run("doctor", **llm("soon"))
    assert code == 0

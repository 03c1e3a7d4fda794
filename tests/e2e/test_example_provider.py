"""A provider comes as a package of its own: its wheel beside ours, in an environment that knows no other source."""

import asyncio
import json
import re
import shutil
import site
import subprocess
import sys
import time
import tomllib
import urllib.request
import venv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chat_core.testing.fake_provider import FakeProvider
from entrypoints.version import VERSION
from tests.e2e.processes import environ, free_port, running

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "acme-provider"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")

pytestmark = pytest.mark.slow


class Stranger:
    """An environment with both wheels, and the libraries of this one, but none of its sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        wheels = folder / "wheels"
        offline = ("--no-deps", "--no-index")
        for source in (ROOT, EXAMPLE):
            self._run(*PIP, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv" / "bin"
        packages = next((folder / "venv").glob("lib/python*/site-packages"))
        found = [str(wheel) for wheel in wheels.glob("*.whl")]
        self._run(*PIP, "--python", str(self.bin / "python"), "install", *offline, *found)
        # Plain folders: what .pth files within them say, as where our sources are, is not followed from here.
        (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, cwd=self.folder, timeout=240)

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.folder,
            env=environ(**{**settings, "PYTHONPATH": ""}),
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


def acme(provider: FakeProvider) -> dict[str, str]:
    return {"LLM": "acme:fake", "ACME_URL": provider.url, "ACME_KEY": "any"}


def test_nothing_of_the_project_names_the_provider():
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    assert not any("acme" in text.lower() for text in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "acme" not in str(project)


@pytest.mark.parametrize("file", [EXAMPLE / "pyproject.toml", ROOT / "README.md", ROOT / "docs/adding-a-provider.md"])
def test_what_it_asks_for_is_this_service_and_no_other_of_its_name(file: Path):
    """In public indexes there is one, of later versions."""
    asked = [Requirement(text).specifier for text in re.findall(r'"(chat-api[^"]*)"', file.read_text())]
    assert asked
    assert all(VERSION in versions and "0.8" not in versions for versions in asked)


def test_its_own_tests_pass_against_the_installed_wheels(stranger: Stranger):
    tests = stranger.folder / "acme"
    shutil.copytree(EXAMPLE / "tests", tests / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLE / "pyproject.toml", tests)
    where = stranger.run("python", "-c", "import chat_core, acme_provider as a; print(chat_core.__file__, a.__file__)")
    assert all(path.startswith(str(stranger.folder)) for path in where.stdout.split()), where.stdout + where.stderr
    done = stranger.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


async def test_the_commands_know_it(stranger: Stranger, provider: FakeProvider):
    async def said(*command: str) -> str:
        done = await asyncio.to_thread(stranger.run, *command, **acme(provider))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert await said("chat-api", "ask", "[[say:Tea is ready.]]") == "Tea is ready.\n"
    assert "acme        installed  LLM: 1. acme:fake" in await said("chat-api", "providers")
    assert "\nacme:fake\n" in f"\n{await said('chat-api', 'providers', '--models')}"
    assert "acme:fake: ok" in await said("chat-api", "doctor")


async def test_the_service_answers_by_it(stranger: Stranger, provider: FakeProvider):
    port = free_port()
    command = [str(stranger.bin / "chat-api"), "serve", "--port", str(port)]
    log = stranger.folder / "serve.log"
    with running(command, stranger.folder, log, environ(**{**acme(provider), "PYTHONPATH": ""})):
        reply = await asyncio.to_thread(_talk, f"http://127.0.0.1:{port}", log)
    assert reply["data"]["messages"]["ai_message"]["content"] == "Tea is ready."
    assert reply["data"]["reply"]["provider"] == "acme"


def _talk(url: str, log: Path) -> dict:
    """Sign up, make a room, and say something in it: the answer's document."""

    def post(path: str, body: dict, token: str = "") -> dict:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.load(response)

    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{url}/health/live", timeout=5).close()  # noqa: S310
            break
        except OSError:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
    person = {"username": "ada", "password": "correct horse battery"}
    post("/auth/signup", {**person, "email": "ada@example.com"})
    token = post("/auth/login", person)["access_token"]
    room = post("/rooms/", {"name": "Tea"}, token)["data"]["room"]["id"]
    return post(f"/chat/{room}", {"content": "[[say:Tea is ready.]]", "m_id": "one"}, token)

"""What the benches of live rooms have in common: a service in a process of its own, and its clients in another."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.processes import environ, free_port, running, wait_for_http

PASSWORD = "correct horse battery"


@contextmanager
def server(command: list[str], **settings: str) -> Iterator[tuple[str, int]]:
    """The URL and the process id of what this command serves on ``PORT``."""
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    port = free_port()
    # The floor is a module of ours, and is run in another directory.
    env = environ(PORT=str(port), PYTHONPATH=str(Path(__file__).parents[1]), **settings)
    with running([word.replace("PORT", str(port)) for word in command], directory, directory / "log", env) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", process, directory / "log")
        yield url, process.pid


@contextmanager
def service(**settings: str) -> Iterator[tuple[str, int]]:
    """The service on an SQLite file, or on what ``settings`` say, with one process and no limits to one person."""
    command = [sys.executable, "-m", "entrypoints.cli", "serve", "--port", "PORT"]
    with server(command, LOG_LEVEL="WARNING", RATE_LIMITS="off", **settings) as found:
        yield found


def a_room(url: str, http: httpx.Client) -> tuple[str, str]:
    """A new room without an AI, and the token of its owner, who is signed in by ``http``."""
    who = {"username": "bench", "email": "bench@example.com", "password": PASSWORD}
    http.post(f"{url}/auth/signup", json=who)
    token = http.post(f"{url}/auth/login", json={"username": "bench", "password": PASSWORD}).json()["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    room = http.post(f"{url}/rooms/", json={"name": "bench"}).json()["data"]["room"]["id"]
    http.patch(f"{url}/rooms/{room}", json={"ai": {"mode": "off"}})
    return room, token


class Clients:
    """Many light clients of one server, in one process."""

    def __init__(self, kind: str, url: str, count: int, path: str, token: str = "-", room: str = "") -> None:  # noqa: S107
        host, port = url.removeprefix("http://").split(":")
        command = [sys.executable, "-m", "bench.live_clients", kind, host, port, str(count), path, token]
        self._process = subprocess.Popen(
            [*command, *([room] if room else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def tally(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

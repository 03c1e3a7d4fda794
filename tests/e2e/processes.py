"""The service as its users run it: a process, in a directory of its own, with the given settings and no others."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMAND = (sys.executable, "-m", "entrypoints.cli")

#: What a process needs of the surrounding environment; no setting of the service is among it.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "SYSTEMROOT")


def environ(**settings: str) -> dict[str, str]:
    """An environment with these settings alone."""
    return {name: value for name in _KEPT if (value := os.environ.get(name))} | settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def chat_api(*arguments: str, cwd: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run ``chat-api`` to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environ(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(command: list[str], cwd: Path, log: Path, env: Mapping[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """The process, with standard error in ``log``. It is told to end at once by SIGINT, and has to."""
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def serving(cwd: Path, *arguments: str, log: Path | None = None, **settings: str) -> Iterator[str]:
    """The URL of ``chat-api serve`` with these settings, while it runs."""
    log = log or cwd / "serve.log"
    port = free_port()
    command = [*COMMAND, "serve", "--port", str(port), *arguments]
    with running(command, cwd, log, environ(**settings)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", process, log)
        yield url


def wait_for_http(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 30.0) -> None:
    """Return once the URL answers."""
    end = time.monotonic() + seconds
    while True:
        assert process.poll() is None, f"it ended with {process.returncode}: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own address
            return
        except OSError:
            assert time.monotonic() < end, f"no answer: {log.read_text()[-2000:]}"
        time.sleep(0.05)


@contextmanager
def fake_provider(cwd: Path) -> Iterator[str]:
    """The URL of a double of the providers, in a process of its own."""
    port = free_port()
    log = cwd / "provider.log"
    command = [sys.executable, "-m", "chat_core.testing.fake_provider", "--port", str(port)]
    with running(command, cwd, log, environ()) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/ledger", process, log)
        yield url

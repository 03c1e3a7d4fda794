"""The service's own processes: several APIs and workers on one database, started, watched and ended."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults.polling import until
from tests.faults.processes import Process
from tests.faults.servers import free_port

#: Which interpreter, and which sources: both may be another version's, for a deployment of two versions together.
PYTHON = os.environ.get("FAULTS_PYTHON", sys.executable)
SOURCE = os.environ.get("FAULTS_SOURCE", str(Path(__file__).parents[2] / "src"))


class Died(Exception):
    """A process ended before it was ready."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a process of the service is started with: of the tester's own variables only what any program needs."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {
        **kept,
        "PYTHONPATH": SOURCE,
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "CHAT_TEST_BUILD": "1",
        **given,
    }


class Api(Process):
    """One API process."""

    def __init__(self, name: str, directory: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [PYTHON, "-m", "entrypoints.cli", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        super().__init__(name, command, directory / f"{name}.log", environment(environ))

    async def readiness(self, seconds: float = 3.0) -> dict[str, Any]:
        """What ``/health/ready`` says, with its ``code``; empty where it does not answer in time."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
                session.get(f"{self.url}/health/ready") as answer,
            ):
                return {**await answer.json(content_type=None), "code": answer.status}
        except (aiohttp.ClientError, OSError, ValueError):
            return {}

    async def ready(self, seconds: float = 30.0) -> float:
        """Wait until it takes sends."""

        async def takes_sends() -> bool:
            if not self.running:
                raise Died(f"{self.name} ended with {self.exit_code}\n{self.tail()}")
            return (await self.readiness()).get("code") == 200

        return await until(takes_sends, seconds, f"{self.name} is ready")


class Worker(Process):
    """One worker, with what it forks."""

    def __init__(self, name: str, directory: Path, environ: Mapping[str, str]) -> None:
        command = [PYTHON, "-m", "entrypoints.cli", "worker"]
        super().__init__(name, command, directory / f"{name}.log", environment(environ))


class Service:
    """All the processes of one run. ``makers`` are those that make replies."""

    def __init__(self, directory: Path, environ: Mapping[str, str], apis: int = 2, workers: int = 0) -> None:
        self.directory, self.environ = directory, dict(environ)
        self.apis = [Api(f"api{number}", directory, environ) for number in range(apis)]
        self.workers = [Worker(f"worker{number}", directory, environ) for number in range(workers)]

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    @property
    def makers(self) -> list[Process]:
        return list(self.workers) or list(self.apis)

    @property
    def urls(self) -> list[str]:
        return [api.url for api in self.apis]

    async def start(self) -> None:
        """Start what does not run, and wait until all of it is ready."""
        for process in self.processes:
            if not process.running:
                process.start()
        for api in self.apis:
            await api.ready()
        if self.workers:
            await self.workers_are("ok")

    async def workers_are(self, status: str, seconds: float = 30.0) -> float:
        """Wait until every API says so of its workers."""

        async def said() -> bool:
            parts = [(await api.readiness()).get("workers", {}) for api in self.apis if api.running]
            return all(part.get("status") == status for part in parts)

        return await until(said, seconds, f"the workers are {status}")

    async def stop(self) -> None:
        """End everything, politely first. Raises ``AssertionError`` where a process outlived that."""
        for process in self.processes:
            process.resume()
            process.send_signal(signal.SIGTERM)
        late: list[str] = []
        for process in self.processes:
            try:
                await process.ended(40)
                await process.nothing_left(5)
            except TimeoutError as error:
                late.append(f"{error}\n{process.tail()}")
            finally:
                process.kill()
        assert not late, "\n".join(late)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def errors(self) -> list[dict[str, Any]]:
        """What the processes logged as errors."""
        return [
            {"process": process.name, **record}
            for process in self.processes
            for record in process.records()
            if record.get("level") in ("ERROR", "CRITICAL")
        ]

    def tails(self) -> str:
        return "\n".join(process.tail() for process in self.processes)

"""What a run of the benches is made on: servers from their wheels, the stub, the service, and load against them."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from bench.floors.send import KEY, USER

from tests.faults.polling import until
from tests.faults.processes import Process
from tests.faults.servers import Postgres, Valkey, free_port
from tests.faults.service import Service, environment

ROOT = Path(__file__).parents[1]
#: As PostgreSQL is run: with its disk, and room for its pages. Each commit is on the disk before it is acknowledged.
POSTGRES = {"fsync": "on", "shared_buffers": "256MB"}


@dataclass(frozen=True)
class Result:
    """What a load met."""

    rate: float
    median_ms: float
    late_ms: float
    cpu_ms: float


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of these processes, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def request(method: str, path: str, token: str = "", body: Any = None, **headers: str) -> str:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    text = "" if body is None else json.dumps(body)
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", text])


async def load(port: int, requests: list[str], clients: int, seconds: float, pids: Sequence[int] = ()) -> Result:
    """Put these requests to a server, and hold every answer to be a good one."""
    before = cpu_seconds(pids)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    asked = {"port": port, "requests": requests, "clients": clients, "seconds": seconds}
    out, _ = await process.communicate(json.dumps(asked).encode())
    found = json.loads(out)
    assert all(status.startswith("2") for status in found["statuses"]), found
    return Result(
        rate=found["answers"] / found["seconds"],
        median_ms=found["median_ms"],
        late_ms=found["late_ms"],
        cpu_ms=(cpu_seconds(pids) - before) * 1000 / found["answers"],
    )


class Stage:
    """The servers of a run, each started when it is first asked for."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory, self._stack = directory, stack
        self._postgres: Postgres | None = None
        self._stub = 0

    async def postgres(self) -> Postgres:
        if self._postgres is None:
            self._postgres = Postgres(**POSTGRES)
            self._stack.callback(self._postgres.close)
            await self._postgres.start()
        return self._postgres

    async def database(self) -> str:
        """The URL of a new database at the service's schema."""
        postgres = await self.postgres()
        return postgres.url(await postgres.fresh_database())

    async def redis(self) -> str:
        redis = Valkey(self.directory)
        self._stack.callback(redis.kill)
        await redis.start()
        return f"redis://127.0.0.1:{redis.port}/0"

    async def stub(self) -> str:
        """The address of the model's stub."""
        if not self._stub:
            self._stub = free_port()
            await self._process("stub", [sys.executable, "-m", "bench.stub", str(self._stub)], self._stub, {})
        return f"http://127.0.0.1:{self._stub}"

    async def _process(self, name: str, command: list[str], port: int, environ: Mapping[str, str]) -> Process:
        env = environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **environ})
        process = Process(name, command, self.directory / f"{name}.log", env)
        process.start()
        self._stack.callback(process.kill)

        async def open_() -> bool:
            assert process.running, process.tail()
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True

        await until(open_, 20, f"{name} is there")
        return process

    async def floor(self, app: str, **environ: str) -> tuple[int, Process]:
        """The port and the process of a floor, under the server that the service has."""
        port = free_port()
        options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--no-access-log"]
        command = [sys.executable, "-m", "uvicorn", app, *options, "--no-server-header"]
        return port, await self._process(app.rpartition(".")[2].replace(":", "-"), command, port, environ)

    async def send_floor(self) -> tuple[int, Process]:
        """The floor of the send, on a database of its own."""
        postgres = await self.postgres()
        await postgres.execute("CREATE DATABASE floor")
        stub = f"{await self.stub()}/v1beta/models/stub:generateContent"
        return await self.floor("bench.floors.send:app", DATABASE_URL=postgres.url("floor"), STUB=stub)

    @asynccontextmanager
    async def service(self, workers: int = 0, **environ: str) -> AsyncIterator[Service]:
        """The service, with the stub as its model and without limits to one person."""
        service = Service(
            self.directory,
            {
                "SECRET_KEY": "a-key-of-benchmarks-0123456789-0123456789",
                "DEBUG": "false",
                "LOG_LEVEL": "WARNING",
                "RATE_LIMITS": "off",
                "LLM": "gemini:stub",
                "GEMINI_API_KEY": "a-key-of-no-worth",
                "GEMINI_BASE_URL": await self.stub(),
                "CHAT_TEST_BUILD": "0",
                **environ,
            },
            apis=1,
            workers=workers,
        )
        await service.start()
        try:
            yield service
        finally:
            service.kill()


def floor_token() -> str:
    return jwt.encode({"sub": str(USER)}, KEY, algorithm="HS256")


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        yield Stage(directory, stack)

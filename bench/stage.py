"""What a run is made on: servers from their wheels, the stub of a provider, the service, and the floors."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from bench import tools
from bench.plan import MODELS
from bench.tools import ROOT
from tests.e2e.service import Person
from tests.faults.polling import until
from tests.faults.processes import Process
from tests.faults.servers import Postgres, Valkey, free_port
from tests.faults.service import Service, environment

#: PostgreSQL waits for its disk, as is its default: a commit costs what it costs. It has room for the pages here.
POSTGRES = {"fsync": "on", "shared_buffers": "256MB", "deadlock_timeout": "1s"}
DEFAULTS: Mapping[str, str] = {}
KINDS = ("sqlite", "postgres", "redis")
T = TypeVar("T")


@dataclass(frozen=True)
class Floor:
    """One that is being served."""

    port: int
    process: Process


@dataclass(frozen=True)
class Running:
    """The service, with somebody who uses it. ``database`` is the URL of what it stores in."""

    service: Service
    person: Person
    database: str

    @property
    def port(self) -> int:
        return self.service.apis[0].port

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.service.processes]

    @property
    def token(self) -> str:
        return self.person.http.headers["Authorization"].removeprefix("Bearer ")


class Stage:
    """The servers of a run, each started when it is first asked for, and kept to the end."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory, self._stack = directory, stack
        self._postgres: Postgres | None = None
        self._redis: Valkey | None = None
        self._databases = 0
        self._stub: Floor | None = None
        self._services: dict[frozenset[tuple[str, str]], dict[str, Running]] = {}
        self._floors: dict[str, Floor] = {}

    async def postgres(self) -> Postgres:
        if self._postgres is None:
            self._postgres = Postgres(**POSTGRES)
            self._stack.callback(self._postgres.close)
            await self._postgres.start()
        return self._postgres

    async def connection(self, url: str) -> Any:
        """To a PostgreSQL database, until the end of the run."""
        connection = await asyncpg.connect(url)
        self._stack.push_async_callback(connection.close)
        return connection

    async def redis(self) -> str:
        """A database of its own: of two services in one, each would take the other's replies off the queue."""
        if self._redis is None:
            self._redis = Valkey(self.directory)
            self._stack.callback(self._redis.kill)
            await self._redis.start()
        self._databases += 1
        return f"redis://127.0.0.1:{self._redis.port}/{self._databases - 1}"

    async def stub(self) -> Floor:
        """The stub of a provider."""
        if self._stub is None:
            self._stub = await self.serve("stub", [sys.executable, "-m", "bench.stub"], {})
        return self._stub

    async def stub_url(self) -> str:
        return f"http://127.0.0.1:{(await self.stub()).port}"

    async def serve(self, name: str, command: list[str], environ: Mapping[str, str]) -> Floor:
        """Start a command, whose last argument is to be a port, and wait until it listens there."""
        served = self._unstarted(name, command, environ)
        served.process.start()
        self._stack.callback(served.process.kill)

        async def listens() -> bool:
            assert served.process.running, served.process.tail()
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.close()
            return True

        await until(listens, 20, f"{name} is there")
        return served

    def _unstarted(self, name: str, command: list[str], environ: Mapping[str, str]) -> Floor:
        port = free_port()
        env = environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **environ})
        return Floor(port, Process(name, [*command, str(port)], self.directory / f"{name}.log", env))

    async def floor(self, name: str, *, fresh: bool = False, **environ: str) -> Floor:
        """``bench.floors.NAME`` under the server that the service has; the one that the lines share, or a new one."""
        if fresh or name not in self._floors:
            found = await self.serve(f"floor-{name}", _floor_command(name), environ)
            if fresh:
                return found
            self._floors[name] = found
        return self._floors[name]

    def unstarted(self, name: str) -> Floor:
        """A floor that is yet to be started, and is its caller's to end."""
        return self._unstarted(f"floor-{name}", _floor_command(name), {})

    async def settings(self, kind: str) -> dict[str, str]:
        """Of a service on a database of its own, as in production; without limits to what one person asks for."""
        directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.directory))
        if kind == "sqlite":
            url = f"sqlite:///{directory}/chat.db"
        else:
            postgres = await self.postgres()
            url = postgres.url(await postgres.fresh_database())
        return {
            "DATABASE_URL": url,
            "SECRET_KEY": "a-key-of-benchmarks-0123456789-0123456789",
            "DEBUG": "false",
            "RATE_LIMITS": "off",
            "ACCESS_TOKEN_EXPIRE_MINUTES": "600",  # the one token is good for the whole run
            "LLM": "gemini:stub",
            "LLM_OFFERED": ",".join(f"gemini:{model}" for model in MODELS),
            "GEMINI_API_KEY": "a-key-of-no-worth",
            "GEMINI_BASE_URL": await self.stub_url(),
            "CHAT_TEST_BUILD": "0",
            **({"REDIS_URL": await self.redis()} if kind == "redis" else {}),
        }

    async def start(self, kinds: Sequence[str], environ: Mapping[str, str] = DEFAULTS) -> list[Running]:
        """New services, started together: each one API process, and one worker where the kind is ``redis``."""
        settings = [await self.settings(kind) | dict(environ) for kind in kinds]
        return await asyncio.gather(*(self._start(*each) for each in zip(kinds, settings, strict=True)))

    async def _start(self, kind: str, settings: dict[str, str]) -> Running:
        directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.directory))
        service = Service(directory, settings, apis=1, workers=int(kind == "redis"))
        self._stack.callback(service.kill)
        await service.start()
        person = Person(service.urls[0], "bench")
        self._stack.push_async_callback(person.http.aclose)
        await person.sign_up()
        return Running(service, person, settings["DATABASE_URL"])

    async def service(self, kind: str, environ: Mapping[str, str] = DEFAULTS) -> Running:
        """The service of that kind that the lines share."""
        return (await self.services([kind], environ))[0]

    async def services(self, kinds: Sequence[str], environ: Mapping[str, str] = DEFAULTS) -> list[Running]:
        """Several of them, all with these settings of their own."""
        shared = self._services.setdefault(frozenset(environ.items()), {})
        missing = [kind for kind in kinds if kind not in shared]
        shared.update(zip(missing, await self.start(missing, environ), strict=True))
        return [shared[kind] for kind in kinds]


async def several(count: int, deed: Callable[[], Awaitable[T]], at_once: int = 8) -> list[T]:
    """The deed, so often, for setting up what is measured: some at once, so that the service need not wait for us."""
    places = asyncio.Semaphore(at_once)

    async def one() -> T:
        async with places:
            return await deed()

    return await asyncio.gather(*(one() for _ in range(count)))


def _floor_command(name: str) -> list[str]:
    return [sys.executable, "-m", "bench.floors.asgi", name]


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(tools.end)
            yield Stage(Path(directory), stack)

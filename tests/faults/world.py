"""Servers for all scenarios of a run, and for each of them a whole system of its own, with a judge at its end."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import aiohttp

from chat_core.testing.fake_provider import Entry, FakeProvider
from tests.faults import checkers, reading, reply_checkers
from tests.faults.client import Person
from tests.faults.history import Finding
from tests.faults.outcomes import Outcome
from tests.faults.polling import until
from tests.faults.proxy import Proxy
from tests.faults.recorder import Recorder
from tests.faults.servers import Postgres, Valkey
from tests.faults.service import SOURCE, Service

SECRET_KEY = "fault tests alone: 7Qm0c2l9vTzK4wXe8uJr1pYd"


def build_has(word: str) -> bool:
    """Whether the build that is tested knows this word: what it lacks cannot be run yet."""
    return any(word in file.read_text() for file in Path(SOURCE).joinpath("entrypoints").rglob("*.py"))


@dataclass(slots=True)
class World:
    """What all scenarios of a run share. ``sends`` is how many the steady load makes.

    A ``quick`` run has smaller loads, and workers only where a scenario is about them.
    """

    sends: int = 10_000
    quick: bool = False
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="faults-")))
    _postgres: Postgres | None = None

    def find_servers(self) -> None:
        """Raises ``Missing`` where a server that the scenarios break cannot be had."""
        if self._postgres is None:
            self._postgres = Postgres()
        Valkey(self.directory)

    async def postgres(self) -> Postgres:
        """The one PostgreSQL, running. Raises ``Missing``."""
        if self._postgres is None:
            self._postgres = Postgres()
        if not self._postgres.process.running:
            await self._postgres.start()
        return self._postgres

    @property
    def workers(self) -> int:
        """How many workers a system has: none while the build makes replies in its API processes."""
        return 2 if build_has("def worker(") else 0

    def close(self) -> None:
        if self._postgres is not None:
            self._postgres.close()

    @asynccontextmanager
    async def system(
        self,
        *,
        database: Literal["postgres", "sqlite"] = "postgres",
        apis: int = 2,
        workers: int | None = None,
        redis: dict[str, str] | None = None,
        environ: dict[str, str] | None = None,
        each_api: Sequence[dict[str, str]] = (),
        first_maker: dict[str, str] | None = None,
        start: bool = True,
        server: Postgres | None = None,
        disk: Path | None = None,
    ) -> AsyncIterator["System"]:
        """A system, running and healthy. ``workers`` and Redis are there where the build has them; ``redis`` are that
        server's options. ``each_api`` adds variables to the APIs in turn, ``first_maker`` to the first of the makers.
        ``server`` is a PostgreSQL of its own, that runs, and ``disk`` where SQLite's file is to be.

        At its end it is told to end, and nothing of it may be left. Raises ``AssertionError`` where something is. A
        quick run kills it: its time is for the faults.
        """
        count = (0 if self.quick else self.workers) if workers is None else workers
        directory = Path(tempfile.mkdtemp(prefix="system-", dir=self.directory))
        async with AsyncExitStack() as stack:
            system = System(directory)
            if database == "postgres":
                server = server or await self.postgres()
                name = await server.fresh_database()
                system.database_proxy = await stack.enter_async_context(Proxy(server.port))
                system.postgres, system.database_url = server, server.url(name)
                used_url = server.url(name, system.database_proxy.port)
            else:
                system.database_url = used_url = f"sqlite:///{(disk or directory) / 'chat.db'}"
            system.provider = await stack.enter_async_context(FakeProvider())
            provider_port = int(system.provider.url.rpartition(":")[2])
            system.provider_proxy = await stack.enter_async_context(Proxy(provider_port))
            variables = {
                "DATABASE_URL": used_url,
                "SECRET_KEY": SECRET_KEY,
                "DEBUG": "false",
                "LOG_LEVEL": "WARNING",
                # A few people make the load of many, and what they check is the bill of replies.
                "RATE_LIMITS": "off",
                "SUMMARIES": "false",
                "LLM": "gemini:fake",
                "GEMINI_API_KEY": "a-key-of-no-worth",
                "GEMINI_BASE_URL": f"http://127.0.0.1:{system.provider_proxy.port}",
            }
            if count:
                system.redis = Valkey(directory, **(redis or {}))
                stack.callback(system.redis.kill)
                await system.redis.start()
                system.redis_proxy = await stack.enter_async_context(Proxy(system.redis.port))
                variables["REDIS_URL"] = f"redis://127.0.0.1:{system.redis_proxy.port}/0"
            system.service = Service(directory, {**variables, **(environ or {})}, apis, count)
            for process, more in zip(system.service.apis, each_api, strict=False):
                process.environ.update(more)
            system.service.makers[0].environ.update(first_maker or {})
            stack.callback(system.service.kill)
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            system.session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            try:
                if start:
                    await system.service.start()
                yield system
                if not self.quick:
                    await system.service.stop()
            except Exception as error:
                error.add_note("\n".join((*system.recorder.latest(), system.service.tails())))
                raise


class System:
    """One database, one provider, Redis, APIs and workers, and the people who use them."""

    postgres: Postgres
    database_url: str
    database_proxy: Proxy
    redis: Valkey
    redis_proxy: Proxy
    provider: FakeProvider
    provider_proxy: Proxy
    service: Service
    session: aiohttp.ClientSession

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = Recorder()

    async def person(self, name: str = "alice", at: int = 0) -> Person:
        """Somebody new, signed up and logged in."""
        return await Person(self.session, self.recorder, self.service.urls, name).sign_up(at)

    async def people(self, count: int) -> list[Person]:
        return await asyncio.gather(*(self.person(f"person{number}", number) for number in range(count)))

    def requests(self, prompt: str | None = None) -> list[Entry]:
        """The requests for answers that the provider had: all, or those for one prompt."""
        return [entry for entry in self.provider.ledger if entry.prompt and prompt in (None, entry.prompt)]

    async def asked(self, count: int, seconds: float, prompt: str | None = None) -> float:
        """Wait until the provider had so many requests; says how long that took."""
        what = f"the provider has {count} requests for {prompt or 'anything'}"
        return await until(lambda: len(self.requests(prompt)) >= count, seconds, what)

    async def goes_on(self, calls: int, seconds: float = 60.0) -> None:
        """Wait until so many more calls have ended well."""
        before = sum(call.outcome == "ok" for call in self.recorder.calls)

        def made() -> bool:
            return sum(call.outcome == "ok" for call in self.recorder.calls) >= before + calls

        await until(made, seconds, "the load goes on")

    async def settle(self, seconds: float = 60.0) -> float:
        """Wait until every reply has its end; says how long that took."""

        async def none_unfinished() -> bool:
            return not await reading.unfinished(self.database_url)

        return await until(none_unfinished, seconds, "every reply has its end")

    async def judge(
        self,
        fault: str,
        *,
        recovery: float | None = None,
        bound: float | None = None,
        makers_lost: bool = False,
        within: float = 60.0,
        findings: Sequence[Finding] = (),
    ) -> Outcome:
        """Wait for the last reply, read everything, and check all of it. ``recovery`` over ``bound`` is a finding."""
        try:
            await self.settle(within)
        except TimeoutError:
            pass  # the checkers name each reply
        final = await reading.snapshot(self.database_url)
        asked = reading.asked(self.provider.ledger)
        calls = self.recorder.calls
        found = [
            *findings,
            *checkers.lost(calls, final),
            *checkers.duplicated(calls, final),
            *checkers.reordered(calls),
            *checkers.holes(final),
            *checkers.stale_reads(calls),
            *checkers.late_places(calls, final),
            *checkers.dishonest(calls, final),
            *reply_checkers.several_replies(final),
            *reply_checkers.not_final(final),
            *reply_checkers.changed_after_the_end(calls, final),
            *reply_checkers.billing(asked, final, makers_lost=makers_lost),
            *reply_checkers.texts(asked, final),
        ]
        if bound is not None and recovery is not None and recovery > bound:
            found.append(Finding(check="recovery", what=f"it took {recovery:.2f} s, and {bound:g} s are allowed"))
        if found:
            (self.directory / "findings.txt").write_text(
                "\n".join([*map(str, found), "", *map(str, calls), self.service.tails()])
            )
        return Outcome(fault=fault, sends=self.recorder.keys, findings=found, recovery=recovery, bound=bound)


def finding(true: object, what: str, *evidence: object) -> list[Finding]:
    """A finding where something expected is not so."""
    return [] if true else [Finding(check="expected", what=what, evidence=tuple(map(str, evidence)))]


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def must_have_servers() -> bool:
    """Whether a missing server is a failure rather than a reason to skip."""
    return bool(os.environ.get("CI"))

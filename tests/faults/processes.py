"""A process that is started, watched, paused, killed and started again, and that leaves nothing behind."""

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.polling import until


def demotion(user: str) -> dict[str, Any]:
    """What ``subprocess`` needs to know to become that user, and nobody besides."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def children_of(pid: int) -> list[int]:
    """Those that have not ended."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


class Process:
    """One command in a session of its own, so that what it forks dies with it. Its output goes to ``log``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """``user`` is whom it becomes, where this process is root."""
        self.name, self.command, self.log = name, list(command), log
        self.environ = dict(os.environ if environ is None else environ)
        self._user = user if os.geteuid() == 0 else None
        self._popen: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """As ``subprocess`` gives it: negative for a signal; ``None`` while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        assert not self.running, f"{self.name} is running"
        more = demotion(self._user) if self._user else {}
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                env=self.environ,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **more,
            )
        self._sessions.append(self._popen.pid)

    def send_signal(self, number: signal.Signals) -> None:
        """To the process itself, as a supervisor does."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """-9, to it and to all that it forked, as the kernel does when the machine's memory is gone."""
        self._to_all(signal.SIGKILL)
        self.join()

    def join(self, seconds: float = 10.0) -> None:
        """Wait for its end where there is no event loop to wait in."""
        if self._popen is not None:
            self._popen.wait(seconds)

    def pause(self) -> None:
        self._to_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._to_all(signal.SIGCONT)

    def _to_all(self, number: signal.Signals) -> None:
        for session in self._sessions:
            try:
                os.killpg(session, number)
            except ProcessLookupError:
                pass

    async def ended(self, seconds: float) -> float:
        """Wait for its end; says how long that took."""
        return await until(lambda: not self.running, seconds, f"{self.name} ends")

    async def stop(self, seconds: float = 30.0) -> float:
        """SIGTERM, and wait; says how long it took. Kills it and raises ``TimeoutError`` where that was too long."""
        self.resume()
        self.send_signal(signal.SIGTERM)
        try:
            return await self.ended(seconds)
        except TimeoutError:
            self.kill()
            raise

    @property
    def left(self) -> bool:
        """Whether anything that it started still runs."""
        if self.running:
            return True
        for session in self._sessions:
            try:
                os.killpg(session, 0)
            except ProcessLookupError:
                continue
            return True
        return False

    async def nothing_left(self, seconds: float) -> None:
        await until(lambda: not self.left, seconds, f"nothing of {self.name} is left")

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def records(self) -> list[dict[str, Any]]:
        """The lines of its log that are JSON objects."""
        found: list[dict[str, Any]] = []
        for line in self.lines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                found.append(record)
        return found

    def tail(self, count: int = 30) -> str:
        return "\n".join((f"--- the end of {self.name}'s log", *self.lines()[-count:]))

"""How ready the service is, part by part."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "degraded", "down"]

#: How long sends that wait for an answer may go on waiting when the process was told to end, in seconds.
PATIENCE = 8.0


@dataclass(frozen=True, slots=True)
class Part:
    status: State
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """``takes_sends`` is what a balancer needs to know: whether a send would be stored here."""

    parts: Mapping[str, Part]
    takes_sends: bool

    @property
    def status(self) -> State:
        if not self.takes_sends:
            return "down"
        return "ok" if all(part.status == "ok" for part in self.parts.values()) else "degraded"


@dataclass(slots=True)
class Draining:
    """Whether the process was told to end. What waits goes on for a while, and then hurries."""

    since: float | None = None

    def begin(self) -> None:
        if self.since is None:
            self.since = time.monotonic()

    @property
    def begun(self) -> bool:
        return self.since is not None

    def hurries(self) -> bool:
        return self.since is not None and time.monotonic() - self.since > PATIENCE


@dataclass(slots=True)
class Readiness:
    """Asks every part at once. Only the database, and draining, decide whether the service is ready."""

    checks: Mapping[str, Callable[[], Awaitable[Part]]]
    draining: Draining

    async def __call__(self) -> Report:
        found = await asyncio.gather(*(check() for check in self.checks.values()))
        parts = dict(zip(self.checks, found, strict=True))
        return Report(parts, takes_sends=not self.draining.begun and parts["database"].status != "down")

"""How ready the service is, part by part."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from chat_core.ports.language_model import ModelHealth

State = Literal["ok", "degraded", "down"]


@dataclass(slots=True)
class Introduction:
    """What the model's provider said of it when the service started; ``None`` before that."""

    health: ModelHealth | None = None


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
class Readiness:
    """Asks every part at once. Only the database, and draining, decide whether the service is ready."""

    checks: Mapping[str, Callable[[], Awaitable[Part]]]
    draining: bool = False

    async def __call__(self) -> Report:
        found = await asyncio.gather(*(check() for check in self.checks.values()))
        parts = dict(zip(self.checks, found, strict=True))
        return Report(parts, takes_sends=not self.draining and parts["database"].status != "down")

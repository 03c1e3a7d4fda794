"""Summaries in a dictionary."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chat_core.domain.ids import RoomId, SummaryId
from chat_core.domain.summary import Summary, SummaryStatus
from chat_core.ports.storage import Summaries


@dataclass(frozen=True, slots=True)
class HeldSummary:
    """A summary, and until when nobody may claim it."""

    summary: Summary
    until: float = 0.0


class _Table(Protocol):
    def get(self, key: SummaryId) -> HeldSummary | None: ...

    def put(self, key: SummaryId, value: HeldSummary) -> None: ...

    def values(self) -> Iterator[HeldSummary]: ...

    def commit(self) -> None: ...


class MemorySummaries(Summaries):
    def __init__(self, table: _Table, monotonic: Callable[[], float]) -> None:
        self.table = table
        self._monotonic = monotonic

    def _of(self, room_id: RoomId, status: SummaryStatus) -> list[Summary]:
        held = (held.summary for held in self.table.values())
        return [summary for summary in held if summary.room_id == room_id and summary.status is status]

    def below(self, room_id: RoomId, seq: int) -> Summary | None:
        """The one that is ready and reaches furthest, but not to this place."""
        ready = [summary for summary in self._of(room_id, SummaryStatus.READY) if summary.up_to < seq]
        return max(ready, key=lambda summary: summary.up_to, default=None)

    async def ask(self, summary: Summary, *, alone: bool = False) -> None:
        ready = self._of(summary.room_id, SummaryStatus.READY)
        if not self._of(summary.room_id, SummaryStatus.DUE) and all(known.up_to < summary.up_to for known in ready):
            self.table.put(summary.id, HeldSummary(summary))

    async def get(self, summary_id: SummaryId) -> Summary | None:
        held = self.table.get(summary_id)
        return held.summary if held else None

    def _is_due(self, held: HeldSummary) -> bool:
        return held.summary.status is SummaryStatus.DUE and held.until <= self._monotonic()

    async def due(self, limit: int) -> Sequence[SummaryId]:
        found = [held.summary for held in self.table.values() if self._is_due(held)]
        return [summary.id for summary in sorted(found, key=lambda summary: (summary.created_at, summary.id))][:limit]

    async def claim(self, summary_id: SummaryId, lease: float) -> Summary | None:
        held = self.table.get(summary_id)
        if held is None or not self._is_due(held):
            return None
        claimed = replace(held.summary, epoch=held.summary.epoch + 1)
        self.table.put(summary_id, HeldSummary(claimed, self._monotonic() + lease))
        return claimed

    def _in_epoch(self, summary: Summary) -> HeldSummary | None:
        held = self.table.get(summary.id)
        if held is None or held.summary.status is not SummaryStatus.DUE or held.summary.epoch != summary.epoch:
            return None
        return held

    async def count_request(self, summary: Summary) -> bool:
        held = self._in_epoch(summary)
        if held is not None:
            counted = replace(held.summary, requests=summary.requests, provider=summary.provider, model=summary.model)
            self.table.put(summary.id, replace(held, summary=counted))
        return held is not None

    async def finish(self, summary: Summary) -> bool:
        if self._in_epoch(summary) is None:
            return False
        self.table.put(summary.id, HeldSummary(summary))
        return True

    async def put_off(self, summary: Summary, seconds: float) -> None:
        if self._in_epoch(summary) is not None:
            self.table.put(summary.id, HeldSummary(summary, self._monotonic() + seconds))

    async def void(self, room_id: RoomId, seq: int) -> None:
        for held in list(self.table.values()):
            if held.summary.room_id == room_id and held.summary.up_to >= seq:
                self.table.put(held.summary.id, HeldSummary(held.summary.void()))

"""What came of a scenario, and the table of all of them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.history import Finding

if TYPE_CHECKING:
    from tests.faults.world import World


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One run of one scenario. ``recovery`` is how many seconds it took until the system answered right again."""

    fault: str
    sends: int = 0
    findings: list[Finding] = field(default_factory=list)
    recovery: float | None = None
    bound: float | None = None
    tries: int = 1

    @property
    def passed(self) -> bool:
        return not self.findings

    def count(self, *checks: str) -> int:
        return sum(finding.check in checks for finding in self.findings)

    @property
    def lost(self) -> int:
        return self.count("lost")

    @property
    def duplicated(self) -> int:
        return self.count("duplicated", "several replies")

    @property
    def out_of_order(self) -> int:
        return self.count("reordered", "stale read")

    @property
    def holes(self) -> int:
        return self.count("holes")

    @property
    def double_billed(self) -> int:
        return self.count("double-billed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table: what breaks, how long recovery may take, and what plays it, or why it is not played here.

    ``needs`` are words that the build under test must know; ``seconds`` is after how long a run is given up.
    """

    id: str
    title: str
    run: "Callable[[World, int], Awaitable[Outcome]] | None" = None
    needs: tuple[str, ...] = ()
    is_quick: bool = False
    seconds: float = 180.0
    why_not: str = ""


FAULTS: dict[str, Fault] = {}


def fault(
    id_: str,
    title: str,
    *,
    needs: tuple[str, ...] = (),
    is_quick: bool = False,
    seconds: float = 180.0,
    why_not: str = "",
) -> "Callable[[Callable[[World, int], Awaitable[Outcome]]], Callable[[World, int], Awaitable[Outcome]]]":
    """Enter the function into the table; ``why_not`` says what it lacks on this machine, if anything."""

    def enter(run: "Callable[[World, int], Awaitable[Outcome]]") -> "Callable[[World, int], Awaitable[Outcome]]":
        FAULTS[id_] = Fault(
            id=id_, title=title, run=run, needs=needs, is_quick=is_quick, seconds=seconds, why_not=why_not
        )
        return run

    return enter


def not_run(id_: str, title: str, why: str) -> None:
    """Enter a fault that nothing here plays."""
    FAULTS[id_] = Fault(id=id_, title=title, why_not=why)


_HEADS = (
    "fault", "tries", "sends", "lost", "duplicated", "out of order", "holes", "double-billed", "recovery s", "bound s",
    "passed",
)  # fmt: skip


def table(outcomes: Iterable[Outcome]) -> str:
    """A row for each fault, over all its tries; the recovery is the longest one."""
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.fault].append(outcome)
    rows = [_HEADS, tuple("---" for _ in _HEADS)]
    for name, group in sorted(by_fault.items()):
        recoveries = [outcome.recovery for outcome in group if outcome.recovery is not None]
        bounds = [outcome.bound for outcome in group if outcome.bound is not None]
        title = FAULTS[name].title if name in FAULTS else ""
        counts = (
            [outcome.tries for outcome in group],
            [outcome.sends for outcome in group],
            [outcome.lost for outcome in group],
            [outcome.duplicated for outcome in group],
            [outcome.out_of_order for outcome in group],
            [outcome.holes for outcome in group],
            [outcome.double_billed for outcome in group],
        )
        rows.append(
            (
                f"{name} {title}".strip(),
                *(str(sum(count)) for count in counts),
                f"{max(recoveries):.2f}" if recoveries else "–",
                f"{max(bounds):g}" if bounds else "–",
                "yes" if all(outcome.passed for outcome in group) else "NO",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )

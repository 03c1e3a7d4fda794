"""The rows of the table, and how two things are held against each other."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from bench.load import Load

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. ``met`` is ``None`` where there is no target, or nothing was measured; ``cpu_ms`` is the
    CPU of the service's processes for a request, ``floor_cpu_ms`` that of the floor's."""

    name: str
    what: str
    unit: str = ""
    ours: float | None = None
    floor: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    cpu_ms: float | None = None
    floor_cpu_ms: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def in_turn(things: Mapping[str, Callable[[], Awaitable[T]]], rounds: int) -> dict[str, list[T]]:
    """Measure each, and all again the other way round, so many times (A B, B A): so that a drift of the machine meets
    all alike, and what one leaves behind, such as the writing of a database, not always the same other one."""
    found: dict[str, list[T]] = {name: [] for name in things}
    order = list(things.items())
    for _ in range(rounds):
        for name, measure in order:
            found[name].append(await measure())
        order.reverse()
    return found


def _median(loads: Sequence[Load]) -> Load:
    """The median of each of their figures, and the most that was refused."""
    fields = ("rate", "median_ms", "late_ms", "cpu_ms")
    medians = {field: statistics.median(getattr(load, field) for load in loads) for field in fields}
    return Load(**medians, refused=max(load.refused for load in loads))


def paired(ours: Sequence[float], floor: Sequence[float]) -> float:
    """The median of the rounds' ratios: what slows one round down slows both down."""
    return statistics.median(one / other for one, other in zip(ours, floor, strict=True))


def rates(
    name: str, what: str, ours: Sequence[Load], floor: Sequence[Load], least: float | None = None, note: str = ""
) -> Row:
    """A row of answers a second, of the rounds of both; ``least`` is the ratio to reach."""
    ratio = paired([load.rate for load in ours], [load.rate for load in floor])
    mine, its = _median(ours), _median(floor)
    return Row(
        name=name,
        what=what,
        unit="/s",
        ours=mine.rate,
        floor=its.rate,
        ratio=ratio,
        target="" if least is None else f">= {least:.2g}",
        met=None if least is None else ratio >= least and not mine.refused,
        cpu_ms=mine.cpu_ms,
        floor_cpu_ms=its.cpu_ms,
        note=(note or f"median {mine.median_ms:.1f} ms, 99th {mine.late_ms:.1f}")
        + (f"; {mine.refused:.1%} refused" if mine.refused else ""),
    )


def missing(name: str, what: str, why: object) -> Row:
    return Row(name=name, what=what, note=f"not measured: {why}")


_HEAD = ("line", "what", "ours", "floor", "ratio", "target", "met", "CPU ms", "floor's", "")


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:,.{digits}f}{unit}"


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[row.met]
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    cpu = tuple("" if value is None else _number(value) for value in (row.cpu_ms, row.floor_cpu_ms))
    figures = (_number(row.ours, row.unit), _number(row.floor, row.unit), ratio, row.target, met)
    return (row.name, row.what, *figures, *cpu, row.note)


_WIDTHS = (20, 58, 11, 11, 6, 9, 3, 7, 7, 0)
_LEFT = (0, 1, 9)


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(
        cell.ljust(width) if index in _LEFT else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ).rstrip()


def head() -> str:
    return _line(_HEAD)


def line(row: Row) -> str:
    return _line(_cells(row))

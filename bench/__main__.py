"""``python -m bench``: measures the service against floors on this machine, and prints the table.

See bench/README.md for how each line is measured.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import chunk, live, pages, prompts, relay, sends, start
from bench.load import tool
from bench.plan import FULL, QUICK, Size
from bench.stage import POSTGRES, Stage, stage
from bench.table import Row, head, line, missing

Group = Callable[[Stage, Size, list[str]], Awaitable[list[Row]]]
#: What measures which lines, in the order of the table.
GROUPS: list[tuple[Group, list[str]]] = [
    (sends.sends, list(sends.NAMES)),
    (sends.database_alone, ["send-pgbench"]),
    (pages.me, ["me", "tool"]),
    (pages.log_in, ["log-in"]),
    (pages.history, ["history-small", "history-large", "history-growth"]),
    (pages.rooms, ["rooms", "rooms-statements"]),
    (relay.first_token, list(relay.FIRST_NAMES)),
    *((relay.relay, [name]) for name in relay.RELAY_NAMES),
    (live.fan_out, ["fan-out"]),
    (live.idle, ["idle-ws", "idle-sse"]),
    (start.start, ["start-sqlite", "start-postgres"]),
    (prompts.prompts, ["prompt-sqlite", "prompt-postgres"]),
    (chunk.chunks, list(chunk.NAMES)),
]


def chosen(only: str) -> list[tuple[Group, list[str]]]:
    """The lines whose names begin with one of these words, and what measures them."""
    words = tuple(word for word in only.split(",") if word)
    found = [(group, [name for name in names if not words or name.startswith(words)]) for group, names in GROUPS]
    return [(group, names) for group, names in found if names]


async def measured(stage: Stage, size: Size, group: Group, names: list[str]) -> list[Row]:
    """One that fails says why, and the others are measured."""
    try:
        return await group(stage, size, names)
    except Exception as error:  # noqa: BLE001 - said in the table
        return [missing(name, "", f"{type(error).__name__}: {error}") for name in names]


def _ends_in_order() -> None:
    """Told to end, it puts away what it started, as at an interrupt."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _say(words: str) -> None:
    """What is being done, where somebody watches: the table takes its line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
    elif words:
        print(words, file=sys.stderr, flush=True)


async def run(groups: list[tuple[Group, list[str]]], size: Size) -> list[Row]:
    rows: list[Row] = []
    began = time.monotonic()
    print(f"load by {tool()}; PostgreSQL with {', '.join(f'{key}={value}' for key, value in POSTGRES.items())}")
    print(f"{size.rounds} rounds of {size.seconds:g} s in turn with the floor; medians\n\n{head()}", flush=True)
    _ends_in_order()
    async with stage() as here:
        for number, (group, names) in enumerate(groups, 1):
            told = f"{time.monotonic() - began:3.0f} s, {number} of {len(groups)}: {', '.join(names)}"
            _say(told if len(told) < 80 else f"{told[:76]} ...")
            found = await measured(here, size, group, names)
            rows += found
            _say("")
            print("\n".join(line(row) for row in found), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in under two minutes, and less exactly")
    parser.add_argument("--only", default="", metavar="LINE[,LINE]", help="lines whose names begin so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--list", action="store_true", help="the names of the lines")
    given = parser.parse_args()
    groups = chosen(given.only)
    if given.list or not groups:
        print("\n".join(name for _, names in GROUPS for name in names))
        return 0 if given.list else 2
    began = time.monotonic()
    try:
        rows = asyncio.run(run(groups, QUICK if given.quick else FULL))
    except asyncio.CancelledError:
        return 143
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if given.json:
        given.json.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

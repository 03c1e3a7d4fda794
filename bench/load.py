"""Load by a tool that is no bottleneck: wrk where it is installed, else the small client of ``load_client``."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.tools import ask
from tests.faults.processes import children_of

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """What a load met: good answers a second, the share of all that were not good, times in milliseconds, and what one
    answer cost the server's processes."""

    rate: float
    refused: float
    median_ms: float
    late_ms: float
    cpu_ms: float


@cache
def wrk() -> str | None:
    return shutil.which("wrk")


def tool() -> str:
    return "wrk, one thread" if wrk() else "a small asyncio client, one process (wrk is not installed)"


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes and of their children, in seconds."""
    ticks = 0
    for pid in [each for parent in pids for each in (parent, *children_of(parent))]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def request(method: str, path: str, token: str = "", body: Any = None) -> str:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    text = "" if body is None else json.dumps(body)
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    return "\r\n".join([*lines, "", text])


async def load(port: int, requests: Sequence[str], clients: int, seconds: float, pids: Sequence[int] = ()) -> Load:
    """Put these requests to a server in turn, by so many clients with one at a time.

    An answer is good where it is a 2xx. Raises ``AssertionError`` where half of them are not.
    """
    before = cpu_seconds(pids)
    found = await _put(port, requests, clients, seconds)
    spent = cpu_seconds(pids) - before
    assert found["answers"] > 2 * found["bad"], f"{found['bad']} of {found['answers']} answers were no 2xx"
    # wrk drops what runs at its end; ours lets it finish. On average half of each was done.
    answers = found["answers"] + (clients / 2 if wrk() else 0)
    return Load(
        rate=(answers - found["bad"]) / found["seconds"],
        refused=found["bad"] / found["answers"],
        median_ms=found["median_ms"],
        late_ms=found["late_ms"],
        cpu_ms=spent * 1000 / answers,
    )


async def _put(port: int, requests: Sequence[str], clients: int, seconds: float) -> dict[str, Any]:
    if (program := wrk()) is None:
        asked = {"port": port, "requests": requests, "clients": clients, "seconds": seconds}
        return await ask("load_client", asked)
    with tempfile.NamedTemporaryFile("w", prefix="bench-load-") as file:
        file.write("\0".join(requests))
        file.flush()
        # It takes whole seconds alone.
        options = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "--latency"]
        return await _run(program, *options, "-s", str(_SCRIPT), f"http://127.0.0.1:{port}/", "--", file.name)


async def _run(*command: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found

"""The floor of the floor: the send's two statements by pgbench, with no program around them and no model."""

import asyncio
import re
import shutil
from pathlib import Path

from bench.floors.send import ACCEPT, FINISH, ROOMS, USER

_SETUP = f"""
\\set room random({ROOMS[0].int}, {ROOMS[-1].int})
\\set a random(1, 9000000000000000000)
\\set b random(1, 9000000000000000000)
\\set c random(1, 9000000000000000000)
\\set d random(1, 9000000000000000000)
"""


def _uuid(*halves: str) -> str:
    return "(" + " || ".join(f"lpad(to_hex({half}::bigint), 16, '0')" for half in halves) + ")::uuid"


_PROMPT, _REPLY, _ANSWER = (_uuid(f":{x}", f":{y}") for x, y in (("a", "b"), ("b", "c"), ("c", "d")))
_ROOM, _TEXT = _uuid("0", ":room"), "'Hello there, this is a message of a usual length.'"


def _filled(statement: str, *values: str) -> str:
    return re.sub(r"\$(\d)", lambda found: values[int(found[1]) - 1], statement).strip() + ";\n"


def script() -> str:
    accept = _filled(ACCEPT, _ROOM, f"'{USER}'::uuid", _PROMPT, f"{_PROMPT}::text", _TEXT, _REPLY)
    return _SETUP + accept + _filled(FINISH, _ROOM, _ANSWER, _TEXT, _PROMPT, _REPLY)


def program(server: Path) -> str | None:
    """The one that came with the server whose program this is, or else whichever is installed."""
    beside = server.with_name("pgbench")
    return str(beside) if beside.exists() else shutil.which("pgbench")


async def sends(program: str, url: str, clients: int, seconds: float, directory: Path) -> float:
    """How many a second the database takes."""
    file = directory / "pgbench.sql"
    file.write_text(script())
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds)))]
    process = await asyncio.create_subprocess_exec(
        *(program, *options, "-f", str(file), url), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    rate = re.search(r"tps = ([0-9.]+)", out.decode())
    assert rate is not None, out.decode()
    return float(rate[1])

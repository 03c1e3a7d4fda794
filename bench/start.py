"""From nothing to the first healthy answer."""

import asyncio
import statistics
import tempfile
from pathlib import Path

from adapters.sql import migrate
from bench.load import cpu_seconds
from bench.plan import Size
from bench.stage import Stage
from bench.table import Row, in_turn
from tests.faults.polling import until
from tests.faults.processes import Process
from tests.faults.service import Api

CPU_SECONDS = 1.5


async def _healthy(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


async def _until_healthy(process: Process, port: int) -> tuple[float, float]:
    """Seconds of CPU, and by the clock. It is ended at once."""
    process.start()
    try:
        took = await until(lambda: _healthy(port), 60, f"{process.name} is healthy")
        return cpu_seconds([process.pid]), took
    finally:
        process.kill()


async def start(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """``chat-api serve`` on a database that is there already, and a bare ASGI application under the same server."""
    things = {"floor": lambda: _bare(stage)}
    for name in names:
        settings = await stage.settings(name.removeprefix("start-"))
        await migrate.upgrade(settings["DATABASE_URL"])
        things[name] = lambda settings=settings: _serve(stage, settings)  # type: ignore[misc]
    found = await in_turn(things, 1 if size.quick else 5)
    floor = statistics.median(cpu for cpu, _ in found["floor"])
    rows = []
    for name in names:
        cpu, took = (statistics.median(values) for values in zip(*found[name], strict=True))
        rows.append(
            Row(
                name=name,
                what=f"CPU of chat-api serve to a healthy answer, {name.removeprefix('start-')}",
                unit=" s",
                ours=cpu,
                floor=floor,
                ratio=cpu / floor,
                target=f"<= {CPU_SECONDS:g} s",
                met=cpu <= CPU_SECONDS,
                note=f"{took:.1f} s by the clock",
            )
        )
    return rows


async def _serve(stage: Stage, settings: dict[str, str]) -> tuple[float, float]:
    api = Api("start", Path(tempfile.mkdtemp(dir=stage.directory)), settings)
    return await _until_healthy(api, api.port)


async def _bare(stage: Stage) -> tuple[float, float]:
    floor = stage.unstarted("bare")
    return await _until_healthy(floor.process, floor.port)

"""Live rooms: a message to everyone in a busy one, and what somebody costs who only listens."""

import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.load import cpu_seconds
from bench.plan import Size
from bench.stage import Running, Stage
from bench.table import Row, in_turn, paired
from bench.tools import ROOT

SUBSCRIBERS = 500
#: Messages that are on their way at once, where they come as fast as they can; and how many come a second else.
AT_ONCE, PACE = 8, 20
IDLE_KB = 30.0


class Clients:
    """Many light clients of one server, in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tally(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        found: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return found


@asynccontextmanager
async def clients(
    kind: str, port: int, count: int, path: str, token: str = "", room: str = ""
) -> AsyncIterator[Clients]:
    """So many sockets (``ws``) or streams (``sse``), all of them open."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.live_clients", kind, str(port), str(count), path, token or "-", room),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=2**24,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n", "not all clients were let in"
        yield Clients(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Crowd:
    """Subscribers of one room, and somebody who writes there."""

    def __init__(self, listeners: Clients, url: str, headers: dict[str, str], pid: int) -> None:
        self._listeners, self._url, self._headers, self._pid = listeners, url, headers, pid
        self._sent = 0

    async def hears(self, count: int, pace: float | None = None) -> tuple[float, float, float]:
        """Send so many, and wait until all have heard all. Says how many deliveries there were a second, the median in
        milliseconds from a message's acknowledgement to the last who heard it, and the milliseconds of CPU for one."""
        first, self._sent = self._sent, self._sent + count
        acknowledged: dict[int, float] = {}
        places = asyncio.Semaphore(AT_ONCE)
        before, began = cpu_seconds([self._pid]), time.monotonic()
        async with aiohttp.ClientSession(headers=self._headers, connector=aiohttp.TCPConnector(limit=0)) as http:

            async def one(number: int) -> None:
                async with places, http.post(self._url, json={"content": f"msg-{number:06d}"}) as answer:
                    await answer.read()
                    assert answer.status == 201, answer.status
                acknowledged[number] = time.monotonic()

            sends = []
            for number in range(first, self._sent):
                if pace is not None:
                    await asyncio.sleep(max(0.0, began + (number - first) / pace - time.monotonic()))
                sends.append(asyncio.create_task(one(number)))
            await asyncio.gather(*sends)
        async with asyncio.timeout(60):
            while True:
                tally = await self._listeners.tally()
                if sum(tally["got"].values()) >= SUBSCRIBERS * self._sent:
                    break
                assert tally["open"] == SUBSCRIBERS, f"{SUBSCRIBERS - tally['open']} subscribers were cut off"
                await asyncio.sleep(0.2)
        ended = max(tally["last"][str(number)] for number in acknowledged)
        waits = [(tally["last"][str(number)] - at) * 1000 for number, at in acknowledged.items()]
        cpu = (cpu_seconds([self._pid]) - before) * 1000 / (count * SUBSCRIBERS)
        return count * SUBSCRIBERS / (ended - began), statistics.median(waits), cpu


async def _quiet_room(running: Running) -> str:
    room = await running.person.room()
    await running.person.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
    return room


async def fan_out(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    running, bare = await stage.service("postgres"), await stage.floor("broadcast")
    room = await _quiet_room(running)
    headers = {"Authorization": f"Bearer {running.token}"}
    async with (
        clients("ws", running.port, SUBSCRIBERS, "/ws", running.token, room) as ours,
        clients("ws", bare.port, SUBSCRIBERS, "/ws") as others,
    ):
        crowd = Crowd(ours, f"http://127.0.0.1:{running.port}/chat/{room}", headers, running.pids[0])
        floor = Crowd(others, f"http://127.0.0.1:{bare.port}/", {}, bare.process.pid)
        count = 60 if size.quick else 100
        await in_turn({"ours": lambda: crowd.hears(20), "floor": lambda: floor.hears(20)}, 1)
        found = await in_turn({"ours": lambda: crowd.hears(count), "floor": lambda: floor.hears(count)}, size.few)
        some = 20 if size.quick else 40
        paced = await in_turn({"ours": lambda: crowd.hears(some, PACE), "floor": lambda: floor.hears(some, PACE)}, 1)
    rates = {name: [each[0] for each in found[name]] for name in ("ours", "floor")}
    ratio = paired(rates["ours"], rates["floor"])
    wait, floor_wait = (paced[name][0][1] for name in ("ours", "floor"))
    return [
        Row(
            name="fan-out",
            what=f"messages to {SUBSCRIBERS} sockets, deliveries",
            unit="/s",
            ours=statistics.median(rates["ours"]),
            floor=statistics.median(rates["floor"]),
            ratio=ratio,
            target=">= 0.5",
            met=ratio >= 0.5,
            cpu_ms=statistics.median(each[2] for each in found["ours"]),
            floor_cpu_ms=statistics.median(each[2] for each in found["floor"]),
            note=f"CPU a delivery; at {PACE} messages a second {wait:.1f} ms from the acknowledgement to the last, "
            f"bare {floor_wait:.1f}",
        )
    ]


def _memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def _each_kb(pid: int, count: int, *where: Any) -> float:
    """Resident memory for one more, behind some that were there before and left."""
    async with clients(where[0], where[1], 50, *where[2:]):
        pass
    await asyncio.sleep(0.5)
    before = _memory_kb(pid)
    async with clients(where[0], where[1], count, *where[2:]) as listeners:
        # What is done a moment after a connection came is part of it.
        await asyncio.sleep(1)
        each = (_memory_kb(pid) - before) / count
        assert (await listeners.tally())["open"] == count
    return each


async def idle(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """Each kind on a new process: memory that others used before would hide what these take. All at once, since other
    processes' work changes nothing about a process's memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * size.idle)), hard))
    bare = await stage.floor("broadcast", fresh=True)
    services = await stage.start(["sqlite"] * len(names))
    floor, *found = await asyncio.gather(
        _each_kb(bare.process.pid, size.idle, "ws", bare.port, "/ws"),
        *(_listener_kb(size, name, running) for name, running in zip(names, services, strict=True)),
    )
    return [
        Row(
            name=name,
            what=f"an idle {'socket' if name == 'idle-ws' else 'stream of events'}, of {size.idle:,}",
            unit=" KB",
            ours=each,
            floor=floor,
            ratio=each / floor,
            target=f"<= {IDLE_KB:g} KB",
            met=each <= IDLE_KB,
            note="resident memory; the floor is a bare socket",
        )
        for name, each in zip(names, found, strict=True)
    ]


async def _listener_kb(size: Size, name: str, running: Running) -> float:
    room = await _quiet_room(running)
    kind, path = ("ws", "/ws") if name == "idle-ws" else ("sse", f"/rooms/{room}/events")
    each = await _each_kb(running.pids[0], size.idle, kind, running.port, path, running.token, room)
    running.service.kill()
    return each

"""What breaks with the database: restarts, collisions, slowness, exhaustion, a locked file."""

import asyncio
import os
import random
import signal
import sqlite3
from contextlib import closing
from itertools import count

import asyncpg

from tests.faults.client import Person
from tests.faults.history import Call, Finding
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault
from tests.faults.polling import until
from tests.faults.processes import children_of
from tests.faults.proxy import Latency, Pass
from tests.faults.servers import Postgres
from tests.faults.small_disk import SmallDisk, may_mount, small_disk
from tests.faults.world import Stopwatch, System, World, finding

#: "Within 2 s", and what a busy test machine adds.
_SOON = 2.5
_NO_DISK = "" if may_mount() else "to mount a small file system one has to be root"


def _late_refusals(calls: list[Call], seconds: float = _SOON) -> list[Finding]:
    late = [call for call in calls if call.status == 503 and call.seconds > seconds]
    mute = [call for call in calls if call.status == 503 and not call.retry_after]
    return [
        *finding(not late, f"a 503 comes within {seconds:g} s", *late[:5]),
        *finding(not mute, "a 503 says when to come again", *mute[:5]),
    ]


async def _answers_again(system: System, person: Person, room: str, name: str) -> float:
    """Wait until each process stores a send again; says how long that took."""
    watch = Stopwatch()
    for number in range(len(person.urls)):

        async def stored(at: int = number) -> bool:
            m_id = f"{name}-{at}-{watch.seconds:.4f}"
            return (await person.send(room, m_id, f"again {m_id}", at=at, seconds=5)).outcome == "ok"

        await until(stored, 20, f"api{number} stores sends again")
    return watch.seconds


async def _two_people(system: System) -> tuple[list[Person], list[str]]:
    people = await system.people(2)
    return people, [await person.make_room() for person in people]


@fault("F20", "PostgreSQL restarts: fast, immediate, killed", is_quick=True)
async def restarts(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        people, rooms = await _two_people(system)
        slowest = 0.0
        async with Traffic(people=people, rooms=rooms, seed=seed).flowing(4) as calls:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                await system.goes_on(10)
                if how == signal.SIGKILL:
                    system.postgres.kill()
                else:
                    await system.postgres.stop(how)
                await system.postgres.start()
                slowest = max(slowest, await _answers_again(system, people[0], rooms[0], f"f20-{seed}-{how}"))
        for number, room in enumerate(rooms):
            await people[0].read_all(room, at=number)
        found = finding(all(call.outcome == "ok" for call in calls), "every send is acknowledged in the end")
        found += _late_refusals(system.recorder.calls)
        return await system.judge("F20", recovery=slowest, bound=3.0, makers_lost=True, findings=found)


@fault("F24", "deadlocks and collisions", is_quick=True)
async def deadlocks(world: World, seed: int) -> Outcome:
    """Members come and go and people send, while SQL from outside takes the same locks the other way round."""
    async with world.system() as system:
        owner, *others = people = await system.people(4)
        room = await owner.make_room(mode="off")
        stop, chance, victims = asyncio.Event(), random.Random(seed), [0]

        async def crosswise() -> None:
            connection = await asyncpg.connect(system.database_url)
            try:
                while not stop.is_set():
                    try:
                        async with connection.transaction():
                            await connection.execute("SELECT 1 FROM memberships WHERE room_id = $1 FOR UPDATE", room)
                            await asyncio.sleep(chance.uniform(0, 0.02))
                            await connection.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", room)
                    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                        victims[0] += 1
            finally:
                await connection.close()

        async def comes_and_goes(person: Person) -> None:
            for turn in range(2 if world.quick else 6):
                await owner.call("POST", f"/rooms/{room}/members", {"username": person.name}, at=turn)
                await person.call("DELETE", f"/rooms/{room}/members/{person.id}", at=turn + 1)

        crossing = [asyncio.create_task(crosswise()) for _ in range(2)]
        traffic = Traffic(people=people, rooms=[room], seed=seed)
        await asyncio.gather(
            traffic.send(30 if world.quick else 80, concurrency=6), *(comes_and_goes(person) for person in others)
        )
        stop.set()
        await asyncio.gather(*crossing)
        await owner.read_all(room)
        collided = await _deadlocks(system)
        wrong = [call for call in system.recorder.calls if call.outcome == "unknown" or call.status in (500, 502)]
        found = finding(not wrong, "a collision is nobody's business but the server's", *wrong[:5])
        found += finding(collided, "some transactions did deadlock", f"{victims[0]} of ours were chosen")
        return await system.judge("F24", findings=found)


async def _deadlocks(system: System) -> int:
    connection = await asyncpg.connect(system.database_url)
    try:
        return int(
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    finally:
        await connection.close()


@fault("F25", "PostgreSQL slow: 300 ms, give or take 100")
async def slow(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        people, rooms = await _two_people(system)
        await system.database_proxy.set(Latency(0.3, 0.1))
        began = len(system.recorder.calls)
        traffic = Traffic(people=people, rooms=rooms, seed=seed, within=20)
        await traffic.send(30, concurrency=8)
        calls = system.recorder.calls[began:]
        await system.database_proxy.set(Pass())
        recovery = await _answers_again(system, people[0], rooms[0], f"f25-{seed}")
        odd = [call for call in calls if call.outcome != "ok" and call.status != 503]
        found = finding(not odd, "a slow database is answered late or with 503", *odd[:5])
        found += _late_refusals(calls, 8.0)
        return await system.judge("F25", recovery=recovery, bound=5, makers_lost=True, findings=found)


@fault("F26", "no connection left: pool, then max_connections")
async def exhausted(world: World, seed: int) -> Outcome:
    async with world.system(environ={"DATABASE_POOL_SIZE": "3"}) as system:
        people, rooms = await _two_people(system)
        holder = await asyncpg.connect(system.database_url)
        began = len(system.recorder.calls)
        try:
            held = holder.transaction()
            await held.start()
            await holder.execute("SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE", rooms[0])
            names = [f"f26-{seed}-{number}" for number in range(24)]
            waiting = asyncio.gather(
                *(people[0].send(rooms[0], name, f"waits {name}", at=place) for place, name in enumerate(names))
            )
            watch = Stopwatch()
            live = [await people[0].call("GET", "/health/live", at=number) for number in range(2)]
            found = finding(watch.seconds < 1, "health answers at once", *live)
            await waiting
            found += _late_refusals(system.recorder.calls[began:], 3.0)
            await held.rollback()
        finally:
            await holder.close()
        recovery = await _answers_again(system, people[0], rooms[0], f"f26-{seed}-pool")
        others: list[asyncpg.Connection] = []
        system.database_proxy.cut()
        try:
            while True:
                others.append(await asyncpg.connect(system.database_url, timeout=5))
        except asyncpg.TooManyConnectionsError:
            pass
        began = len(system.recorder.calls)
        for number in range(4):
            await people[1].send(rooms[1], f"f26-{seed}-full-{number}", f"no connection {seed} {number}", at=number)
        found += _late_refusals(system.recorder.calls[began:])
        await asyncio.gather(*(other.close() for other in others))
        recovery = max(recovery, await _answers_again(system, people[0], rooms[0], f"f26-{seed}-max"))
        return await system.judge("F26", recovery=recovery, bound=3, makers_lost=True, findings=found)


@fault("F27", "SQLite locked by another process: 3 s, then 8 s")
async def locked(world: World, seed: int) -> Outcome:
    async with world.system(database="sqlite", apis=1, workers=0) as system:
        alice = await system.person()
        room = await alice.make_room()
        found: list[Finding] = []
        file = system.database_url.removeprefix("sqlite:///")
        for seconds, expected in ((3.0, 202), (8.0, 503)):
            name = f"f27-{seed}-{seconds:g}"
            with closing(sqlite3.connect(file, isolation_level=None, timeout=5)) as other:
                other.execute("BEGIN EXCLUSIVE")
                watch = Stopwatch()
                send = asyncio.create_task(alice.send(room, name, f"locked out {name}"))
                # How long the lock is held is what is tested here.
                await asyncio.wait([send], timeout=seconds)
                page = await alice.read(room)
                other.execute("ROLLBACK")
            call = await send
            found += finding(page.outcome == "ok", "reading goes on", page)
            found += finding(call.status == expected, f"locked for {seconds:g} s: {expected}", call, call.seconds)
            found += finding(call.seconds < 7, "locked out, it answers within 6 s", call.seconds, watch.seconds)
        recovery = await _answers_again(system, alice, room, f"f27-{seed}")
        return await system.judge("F27", recovery=recovery, bound=3, findings=found)


@fault("F29", "SQLite under two APIs: kill -9 of one under load")
async def killed_while_writing(world: World, seed: int) -> Outcome:
    async with world.system(database="sqlite", apis=2, workers=0) as system:
        people, rooms = await _two_people(system)
        api = system.service.apis[0]
        slowest = 0.0
        async with Traffic(people=people, rooms=rooms, seed=seed).flowing(4) as calls:
            for _ in range(2 if world.quick else 5):
                await system.goes_on(20)
                api.kill()
                api.start()
                slowest = max(slowest, await api.ready())
        for room in rooms:
            await people[0].read_all(room)
        with closing(sqlite3.connect(system.database_url.removeprefix("sqlite:///"))) as connection:
            [[said]] = connection.execute("PRAGMA integrity_check").fetchall()
        found = finding(said == "ok", f"the file is whole: {said}")
        found += finding(all(call.outcome == "ok" for call in calls), "every send is acknowledged in the end")
        return await system.judge("F29", recovery=slowest, bound=15, makers_lost=True, findings=found)


@fault("F29C", "SQLite's writer: kill -9 under load", is_quick=True)
async def writer_killed(world: World, seed: int) -> Outcome:
    async with world.system(database="sqlite", apis=1, workers=0) as system:
        people, rooms = await _two_people(system)
        api = system.service.apis[0]
        killed: set[int] = set()
        async with Traffic(people=people, rooms=rooms, seed=seed).flowing(4) as calls:
            for _ in range(2 if world.quick else 5):
                await system.goes_on(20)
                for writer in children_of(api.pid):
                    os.kill(writer, signal.SIGKILL)
                    killed.add(writer)
        recovery = await _answers_again(system, people[0], rooms[0], f"f29c-{seed}")
        for room in rooms:
            await people[0].read_all(room)
        found = finding(len(killed) > 1, f"there was a writer to kill each time: {killed}")
        found += finding(all(call.outcome == "ok" for call in calls), "every send is acknowledged in the end")
        return await system.judge("F29C", recovery=recovery, bound=5, makers_lost=True, findings=found)


def _long(key: str) -> str:
    return f"{key} {'x' * 3000}"


async def _full(seed: int, system: System, disk: SmallDisk, name: str) -> Outcome:
    """Sends fill the disk's last pages, are refused, and are taken again once there is room; reading goes on."""
    people, rooms = await _two_people(system)
    disk.fill()
    keys = (f"{name}-{seed}-{number}" for number in count())
    refused: list[str] = []

    async def is_full() -> bool:
        key = next(keys)
        call = await people[0].send(rooms[0], key, _long(key))
        if call.status == 503:
            refused.append(key)
        return len(refused) >= 5

    await until(is_full, 60, "a full disk refuses sends")
    pages = [await people[0].read(rooms[0], at=number) for number in range(len(people[0].urls))]
    found = finding(all(page.outcome == "ok" for page in pages), "reading goes on", *pages)
    odd = [call for call in system.recorder.calls if call.outcome != "ok" and call.status != 503]
    found += finding(not odd, "a full disk is answered with 503, and with nothing else", *odd[:5])
    found += _late_refusals(system.recorder.calls)
    disk.free()
    recovery = await _answers_again(system, people[0], rooms[0], f"{name}-again")
    # What was refused was not kept, not even in part: the same keys are good for a send.
    for key in refused:
        await people[0].send_until_settled(rooms[0], key, _long(key))
    await people[0].read_all(rooms[0])
    return await system.judge(name, recovery=recovery, bound=5, makers_lost=True, findings=found)


@fault("F23", "PostgreSQL's disk full", is_quick=True, why_not=_NO_DISK)
async def disk_full(world: World, seed: int) -> Outcome:
    """Of PostgreSQL's tables; its log of what is written is on another one, without which it stops."""
    with small_disk(110) as disk, closing(Postgres(disk.path)) as server:
        await server.start()
        async with world.system(server=server) as system:
            return await _full(seed, system, disk, "F23")


@fault("F29B", "SQLite's disk full", is_quick=True, why_not=_NO_DISK)
async def disk_of_sqlite_full(world: World, seed: int) -> Outcome:
    with small_disk(8) as disk:
        async with world.system(database="sqlite", apis=1, workers=0, disk=disk.path) as system:
            return await _full(seed, system, disk, "F29B")

"""What breaks while the service is run: restarts one by one, a process that is stuck, clocks that disagree; and what
nothing here plays."""

import asyncio
import os
from pathlib import Path

from tests.faults.balancer import Balancer
from tests.faults.client import Person
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault, not_run
from tests.faults.polling import until
from tests.faults.servers import free_port
from tests.faults.world import Stopwatch, World, finding

_FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)
_libfaketime = next(
    (path for path in (os.environ.get("LIBFAKETIME", ""), *_FAKETIME) if path and Path(path).exists()), ""
)


@fault("F43", "graceful shutdown: a rolling restart under load", seconds=300)
async def rolling_restart(world: World, seed: int) -> Outcome:
    async with world.system() as system, Balancer(system.service.apis) as balancer:
        people = [
            await Person(system.session, system.recorder, [balancer.url], f"person{number}").sign_up()
            for number in range(4)
        ]
        rooms = await asyncio.gather(*(person.make_room() for person in people))
        began, slowest = len(system.recorder.calls), 0.0
        traffic = Traffic(people=people, rooms=rooms, seed=seed, marker="[[slow:100]]", wait=True)
        async with traffic.flowing(8):
            for process in system.service.processes:
                await system.goes_on(20)
                slowest = max(slowest, await process.stop(40))
                await system.service.start()
        failed = [call for call in system.recorder.calls[began:] if call.outcome != "ok"]
        found = finding(not failed, f"no request fails ({len(failed)} did)", *failed[:10])
        return await system.judge("F43", recovery=slowest, bound=25, findings=found)


@fault("F44", "event loop blocked for 2 s", needs=("CHAT_FAILPOINTS",), is_quick=True)
async def blocked(world: World, seed: int) -> Outcome:
    """Who measures the process sees it while it lasts, a balancer that asks it gets no answer, and nothing is lost."""
    port = free_port()
    stuck = {"CHAT_FAILPOINTS": "send.after_commit=block:2", "METRICS_PORT": str(port)}
    async with world.system(each_api=[stuck]) as system:
        alice = await system.person(at=1)
        room = await alice.make_room()
        name = f"f44-{seed}"
        send = asyncio.create_task(alice.send(room, name, f"stuck {name}", at=0))

        async def late() -> bool:
            async with system.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            return any(line.startswith("chat_loop_lag_seconds ") and float(line.split()[1]) > 0.5 for line in lines)

        await until(late, 10, "the metrics tell how late the event loop is")
        watch = Stopwatch()
        ready = await system.service.apis[0].readiness(0.3)
        other = await alice.send(room, f"{name}-other", f"elsewhere {name}", at=1)
        found = finding(
            not ready and not send.done(), "a balancer that asks it whether it is ready has no answer", ready
        )
        found += finding(other.outcome == "ok" and watch.seconds < 1, "the other process goes on", other, watch.seconds)
        call = await send
        found += finding(call.outcome == "ok", "the send that was held up is acknowledged", call)
        recovery = await system.service.apis[0].ready()
        await alice.read_all(room)
        return await system.judge("F44", recovery=recovery, bound=1, findings=found)


@fault(
    "F42",
    "clocks five minutes apart",
    why_not="" if _libfaketime else "libfaketime is not here (name it in LIBFAKETIME)",
)
async def clocks(world: World, seed: int) -> Outcome:
    """One API five minutes ahead, and then as much behind: nothing is ordered or leased by either clock."""
    ahead = {"LD_PRELOAD": _libfaketime, "FAKETIME": "+5m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    behind = {**ahead, "FAKETIME": "-5m"}
    async with world.system(each_api=[{}, ahead]) as system:
        people = [await system.person(f"person{number}", 0) for number in range(3)]
        rooms = await asyncio.gather(*(person.make_room() for person in people))
        await Traffic(people=people, rooms=rooms, seed=seed).send(60, concurrency=6)
        skewed = system.service.apis[1]
        await skewed.stop()
        skewed.environ.update(behind)
        await system.service.start()
        # A token from the future is refused there, and that is right: these are from behind.
        people = [await system.person(f"later{number}", 1) for number in range(3)]
        await Traffic(people=people, rooms=rooms, seed=seed + 1000).send(60, concurrency=6)
        for number, room in enumerate(rooms):
            await people[0].read_all(room, at=number)
        failed = [call for call in system.recorder.calls if call.outcome != "ok"]
        return await system.judge("F42", findings=finding(not failed, "no call fails", *failed[:5]))


not_run("F22", "PostgreSQL failover to a replica that lost the tail", "needs a standby server: declared, not played")

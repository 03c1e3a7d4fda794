"""What breaks with Redis away, silent, emptied or full: time, and nothing else."""

import asyncio
import random

from tests.faults.history import Call, Finding
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault
from tests.faults.proxy import BlackHole, Pass
from tests.faults.world import Stopwatch, System, World, finding

_WORKERS = ("def worker(",)


def _p99(calls: list[Call]) -> float:
    return sorted(call.seconds for call in calls)[int(len(calls) * 0.99)] if calls else 0.0


async def _goes_on(system: System, seed: int, sends: int, what: str) -> tuple[list[Call], list[Finding]]:
    """Traffic that Redis has no part in: sends, reads, a log-in and readiness."""
    people = [await system.person(f"{what}{number}", number) for number in range(2)]
    rooms = [await person.make_room() for person in people]
    began = len(system.recorder.calls)
    await Traffic(people=people, rooms=rooms, seed=seed, marker=f"{what} ").send(sends, concurrency=4)
    calls = system.recorder.calls[began:]
    failed = [call for call in calls if call.outcome != "ok"]
    states = [await api.readiness() for api in system.service.apis]
    found = [
        *finding(not failed, f"no call fails with {what}", *failed[:5]),
        *finding(all(state.get("code") == 200 for state in states), f"the APIs are ready with {what}", *states),
        *finding(
            all(state.get("redis", {}).get("status") != "ok" for state in states), f"readiness tells of {what}", *states
        ),
    ]
    return [call for call in calls if call.kind == "send"], found


async def _healthy_again(system: System, seed: int) -> float:
    """Wait until workers make replies as before; says how long that took."""
    watch = Stopwatch()
    await system.service.workers_are("ok", 30)
    zoe = await system.person("zoe")
    call = await zoe.send_until_settled(await zoe.make_room(), f"healed-{seed}", f"healed {seed}", wait=True)
    assert call.reply_status == "complete", call
    return watch.seconds


@fault("F14", "Redis down", needs=_WORKERS)
async def down(world: World, seed: int) -> Outcome:
    async with world.system(workers=2) as system:
        await system.redis.stop()
        _, found = await _goes_on(system, seed, 60, "redis-down")
        await system.settle(60)
        await system.redis.start()
        seconds = await _healthy_again(system, seed)
        return await system.judge("F14", recovery=seconds, bound=10, makers_lost=True, findings=found)


@fault("F15", "Redis hangs", needs=_WORKERS)
async def hangs(world: World, seed: int) -> Outcome:
    async with world.system(workers=2) as system:
        await system.redis_proxy.set(BlackHole())
        # The breaker is given what faults.md gives it to open; every send counts for the rest.
        sends, found = await _goes_on(system, seed, 150, "redis-hanging")
        found += finding(_p99(sends) < 0.5, f"99 of 100 sends take less than 0.5 s: {_p99(sends):.3f} s")
        await system.settle(60)
        system.redis_proxy.cut()
        await system.redis_proxy.set(Pass())
        seconds = await _healthy_again(system, seed)
        return await system.judge("F15", recovery=seconds, bound=10, makers_lost=True, findings=found)


@fault("F16", "Redis restarts, empty", needs=_WORKERS, is_quick=True)
async def emptied(world: World, seed: int) -> Outcome:
    async with world.system(workers=2) as system:
        alice = await system.person()
        room = await alice.make_room()
        for worker in system.service.workers:
            worker.pause()
        sends = [alice.send(room, f"f16-{seed}-{number}", f"queued {seed} {number}", at=number) for number in range(10)]
        calls = await asyncio.gather(*sends)
        system.redis.kill()
        await system.redis.start()
        for worker in system.service.workers:
            worker.resume()
        seconds = await system.settle(40)
        found = finding(all(call.outcome == "ok" for call in calls), "every send is acknowledged", *calls)
        return await system.judge("F16", recovery=seconds, bound=10, findings=found)


@fault("F18", "Redis maxmemory reached", needs=_WORKERS)
async def full(world: World, seed: int) -> Outcome:
    async with world.system(workers=2, redis={"maxmemory": "4mb", "maxmemory_policy": "noeviction"}) as system:
        chance, number = random.Random(seed), 0
        while not (await system.redis.command("SET", f"junk-{number}", chance.randbytes(25_000).hex())).startswith(
            b"-OOM"
        ):
            number += 1
        alice = await system.person()
        room = await alice.make_room()
        await Traffic(people=[alice], rooms=[room], seed=seed).send(40, concurrency=4)
        failed = [call for call in system.recorder.calls if call.outcome != "ok"]
        seconds = await system.settle(60)
        await system.redis.command("FLUSHALL")
        await _healthy_again(system, seed)
        found = finding(not failed, "no call fails", *failed[:5])
        return await system.judge("F18", recovery=seconds, bound=20, findings=found)

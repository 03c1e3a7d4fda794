"""What breaks around a send: the process that takes it, the client that makes it, two that make the same one."""

import asyncio

from tests.faults.client import Person
from tests.faults.history import Call, Finding
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault
from tests.faults.polling import until
from tests.faults.world import Stopwatch, System, World, finding

_FAILPOINTS = ("CHAT_FAILPOINTS",)


async def _retried(person: Person, room: str, first: Call) -> tuple[Call, float]:
    watch = Stopwatch()
    again = await person.send_until_settled(room, first.m_id, first.content, at=1)
    return again, watch.seconds


async def _killed_at(system: System, m_id: str) -> tuple[Person, Call, Call, float, list[Finding]]:
    """A send that kills the first API, its repeat at the second one, and the first one started again."""
    alice = await system.person(at=1)
    room = await alice.make_room()
    # Through the second process: the first one is to die of this very send.
    before = await alice.send_until_settled(room, f"{m_id}-before", f"before {m_id}", at=1)
    first = await alice.send(room, m_id, f"the send {m_id}")
    again, seconds = await _retried(alice, room, first)
    await alice.read_all(room, at=1)
    api = system.service.apis[0]
    found = [
        *finding(before.outcome == "ok", "the send before the kill was stored", before),
        *finding(api.exit_code == -9, "the first API killed itself at the point", api.exit_code, api.tail()),
        *finding(first.outcome == "unknown", "the client saw a reset", first),
        *finding(again.outcome == "ok", "the repeat was acknowledged", again),
    ]
    return alice, first, again, seconds, found


@fault("F01", "kill -9 API before commit of send", needs=_FAILPOINTS, is_quick=True)
async def before_commit(world: World, seed: int) -> Outcome:
    async with world.system(each_api=[{"CHAT_FAILPOINTS": "send.before_commit=kill"}]) as system:
        _, _, again, seconds, found = await _killed_at(system, f"f01-{seed}")
        found += finding(not again.replayed, "nothing was stored by the killed send", again)
        return await system.judge("F01", recovery=seconds, bound=2.0, findings=found)


@fault("F02", "kill -9 API after commit, before ack", needs=_FAILPOINTS, is_quick=True)
async def after_commit(world: World, seed: int) -> Outcome:
    async with world.system(each_api=[{"CHAT_FAILPOINTS": "send.after_commit=kill"}]) as system:
        _, _, again, seconds, found = await _killed_at(system, f"f02-{seed}")
        found += finding(again.replayed, "the repeat is a replay of what the killed send stored", again)
        return await system.judge("F02", recovery=seconds, bound=2.0, makers_lost=True, findings=found)


@fault("F03", "kill -9 API before enqueue", needs=_FAILPOINTS, is_quick=True)
async def before_enqueue(world: World, seed: int) -> Outcome:
    async with world.system(each_api=[{"CHAT_FAILPOINTS": "send.before_enqueue=kill"}]) as system:
        alice = await system.person(at=1)
        room = await alice.make_room()
        first = await alice.send(room, f"f03-{seed}", f"the send f03-{seed}")
        found = finding(first.outcome == "unknown", "the client saw a reset", first)
        # Not repeated: a repeat would put it on the queue, and the sweep is to find it.
        seconds = await system.settle(15)
        await alice.send(room, first.m_id, first.content, at=1)
        return await system.judge("F03", recovery=seconds, bound=5.0, makers_lost=True, findings=found)


@fault("F13", "same m_id, different content, parallel", is_quick=True)
async def same_m_id(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        alice = await system.person()
        room = await alice.make_room()
        found: list[Finding] = []
        for number in range(10):
            m_id = f"f13-{seed}-{number}"
            calls = await asyncio.gather(
                *(alice.send(room, m_id, f"{m_id} says {text}", at=text) for text in range(6)),
                *(alice.send(room, m_id, f"{m_id} says {text}", at=text + 1) for text in range(6)),
            )
            accepted = {call.content for call in calls if call.outcome == "ok"}
            refused = [call for call in calls if call.outcome != "ok"]
            found += finding(len(accepted) == 1, "exactly one content is accepted", *calls)
            others = all(call.status == 422 and call.code == "message-id-reused" for call in refused)
            found += finding(others and len(refused) == 10, "all others are refused with 422", *refused)
        await alice.read_all(room)
        return await system.judge("F13", findings=found)


@fault("F40", "client disconnects mid-send", is_quick=True)
async def client_leaves(world: World, seed: int) -> Outcome:
    """At random bytes of the request, and while the answer is waited for."""
    async with world.system(apis=1, workers=0) as system:
        alice = await system.person()
        room = await alice.make_room()
        found: list[Finding] = []
        await alice.send_until_settled(room, f"f40-{seed}-warm", f"warm {seed}", wait=True)
        api = system.service.apis[0]
        before = _descriptors(api.pid)
        for number in range(30):
            m_id, content = f"f40-{seed}-{number}", f"[[slow:5]] leaving {seed}-{number}"
            task = asyncio.create_task(alice.send(room, m_id, content, wait=True))
            # Leaves after a part of what a send takes: in it, or in the wait for the answer.
            await asyncio.wait([task], timeout=0.001 * (number % 15))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            again = await alice.send_until_settled(room, m_id, content, wait=True)
            found += finding(again.reply_status == "complete", "who leaves cancels nothing", again)
        # Idle connections to the provider and to the database stay; a leak would be one for each client that left.
        try:
            await until(lambda: _descriptors(api.pid) <= before + 12, 10, "descriptors return to where they were")
        except TimeoutError as error:
            found += finding(False, str(error), before, _descriptors(api.pid))
        return await system.judge("F40", findings=found)


def _descriptors(pid: int) -> int:
    from pathlib import Path

    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@fault("F00", "steady load, no fault", seconds=1800)
async def steady(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        people = await system.people(8 if world.quick else 40)
        owners = people[: 4 if world.quick else 20]
        rooms = await asyncio.gather(*(owner.make_room(f"room of {owner.name}") for owner in owners))
        traffic = Traffic(people=people, rooms=rooms, seed=seed)
        calls = await traffic.send(world.sends, concurrency=32)
        found = finding(
            all(call.outcome == "ok" for call in calls),
            "every send is acknowledged",
            *(call for call in calls if call.outcome != "ok"),
        )
        for number, room in enumerate(rooms):
            await people[0].read_all(room, at=number)
        return await system.judge("F00", within=300, findings=found)

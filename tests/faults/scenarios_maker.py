"""What breaks where replies are made: makers that die, stop, come back, or get the same job twice."""

import asyncio
import random

import redis.asyncio as redis

from tests.faults import reading
from tests.faults.client import Person
from tests.faults.history import Call, Finding
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault
from tests.faults.polling import until
from tests.faults.world import Stopwatch, System, World, finding

_FAILPOINTS = ("CHAT_FAILPOINTS",)
_WORKERS = ("def worker(",)
#: The lease, and what a sweep takes to see that it is over.
_TAKEN_OVER = 17.0


async def _asked_of_the_first(system: System, m_id: str, content: str) -> tuple[Person, Call]:
    """A send that the first maker answers: the second one is held meanwhile, and still is when this returns."""
    alice = await system.person()
    room = await alice.make_room()
    system.service.makers[1].pause()
    return alice, await alice.send(room, m_id, content)


@fault("F05", "kill -9 maker before its provider call", needs=_FAILPOINTS, is_quick=False)
async def before_the_call(world: World, seed: int) -> Outcome:
    async with world.system(first_maker={"CHAT_FAILPOINTS": "reply.after_attempt_row=kill"}) as system:
        _, _ = await _asked_of_the_first(system, f"f05-{seed}", f"killed before the call {seed}")
        first, second = system.service.makers
        await first.ended(15)
        second.resume()
        watch = Stopwatch()
        await system.settle(40)
        found = finding(len(system.requests()) <= 1, "the provider had at most one call", *system.requests())
        return await system.judge("F05", recovery=watch.seconds, bound=_TAKEN_OVER, makers_lost=True, findings=found)


@fault("F06", "kill -9 maker in its provider call")
async def in_the_call(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        content = f"[[think:1]][[slow:1500]][[say:hello again]] killed in the call {seed}"
        alice, call = await _asked_of_the_first(system, f"f06-{seed}", content)
        await system.asked(1, 15)
        first, second = system.service.makers
        first.kill()
        second.resume()
        taken_over = await system.asked(2, 40)
        last = await alice.answer_to(call, at=1)
        found = [
            *finding(last.reply_status == "complete", "the reply is complete", last),
            *finding(len(system.requests()) == 2, "one call was wasted", *system.requests()),
        ]
        return await system.judge("F06", recovery=taken_over, bound=_TAKEN_OVER, makers_lost=True, findings=found)


@fault("F09", "kill -9 worker after commit, before ack", needs=(*_FAILPOINTS, *_WORKERS))
async def before_ack(world: World, seed: int) -> Outcome:
    async with world.system(workers=2, first_maker={"CHAT_FAILPOINTS": "reply.before_ack=kill"}) as system:
        alice, call = await _asked_of_the_first(system, f"f09-{seed}", f"killed before the ack {seed}")
        await system.service.workers[0].ended(20)
        system.service.workers[1].resume()
        await system.settle(30)
        async with redis.Redis(port=system.redis.port) as client:
            # A queue may bring it again whenever it likes; here it does, and then is heard of no more.
            await client.rpush("chat:queue", *[call.reply_id] * 5)

            async def redelivered() -> bool:
                return not await client.llen("chat:queue")

            await until(redelivered, 20, "the dead worker's job is redelivered")
        await alice.send_until_settled(call.room_id, f"f09-{seed}-after", f"after the ack {seed}", wait=True)
        calls = system.requests(call.content)
        found = finding(len(calls) == 1, "a redelivery asks the provider nothing", *calls)
        return await system.judge("F09", findings=found)


@fault("F10", "SIGSTOP maker beyond its lease, then CONT", seconds=240)
async def zombie(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        content = f"[[slow:700]][[say:one two three four five six]] stopped {seed}"
        alice, call = await _asked_of_the_first(system, f"f10-{seed}", content)
        await system.asked(1, 15)
        first, second = system.service.makers
        first.pause()
        second.resume()
        stopped = Stopwatch()
        taken_over = await system.asked(2, 40)
        end = await alice.answer_to(call, at=1)
        # Beyond the queue's own patience with a silent worker, too: its message comes back while the zombie sleeps.
        await until(lambda: stopped.seconds >= (20 if world.quick else 75), 120, "it was stopped for long enough")
        first.resume()
        for api in system.service.apis:
            await api.ready()
        after = [await alice.send(call.room_id, call.m_id, call.content, at=number) for number in range(6)]
        found = finding(
            {one.body["data"]["messages"]["ai_message"]["id"] for one in (end, *after)}
            == {end.body["data"]["messages"]["ai_message"]["id"]},
            "the zombie changes nothing",
            *after,
        )
        more = await alice.send_until_settled(call.room_id, f"f10-{seed}-more", f"after the zombie {seed}", wait=True)
        found += finding(more.reply_status == "complete", "the next reply is made", more)
        return await system.judge("F10", recovery=taken_over, bound=_TAKEN_OVER, makers_lost=True, findings=found)


@fault("F11", "two workers get the same job, 20 times", needs=_WORKERS, is_quick=True)
async def same_job(world: World, seed: int) -> Outcome:
    async with world.system(workers=2) as system:
        alice = await system.person()
        room = await alice.make_room()
        for worker in system.service.workers:
            worker.pause()
        call = await alice.send(room, f"f11-{seed}", f"[[slow:50]] the same job {seed}")
        async with redis.Redis(port=system.redis.port) as client:
            await until(lambda: client.llen("chat:queue"), 5, "the job is on the queue")
            [id_] = await client.lrange("chat:queue", 0, -1)
            await client.rpush("chat:queue", *[id_] * 20)
        for worker in system.service.workers:
            worker.resume()
        await alice.answer_to(call)
        found = finding(len(system.requests()) == 1, "the provider had one call", *system.requests())
        return await system.judge("F11", findings=found)


@fault("F46", "a maker killed again and again under load", seconds=300)
async def killed_again_and_again(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        people = await system.people(4)
        rooms = await asyncio.gather(*(person.make_room() for person in people))
        kills, chance = 4 if world.quick else 8, random.Random(seed)
        traffic = Traffic(people=people, rooms=rooms, seed=seed, marker="[[slow:30]]")
        slowest = 0.0
        async with traffic.flowing(8) as calls:
            for _ in range(kills):
                victim = chance.choice(system.service.makers)
                await system.goes_on(20)
                victim.kill()
                watch = Stopwatch()
                await system.service.start()
                slowest = max(slowest, watch.seconds)
        for room in rooms:
            await people[0].read_all(room)
        found = finding(all(call.outcome == "ok" for call in calls), "every send is acknowledged", *calls[:3])
        found += await _poisonous(system, people[0], seed) if not world.quick else []
        watch = Stopwatch()
        await system.settle(60)
        return await system.judge(
            "F46", recovery=max(slowest, watch.seconds), bound=30, makers_lost=True, findings=found
        )


async def _poisonous(system: System, person: Person, seed: int) -> list[Finding]:
    """A reply that kills each of its makers is given up, and what comes after it is made."""
    room = await person.make_room()
    content = f"[[hang]] a reply that kills {seed}"
    call = await person.send_until_settled(room, f"poison-{seed}", content)

    async def ended() -> bool:
        final = await reading.snapshot(system.database_url)
        return any(reply.id == call.reply_id and reply.status == "failed" for reply in final.replies)

    for number in range(1, 4):
        await system.asked(number, 40, content)
        for maker in system.service.makers:
            maker.kill()
        await system.service.start()
    await until(ended, 40, "the reply that kills is given up")
    more = await person.send_until_settled(room, f"poison-{seed}-more", f"after the poison {seed}", wait=True)
    return finding(more.reply_status == "complete", "the queue moves on", more)

"""What breaks at the provider: refusals, silence, lost connections, garbage, too much, too slow."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from tests.faults.client import Person
from tests.faults.history import Call, Finding
from tests.faults.outcomes import Outcome, fault
from tests.faults.proxy import Pass, Refuse
from tests.faults.world import Stopwatch, System, World, finding

#: How long a circuit is open at most when it opens for the first time, and time for the answer.
COOL_DOWN = 15.0


async def _answers(system: System, prompts: Sequence[str], within: float = 60.0) -> tuple[Person, list[Call]]:
    """Every prompt in a room of its own, all at once; each send as it stands when its reply has its end."""
    person = await system.person(f"asks-{len(system.recorder.calls)}-{prompts[0][2:5]}")
    rooms = await asyncio.gather(*(person.make_room() for _ in prompts))
    sends = [
        person.send(room, f"p{number}", text, at=number)
        for number, (room, text) in enumerate(zip(rooms, prompts, strict=True))
    ]
    calls = await asyncio.gather(*sends)
    return person, await asyncio.gather(*(person.answer_to(call, within=within) for call in calls))


async def _one_by_one(system: System, prompts: Sequence[str]) -> tuple[Person, list[Call]]:
    """Every prompt by itself, with fine answers after each: too many failures together would open the circuit."""
    calls: list[Call] = []
    for prompt in prompts:
        calls += (await _answers(system, [prompt]))[1]
        await _answers(system, [f"between {number} after {len(calls)}" for number in (1, 2)])
    return await system.person(f"asks-{len(system.recorder.calls)}-after"), calls


def _ended(calls: Sequence[Call], status: str, *codes: str) -> list[Finding]:
    """Findings where a reply ended otherwise."""
    found: list[Finding] = []
    for call in calls:
        reply = call.body["data"]["reply"]
        code = (reply["error"] or {}).get("code", "")
        right = reply["status"] == status and (not codes or code in codes)
        what = f"{call.content!r} ends as {status} {' or '.join(codes)}"
        found += finding(right, what, f"{reply['status']} {code} after {reply['attempts']} attempts")
    return found


async def _still_answers(system: System, person: Person, seed: int) -> tuple[float, list[Finding]]:
    """Where the failures have opened the model's circuit, as soon as that lets a request through."""
    watch, room, number = Stopwatch(), await person.make_room(), 0
    while True:
        call = await person.send_until_settled(room, f"well-{seed}-{number}", f"all is well {seed} {number}", wait=True)
        if call.reply_status == "complete" or watch.seconds > COOL_DOWN:
            break
        number += 1
        await asyncio.sleep(0.5)
    return watch.seconds, finding(call.reply_status == "complete", "the next reply is made", call)


async def _too_many(system: System, seed: int) -> tuple[float, list[Finding]]:
    prompts = [f"[[429:1]] {seed}", f"[[429:1:2]] told in a header {seed}", f"[[429:1:2:body]] told so {seed}"]
    watch = Stopwatch()
    _, calls = await _answers(system, prompts)
    found = _ended(calls, "complete")
    for prompt in prompts[1:]:
        first, *more = (entry.at for entry in system.requests(prompt))
        found += finding(more and more[0] - first >= 2, f"{prompt}: Retry-After is honoured", first, *more)
    return watch.seconds, found


@fault("F30", "LLM 429 with and without Retry-After")
async def too_many(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        recovery, found = await _too_many(system, seed)
        return await system.judge("F30", recovery=recovery, bound=10, findings=found)


async def _server_errors(system: System, seed: int) -> tuple[float, list[Finding]]:
    watch = Stopwatch()
    passing = [f"[[{status}:1]] once {seed}" for status in (500, 502, 503, 529)]
    lasting = [f"[[{status}]] for ever {seed}" for status in (500, 503)]
    _, calls = await _one_by_one(system, [*passing, *lasting])
    found = _ended(calls[:4], "complete") + _ended(calls[4:], "failed", "provider-unavailable")
    for prompt in lasting:
        found += finding(len(system.requests(prompt)) == 3, f"{prompt}: three attempts", *system.requests(prompt))
    return watch.seconds, found


@fault("F31", "LLM 500, 502, 503, 529")
async def server_errors(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        recovery, found = await _server_errors(system, seed)
        return await system.judge("F31", recovery=recovery, bound=20, findings=found)


@fault("F32", "LLM connect refused, no such host, no TLS, no answer to a connect")
async def unreachable(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        await system.provider_proxy.set(Refuse())
        system.provider_proxy.cut()
        person, calls = await _answers(system, [f"connection refused {seed}"])
        found = _ended(calls, "failed", "provider-unavailable")
        await system.provider_proxy.set(Pass())
        recovery, more = await _still_answers(system, person, seed)
        outcome = await system.judge("F32", recovery=recovery, bound=5, findings=found + more)
    with closing(socket.socket()) as silent:
        # Its backlog is full: the kernel answers no further connect.
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        fillers = [socket.create_connection(("127.0.0.1", port)) for _ in range(1)]
        for name, url, seconds in (
            ("no-host", "http://no-such-host.invalid", 20),
            ("no-tls", f"https://127.0.0.1:{port}", 40),
            ("no-connect", f"http://127.0.0.1:{port}", 40),
        ):
            async with world.system(apis=1, environ={"GEMINI_BASE_URL": url}) as system:
                watch = Stopwatch()
                _, calls = await _answers(system, [f"{name} {seed}"])
                found = _ended(calls, "failed", "provider-unavailable", "provider-timeout")
                found += finding(watch.seconds < seconds, f"{name} is given up within {seconds} s", watch.seconds)
                part = await system.judge("F32", findings=found)
                outcome.findings += part.findings
                outcome.sends += part.sends
        for filler in fillers:
            filler.close()
    return outcome


async def _silent(world: World, name: str, prompt: str) -> Outcome:
    async with world.system(apis=1) as system:
        watch = Stopwatch()
        person, calls = await _answers(system, [prompt], within=100)
        found = _ended(calls, "failed", "provider-timeout", "provider-unavailable", "provider-interrupted")
        times = [entry.at for entry in system.requests(prompt)]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        found += finding(len(times) == 3 and all(19 <= gap <= 26 for gap in gaps), "20 s of silence end a try", gaps)
        left = [entry for entry in system.requests(prompt) if not entry.client_closed]
        found += finding(not left, "the silent call is closed", *left)
        _, more = await _still_answers(system, person, 0)
        return await system.judge(name, recovery=watch.seconds, bound=80, findings=found + more)


@fault("F33", "LLM hangs before the first token")
async def silent(world: World, seed: int) -> Outcome:
    return await _silent(world, "F33", f"[[hang]] {seed}")


@fault("F34", "LLM hangs mid-stream")
async def silent_midway(world: World, seed: int) -> Outcome:
    return await _silent(world, "F34", f"[[hang@5]] {seed}")


async def _cut(system: System, seed: int) -> tuple[float, list[Finding]]:
    prompts = [f"[[{marker}]] {seed}" for marker in ("cut@7", "end@7", "error@7", "cut@0", "end@0")]
    person, calls = await _answers(system, prompts)
    found = _ended(calls, "failed")
    recovery, more = await _still_answers(system, person, seed)
    return recovery, found + more


@fault("F35", "LLM cuts the connection, or ends without a reason")
async def cut(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        recovery, found = await _cut(system, seed)
        return await system.judge("F35", recovery=recovery, bound=COOL_DOWN, findings=found)


async def _garbage(system: System, seed: int) -> tuple[float, list[Finding]]:
    kinds = [f"{place}:{kind}" for place in (0, 3) for kind in ("html", "json", "utf8", "half", "types")]
    person, calls = await _one_by_one(system, [f"[[garbage@{kind}]] {seed}" for kind in kinds])
    found = _ended(calls, "failed", "provider-bad-response", "provider-interrupted")
    recovery, more = await _still_answers(system, person, seed)
    return recovery, found + more


@fault("F36", "LLM garbage")
async def garbage(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        recovery, found = await _garbage(system, seed)
        return await system.judge("F36", recovery=recovery, bound=COOL_DOWN, findings=found)


@fault("F38", "LLM huge output, and a flood of tiny tokens")
async def huge(world: World, seed: int) -> Outcome:
    async with world.system(apis=1) as system:
        before = max(_peak(maker.pid) for maker in system.service.makers)
        words = "a " * 12_000
        person, calls = await _answers(system, [f"[[huge]] {seed}", f"[[huge:2]] {seed}", f"[[say:{words}]]"])
        found = _ended(calls[:1], "failed", "answer-too-long", "provider-bad-response") + _ended(calls[1:], "complete")
        grown = max(_peak(maker.pid) for maker in system.service.makers) - before
        found += finding(grown < 150_000, f"a maker's memory stays bounded: {grown} KiB more at most")
        recovery, more = await _still_answers(system, person, seed)
        return await system.judge("F38", recovery=recovery, bound=5, findings=found + more)


def _peak(pid: int) -> int:
    """The most memory that it ever had, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@fault("F39", "LLM slow for all: a backlog", seconds=300)
async def slow_for_all(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        people = await system.people(4)
        rooms = await asyncio.gather(*(person.make_room() for person in people))
        count, times = 60 if world.quick else 1000, asyncio.Semaphore(8)

        async def one(number: int, marker: str) -> Call:
            async with times:
                person, room = people[number % 4], rooms[number % 4]
                return await person.send(room, f"s{number}-{len(marker)}", f"{marker} {seed} {number}", at=number)

        usual = await asyncio.gather(*(one(number, "usual") for number in range(count // 4)))
        await system.settle()
        watch = Stopwatch()
        calls = await asyncio.gather(*(one(number, "[[slow:500]]") for number in range(count)))
        before, then = _p99(usual), _p99(calls)
        # The provider, the clients and the service share this machine's processors: what is usual here is measured.
        allowed = max(0.5, 3 * before)
        found = finding(then < allowed, f"99 of 100 sends take {before:.3f} s, and in a backlog {then:.3f} s")
        refused = [call for call in calls if call.outcome != "ok" and call.status != 429]
        found += finding(not refused, "a backlog refuses nothing but with 429", *refused[:5])
        found += finding(len(calls) - len(refused) >= count // 2, "most are taken")
        ready = [(await api.readiness()).get("code") for api in system.service.apis]
        found += finding(ready == [200, 200], "the APIs are ready", ready)
        await system.settle(240)
        return await system.judge("F39", recovery=watch.seconds, bound=240, findings=found)


def _p99(calls: Sequence[Call]) -> float:
    return sorted(call.seconds for call in calls)[int(len(calls) * 0.99)]


async def one_after_another(world: World, seed: int) -> Outcome:
    """What shows within seconds, on one system."""
    async with world.system(apis=1) as system:
        # In turn, and the circuit closed after each: open, it would answer in the provider's place.
        parts = [await part(system, seed) for part in (_too_many, _server_errors, _cut, _garbage)]
        found = [finding for _, findings in parts for finding in findings]
        return await system.judge("F30-F36", findings=found)

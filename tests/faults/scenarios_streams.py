"""What breaks under those who watch: their process, the maker of what they watch, their own connection."""

import asyncio
import json
import os
import random
import socket
import time
from contextlib import closing

from tests.faults.client import Person
from tests.faults.history import Call, Finding
from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome, fault
from tests.faults.polling import until
from tests.faults.service import SOURCE
from tests.faults.viewer_checkers import reply_viewer, room_viewer
from tests.faults.viewers import ReplyViewer, RoomViewer
from tests.faults.world import Stopwatch, System, World, finding

#: Messages of 30 KB: more than the buffers of two machines' ends hold.
_MANY = 700
#: Where the sources of an earlier version are.
_EARLIER = os.environ.get("FAULTS_EARLIER_SOURCE", "")
#: Some six seconds of an answer.
_SLOW = "[[slow:150]] one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def _watching(
    system: System, person: Person, calls: list[Call], room: str
) -> tuple[list[ReplyViewer], list[RoomViewer]]:
    """Each answer watched on both processes, and the room by a stream and a socket on both."""
    token, urls = person.token, system.service.urls
    replies = [ReplyViewer(system.session, urls, token, call.reply_id, at) for call in calls for at in (0, 1)]
    rooms = [
        RoomViewer(system.session, urls, token, room, at, socket=by_socket)
        for at in (0, 1)
        for by_socket in (True, False)
    ]
    for viewer in (*replies, *rooms):
        viewer.begin()
    return replies, rooms


async def _checked(
    system: System, person: Person, room: str, replies: list[ReplyViewer], rooms: list[RoomViewer], at: int
) -> list[Finding]:
    """What the viewers saw, against what is stored; all of them have left then."""
    found: list[Finding] = []
    for number, viewer in enumerate(replies):
        try:
            await viewer.to_the_end()
        except TimeoutError:
            await viewer.leave()
        answer = await person.reply(viewer.reply_id, at=at)
        message = answer.body["message"]
        found += reply_viewer(f"viewer {number} of {viewer.reply_id}", viewer.shown, message and message["content"])
    last = (await person.must("GET", f"/rooms/{room}", at=at))["last_seq"]
    for number, watcher in enumerate(rooms):
        try:
            await watcher.has(last)
        except TimeoutError:
            pass  # the checker says what is missing
        await watcher.leave()
        kind = "socket" if watcher.socket else "stream"
        found += room_viewer(f"{kind} {number}", watcher.seqs, last)
    return found


async def _asked(person: Person, room: str, name: str, seed: int, count: int = 3) -> list[Call]:
    return [
        await person.send(room, f"{name}-{seed}-{number}", f"{_SLOW} {name} {number}", at=number)
        for number in range(count)
    ]


@fault("F04", "kill -9 API with open SSE and WebSocket", needs=("websockets_sansio",))
async def api_under_viewers(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        alice = await system.person()
        room = await alice.make_room()
        calls = await _asked(alice, room, "f04", seed)
        replies, rooms = _watching(system, alice, calls, room)
        await until(lambda: all(len(viewer.shown) > 4 for viewer in replies), 30, "every viewer sees text")
        lost = [viewer for viewer in (*replies, *rooms) if viewer._at % 2 == 0]
        system.service.apis[0].kill()
        killed = time.monotonic()
        await alice.send(room, f"f04-{seed}-after", "after the kill", at=1)
        await until(lambda: all(viewer.latest > killed + 0.01 for viewer in lost), 20, "all of them see what comes now")
        recovery = time.monotonic() - killed
        found = await _checked(system, alice, room, replies, rooms, at=1)
        return await system.judge("F04", recovery=recovery, bound=2.0, findings=found)


@fault("F07", "kill -9 worker mid-stream", needs=("websockets_sansio",))
async def maker_under_viewers(world: World, seed: int) -> Outcome:
    async with world.system() as system:
        alice = await system.person()
        room = await alice.make_room()
        first, second = system.service.makers
        second.pause()
        calls = await _asked(alice, room, "f07", seed)
        replies, rooms = _watching(system, alice, calls, room)
        await until(lambda: all(len(viewer.text) > 20 for viewer in replies), 30, "every viewer sees text")
        first.kill()
        second.resume()
        watch = Stopwatch()
        await until(
            lambda: all(any(event.name == "reset" for event in viewer.shown) for viewer in replies),
            40,
            "a reset for all",
        )
        recovery = watch.seconds
        found = await _checked(system, alice, room, replies, rooms, at=1)
        resets = [sum(event.name == "reset" for event in viewer.shown) for viewer in replies]
        found += finding(set(resets) == {1}, "each viewer is told once to forget", resets)
        return await system.judge("F07", recovery=recovery, bound=17.0, makers_lost=True, findings=found)


@fault("S03", "Redis restarted empty under viewers", needs=("websockets_sansio",))
async def redis_under_viewers(world: World, seed: int) -> Outcome:
    async with world.system(workers=2) as system:
        alice = await system.person()
        room = await alice.make_room()
        calls = await _asked(alice, room, "s03", seed)
        replies, rooms = _watching(system, alice, calls, room)
        await until(lambda: all(len(viewer.text) > 20 for viewer in replies), 30, "every viewer sees text")
        system.redis.kill()
        seen = [len(viewer.text) for viewer in replies]
        watch = Stopwatch()
        await until(
            lambda: all(len(viewer.text) > before or viewer.done for viewer, before in zip(replies, seen, strict=True)),
            15,
            "the parts come through the database",
        )
        recovery = watch.seconds
        await system.redis.start()
        found = await _checked(system, alice, room, replies, rooms, at=1)
        resets = [event for viewer in replies for event in viewer.shown if event.name == "reset"]
        found += finding(not resets, "nobody is told to forget", *resets)
        return await system.judge("S03", recovery=recovery, bound=10.0, findings=found)


@fault("F41", "slow consumer", needs=("websockets_sansio",))
async def slow_consumers(world: World, seed: int) -> Outcome:
    """A stream and a socket that take nothing, in a room with megabytes of news."""
    async with world.system() as system:
        alice = await system.person()
        room = await alice.make_room(mode="off")
        quick = RoomViewer(system.session, system.service.urls, alice.token, room, socket=True)
        quick.begin()
        with closing(_stuck(system, alice, room, by_socket=True)) as ws, closing(_stuck(system, alice, room)) as sse:
            for number in range(_MANY):
                call = await alice.send(room, f"f41-{seed}-{number}", f"{number} " + "x" * 30_000)
                assert call.outcome == "ok", call
            last = (await alice.must("GET", f"/rooms/{room}"))["last_seq"]
            watch = Stopwatch()
            await quick.has(last, 10)
            # What was on its way is still there to be taken; then the connection is at its end.
            ends = await asyncio.gather(*(asyncio.to_thread(_drained, one) for one in (ws, sse)))
            recovery = watch.seconds
        found = finding(all(ends), "the slow ones are cut off", ends)
        again = RoomViewer(system.session, system.service.urls, alice.token, room, socket=False)
        again.begin()
        found += await _checked(system, alice, room, [], [quick, again], at=0)
        found += finding(quick.connections == 1, "the quick one is left alone", quick.codes)
        return await system.judge("F41", recovery=recovery, bound=15.0, findings=found)


def _stuck(system: System, person: Person, room: str, *, by_socket: bool = False) -> socket.socket:
    """A client that asks for everything in the room, and reads nothing of it."""
    host, port = system.service.urls[0].removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)))
    path = "/ws" if by_socket else f"/rooms/{room}/events?after=0"
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {person.token}\r\n"
    if by_socket:
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    else:
        head += "Accept: text/event-stream\r\n"
    sock.sendall(f"{head}\r\n".encode())
    if by_socket:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        frame = json.dumps({"type": "subscribe", "room_id": room, "after": 0}).encode()
        assert len(frame) < 126
        sock.sendall(bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame)  # masked by zeros
    return sock


def _drained(sock: socket.socket) -> bool:
    """Whether it comes to its end when what was on its way is taken, long before all of the room was."""
    sock.settimeout(20)
    taken = 0
    try:
        while chunk := sock.recv(65_536):
            taken += len(chunk)
    except TimeoutError:
        return False
    except OSError:
        pass  # hung up on, which is an end as well
    return taken < _MANY * 30_000


async def _storm(world: World, seed: int, name: str, workers: int, answers: int) -> Outcome:
    async with world.system(workers=workers) as system:
        alice = await system.person()
        room = await alice.make_room()
        rng = random.Random(seed)
        watch = Stopwatch()
        found: list[Finding] = []
        slots = asyncio.Semaphore(40)

        async def view(number: int) -> None:
            async with slots:
                content = f"[[slow:20]] {number} " + " ".join(f"word{n}" for n in range(40))
                call = await alice.send(room, f"{name}-{seed}-{number}", content, at=number)
                viewer = ReplyViewer(
                    system.session, system.service.urls, alice.token, call.reply_id, number, cuts=5, rng=rng
                )
                viewer.begin()
                await viewer.to_the_end(120)
                message = (await alice.reply(call.reply_id)).body["message"]
                found.extend(reply_viewer(f"viewer {number}", viewer.shown, message["content"]))
                found.extend(finding(viewer.connections > 5, "it was cut five times", viewer.connections))

        await asyncio.gather(*(view(number) for number in range(answers)))
        return await system.judge(name, recovery=watch.seconds, findings=found)


@fault("S01", "a storm of cuts and resumptions, with Redis", needs=("websockets_sansio",), seconds=300)
async def storm_with_redis(world: World, seed: int) -> Outcome:
    return await _storm(world, seed, "S01", workers=2, answers=200)


@fault("S02", "a storm of cuts and resumptions, without Redis", needs=("websockets_sansio",), seconds=300)
async def storm_without_redis(world: World, seed: int) -> Outcome:
    return await _storm(world, seed, "S02", workers=0, answers=200)


@fault(
    "F45",
    "old and new version together",
    seconds=300,
    why_not="" if _EARLIER else "name the sources of an earlier one in FAULTS_EARLIER_SOURCE",
)
async def two_versions(world: World, seed: int) -> Outcome:
    """One API and one worker are an earlier version's; then they are replaced, as in a deployment, under load."""
    earlier = {"PYTHONPATH": _EARLIER}
    async with world.system(each_api=[earlier], first_maker=earlier) as system:
        people = await system.people(3)
        room, *others = [await person.make_room() for person in people]
        replaced = [system.service.apis[0], *system.service.workers[:1]]
        found: list[Finding] = []
        for turn, name in enumerate(("together", "replaced", "after")):
            calls = await _asked(people[0], room, f"f45-{name}", seed, 4)
            replies, rooms = _watching(system, people[0], calls, room)
            traffic = Traffic(people=people, rooms=others, seed=10 * seed + turn, wait=True)
            async with traffic.flowing(4) as sends:
                await system.goes_on(40)
                if name == "replaced":
                    for process in replaced:
                        await process.stop(40)
                        process.environ["PYTHONPATH"] = SOURCE
                        await system.service.start()
                found += await _checked(system, people[0], room, replies, rooms, at=1)
            lost = [call for call in sends if call.outcome != "ok"]
            found += finding(not lost, f"{name}: every send is acknowledged", *lost[:5])
        return await system.judge("F45", findings=found)

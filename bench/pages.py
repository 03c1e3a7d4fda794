"""Reads: who one is, pages of history and of rooms; and the log-in."""

import random
import re

from adapters.auth.passwords import CryptContextPasswords
from bench.fill import fill_room, fill_rooms
from bench.load import Load, load, request
from bench.plan import Size
from bench.sends import Measure
from bench.stage import Floor, Running, Stage
from bench.table import Row, in_turn, rates
from tests.e2e.service import PASSWORD
from tests.faults.polling import until

CLIENTS = 16
SMALL = 1_000
ROOMS = 1_000


async def _compare(size: Size, clients: int = CLIENTS, /, **things: Measure) -> dict[str, list[Load]]:
    for measure in things.values():
        await measure(clients, size.warm_up)
    deeds = {name: (lambda m=measure: m(clients, size.seconds)) for name, measure in things.items()}
    return await in_turn(deeds, size.rounds)


def _asking(running: Running, requests: list[str]) -> Measure:
    return lambda clients, seconds: load(running.port, requests, clients, seconds, running.pids)


def _floor(floor: Floor, requests: list[str]) -> Measure:
    return lambda clients, seconds: load(floor.port, requests, clients, seconds, [floor.process.pid])


async def me(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    running, bare = await stage.service("postgres"), await stage.floor("bare")
    found = await _compare(
        size,
        ours=_asking(running, [request("GET", "/auth/me", running.token)]),
        floor=_floor(bare, [request("GET", "/", running.token)]),
        # Anything but a prompt gets an answer of the stub at once, from a protocol without a server around it.
        tool=_floor(await stage.stub(), [request("GET", "/")]),
    )
    rows = {
        "me": rates("me", "GET /auth/me, against a bare ASGI answer", found["ours"], found["floor"], 0.3),
        "tool": rates(
            "tool",
            "the load tool at a bare server, against bare ASGI",
            found["tool"],
            found["floor"],
            1.5,
            note="else the tool is a bottleneck",
        ),
    }
    return [rows[name] for name in names]


async def log_in(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    running = await stage.service("postgres")
    passwords = CryptContextPasswords()
    floor = await stage.floor("login", PASSWORD_HASH=await passwords.hash(PASSWORD))
    passwords.close()
    text = request("POST", "/auth/login", "", {"username": running.person.name, "password": PASSWORD})
    found = await _compare(size, 4, ours=_asking(running, [text]), floor=_floor(floor, [text]))
    return [rates("log-in", "log-in, against the password's check alone", found["ours"], found["floor"])]


async def history(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """Pages at the end and anywhere, of a small room and of a large one in one table."""
    running = await stage.service("postgres")
    floor = await stage.floor("page", DATABASE_URL=running.database)
    connection = await stage.connection(running.database)
    things: dict[str, Measure] = {}
    for name, count in (("small", SMALL), ("large", size.large)):
        room = await running.person.room()
        await fill_room(connection, room, running.person.id, count)
        draw = random.Random(count)
        places = [count + 1, *(draw.randint(51, count) for _ in range(31))]
        paths = [f"/rooms/{room}/messages?limit=50&before={place}" for place in places]
        things[name] = _asking(running, [request("GET", path, running.token) for path in paths])
        things[f"{name} floor"] = _floor(floor, [request("GET", f"/history/{room}/{place - 1}") for place in places])
    found = await _compare(size, **things)
    large = f"{size.large:,}"
    rows = {
        "history-small": rates(
            "history-small", f"page of 50 in a room of {SMALL:,}", found["small"], found["small floor"], 0.5
        ),
        "history-large": rates(
            "history-large", f"page of 50 in a room of {large}", found["large"], found["large floor"], 0.5
        ),
        "history-growth": rates(
            "history-growth", f"a room of {large}, against one of {SMALL:,}", found["large"], found["small"], 1 / 1.1
        ),
    }
    return [rows[name] for name in names]


async def rooms(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    running = await stage.service("postgres")
    connection = await stage.connection(running.database)
    await fill_rooms(connection, running.person.id, ROOMS)
    floor = await stage.floor("page", DATABASE_URL=running.database)
    text = request("GET", "/rooms/?limit=50", running.token)
    found = await _compare(size, ours=_asking(running, [text]), floor=_floor(floor, [request("GET", "/rooms")]))
    rows = {"rooms": rates("rooms", f"page of 50 of {ROOMS:,} rooms", found["ours"], found["floor"])}
    if "rooms-statements" in names:
        count = await _statements(stage, running)
        rows["rooms-statements"] = Row(
            name="rooms-statements",
            what="statements for a page of rooms",
            ours=count,
            target="1",
            met=count == 1,
            note="those on rooms, in PostgreSQL's log; the token is looked up once a second besides",
        )
    return [rows[name] for name in names]


async def _statements(stage: Stage, running: Running) -> float:
    """How many statements on rooms the database was given for one page, by its own log."""
    log, times = (await stage.postgres()).process.log, 20
    control = await stage.connection(running.database)

    def logged() -> list[str]:
        return re.split(r"(?m)^(?=chat-api\|)", log.read_text(errors="replace").rpartition("a mark")[2])[1:]

    async def seen() -> bool:
        await running.person.get("/rooms/?limit=50")
        return any("rooms" in record for record in logged())

    await control.execute("ALTER SYSTEM SET log_line_prefix = '%a|'")
    await control.execute("ALTER SYSTEM SET log_statement = 'all'")
    await control.execute("SELECT pg_reload_conf()")
    await until(seen, 20, "PostgreSQL logs statements")
    await control.execute("SELECT 'a mark'")
    for _ in range(times):
        await running.person.get("/rooms/?limit=50")
    found = sum("FROM rooms" in record for record in logged())
    await control.execute("ALTER SYSTEM SET log_statement = 'none'")
    await control.execute("SELECT pg_reload_conf()")
    return found / times

"""Blocking sends: by the service on each of its databases, and by hand."""

import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.floors import pgbench
from bench.floors.send import token
from bench.load import Load, load, request
from bench.plan import Size
from bench.stage import Floor, Running, Stage, several
from bench.table import Row, in_turn, missing, paired, rates

CLIENTS = (1, 16, 64)
ROOMS = 64
#: The least ratio at 16 clients: to the floor, and for SQLite to our own on PostgreSQL.
TARGETS = {"postgres": 0.6, "redis": 0.35, "sqlite": 1.0}
WHAT = {
    "postgres": "send, PostgreSQL, in process",
    "redis": "send, PostgreSQL, Redis and a worker",
    "sqlite": "send, SQLite, against ours on PostgreSQL",
    "default": "send, PostgreSQL, prompts of 40 and summaries",
    "analyzed": "send, PostgreSQL, in process, after ANALYZE of both",
}
NAMES = {f"send-{kind}-{clients}": (kind, clients) for kind in TARGETS for clients in CLIENTS} | {
    "send-default-16": ("default", 16),
    "send-analyzed-16": ("analyzed", 16),
}
#: What the floor does, and no more: a prompt of ten messages, and nothing that is asked of the model beside it.
ALIKE = {"CONTEXT_MESSAGES": "10", "SUMMARIES": "off"}
_BODY = {"content": "Hello there, how are you today? This is a message of a usual length."}

Measure = Callable[[int, float], Awaitable[Load]]


async def floor(stage: Stage) -> Floor:
    """The floor's server, on a database of its own in the same PostgreSQL."""
    postgres = await stage.postgres()
    url, stub = postgres.url("floor"), f"{await stage.stub_url()}/v1beta/models/stub:generateContent"
    if not await (await stage.connection(postgres.url("postgres"))).fetchval(
        "SELECT 1 FROM pg_database WHERE datname = 'floor'"
    ):
        await postgres.execute("CREATE DATABASE floor")
    return await stage.floor("send", DATABASE_URL=url, STUB=stub)


def of_floor(floor: Floor) -> Measure:
    requests = [request("POST", "/chat", token(), _BODY)]
    return lambda clients, seconds: load(floor.port, requests, clients, seconds, [floor.process.pid])


async def of_service(running: Running) -> Measure:
    rooms = await several(ROOMS, running.person.room)
    requests = [request("POST", f"/chat/{room}", running.token, _BODY) for room in rooms]
    return lambda clients, seconds: load(running.port, requests, clients, seconds, running.pids)


async def database_alone(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """The floor against what the database gives to pgbench for the floor's two statements."""
    name, what = names[0], "the hand-written send, against pgbench, 16 clients"
    postgres = await stage.postgres()
    program = pgbench.program(Path(postgres.process.command[0]))
    if program is None:
        return [missing(name, what, "pgbench is not installed, and not in the wheel of PostgreSQL")]
    clients, url = 16, postgres.url("floor")
    by_hand = of_floor(await floor(stage))
    await by_hand(clients, size.warm_up)
    found: dict[str, list[float]] = {"hand": [], "pgbench": []}
    for _ in range(size.few):
        found["hand"].append((await by_hand(clients, size.seconds)).rate)
        found["pgbench"].append(await pgbench.sends(program, url, clients, size.seconds, stage.directory))
    hand, bench = (statistics.median(rates) for rates in found.values())
    note = "two statements and no more: what the database alone would give"
    ratio = paired(found["hand"], found["pgbench"])
    return [Row(name=name, what=what, unit="/s", ours=hand, floor=bench, ratio=ratio, note=note)]


async def sends(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    kinds = {NAMES[name][0] for name in names}
    wanted = [NAMES[name] for name in names if name != "send-analyzed-16"]
    measures = {"floor": of_floor(await floor(stage))}
    # SQLite is held against ours on PostgreSQL.
    on_postgres = kinds & {"sqlite", "analyzed"}
    started = [kind for kind in TARGETS if kind in kinds or (kind == "postgres" and on_postgres)]
    for kind, running in zip(started, await stage.services(started, ALIKE), strict=True):
        measures[kind] = await of_service(running)
    if "default" in kinds:
        measures["default"] = await of_service(await stage.service("postgres"))
    for measure in measures.values():
        await measure(16, size.warm_up)
    rows: dict[str, Row] = {}
    for clients in sorted({clients for _, clients in wanted}):
        deeds = {
            name: (lambda m=measure: m(clients, size.seconds))  # noqa: B023
            for name, measure in measures.items()
            if name != "default" or clients == 16
        }
        # What has a target is measured more often.
        rounds = size.rounds if clients == 16 else size.few
        found = await in_turn(deeds, rounds)
        for kind in kinds:
            if (kind, clients) not in wanted:
                continue
            name, against = f"send-{kind}-{clients}", found["postgres" if kind == "sqlite" else "floor"]
            what = f"{WHAT[kind]}, {clients} client{'s' if clients > 1 else ''}"
            rows[name] = rates(name, what, found[kind], against, TARGETS.get(kind) if clients == 16 else None)
    if "analyzed" in kinds:
        databases = [(await stage.postgres()).url("floor"), (await stage.service("postgres", ALIKE)).database]
        for url in databases:
            await (await stage.connection(url)).execute("ANALYZE")
        deeds = {name: (lambda m=measures[name]: m(16, size.seconds)) for name in ("floor", "postgres")}
        by_hand, ours = (await in_turn(deeds, size.rounds)).values()
        note = "a database that is being filled has no statistics before autovacuum comes by, once a minute"
        rows["send-analyzed-16"] = rates(
            "send-analyzed-16", f"{WHAT['analyzed']}, 16 clients", ours, by_hand, note=note
        )
    return [rows[name] for name in names]

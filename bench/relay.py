"""Answers as streams: the time to the first token, and the tokens relayed, against asking the provider directly."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.load import cpu_seconds, request
from bench.plan import BURST, BURSTS, FIRST, RATE, STREAMS, Size
from bench.stage import Running, Stage, several
from bench.table import Row, in_turn, paired
from bench.tools import ask

FIRST_NAMES = {f"first-token-{kind}": kind for kind in ("postgres", "redis", "sqlite")}
RELAY_NAMES = ["relay-postgres", "relay-redis", "burst-postgres", "burst-redis"]


@dataclass(frozen=True)
class Streams:
    """What readers of streams met. Times are in milliseconds; ``firsts`` are those of each request; ``cpu`` is the
    server's, in seconds."""

    tokens: int
    refused: int
    seconds: float
    rates: list[float]
    firsts: list[list[float]]
    delays: list[float]
    cpu: float


Read = Callable[[], Awaitable[Streams]]


@dataclass(frozen=True)
class Asked:
    """What there is to be read, each stream's port and its request; and whose CPU it is that is asked for."""

    requests: list[tuple[int, str]]
    pids: list[int]

    def reads(self, *, times: int = 1, alone: bool = False, spread: float = 0, delays: bool = False) -> Read:
        asked = {"requests": self.requests, "times": times, "alone": alone, "spread": spread, "delays": delays}

        async def read() -> Streams:
            before = cpu_seconds(self.pids)
            found = await ask("stream_client", asked)
            return Streams(**found, cpu=cpu_seconds(self.pids) - before)

        return read


async def direct(stage: Stage, model: str, streams: int) -> Asked:
    """The provider, as an adapter asks it."""
    stub = await stage.stub()
    path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello there, how are you today?"}]}]}
    return Asked([(stub.port, request("POST", path, "", body))] * streams, [stub.process.pid])


async def through(running: Running, model: str, streams: int) -> Asked:
    """Each stream is a send to a room of its own, whose AI has that model."""

    async def asked() -> tuple[int, str]:
        room = await running.person.room()
        changed = await running.person.patch(f"/rooms/{room}", {"ai": {"model": f"gemini:{model}"}})
        assert changed.status_code == 200, changed.text
        text = request("POST", f"/chat/{room}", running.token, {"content": "Hello there, how are you today?"})
        return running.port, text.replace("\r\n", "\r\nAccept: text/event-stream\r\n", 1)

    return Asked(await several(streams, asked), running.pids)


async def first_token(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """One stream at a time, and after each one of the provider's own: it is as warm then as the service finds it."""
    times = 10
    provider = await direct(stage, FIRST, 1)
    reads: dict[str, Read] = {}
    for name in names:
        ours = await through(await stage.service(FIRST_NAMES[name]), FIRST, 1)
        reads[name] = Asked(ours.requests + provider.requests, ours.pids).reads(times=times, alone=True)
    await in_turn(reads, 1 if size.quick else 3)
    found = await in_turn(reads, 4 if size.quick else 20)
    rows: list[Row] = []
    for name in names:
        firsts, floors = ([first for read in found[name] for first in read.firsts[which]] for which in (0, 1))
        late = sorted(firsts)[len(firsts) * 95 // 100]
        over = statistics.median(first - floor for first, floor in zip(firsts, floors, strict=True))
        median, floor = statistics.median(firsts), statistics.median(floors)
        rows.append(
            Row(
                name=name,
                what=f"time to the first token, {FIRST_NAMES[name]}",
                unit=" ms",
                ours=median,
                floor=floor,
                ratio=median / floor,
                target="+5 ms",
                met=over <= 5,
                cpu_ms=_middle(found[name], lambda read: read.cpu) * 1000 / times,
                note=f"+{over:.1f} ms at the median; 95th {late:.1f} ms",
            )
        )
    return rows


def _middle(reads: list[Streams], of: Callable[[Streams], float]) -> float:
    return statistics.median(of(read) for read in reads)


def _share(read: Streams) -> float:
    """Of what is offered."""
    return statistics.fmean(min(RATE, rate) for rate in read.rates) / RATE


def _trouble(reads: list[Streams], tokens: int) -> str:
    refused = sum(read.refused for read in reads)
    whole = all(read.tokens == tokens for read in reads)
    return (f"; {refused} sends refused with 503 and repeated" if refused else "") + ("" if whole else "; NOT WHOLE")


def _late(read: Streams) -> float:
    return read.delays[len(read.delays) * 99 // 100]


async def paced(stage: Stage, size: Size, kind: str) -> Row:
    """100 streams of 100 tokens a second."""
    seconds = size.paced
    model = f"paced-{seconds * RATE}-{RATE}"
    # They begin within a quarter of the time: 100 sends at one moment are another matter.
    floor = await direct(stage, model, STREAMS)
    ours = await through(await stage.service(kind), model, STREAMS)
    await (await through(await stage.service(kind), FIRST, 16)).reads(times=5)()
    reads = {name: one.reads(spread=seconds / 4, delays=True) for name, one in (("ours", ours), ("floor", floor))}
    found = await in_turn(reads, 1 if size.quick else 2)
    share, floor_share = (_middle(found[name], _share) for name in ("ours", "floor"))
    late, floor_late = (_middle(found[name], _late) for name in ("ours", "floor"))
    trouble = _trouble(found["ours"], STREAMS * RATE * seconds)
    median = _middle(found["ours"], lambda read: statistics.median(read.delays))
    cpu = _middle(found["ours"], lambda read: read.cpu / read.tokens) * 1000
    return Row(
        name=f"relay-{kind}",
        what=f"{STREAMS} streams of {RATE} tokens a second, {kind}",
        ours=share,
        floor=floor_share,
        ratio=share / floor_share,
        target=">= 0.95",
        met=share >= 0.95 and late < 100 and not trouble,
        cpu_ms=cpu,
        note=f"share of the offered; a token's delay: median {median:.0f} ms, 99th {late:.0f} ms (target < 100), "
        f"directly {floor_late:.0f} ms; CPU a token" + trouble,
    )


async def burst(stage: Stage, size: Size, kind: str) -> Row:
    """20 streams of 1,000 tokens, as fast as they go."""
    model = f"burst-{BURST}"
    floor = await direct(stage, model, BURSTS)
    ours = await through(await stage.service(kind), model, BURSTS)
    reads = {"ours": ours.reads(), "floor": floor.reads()}
    await in_turn(reads, 1)
    found = await in_turn(reads, size.few)
    rates = {name: [read.tokens / read.seconds for read in found[name]] for name in ("ours", "floor")}
    ratio = paired(rates["ours"], rates["floor"])
    trouble = _trouble(found["ours"], BURSTS * BURST)
    return Row(
        name=f"burst-{kind}",
        what=f"{BURSTS} streams of {BURST:,} tokens at once, {kind}",
        unit="/s",
        ours=statistics.median(rates["ours"]),
        floor=statistics.median(rates["floor"]),
        ratio=ratio,
        target=">= 0.2",
        met=ratio >= 0.2 and not trouble,
        cpu_ms=_middle(found["ours"], lambda read: read.cpu / read.tokens) * 1000,
        floor_cpu_ms=_middle(found["floor"], lambda read: read.cpu / read.tokens) * 1000,
        note="tokens; CPU a token" + trouble,
    )


async def relay(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    what, _, kind = names[0].partition("-")
    return [await (paced if what == "relay" else burst)(stage, size, kind)]

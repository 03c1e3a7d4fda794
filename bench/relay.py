"""Answers as streams: the time to the first token, and the tokens relayed, against asking the provider directly."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench.load import cpu_seconds, request
from bench.plan import BURST, BURSTS, FIRST, RATE, STREAMS, Size
from bench.stage import Running, Stage, several
from bench.table import Row, in_turn, paired
from bench.tools import ask

FIRST_NAMES = {f"first-token-{kind}": kind for kind in ("postgres", "redis", "sqlite")}
RELAY_NAMES = ["relay-postgres", "relay-redis", "burst-postgres", "burst-redis"]


@dataclass(frozen=True)
class Streams:
    """What readers of streams met. Times are in milliseconds; ``cpu`` is the server's, in seconds."""

    tokens: int
    refused: int
    seconds: float
    rates: list[float]
    firsts: list[float]
    delays: list[float]
    cpu: float


Read = Callable[[], Awaitable[Streams]]


async def read(
    port: int, requests: list[str], pids: list[int], *, times: int = 1, spread: float = 0, delays: bool = False
) -> Streams:
    before = cpu_seconds(pids)
    asked = {"port": port, "requests": requests, "times": times, "spread": spread, "delays": delays}
    found = await ask("stream_client", asked)
    return Streams(**found, cpu=cpu_seconds(pids) - before)


async def direct(stage: Stage, model: str, streams: int, **more: Any) -> Read:
    """The provider, as an adapter asks it."""
    stub = await stage.stub()
    path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello there, how are you today?"}]}]}
    requests = [request("POST", path, "", body)] * streams
    return lambda: read(stub.port, requests, [stub.process.pid], **more)


async def through(running: Running, model: str, streams: int, **more: Any) -> Read:
    """Each stream is a send to a room of its own, whose AI has that model."""

    async def asked() -> str:
        room = await running.person.room()
        changed = await running.person.patch(f"/rooms/{room}", {"ai": {"model": f"gemini:{model}"}})
        assert changed.status_code == 200, changed.text
        text = request("POST", f"/chat/{room}", running.token, {"content": "Hello there, how are you today?"})
        return text.replace("\r\n", "\r\nAccept: text/event-stream\r\n", 1)

    requests = await several(streams, asked)
    return lambda: read(running.port, requests, running.pids, **more)


async def first_token(stage: Stage, size: Size, names: list[str]) -> list[Row]:
    """One stream at a time, a few here and a few there."""
    times = 10
    rounds = 4 if size.quick else 20
    reads = {"direct": await direct(stage, FIRST, 1, times=times)}
    for name in names:
        reads[name] = await through(await stage.service(FIRST_NAMES[name]), FIRST, 1, times=times)
    await in_turn(reads, 1 if size.quick else 3)
    found = await in_turn(reads, rounds)
    firsts = {name: sorted(first for read in met for first in read.firsts) for name, met in found.items()}
    floor, rows = statistics.median(firsts["direct"]), []
    for name in names:
        late, median = firsts[name][len(firsts[name]) * 95 // 100], statistics.median(firsts[name])
        rows.append(
            Row(
                name=name,
                what=f"time to the first token, {FIRST_NAMES[name]}",
                unit=" ms",
                ours=median,
                floor=floor,
                ratio=median / floor,
                target="+5 ms",
                met=median - floor <= 5,
                cpu_ms=_middle(found[name], lambda read: read.cpu) * 1000 / times,
                note=f"+{median - floor:.1f} ms at the median; 95th {late:.1f} ms",
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
    floor = await direct(stage, model, STREAMS, spread=seconds / 4, delays=True)
    ours = await through(await stage.service(kind), model, STREAMS, spread=seconds / 4, delays=True)
    await (await through(await stage.service(kind), FIRST, 16, times=5))()
    found = await in_turn({"ours": ours, "floor": floor}, 1 if size.quick else 2)
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
    await in_turn({"ours": ours, "floor": floor}, 1)
    found = await in_turn({"ours": ours, "floor": floor}, size.rounds)
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

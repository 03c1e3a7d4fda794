"""How long a message takes to everyone in a busy room: from the send's acknowledgement to the last one who sees it.

Run by hand, on a machine that does nothing else: ``.venv/bin/python -m bench.fanout [subscribers] [per second]``. The
service runs in one process with SQLite, its clients in another, the sender in a third; the floor is a bare broadcast
by the same server to the same clients.
"""

import asyncio
import statistics
import sys
import time

import aiohttp
import httpx
from bench.live import Clients, a_room, server, service

SECONDS = 10
TARGET_MS = 250.0


async def send(url: str, path: str, headers: dict[str, str], rate: int) -> list[float]:
    """When each send was acknowledged. They go out at the same pace however long each takes."""
    acknowledged = [0.0] * (rate * SECONDS)
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one(number: int) -> None:
            async with http.post(url + path, json={"content": f"msg-{number:06d}"}) as answer:
                await answer.read()
                assert answer.status < 300, answer.status
            acknowledged[number] = time.monotonic()

        began, sends = time.monotonic(), []
        for number in range(len(acknowledged)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            sends.append(asyncio.create_task(one(number)))
        await asyncio.gather(*sends)
    return acknowledged


def report(name: str, clients: Clients, count: int, acknowledged: list[float]) -> float:
    end = time.monotonic() + 30
    while True:
        tally = clients.tally()
        if sum(tally["got"].values()) >= count * len(acknowledged) or time.monotonic() > end:
            break
        time.sleep(0.2)
    missed = count * len(acknowledged) - sum(tally["got"].values())
    waits = sorted((tally["last"][str(number)] - at) * 1000 for number, at in enumerate(acknowledged))
    median = statistics.median(waits)
    print(
        f"{name:<10} acknowledgement to the last of {count}: median {median:7.1f} ms   "
        f"95th {waits[len(waits) * 95 // 100]:7.1f} ms   most {waits[-1]:7.1f} ms   missed {missed}"
    )
    return median


def main(count: int, rate: int) -> None:
    with service() as (url, _), httpx.Client() as http:
        room, token = a_room(url, http)
        clients = Clients("ws", url, count, "/ws", token, room)
        headers = {"Authorization": f"Bearer {token}"}
        median = report("rooms", clients, count, asyncio.run(send(url, f"/chat/{room}", headers, rate)))
        clients.close()
    with server([sys.executable, "-m", "bench.floor", "PORT"]) as (url, _):
        clients = Clients("ws", url, count, "/ws")
        report("bare", clients, count, asyncio.run(send(url, "/", {}, rate)))
        clients.close()
    print(f"target for rooms: a median below {TARGET_MS:g} ms: {'met' if median < TARGET_MS else 'missed'}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [500, 50][len(given) :]))

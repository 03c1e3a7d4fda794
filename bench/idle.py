"""What an idle stream costs: the memory of 2,000 on one process, and whether that goes on answering.

Run by hand: ``.venv/bin/python -m bench.idle [how many]``. First server-sent events, then WebSockets with one
subscription each, all in one room and of one person; the clients are in a process of their own.
"""

import resource
import sys
import time
from pathlib import Path

import httpx
from bench.live import Clients, a_room, service

TARGET_KB = 30.0


def memory_kb(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def main(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * count)), hard))
    for kind in ("sse", "ws"):
        with service() as (url, pid), httpx.Client() as http:
            room, token = a_room(url, http)
            warm = Clients(kind, url, 50, f"/rooms/{room}/events" if kind == "sse" else "/ws", token, room)
            warm.close()
            time.sleep(2)
            before = memory_kb(pid)
            clients = Clients(kind, url, count, f"/rooms/{room}/events" if kind == "sse" else "/ws", token, room)
            worst = 0.0
            for _ in range(100):
                began = time.perf_counter()
                assert http.get(f"{url}/health").status_code == 200
                worst = max(worst, (time.perf_counter() - began) * 1000)
                time.sleep(0.1)
            each = (memory_kb(pid) - before) / count
            still = clients.tally()["open"]
            clients.close()
        print(
            f"{kind:<4} {still} of {count} open: {each:5.1f} KB each (target {TARGET_KB:g}), "
            f"{before / 1024:.0f} MB before; /health took {worst:.1f} ms at the most"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)

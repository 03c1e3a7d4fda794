"""The fake provider as a process: ``python -m chat_core.testing.fake_provider --port 8199 [--ledger FILE]
[--offer NAME[=DAY]]``.

The ledger is also at ``GET /ledger``, as lines of JSON; ``DELETE /ledger`` empties it. It runs until it is
interrupted or terminated.
"""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from chat_core.testing.fake_provider.server import FakeProvider


async def serve(host: str, port: int, ledger: Path | None, offers: Mapping[str, date | None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ledger.open("a", encoding="utf-8")) if ledger else None
        async with FakeProvider(host, port, file) as provider:
            provider.offers = offers or provider.offers
            print(f"the fake provider listens at {provider.url}", flush=True)
            await stop.wait()


def _offer(text: str) -> tuple[str, date | None]:
    name, _, day = text.partition("=")
    return name, date.fromisoformat(day) if day else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chat_core.testing.fake_provider")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8199, help="0 takes any free one")
    parser.add_argument("--ledger", type=Path, help="a file to append each request to, as a line of JSON")
    parser.add_argument(
        "--offer", action="append", default=[], type=_offer, metavar="NAME[=DAY]", help="a model to list, and its end"
    )
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port, arguments.ledger, dict(arguments.offer)))


if __name__ == "__main__":
    main()

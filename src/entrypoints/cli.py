"""``chat-api``: the service from a terminal. What a command needs is imported when it runs."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 a problem found, 2 it could not begin, 130 stopped."""
    options = _parser().parse_args(arguments)
    from entrypoints import commands

    command = getattr(commands, options.command)
    return int(command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chat-api", description="Rooms where several people and an AI talk.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the HTTP API")
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (PORT, 8000)")
    serve.add_argument("--workers", type=int, help="how many processes (WORKERS, 1)")

    worker = commands.add_parser("worker", help="make replies from the queue on Redis (REDIS_URL)")
    worker.add_argument("--processes", type=int, default=1, help="how many processes (1)")
    worker.add_argument("--threads", type=int, default=4, help="how many threads of each take from the queue (4)")
    worker.add_argument("--concurrency", type=int, default=200, help="how many replies each makes at once (200)")

    migrate = commands.add_parser("migrate", help="bring the database to the schema of this version")
    migrate.add_argument("--check", action="store_true", help="change nothing; exit code 1 if it does not fit")

    commands.add_parser("doctor", help="say what is configured, reachable and missing; exit code 1 on a problem")

    ask = commands.add_parser("ask", help="ask the language model (LLM) from here; exit code 1 without an answer")
    ask.add_argument("prompt", help="what to ask")
    ask.add_argument("--model", metavar="PROVIDER:MODEL", help="ask this one instead of those that LLM names")

    listed = commands.add_parser("providers", help="list the language model providers, and which ones LLM names")
    what = listed.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="ask each model of LLM whether it is there; 1 if not")
    what.add_argument("--models", action="store_true", help="list what each offers that is set up; 1 if one fails")

    commands.add_parser("version", help="print the version")
    return parser


if __name__ == "__main__":
    sys.exit(main())

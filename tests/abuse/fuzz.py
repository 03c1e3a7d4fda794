"""Ask a running service all that its OpenAPI document allows, and all that it forbids.

``python -m tests.abuse.fuzz [--requests 100000] [--seed 1]``: Schemathesis with all its checks, as somebody who is
logged in and owns rooms with messages and replies. The exit code is 1 where a check failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.processes import environ, serving
from tests.servers import PostgresServer

HOOKS = Path(__file__).with_name("schema_hooks.py")
CONFIG = HOOKS.with_name("schemathesis.toml")
PASSWORD = "correct horse battery"

SETTINGS = {
    "LLM": "echo",
    "RATE_LIMITS": "off",
    "SEND_WAIT": "1",
    "ACCESS_TOKEN_TTL": "86400",
    "LOG_LEVEL": "WARNING",
    "SECRET_KEY": "a-key-of-tests-with-enough-characters-0123456789",
}


@dataclass(frozen=True)
class Fuzzed:
    """What came of it."""

    #: How many answers had each status.
    statuses: Counter[int]
    #: What Schemathesis reports of failed checks; empty where all held.
    failures: str

    @property
    def requests(self) -> int:
        return self.statuses.total()

    @property
    def server_errors(self) -> int:
        return sum(number for status, number in self.statuses.items() if status >= 500 and status != 503)


def _settle(url: str) -> dict[str, Any]:
    """Somebody with rooms, messages and replies, and what there is to know of them."""
    with httpx.Client(base_url=url, timeout=60) as http:
        users = []
        for name in ("owner", "guest"):
            body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            users.append(http.post("/auth/signup", json=body).raise_for_status().json()["data"]["user"]["id"])
        session = http.post("/auth/login", json={"username": "owner", "password": PASSWORD}).raise_for_status().json()
        http.headers["Authorization"] = f"Bearer {session['access_token']}"
        rooms = []
        for number in range(3):
            created = http.post("/rooms/", json={"name": f"Room {number}"}).raise_for_status().json()
            id_ = created["data"]["room"]["id"]
            sent = [
                http.post(f"/chat/{id_}", json={"content": text}).raise_for_status().json()["data"]
                for text in ("hello", "again")
            ]
            answers = [data["messages"]["ai_message"]["id"] for data in sent]
            prompts = [data["messages"]["user_message"]["id"] for data in sent]
            replies = [data["reply"]["id"] for data in sent]
            rooms.append({"id": id_, "messages": prompts + answers, "answers": answers, "replies": replies})
        return {
            "token": session["access_token"],
            "password": PASSWORD,
            "users": users,
            "guest": "guest",
            "rooms": rooms,
        }


def fuzz(database_url: str, cwd: Path, *, cases: int, seed: int = 1, seconds: float = 3600) -> Fuzzed:
    """``cases`` of each operation, and those that Schemathesis derives from the document by itself."""
    with serving(cwd, log=cwd / "log", DATABASE_URL=database_url, **SETTINGS) as url:
        known = _settle(url)
        counts = cwd / "counts.json"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{url}/openapi.json", "--checks", "all"),
            *("--max-examples", str(cases), "--seed", str(seed), "--generation-database", "none"),
            *("--continue-on-failure", "--workers", "1", "--no-color", "--request-timeout", "30", "--warnings", "off"),
            # It judges how fast cases are made, by the clock: a machine that is busy is no fault of the service.
            *("--suppress-health-check", "too_slow"),
        ]
        env = environ(
            SCHEMATHESIS_HOOKS=str(HOOKS), FUZZ_URL=url, FUZZ_KNOWN=json.dumps(known), FUZZ_COUNTS=str(counts)
        )
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds, check=False)
        statuses = Counter({int(status): number for status, number in json.loads(counts.read_text()).items()})
    return Fuzzed(statuses, "" if done.returncode == 0 else done.stdout + done.stderr)


def main(arguments: list[str]) -> int:
    """Rounds of other seeds, on both databases at once, until so many requests were put."""
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000, help="how many in all, at least")
    parser.add_argument("--cases", type=int, default=100, help="how many for an operation in a round, at the most")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first round")
    asked = parser.parse_args(arguments)
    statuses: Counter[int] = Counter()
    seed, failed = asked.seed, False

    def one(database_url: str, directory: str) -> Fuzzed:
        return fuzz(database_url, Path(directory), cases=asked.cases, seed=seed)

    with closing(PostgresServer()) as postgres, ThreadPoolExecutor(2) as threads:
        while statuses.total() < asked.requests:
            with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
                urls = {"sqlite": f"sqlite:///{first}/chat.db", "postgres": postgres.fresh_database()}
                for name, found in zip(urls, threads.map(one, urls.values(), (first, second)), strict=True):
                    statuses += found.statuses
                    failed = failed or bool(found.failures) or found.server_errors > 0
                    print(f"{found.failures}{name}, seed {seed}: {found.requests} requests", flush=True)
            print(f"{statuses.total()} requests in all", flush=True)
            seed += 1
    print("answers by status:", dict(sorted(statuses.items())))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

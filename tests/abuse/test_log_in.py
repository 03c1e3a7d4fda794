"""The log-in tells nothing, and a flood of it holds nobody else up."""

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from adapters.auth.passwords import CryptContextPasswords
from entrypoints.container import memory_container
from tests.abuse.conftest import Start
from tests.e2e.processes import COMMAND, environ, free_port, running, serving, wait_for_http
from tests.e2e.service import PASSWORD, people, served

SETTINGS = {
    "LLM": "echo",
    "SECRET_KEY": "a-key-of-tests-with-enough-characters-0123456789",
    "LOG_LEVEL": "WARNING",
    "RATE_LIMITS": "off",
}


@pytest.mark.abuse("A20")
async def test_every_log_in_that_fails_is_told_the_same(start: Start):
    async with start() as url, people(url, "ada", "gone") as [ada, gone]:
        ended = await gone.http.request("DELETE", "/auth/me", json={"password": PASSWORD})
        assert ended.status_code == 204
        told = set()
        logins = ("ada", "ADA", "ada@example.com", "gone", "gone@example.com", "nobody", "a@b.example", "\u0000", " ")
        for login in logins:
            for password in ("wrong", "x" * 1024, "\u0000"):
                body = {"username": login, "password": password}
                answer = await ada.http.post("/auth/login", json=body, headers={"X-Request-ID": "same"})
                headers = tuple((name, text) for name, text in answer.headers.items() if name != "date")
                told.add((answer.status_code, headers, answer.content))
        [(status, _, _)] = told
        assert status == 401


def smirnov(first: list[float], second: list[float]) -> float:
    """The probability of samples at least so far apart where both come from one distribution (Kolmogorov-Smirnov,
    two-sided, asymptotic)."""
    values = sorted(first + second)
    ranked = (sorted(first), sorted(second))
    apart, at = 0.0, [0, 0]
    for value in values:
        for side, sample in enumerate(ranked):
            while at[side] < len(sample) and sample[at[side]] <= value:
                at[side] += 1
        apart = max(apart, abs(at[0] / len(first) - at[1] / len(second)))
    size = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    scaled = (size + 0.12 + 0.11 / size) * apart
    if scaled < 0.2:
        return 1.0
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)))


def test_two_samples_of_one_kind_are_told_from_two_of_different_kinds():
    even, odd = [n / 100 for n in range(0, 200, 2)], [n / 100 for n in range(1, 200, 2)]
    assert smirnov(even, odd) > 0.99
    assert smirnov(even, [value + 1 for value in odd]) < 0.001


@pytest.mark.long
@pytest.mark.abuse("A20")
def test_a_log_in_takes_as_long_for_a_name_that_there_is_not(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    """300 interleaved tries: a fact about equal work, which no other way shows from outside."""
    with serving(tmp_path, log=None, **SETTINGS) as url, httpx.Client(base_url=url, timeout=30) as http:
        for number in range(20):
            body = {"username": f"ada{number}", "email": f"ada{number}@example.com", "password": PASSWORD}
            http.post("/auth/signup", json=body).raise_for_status()
        took: dict[str, list[float]] = {"ada": [], "nobody": []}
        for number in range(320):
            for name, times in took.items():
                began = time.perf_counter()
                answer = http.post("/auth/login", json={"username": f"{name}{number % 20}", "password": "a wrong one"})
                times.append(time.perf_counter() - began)
                assert answer.status_code == 401
    known, unknown = (times[20:] for times in took.values())
    record_property("medians in ms", [round(statistics.median(times) * 1000, 2) for times in (known, unknown)])
    apart = abs(statistics.median(known) - statistics.median(unknown)) * 1000
    probability = smirnov(known, unknown)
    record_property("Kolmogorov-Smirnov p", round(probability, 3))
    assert apart < 5
    assert probability > 0.01


@pytest.mark.abuse("A28")
async def test_a_flood_of_log_ins_leaves_the_rest_of_the_service_awake():
    """Whoever asks for something else is answered while the flood goes on, and who comes too many is told to wait."""
    container = memory_container()
    passwords = CryptContextPasswords(workers=1, waiting=10)
    container.passwords.override(passwords)
    async with served(container) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, verify=False) as crowd:  # noqa: S501
            over = asyncio.Event()

            async def goes_on(password: str) -> list[httpx.Response]:
                """Until it is told to wait, or all is over: whose password is looked at comes again."""
                had: list[httpx.Response] = []
                while not had or (had[-1].status_code != 503 and not over.is_set()):
                    had.append(await crowd.post("/auth/login", json={"username": "ada", "password": password}))
                return had

            flood = [asyncio.create_task(goes_on(PASSWORD if number % 2 else "wrong")) for number in range(200)]
            while not any(log_in.done() for log_in in flood):
                assert (await ada.get("/health")).status_code == 200
            for _ in range(10):
                assert (await ada.get("/auth/me")).status_code == 200
                assert (await ada.send(room, "hello")).status_code == 201
            assert not all(log_in.done() for log_in in flood), "they were answered while others logged in"
            over.set()
            answers = [answer for had in await asyncio.gather(*flood) for answer in had]
    found = Counter(answer.status_code for answer in answers)
    assert found.keys() <= {200, 401, 503}
    assert found[503] > 100
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["type"] == "urn:chat-api:problem:server-full"
    passwords.close()


@pytest.mark.long
@pytest.mark.abuse("A28")
async def test_a_flood_of_log_ins_takes_the_memory_of_its_threads_alone(tmp_path: Path):
    port, log = free_port(), tmp_path / "log"
    with running([*COMMAND, "serve", "--port", str(port)], tmp_path, log, environ(**SETTINGS)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/health", process, log)
        async with people(url, "ada") as [ada]:

            def peak() -> int:
                status = Path(f"/proc/{process.pid}/status").read_text()
                return int(status.partition("VmHWM:")[2].split()[0])

            before = peak()
            for _ in range(3):
                bodies = [{"username": "ada", "password": "wrong"} for _ in range(200)]
                await asyncio.gather(*(ada.http.post("/auth/login", json=body) for body in bodies))
            # Two threads hash, with 19 MiB each; what 200 requests and connections take comes on top.
            assert peak() - before < 3 * 19 * 1024

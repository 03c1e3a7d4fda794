"""What the fault tests lean on keeps its own promises: waiting, recording, and following readiness."""

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.faults.balancer import Balancer
from tests.faults.history import Finding
from tests.faults.outcomes import Outcome, table
from tests.faults.polling import until
from tests.faults.processes import Process
from tests.faults.recorder import Recorder
from tests.faults.service import Api


class Backend:
    """Stands in for an API: says its name, and whether it is ready."""

    def __init__(self, name: str) -> None:
        self.name, self.is_ready, self.port, self.served = name, True, 0, 0

    async def __aenter__(self) -> "Backend":
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def readiness(self) -> dict[str, Any]:
        return {"code": 200 if self.is_ready else 503}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.served += 1
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-length: {len(self.name)}\r\nconnection: close\r\n\r\n{self.name}".encode()
        )
        writer.close()


async def _names(url: str, count: int) -> set[str]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        found = set()
        for _ in range(count):
            async with session.get(url) as answer:
                found.add(await answer.text())
    return found


async def test_a_balancer_asks_those_that_are_ready_and_them_alone():
    async with Backend("a") as a, Backend("b") as b, Balancer(cast("list[Api]", [a, b]), every=0.01) as balancer:
        assert await _names(balancer.url, 4) == {"a", "b"}
        a.is_ready = False
        await until(lambda: len(balancer._ready) == 1, 5, "the balancer sees it")
        assert await _names(balancer.url, 4) == {"b"}
        a.is_ready = True
        await until(lambda: len(balancer._ready) == 2, 5, "the balancer sees it")
        assert await _names(balancer.url, 4) == {"a", "b"}


async def test_who_refuses_the_connection_is_passed_over():
    async with Backend("a") as a, Backend("b") as b, Balancer(cast("list[Api]", [a, b]), every=60) as balancer:
        a.server.close()
        assert await _names(balancer.url, 4) == {"b"}
        assert balancer.resets == 0


async def test_waiting_ends_when_it_is_so_and_names_what_was_not():
    answers = iter([False, False, True])
    assert await until(lambda: next(answers), 5, "it is so") < 1
    with pytest.raises(TimeoutError, match="the moon is blue"):
        await until(lambda: False, 0.01, "the moon is blue")


async def test_a_failure_to_ask_is_no_answer():
    async def refused() -> bool:
        raise ConnectionRefusedError

    with pytest.raises(TimeoutError) as caught:
        await until(refused, 0.01, "somebody is there")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_call_is_written_down_before_it_has_an_outcome():
    times = iter([1.0, 2.0, 3.0])
    recorder = Recorder(clock=lambda: next(times))
    call = recorder.begin("send", "api0", room_id="r", user_id="u", m_id="m")
    assert (call.outcome, call.ended, recorder.sends) == ("open", None, [call])
    recorder.end(call, "ok", seq=7)
    assert (call.begun, call.ended, call.seq, recorder.keys) == (1.0, 2.0, 7, 1)


async def test_a_process_that_is_killed_takes_along_what_it_started(tmp_path: Path):
    code = (
        "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('{\"level\": \"ERROR\"}', flush=True)"
    )
    process = Process("parent", [sys.executable, "-c", f"{code}; time.sleep(60)"], tmp_path / "log")
    process.start()
    await until(process.records, 10, "it says something")
    process.send_signal(15)  # type: ignore[arg-type]
    await process.ended(5)
    assert process.left
    process.kill()
    await process.nothing_left(5)
    assert process.records() == [{"level": "ERROR"}]
    assert process.exit_code == -15


def test_the_table_has_a_row_for_each_fault_with_all_its_tries():
    bad = Outcome(fault="X1", sends=5, findings=[Finding(check="lost", what="gone")], recovery=2.0, bound=3.0)
    rows = table([Outcome(fault="X1", sends=5, recovery=1.0, bound=3.0), bad]).splitlines()
    assert [cell.strip() for cell in rows[2].strip("|").split("|")] == [
        "X1", "2", "10", "1", "0", "0", "0", "0", "2.00", "3", "NO",
    ]  # fmt: skip

"""Programs of ours that put a load, each in one process for a whole run: to start one takes as long as to measure."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: The longest line, in bytes: a relay's has the delay of every token.
_LONGEST = 2**26

_tools: dict[str, "_Tool"] = {}


async def ask(module: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What ``python -m bench.MODULE`` says to this, one at a time. Raises ``AssertionError`` where it fails."""
    tool = _tools.setdefault(module, _Tool(module))
    try:
        return await tool.ask(asked)
    except BaseException:
        # Whatever it would still say belongs to what was asked now.
        await _tools.pop(module).end()
        raise


async def end() -> None:
    """End them all."""
    while _tools:
        await _tools.popitem()[1].end()


async def answer(find: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """In such a program: a line of JSON on the standard output for each on the standard input."""
    reader = asyncio.StreamReader(limit=_LONGEST)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await find(json.loads(line))), flush=True)


class _Tool:
    def __init__(self, module: str) -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"bench.{self._module}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,
                limit=_LONGEST,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        line = await process.stdout.readline()
        assert line, (await process.stderr.read()).decode()[-500:]
        found: dict[str, Any] = json.loads(line)
        return found

    async def end(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()

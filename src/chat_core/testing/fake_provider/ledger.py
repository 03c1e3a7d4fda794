"""What the fake provider was asked, and how each request ended."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

#: Requests that are kept; older ones are forgotten, so that a benchmark does not fill the memory.
KEPT = 20_000
_KEY_HEADERS = frozenset({"x-goog-api-key", "authorization", "x-api-key", "api-key"})


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request. ``answered`` says how it ended: a status, ``complete``, a fault's name, or ``client-closed``.

    ``headers`` hold no key, only whether there was one.
    """

    number: int
    at: float = field(default_factory=time.time)
    method: str
    path: str
    model: str = ""
    prompt: str = ""
    body: Any = None
    headers: dict[str, str]
    has_key: bool
    key_in_url: bool
    status: int = 0
    chunks: int = 0
    answered: str = ""

    @property
    def open(self) -> bool:
        return not self.answered

    @property
    def client_closed(self) -> bool:
        """Whether the client left before the answer's end."""
        return self.answered == "client-closed"


class Ledger:
    """The requests, oldest first. Iterate over it, ask for its length, or wait for it to change."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._asked: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._file = file
        self._open = 0
        self.total = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index]

    def begin(self, method: str, path: str, headers: dict[str, str], body: Any) -> Entry:
        """Write down a request as it comes in."""
        self.total += 1
        self._open += 1
        path, _, query = path.partition("?")
        entry = Entry(
            number=self.total,
            method=method,
            path=path,
            body=body,
            headers={name: value for name, value in headers.items() if name not in _KEY_HEADERS},
            has_key=not _KEY_HEADERS.isdisjoint(headers),
            key_in_url="key=" in query,
        )
        self._entries.append(entry)
        self._changed.set()
        return entry

    def end(self, entry: Entry, answered: str) -> None:
        """Write down how it ended."""
        entry.answered = answered
        self._open -= 1
        self._changed.set()
        if self._file is not None:
            self._file.write(line(entry))
            self._file.flush()

    def asked_before(self, prompt: str) -> int:
        """How often this prompt was asked before; the question counts as asking."""
        count = self._asked.get(prompt, 0)
        self._asked[prompt] = count + 1
        return count

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._asked.clear()
        self.total = 0

    async def wait(self, *, requests: int = 0, seconds: float = 10.0) -> None:
        """Return once at least ``requests`` came in and none is open. Raises ``TimeoutError`` after ``seconds``."""
        async with asyncio.timeout(seconds):
            while self.total < requests or self._open:
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_request(self, number: int = 1, seconds: float = 10.0) -> Entry:
        """The request with this number, once it came in. Raises ``TimeoutError`` after ``seconds``."""
        async with asyncio.timeout(seconds):
            while True:
                for entry in self:
                    if entry.number == number:
                        return entry
                self._changed.clear()
                await self._changed.wait()


def line(entry: Entry) -> str:
    """The entry as a line of JSON."""
    return json.dumps(asdict(entry), ensure_ascii=False) + "\n"

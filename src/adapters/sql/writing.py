"""SQLite's writer: what comes while it is busy is done in its next turn, as one transaction.

It is a program of its own, which ``writer.py`` starts: ``python writing.py`` speaks over its standard input and
output, in frames of a length, four bytes, and a value, marshalled. It is told the database's path, what to say on a
connection, how long to wait for other processes' locks, and the texts of the procedures; then each call. It ends with
its input, and leaves signals to who started it.

Nothing but the standard library is here, so that it is there some 25 ms after it was first asked for.
"""

import json
import marshal
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

#: Some calls of one procedure that ask alike: which one, whose they are, and in one text what has come of them.
Group = tuple[int, list[int], str]
#: What a call takes: its values, and what it asks besides.
Given = tuple[Sequence[Any], Sequence[Any]]
#: Its number, which procedure it calls, until when, by the monotonic clock, it may wait for locks, and what it takes.
Call = tuple[int, int, float, Given]

#: What is said of a turn, in this order: what has come of its calls, and that it is on the disk; or else that all of it
#: came to nothing, and why.
FOUND, COMMITTED, FAILED = range(3)
#: So many calls are one statement; a text for each, since a text says how many.
SIZES = (16, 8, 4, 2, 1)
#: A wait for a turn, in seconds, that is not worth a statement to take it off the wait for locks.
_AT_ONCE = 0.05

_LENGTH = struct.Struct("<I")


class Texts(NamedTuple):
    """A procedure: its call, by the number of calls at once; how what has come of calls is found, in one row of a text
    and of how many there were; which of what is asked each parameter of that is, or none for the keys of the calls;
    and which of a call's values is its key."""

    calls: dict[int, str]
    finding: str
    asked: list[int | None]
    key_at: int


class Frames:
    """Values out of bytes, which come in any pieces."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, more: bytes) -> list[Any]:
        """Those that are whole by now."""
        self._bytes += more
        values: list[Any] = []
        at = 0
        while len(self._bytes) - at >= _LENGTH.size:
            begin = at + _LENGTH.size
            end = begin + _LENGTH.unpack_from(self._bytes, at)[0]
            if end > len(self._bytes):
                break
            values.append(marshal.loads(bytes(self._bytes[begin:end])))  # noqa: S302 - by our own process
            at = end
        del self._bytes[:at]
        return values


def frame(value: Any) -> bytes:
    """Raises ``ValueError`` for what is no plain value."""
    text = marshal.dumps(value)
    return _LENGTH.pack(len(text)) + text


def patience_ms(busy: float, waited: float) -> int:
    """How long to wait for locks, in milliseconds, of ``busy`` seconds of which so many are over."""
    return max(0, round((busy - waited if waited > _AT_ONCE else busy) * 1000))


def described(error: Exception) -> tuple[str, str, int | None, str | None]:
    return (
        type(error).__name__,
        str(error),
        getattr(error, "sqlite_errorcode", None),
        getattr(error, "sqlite_errorname", None),
    )


def error_of(name: str, words: str, code: int | None, code_name: str | None) -> Exception:
    """One like that which was described, where it is SQLite's; of any other it has the words."""
    kind: type[sqlite3.Error] | None = getattr(sqlite3, name, None)
    if kind is None:
        return RuntimeError(f"{name}: {words}")
    error = kind(words)
    if code is not None and code_name is not None:
        error.sqlite_errorcode, error.sqlite_errorname = code, code_name
    return error


def do(raw: sqlite3.Connection, texts: Texts, calls: Sequence[Given]) -> tuple[list[tuple[list[int], str]], bool]:
    """Do all of them, in order, and find what has come of each: of those that ask alike, their places and the text
    that was found. And whether something has come of all. Where one fails, none of those in the same statement is done.
    """
    at = 0
    while at < len(calls):
        size = next(size for size in SIZES if size <= len(calls) - at)
        raw.execute(texts.calls[size], [value for taken, _ in calls[at : at + size] for value in taken])
        at += size
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (_, asked) in enumerate(calls):
        alike.setdefault(tuple(asked), []).append(place)
    found: list[tuple[list[int], str]] = []
    come = 0
    for asked, places in alike.items():
        keys = json.dumps([calls[place][0][texts.key_at] for place in places])
        parameters = [keys if at is None else asked[at] for at in texts.asked]
        [[text, count]] = raw.execute(texts.finding, parameters).fetchall()
        found.append((places, text))
        come += count
    return found, come == len(calls)


class Writer:
    """A connection, opened when it is first needed, and anew after a turn that failed. It ``says`` what becomes of each
    turn. ``busy`` is how long it waits for other processes' locks, in seconds, at the most.

    A turn is done straight on. Where one of its calls fails, or comes to nothing and has changed something, it is done
    again call by call, with a savepoint for each: that is seldom, and takes as long as most of what they do.
    """

    def __init__(
        self, path: str, opening: Iterable[str], busy: float, procedures: Sequence[Texts], says: Callable[[Any], None]
    ) -> None:
        self._path, self._opening, self._busy = path, tuple(opening), busy
        self._procedures, self._says = procedures, says
        self._raw: sqlite3.Connection | None = None
        self._waits = -1

    def turn(self, calls: Sequence[Call]) -> None:
        numbers = [call[0] for call in calls]
        try:
            raw = self._connection(self._busy + time.monotonic() - min(call[2] for call in calls))
            raw.execute("BEGIN IMMEDIATE")
            done = self._straight(raw, calls)
            if done is None:
                raw.execute("ROLLBACK")
                raw.execute("BEGIN IMMEDIATE")
                done = self._one_by_one(raw, calls)
            self._says((FOUND, numbers, *done))
            raw.execute("COMMIT")
        except BrokenPipeError:
            raise  # nobody is there to be told
        except Exception as error:  # noqa: BLE001 - it is told to those whose calls they were
            self.close()
            self._says((FAILED, numbers, described(error)))
        else:
            self._says((COMMITTED, numbers))

    def _connection(self, waited: float) -> sqlite3.Connection:
        """It waits for locks for as long as is left."""
        if self._raw is None:
            self._raw = sqlite3.connect(self._path, isolation_level=None, timeout=self._busy)
            self._waits = round(self._busy * 1000)
            for statement in self._opening:
                self._raw.execute(statement)
        wanted = patience_ms(self._busy, waited)
        if wanted != self._waits:
            self._waits = wanted
            self._raw.execute(f"PRAGMA busy_timeout={wanted}")
        return self._raw

    def _straight(self, raw: sqlite3.Connection, calls: Sequence[Call]) -> tuple[list[Group], list[Any]] | None:
        """What has come of them, a procedure's calls together; nothing where something has to be undone."""
        of_each: dict[int, list[Call]] = {}
        for call in calls:
            of_each.setdefault(call[1], []).append(call)
        groups: list[Group] = []
        for procedure, its in of_each.items():
            before = raw.total_changes
            try:
                found, all_came = do(raw, self._procedures[procedure], [given for _, _, _, given in its])
            except Exception:  # noqa: BLE001 - it is raised again when it is done again
                return None
            if not all_came and raw.total_changes != before:
                return None
            groups += ((procedure, [its[place][0] for place in places], text) for places, text in found)
        return groups, []

    def _one_by_one(self, raw: sqlite3.Connection, calls: Sequence[Call]) -> tuple[list[Group], list[Any]]:
        groups: list[Group] = []
        errors: list[Any] = []
        for number, procedure, _, given in calls:
            raw.execute("SAVEPOINT one")
            try:
                [(_, text)], came = do(raw, self._procedures[procedure], [given])
            except Exception as error:
                if not raw.in_transaction:
                    raise  # such that SQLite has undone everything
                errors.append((number, described(error)))
                raw.execute("ROLLBACK TO one")
            else:
                if came:
                    groups.append((procedure, [number], text))
                else:
                    raw.execute("ROLLBACK TO one")
            raw.execute("RELEASE one")
        return groups, errors

    def close(self) -> None:
        """Close the connection, if there is one. What was not committed is undone."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def main() -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)

    def say(value: Any) -> None:
        data = frame(value)
        while data:
            data = data[os.write(1, data) :]

    frames = Frames()
    writer: Writer | None = None
    try:
        while data := os.read(0, 1 << 20):
            calls = frames.take(data)
            if writer is None and calls:
                path, opening, busy, procedures = calls.pop(0)
                writer = Writer(path, opening, busy, [Texts(*each) for each in procedures], say)
            if writer is not None and calls:
                writer.turn(calls)
    except BrokenPipeError:
        pass  # who started it is gone
    finally:
        if writer is not None:
            writer.close()


if __name__ == "__main__":
    main()

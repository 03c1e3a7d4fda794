"""Several statements as one call (SQLite), which has no procedures: what is inserted into a view is what they take.

A statement of Python's sqlite3 gives up the interpreter's lock and waits for it again, which costs more than most
statements do. Those of a trigger are carried out without a word to Python; and what is inserted may be several rows,
each of which is a call, so that what comes from many at once is one statement.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from msgspec import json
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from adapters.sql.compiled import is_constant, writing

_DIALECT = sqlite.dialect()
_Written: Any = writing(_DIALECT.statement_compiler)


class _Inner(_Written):  # type: ignore[misc]
    """Of a statement in a trigger: its parameters are columns of the row that is inserted."""

    def visit_bindparam(self, bindparam: sa.BindParameter[Any], **kw: Any) -> str:
        text: str = super().visit_bindparam(bindparam, **kw)
        return text if is_constant(bindparam) else f'NEW."{bindparam.key}"'


#: Such as are done together; a text for each, since a text says how many.
_SIZES = (16, 8, 4, 2, 1)

Given = tuple[Sequence[Any], tuple[Any, ...]]


class Procedure:
    """``statements``, one after the other, each seeing what those before it did; all of them or none.

    ``setup`` makes it on a connection, for as long as that lasts. ``finds`` looks what has come of calls: it takes
    their values of the parameter ``known_by`` as an array of JSON, ``known``, and what they ask besides, named in
    ``asks``; and gives one text, which ``reads`` makes pairs of, each of a place in that array and what was found.
    Those that came to nothing are not among them, and must have changed nothing.
    """

    def __init__(
        self,
        name: str,
        *statements: sa.Executable,
        known_by: str,
        finds: sa.Executable,
        reads: Callable[[str], Iterable[tuple[int, Any]]],
        asks: Sequence[str] = (),
    ) -> None:
        inner = [_Inner(_DIALECT, cast("sa.ClauseElement", statement)) for statement in statements]
        processors: dict[str, Any] = {}
        for each in cast("Sequence[SQLCompiler]", inner):
            for key, bindparam in each.binds.items():
                if not is_constant(bindparam):
                    processors.setdefault(key, each._bind_processors.get(key))
        self._taken = tuple(processors)
        self._processed = [(at, processor) for at, processor in enumerate(processors.values()) if processor is not None]
        self._known_at = self._taken.index(known_by)
        columns = ", ".join(f'"{key}"' for key in processors)
        nothing = ", ".join(f'NULL AS "{key}"' for key in processors)
        body = "; ".join(str(each) for each in inner)
        self.setup = (
            f'CREATE TEMP VIEW "{name}" AS SELECT {nothing}',
            f'CREATE TEMP TRIGGER "do_{name}" INSTEAD OF INSERT ON "{name}" BEGIN {body}; END',
        )
        row = f"({', '.join('?' * len(processors))})"
        into = f'INSERT INTO "{name}" ({columns}) VALUES '  # noqa: S608 - names of our own
        self._calls = {size: into + ", ".join([row] * size) for size in _SIZES}
        finding = cast("SQLCompiler", _Written(_DIALECT, cast("sa.ClauseElement", finds)))
        self._finding = str(finding)
        self._asked = [None if key == "known" else asks.index(key) for key in finding.positiontup or ()]
        self._reads = reads

    def given(self, parameters: Mapping[str, Any], *asked: Any) -> Given:
        """What a call takes; a parameter that is not given is null."""
        taken = list(map(parameters.get, self._taken))
        for at, processor in self._processed:
            if (value := taken[at]) is not None:
                taken[at] = processor(value)
        return taken, asked

    def do(self, raw: sqlite3.Connection, calls: Sequence[Given]) -> list[Any]:
        """Do all of them, in order, and say what came of each: what was found, or nothing. Where one fails, none of
        those in the same statement is done."""
        at = 0
        while at < len(calls):
            size = next(size for size in _SIZES if size <= len(calls) - at)
            raw.execute(self._calls[size], [value for taken, _ in calls[at : at + size] for value in taken])
            at += size
        outcomes: list[Any] = [None] * len(calls)
        alike: dict[tuple[Any, ...], list[int]] = {}
        for place, (_, asked) in enumerate(calls):
            alike.setdefault(asked, []).append(place)
        for asked, places in alike.items():
            known = json.encode([calls[place][0][self._known_at] for place in places]).decode()
            parameters = [known if at is None else asked[at] for at in self._asked]
            [[text]] = raw.execute(self._finding, parameters).fetchall()
            for among, found in self._reads(text):
                outcomes[places[among]] = found
        return outcomes

"""Several statements as one call (SQLite), which has no procedures: what is inserted into a view is what they take.

A statement of Python's sqlite3 gives up the interpreter's lock and waits for it again, which costs more than most
statements do. Those of a trigger are carried out without a word to Python; and what is inserted may be several rows,
each of which is a call, so that what comes from many at once is one statement.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from adapters.sql import compiled, writing
from adapters.sql.writing import SIZES, Given, Texts

_DIALECT = sqlite.dialect()
_Written: Any = compiled.writing(_DIALECT.statement_compiler)


class _Inner(_Written):  # type: ignore[misc]
    """Of a statement in a trigger: its parameters are columns of the row that is inserted."""

    def visit_bindparam(self, bindparam: sa.BindParameter[Any], **kw: Any) -> str:
        text: str = super().visit_bindparam(bindparam, **kw)
        return text if compiled.is_constant(bindparam) else f'NEW."{bindparam.key}"'


def _plain_of(type_: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    return _plain_text if isinstance(type_, sa.String) else None


def _plain_text(value: str) -> str:
    """Without what it is besides: an enumeration is nothing that another process could be told of."""
    return value if value.__class__ is str else str.__str__(value)


class Procedure:
    """``statements``, one after the other, each seeing what those before it did; all of them or none.

    ``setup`` makes it on a connection, for as long as that lasts; ``texts`` is how it is called there. ``finds`` looks
    what has come of calls: it takes their values of the parameter ``known_by`` as an array of JSON, ``known``, and what
    they ask besides, named in ``asks``; and gives one text, which ``reads`` makes pairs of, each of a place in that
    array and what was found. Those that came to nothing are not among them, and must have changed nothing.
    """

    def __init__(
        self,
        name: str,
        *statements: sa.Executable,
        known_by: str,
        finds: sa.Select[Any],
        reads: Callable[[str], Iterable[tuple[int, Any]]],
        asks: Sequence[str] = (),
    ) -> None:
        inner = [_Inner(_DIALECT, cast("sa.ClauseElement", statement)) for statement in statements]
        processors: dict[str, Any] = {}
        for each in cast("Sequence[SQLCompiler]", inner):
            for key, bindparam in each.binds.items():
                if not compiled.is_constant(bindparam):
                    processors.setdefault(key, each._bind_processors.get(key) or _plain_of(bindparam.type))
        self._taken = tuple(processors)
        self._processed = [(at, processor) for at, processor in enumerate(processors.values()) if processor is not None]
        columns = ", ".join(f'"{key}"' for key in processors)
        nothing = ", ".join(f'NULL AS "{key}"' for key in processors)
        body = "; ".join(str(each) for each in inner)
        self.setup = (
            f'CREATE TEMP VIEW "{name}" AS SELECT {nothing}',
            f'CREATE TEMP TRIGGER "do_{name}" INSTEAD OF INSERT ON "{name}" BEGIN {body}; END',
        )
        row = f"({', '.join('?' * len(processors))})"
        into = f'INSERT INTO "{name}" ({columns}) VALUES '  # noqa: S608 - names of our own
        finding = cast("SQLCompiler", _Written(_DIALECT, finds.add_columns(sa.func.count())))
        self.texts = Texts(
            calls={size: into + ", ".join([row] * size) for size in SIZES},
            finding=str(finding),
            asked=[None if key == "known" else asks.index(key) for key in finding.positiontup or ()],
            key_at=self._taken.index(known_by),
        )
        self.reads = reads

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
        outcomes: list[Any] = [None] * len(calls)
        found, _ = writing.do(raw, self.texts, calls)
        for places, text in found:
            for among, outcome in self.reads(text):
                outcomes[places[among]] = outcome
        return outcomes

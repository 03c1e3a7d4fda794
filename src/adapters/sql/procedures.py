"""Several statements as one call (SQLite), which has no procedures: what is inserted into a view is what they take.

A statement of Python's sqlite3 gives up the interpreter's lock and waits for it again, which costs more than most
statements do. Those of a trigger are carried out without a word to Python.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
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


class Procedure:
    """``statements``, one after the other, each seeing what those before it did; all of them or none.

    ``setup`` makes it on a connection, for as long as that lasts; ``call`` does it, with ``parameters``.
    """

    def __init__(self, name: str, *statements: sa.Executable) -> None:
        inner = [_Inner(_DIALECT, cast("sa.ClauseElement", statement)) for statement in statements]
        processors: dict[str, Any] = {}
        for each in cast("Sequence[SQLCompiler]", inner):
            for key, bindparam in each.binds.items():
                if not is_constant(bindparam):
                    processors.setdefault(key, each._bind_processors.get(key))
        self._taken = tuple(processors.items())
        columns = ", ".join(f'"{key}"' for key in processors)
        nothing = ", ".join(f'NULL AS "{key}"' for key in processors)
        body = "; ".join(str(each) for each in inner)
        self.setup = (
            f'CREATE TEMP VIEW "{name}" AS SELECT {nothing}',
            f'CREATE TEMP TRIGGER "do_{name}" INSTEAD OF INSERT ON "{name}" BEGIN {body}; END',
        )
        marks = ", ".join("?" * len(processors))
        self.call = f'INSERT INTO "{name}" ({columns}) VALUES ({marks})'  # noqa: S608 - names of our own

    def parameters(self, given: Mapping[str, Any]) -> Sequence[Any]:
        """In the order of ``call``; what is not given is null."""
        values = ((processor, given.get(key)) for key, processor in self._taken)
        return [value if processor is None or value is None else processor(value) for processor, value in values]

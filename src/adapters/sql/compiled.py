"""Statements of SQLAlchemy's, compiled once and handed to the drivers as text.

Its execution builds a context and a result around each statement, which costs ten times what the driver takes. A
statement is written with SQLAlchemy, and run without it.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from chat_core.values import value

#: Its columns by name. A row is spelled out once, in the function that makes an entity of it.
Row = Any
_Processor = Callable[[Any], Any]
_Processors = Mapping[str, _Processor]


@value()
class Ready:
    """What a driver takes: the text, and the parameters in their order."""

    sql: str
    parameters: Sequence[Any]


def is_constant(bindparam: "sa.BindParameter[Any]") -> bool:
    """Whether it is a number or a word of the statement's own."""
    return bindparam.unique and not bindparam.expanding and isinstance(bindparam.value, (int, str))


def writing(base: type[SQLCompiler]) -> type[SQLCompiler]:
    """A compiler that writes a constant of a statement into its text. PostgreSQL knows what to expect of
    ``status <> 'deleted'``; of a parameter it thinks that it may be anything, and chooses a plan for that, or makes a
    new one for each execution, which takes as long as running it."""

    class Writing(base):  # type: ignore[misc, valid-type]
        def visit_bindparam(self, bindparam: sa.BindParameter[Any], literal_binds: bool = False, **kw: Any) -> str:
            text: str = super().visit_bindparam(bindparam, literal_binds=literal_binds or is_constant(bindparam), **kw)
            return text

    return Writing


class Compiled:
    """One statement in one dialect, for parameters of these names."""

    def __init__(self, statement: sa.Executable, dialect: Dialect, names: Iterable[str]) -> None:
        element = cast("sa.ClauseElement", statement)
        compiler = writing(dialect.statement_compiler)
        self._compiled = compiler(dialect, element, column_keys=sorted(names))
        self._sql = str(self._compiled)
        self._expands = bool(self._compiled.post_compile_params)
        self._given = self._compiled.construct_params(_check=False)
        self._processors = cast("_Processors", self._compiled._bind_processors)
        self._binds = [(name, self._processors.get(name)) for name in self._compiled.positiontup or ()]
        self.values = _values_of(self._compiled, dialect)
        self.rows = _rows_of(self._compiled, self.values)

    def ready(self, parameters: Mapping[str, Any]) -> Ready:
        if self._expands:
            return self._expanded(parameters)
        given = self._given
        return Ready(
            self._sql,
            [
                value if processor is None or value is None else processor(value)
                for name, processor in self._binds
                for value in (parameters[name] if name in parameters else given[name],)
            ],
        )

    def _expanded(self, parameters: Mapping[str, Any]) -> Ready:
        """For a list of values, which is written out anew each time."""
        state = self._compiled.construct_expanded_state(dict(parameters))
        processors = {**self._processors, **cast("_Processors", state.processors)}
        values = [
            value if (processor := processors.get(name)) is None else processor(value)
            for name in state.positiontup or ()
            for value in (state.parameters[name],)
        ]
        return Ready(state.statement, values)


def _values_of(compiled: SQLCompiler, dialect: Dialect) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Makes of what the driver gives the core's values, in the order of the columns."""
    if dialect.name == "postgresql" or not compiled._result_columns:
        # asyncpg gives what the core has: UUIDs, moments with their zone, numbers.
        return lambda found: found
    types = (column.type.dialect_impl(dialect) for column in compiled._result_columns)
    processors = [each.result_processor(dialect, None) for each in types]
    changed = [(at, processor) for at, processor in enumerate(processors) if processor is not None]

    def processed(found: Sequence[Any]) -> Sequence[Any]:
        rows = []
        for values in found:
            cells = list(values)
            for at, processor in changed:
                cells[at] = processor(cells[at])
            rows.append(cells)
        return rows

    return processed


def _rows_of(
    compiled: SQLCompiler, values_of: Callable[[Sequence[Any]], Sequence[Any]]
) -> Callable[[Sequence[Any]], list[Row]]:
    """Makes rows of what the driver gives."""
    columns = compiled._result_columns
    if not columns:
        return list
    row = namedtuple("Row", [column.keyname for column in columns], rename=True)  # type: ignore[misc]
    make = row._make
    return lambda found: [make(values) for values in values_of(found)]


class Compiler:
    """The statements of one database. Nothing is forgotten: they are constants of the modules here."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._known: dict[sa.Executable, dict[tuple[str, ...], Compiled]] = {}

    def __call__(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Compiled:
        known = self._known.get(statement)
        if known is None:
            known = self._known[statement] = {}
        names = tuple(parameters)
        compiled = known.get(names)
        if compiled is None:
            compiled = known[names] = Compiled(statement, self.dialect, names)
        return compiled

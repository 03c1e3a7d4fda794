"""What becomes of a statement before a driver has it."""

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from adapters.sql.compiled import Compiled
from adapters.sql.procedures import Procedure

_words = sa.table("words", sa.column("word", sa.Text), sa.column("place", sa.Integer))
_WORD, _PLACE = sa.bindparam("word", type_=sa.Text), sa.bindparam("place", type_=sa.Integer)


@pytest.mark.parametrize("dialect", [postgresql.asyncpg.dialect(), sqlite.dialect()], ids=lambda each: each.name)
def test_a_constant_is_part_of_the_text_and_a_parameter_is_not(dialect: Dialect):
    """So that PostgreSQL, which sees the text alone, knows what it has to expect."""
    statement = (
        sa.select(_words.c.place)
        .where(_words.c.word != "it's", _words.c.place > 7, _words.c.word == _WORD)
        .order_by(_words.c.place)
        .limit(3)
    )
    ready = Compiled(statement, dialect, ["word"]).ready({"word": "'; DROP TABLE words; --"})
    text = " ".join(ready.sql.split())
    assert "word != 'it''s'" in text
    assert "place > 7" in text
    assert text.endswith(("LIMIT 3", "LIMIT 3 OFFSET 0"))
    assert list(ready.parameters) == ["'; DROP TABLE words; --"]
    assert "DROP" not in text


@pytest.fixture
def connection():
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        connection.execute("CREATE TABLE words (word TEXT UNIQUE, place INTEGER)")
        connection.execute("INSERT INTO words VALUES ('first', 1)")
        yield connection
    connection.close()


def _procedure() -> Procedure:
    """Moves all words on, and puts a new one before them where there were any."""
    did = sa.func.changes() > 0
    move = sa.update(_words).values(place=_words.c.place + 1).where(_words.c.place >= _PLACE)
    row = sa.select(_WORD, _PLACE).where(did)
    return Procedure("put_before", move, sa.insert(_words).from_select(["word", "place"], row))


def _found(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return connection.execute("SELECT word, place FROM words ORDER BY place").fetchall()


def test_a_procedure_does_its_statements_in_order_each_seeing_those_before(connection: sqlite3.Connection):
    procedure = _procedure()
    for statement in procedure.setup:
        connection.execute(statement)
    connection.execute(procedure.call, procedure.parameters({"word": "it's", "place": 1}))
    assert _found(connection) == [("it's", 1), ("first", 2)]
    connection.execute(procedure.call, procedure.parameters({"word": "nowhere", "place": 9}))
    assert _found(connection) == [("it's", 1), ("first", 2)]


def test_of_a_procedure_that_fails_nothing_is_left(connection: sqlite3.Connection):
    procedure = _procedure()
    for statement in procedure.setup:
        connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(procedure.call, procedure.parameters({"word": "first", "place": 1}))
    assert _found(connection) == [("first", 1)]


def test_what_a_procedure_is_not_given_is_null(connection: sqlite3.Connection):
    procedure = _procedure()
    assert list(procedure.parameters({"place": 3})) == [3, None]

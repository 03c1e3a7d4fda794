"""What becomes of a statement before a driver has it."""

import sqlite3
from enum import StrEnum

import pytest
import sqlalchemy as sa
from msgspec import json
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from adapters.sql.compiled import Compiled
from adapters.sql.procedures import Procedure
from adapters.sql.writing import Frames, Given, frame

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
        for statement in PUT_BEFORE.setup:
            connection.execute(statement)
        yield connection
    connection.close()


def _procedure() -> Procedure:
    """Moves all words on, and puts a new one before them where there were any. Says its place, times what is asked."""
    did = sa.func.changes() > 0
    move = sa.update(_words).values(place=_words.c.place + 1).where(_words.c.place >= _PLACE)
    row = sa.select(_WORD, _PLACE).where(did)
    known = sa.func.json_each(sa.bindparam("known")).table_valued("key", "value").alias("known")
    found = sa.func.json_array(known.c.key, _words.c.place * sa.bindparam("times", type_=sa.Integer))
    return Procedure(
        "put_before",
        move,
        sa.insert(_words).from_select(["word", "place"], row),
        known_by="word",
        finds=sa.select(sa.func.json_group_array(found)).select_from(
            known.join(_words, _words.c.word == known.c.value)
        ),
        reads=json.Decoder(list[tuple[int, int]]).decode,
        asks=("times",),
    )


PUT_BEFORE = _procedure()


def _put(word: str, place: int | None, times: int = 1) -> Given:
    return PUT_BEFORE.given({"word": word, "place": place}, times)


def _found(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return connection.execute("SELECT word, place FROM words ORDER BY place").fetchall()


def test_a_procedure_does_its_statements_in_order_each_seeing_those_before(connection: sqlite3.Connection):
    assert PUT_BEFORE.do(connection, [_put("it's", 1)]) == [1]
    assert _found(connection) == [("it's", 1), ("first", 2)]
    assert PUT_BEFORE.do(connection, [_put("nowhere", 9)]) == [None]
    assert _found(connection) == [("it's", 1), ("first", 2)]


def test_of_a_procedure_that_fails_nothing_is_left(connection: sqlite3.Connection):
    with pytest.raises(sqlite3.IntegrityError):
        PUT_BEFORE.do(connection, [_put("second", 1), _put("first", 1)])
    assert _found(connection) == [("first", 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 63, 64])
def test_several_calls_are_done_one_after_the_other(connection: sqlite3.Connection, count: int):
    """Each as if it were alone, whether its statement has one or sixteen of them."""
    calls = [_put(f"word {number}", 1) if number % 5 else _put(f"lost {number}", 99) for number in range(count)]
    done = [number for number in range(count) if number % 5]
    outcomes = PUT_BEFORE.do(connection, calls)
    # The latest is the first now.
    assert outcomes == [len(done) - done.index(number) if number % 5 else None for number in range(count)]
    assert _found(connection) == [
        *((f"word {number}", len(done) - done.index(number)) for number in reversed(done)),
        ("first", len(done) + 1),
    ]


def test_each_call_is_told_what_it_asks(connection: sqlite3.Connection):
    outcomes = PUT_BEFORE.do(connection, [_put("a", 1, 10), _put("b", 1, 1000), _put("c", 1, 10), _put("d", 99, 1000)])
    assert outcomes == [30, 2000, 10, None]


def test_what_a_procedure_is_not_given_is_null():
    assert PUT_BEFORE.given({"place": 3}) == ([3, None], ())


@pytest.mark.parametrize("size", [1, 3, 4, 5, 17, 1000])
def test_what_is_said_to_the_writer_comes_whole_in_whatever_pieces(size: int):
    values = [(1, "it's", b"\x00", None, 1.5), [], "a text " * 50, {16: "sixteen"}]
    said, frames = b"".join(map(frame, values)), Frames()
    assert [value for at in range(0, len(said), size) for value in frames.take(said[at : at + size])] == values


def test_a_text_that_is_more_than_that_is_handed_over_as_a_text():
    """SQLite's driver would take it as it is, another process cannot."""

    class Word(StrEnum):
        ONE = "one"

    taken, _ = PUT_BEFORE.given({"word": Word.ONE, "place": 1})
    assert [type(value) for value in taken] == [int, str]

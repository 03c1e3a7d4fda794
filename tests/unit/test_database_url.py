"""DATABASE_URL is taken in the forms that people have, and refused without showing what is in it."""

import pytest

from adapters.sql.engine import normalize_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("sqlite:///./chat.db", "sqlite+aiosqlite:///./chat.db"),
        ("sqlite:////var/lib/chat.db", "sqlite+aiosqlite:////var/lib/chat.db"),
        ("sqlite+aiosqlite:///chat.db", "sqlite+aiosqlite:///chat.db"),
        (" postgresql://user:pw@host/db\n", "postgresql+asyncpg://user:pw@host/db"),
        ("postgres://user:pw@host:5433/db", "postgresql+asyncpg://user:pw@host:5433/db"),
        ("postgresql+asyncpg://user:p%40w@host/db", "postgresql+asyncpg://user:p%40w@host/db"),
        ("postgresql://postgres@/db?host=/run/pg", "postgresql+asyncpg://postgres@/db?host=%2Frun%2Fpg"),
        ("postgres://u:pw@host/db?sslmode=require", "postgresql+asyncpg://u:pw@host/db?ssl=require"),
    ],
)
def test_everyday_forms_are_taken(given: str, normal: str) -> None:
    assert normalize_url(given).render_as_string(hide_password=False) == normal


@pytest.mark.parametrize(
    "given",
    [
        "",
        "chat.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:chat?mode=memory",
        "sqlite://chat.db",
        "mysql://user:secret@host/db",
        "postgresql+psycopg2://user:secret@host/db",
        "postgresql://user:secret@host",
        "postgresql://user:secret@host:port/db",
        "postgresql://user:secret@host/db?options=secret",
    ],
)
def test_other_forms_are_refused_by_the_settings_name_and_without_the_password(given: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refusal:
        normalize_url(given)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None

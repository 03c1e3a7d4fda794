"""Run by Alembic: on the connection that ``adapters.sql.migrate`` hands over, or on one to DATABASE_URL."""

import asyncio
import os
from typing import Literal

import sqlalchemy as sa
from alembic import context

from adapters.sql.engine import normalize_url
from adapters.sql.migrate import migrating
from adapters.sql.tables import Id, UtcDateTime, metadata


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """A revision stays what it was when a type of ours changes: it spells out what the type stores."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return "sa.Uuid()" if kind == "type" and isinstance(item, Id) else False


def run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite cannot alter most of a table: it is copied instead.
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_on_url() -> None:
    try:
        url = normalize_url(os.environ["DATABASE_URL"])
    except KeyError:
        raise SystemExit("Set DATABASE_URL to the database to work on.") from None
    async with migrating(url) as connection:
        await connection.run_sync(run)


if context.is_offline_mode():
    raise SystemExit("Only online: batch migrations look at the tables they change.")
handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    asyncio.run(run_on_url())

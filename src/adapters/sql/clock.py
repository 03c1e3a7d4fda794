"""The database's clock."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class database_now_ms(FunctionElement[int]):  # noqa: N801 - used as a SQL function is
    """Milliseconds since 1970 as the database's clock shows them, at the moment the row is looked at.

    A number, and not a timestamp: SQLite has none, and a lease is only ever compared and added to.
    """

    type = sa.BigInteger()
    inherit_cache = True


@compiles(database_now_ms, "postgresql")
def _postgresql(_element: object, _compiler: object, **_: Any) -> str:
    # Not now(), which stands still from the transaction's beginning on.
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(database_now_ms, "sqlite")
def _sqlite(_element: object, _compiler: object, **_: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"

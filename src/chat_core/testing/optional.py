"""What not every adapter can show: clauses about it are skipped where a fixture gives ``None``."""

from typing import TypeVar

import pytest

_T = TypeVar("_T")


def shown(value: _T | None, fixture: str) -> _T:
    """What the fixture of this name gives; else the clause is skipped."""
    if value is None:
        pytest.skip(f"the fixture `{fixture}` is not overridden: this adapter cannot show it, or does not")
    return value

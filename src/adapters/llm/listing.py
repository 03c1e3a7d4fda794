"""Lists of models: what providers say of their models' ends, and how long lists are read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeVar, cast

import msgspec

from chat_core.errors import ModelBadAnswer
from chat_core.ports.language_model import OfferedModel

_List = TypeVar("_List")
#: A list of more pages is no list.
PAGES_MAX = 50


def read(decoder: msgspec.json.Decoder[_List], body: bytes, who: str) -> _List:
    """What the body of a list says. Raises ``ModelBadAnswer``."""
    try:
        return decoder.decode(body)
    except ValueError as error:
        raise ModelBadAnswer(f"{who}: the list of models cannot be read") from error


async def pages(
    page: Callable[[str], Awaitable[tuple[Sequence[OfferedModel], str]]], who: str
) -> tuple[OfferedModel, ...]:
    """All models of a list that comes in pages: ``page`` is given where to begin, "" at first, and says where the next
    one does. Raises ``ModelBadAnswer`` for a list without an end."""
    found: list[OfferedModel] = []
    begin = ""
    for _ in range(PAGES_MAX):
        models, following = await page(begin)
        found += models
        if not following or following == begin:
            return tuple(found)
        begin = following
    raise ModelBadAnswer(f"{who}: the list of models has more than {PAGES_MAX} pages")


def day_of(value: Any) -> date | None:
    """The day that a provider writes in one of many ways: ``2026-12-31``, with or without a time behind it; seconds
    since 1970; or one of these for ``inference``. What is no day, as a ``true``, is none."""
    if isinstance(value, Mapping):
        return day_of(cast("Mapping[str, Any]", value).get("inference"))
    try:
        if isinstance(value, str):
            return date.fromisoformat(value[:10])
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return datetime.fromtimestamp(value, UTC).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None

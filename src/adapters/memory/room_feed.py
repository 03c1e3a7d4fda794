"""News of rooms within one process."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chat_core.ports.delivery import RoomFeed, RoomNews

log = logging.getLogger(__name__)


class MemoryRoomFeed(RoomFeed):
    """Tells those who listen in this process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[RoomNews], None]] = {}

    async def tell(self, news: RoomNews) -> None:
        self.spread(news)

    def spread(self, news: RoomNews) -> None:
        """Tell everyone here, at once."""
        for heard in list(self._listeners.values()):
            try:
                heard(news)
            except Exception:
                # It must not raise; where it does all the same, the others and the teller are not to suffer.
                log.exception("a listener for news of rooms failed")

    @contextmanager
    def listen(self, heard: Callable[[RoomNews], None]) -> Iterator[None]:
        key = object()
        self._listeners[key] = heard
        try:
            yield
        finally:
            del self._listeners[key]

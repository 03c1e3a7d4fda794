"""What is shown live."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from chat_core.domain.ids import RoomId, UserId
from chat_core.domain.room import RoomEvent
from chat_core.values import value

T = TypeVar("T")


@value(kw_only=True)
class Somebody:
    """Who types, or is there; ``present`` says whether they are, and is ``None`` where it is not about that."""

    user_id: UserId
    username: str
    present: bool | None = None


class LiveEvent:
    """Something that happens in a room: at a place of its log, or, without a ``seq``, only now.

    However many it is shown to, each form of it is made once.
    """

    __slots__ = ("_forms", "about", "kind", "room_id", "seq")

    def __init__(self, room_id: RoomId, kind: str, about: object, seq: int | None = None) -> None:
        self.room_id: Final = room_id
        self.kind: Final = kind
        self.about: Final = about
        self.seq: Final = seq
        self._forms: dict[Callable[[LiveEvent], Any], Any] = {}

    @classmethod
    def of(cls, event: RoomEvent) -> "LiveEvent":
        """What stands at a place of the log."""
        return cls(event.room_id, event.kind.value, event, event.seq)

    def form(self, encode: Callable[["LiveEvent"], T]) -> T:
        """What ``encode`` makes of it."""
        try:
            made: T = self._forms[encode]
        except KeyError:
            made = self._forms[encode] = encode(self)
        return made

    @property
    def weight(self) -> int:
        """About how many bytes it takes to keep."""
        about = self.about
        message = about.message if isinstance(about, RoomEvent) else None
        return 1000 + (4 * len(message.content) if message is not None else 0)

"""Who has a room open, here and on other processes."""

from collections.abc import Sequence

from chat_core.domain.ids import UserId
from chat_core.domain.user import Actor

#: How often a process tells the others of its own people, in seconds, and how long they believe it.
REPEAT = 20.0
BELIEVED = 50.0
#: Who comes back within this many seconds was never away: a stream that was renewed, a page that was loaded again.
GRACE = 1.0
#: So many are known of at the most.
MOST = 1000


class Presence:
    """The people of one room. ``people`` are those who are taken to be there, by name."""

    __slots__ = ("_elsewhere", "_here", "_leaving", "people", "said_at")

    def __init__(self) -> None:
        self.people: dict[UserId, str] = {}
        self.said_at = 0.0
        self._here: dict[UserId, int] = {}
        self._elsewhere: dict[UserId, float] = {}
        self._leaving: dict[UserId, float] = {}

    def is_here(self, user_id: UserId) -> bool:
        return user_id in self._here

    @property
    def here(self) -> Sequence[UserId]:
        """Those on this process."""
        return list(self._here)

    def enters(self, actor: Actor) -> bool:
        """Somebody opens the room here, once more or for the first time; says whether they were not there before."""
        self._here[actor.user_id] = self._here.get(actor.user_id, 0) + 1
        return self._appears(actor.user_id, actor.username)

    def leaves(self, user_id: UserId, now: float) -> bool:
        """Somebody closes it here; says whether it was their last."""
        self._here[user_id] -= 1
        if self._here[user_id]:
            return False
        del self._here[user_id]
        if user_id not in self._elsewhere:
            self._leaving[user_id] = now + GRACE
        return True

    def is_elsewhere(self, user_id: UserId, username: str, now: float) -> bool:
        """Another process has somebody; says whether they were not there before."""
        if user_id not in self.people and len(self.people) >= MOST:
            return False
        self._elsewhere[user_id] = now + BELIEVED
        return self._appears(user_id, username)

    def left_elsewhere(self, user_id: UserId, now: float) -> None:
        """Another process no longer has somebody."""
        if self._elsewhere.pop(user_id, None) is not None and user_id not in self._here:
            self._leaving[user_id] = now + GRACE

    def gone(self, now: float) -> Sequence[tuple[UserId, str]]:
        """Those who are no longer there, each once."""
        for user_id in [user_id for user_id, until in self._elsewhere.items() if until <= now]:
            self.left_elsewhere(user_id, now - GRACE)
        due = [user_id for user_id, at in self._leaving.items() if at <= now]
        for user_id in due:
            del self._leaving[user_id]
        return [(user_id, self.people.pop(user_id)) for user_id in due if user_id in self.people]

    def _appears(self, user_id: UserId, username: str) -> bool:
        self._leaving.pop(user_id, None)
        new = user_id not in self.people
        self.people[user_id] = username
        return new

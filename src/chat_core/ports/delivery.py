"""How work and news travel. All of it is hints: the storage is the truth, and what is lost here costs time alone."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import field
from typing import Protocol

from chat_core.domain.ids import ReplyId, RoomId, UserId
from chat_core.domain.reply import Attempt, Part, Place, Reply, Sources
from chat_core.ports.language_model import Conversation
from chat_core.values import value


@value(kw_only=True)
class Prompt:
    """What the model is asked for a reply, and what that was made from.

    ``tokens`` is an estimate of its size; ``too_long`` where that is more than the model takes. ``fold`` is the place
    up to which what was said should be summarised before long; 0 where that is not needed.
    """

    conversation: Conversation
    sources: Sources = field(default_factory=lambda: Sources(seqs=()))
    tokens: int = 0
    too_long: bool = False
    fold: int = 0


@value(kw_only=True)
class Job:
    """A reply that is claimed, and what its maker needs to know.

    ``made`` counts the requests that were made for it before, ``wasted`` their tokens. ``begun`` is the first request
    where that is stored already, as it was foreseen.
    """

    reply: Reply
    prompt: Prompt
    made: int = 0
    wasted: int = 0
    begun: Attempt | None = None


class ReplyQueue(Protocol):
    """Brings queued replies to those who make them."""

    @property
    @abstractmethod
    def makes_here(self) -> bool:
        """Whether a reply that is put now is made in this process, at once: then whoever stores it may claim it in the
        same transaction, and give it to ``make``."""

    @abstractmethod
    async def make(self, job: Job) -> None:
        """Make a reply that was claimed for this process, at once. Returns before it is made; never raises. One that
        is not begun after all is due again when its lease is over."""

    @abstractmethod
    async def put(self, reply_id: ReplyId) -> None:
        """Ask for this reply to be made, soon, once or more than once: the claim decides who makes it.

        Returns before it is made. One that was made, or failed to be, can be put again. Never raises: where the queue
        is away, the reply stays due in the storage.
        """


class Watch(Protocol):
    """An open ear for one reply's row."""

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when the reply is announced, or was since the watch began or last returned; or after ``seconds``;
        or earlier for no reason. Then look at the row. A wait that is cancelled loses no news."""

    @abstractmethod
    def call(self, heard: Callable[[], None]) -> None:
        """Have ``heard`` called, once, when the reply is announced, or soon where it was since the watch began or a
        ``wait`` last returned: as a ``wait`` for those who have something else to do meanwhile. It must not wait or
        raise, and is not called once the watch is left."""


class PartsWatch(Protocol):
    """An open ear for the parts of one reply, and for its row."""

    @property
    @abstractmethod
    def live(self) -> bool:
        """Whether new parts come here by themselves. Where they do not, look into the storage often."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The latest epoch of which anything was heard here; 0 before the first."""

    @property
    @abstractmethod
    def request(self) -> tuple[str, str] | None:
        """What was said with it of the maker's first request."""

    @abstractmethod
    def parts(self, after: Place) -> Sequence[Part]:
        """Parts of the epoch of ``after`` that come right behind it, in order and without a hole; as many as are known
        here. Empty where that epoch is not the latest."""

    @abstractmethod
    async def wait(self, seconds: float) -> bool:
        """Return when there is a new part or epoch, or the row was announced, since the watch began or last returned;
        or after ``seconds``; or earlier for no reason. Says whether the row was announced: then look at it. A wait
        that is cancelled loses no news."""


class ReplyFeed(Protocol):
    """Tells those who wait that something about a reply is new, and carries its parts while it is made.

    ``far``: it reaches other processes, so that what is said to it may take a while.
    """

    far: bool = False

    @abstractmethod
    async def announce(self, reply_id: ReplyId) -> None:
        """Say that the reply's row has changed, after the commit. Never raises."""

    @abstractmethod
    def watch(self, reply_id: ReplyId) -> AbstractAsyncContextManager[Watch]:
        """Listen for changes of the row, from when it is entered until it is left."""

    @abstractmethod
    async def begin(self, reply_id: ReplyId, epoch: int, request: tuple[str, str] | None = None) -> bool:
        """Open this epoch, before its maker makes its first request: parts of earlier ones are taken no more.

        ``request`` is the provider and the model of that request, where it is stored with the claim: then those who
        follow know what has become of the row, and need not look at it before they show the first part. Says whether
        those on other processes will see what is appended. Never raises.
        """

    @abstractmethod
    async def append(self, reply_id: ReplyId, parts: Sequence[Part]) -> bool:
        """Show these parts, the next ones of an epoch that was begun here, to all who watch.

        Says whether those on other processes see all of this epoch's parts; where not, only those on this one do, and
        the storage has to carry them. A later call also brings what an earlier one could not. Never raises.
        """

    @abstractmethod
    async def end(self, reply_id: ReplyId) -> None:
        """The reply has its end, or its maker leaves: its parts may be forgotten, soon. Never raises."""

    @abstractmethod
    def follow(self, reply_id: ReplyId) -> AbstractAsyncContextManager[PartsWatch]:
        """Listen for parts as well, the earlier ones of the latest epoch included, until it is left."""


@value(kw_only=True)
class LogGrew:
    """The log of a room has reached ``seq``; by what may have closed the room to somebody, or only by messages."""

    room_id: RoomId
    seq: int
    moves_doors: bool = True


@value(kw_only=True)
class ReplyChanged:
    """A reply in the room was queued, began, or ended."""

    room_id: RoomId
    reply_id: ReplyId


@value(kw_only=True)
class IsTyping:
    """Somebody types, a moment ago."""

    room_id: RoomId
    user_id: UserId
    username: str


@value(kw_only=True)
class IsPresent:
    """Somebody has the room open on some process, or no longer has."""

    room_id: RoomId
    user_id: UserId
    username: str
    present: bool


RoomNews = LogGrew | ReplyChanged | IsTyping | IsPresent


class RoomFeed(Protocol):
    """Carries news of rooms between processes: what grew, and who is there; never what was said."""

    @abstractmethod
    async def tell(self, news: RoomNews) -> None:
        """Tell everyone who listens, on every process that can be reached. After the commit, where there is one.
        Never raises, and does not wait for anybody."""

    @abstractmethod
    def listen(self, heard: Callable[[RoomNews], None]) -> AbstractContextManager[None]:
        """Have ``heard`` called with all news, from this process too, until it is left. It must not wait or raise."""

"""How work and news travel. Both are hints: the storage is the truth, and what is lost here costs time alone."""

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chat_core.domain.ids import ReplyId


class ReplyQueue(Protocol):
    """Brings queued replies to those who make them."""

    @abstractmethod
    async def put(self, reply_id: ReplyId) -> None:
        """Ask for this reply to be made, soon, once or more than once: the claim decides who makes it.

        Returns before it is made. One that was made, or failed to be, can be put again. Never raises: where the queue
        is away, the reply stays due in the storage.
        """


class Watch(Protocol):
    """An open ear for one reply."""

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when the reply is announced, or was since the watch began or last returned; or after ``seconds``;
        or earlier for no reason. Then look at the row. A wait that is cancelled loses no news."""


class ReplyFeed(Protocol):
    """Tells those who wait that something about a reply is new."""

    @abstractmethod
    async def announce(self, reply_id: ReplyId) -> None:
        """Say that the reply's row has changed, after the commit. Never raises."""

    @abstractmethod
    def watch(self, reply_id: ReplyId) -> AbstractAsyncContextManager[Watch]:
        """Listen from when it is entered until it is left."""

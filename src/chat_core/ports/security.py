"""Passwords and access tokens."""

from abc import abstractmethod
from typing import Protocol
from uuid import UUID

from chat_core.domain.ids import UserId
from chat_core.values import value


@value()
class Verdict:
    """Whether a password is right, and, where its hash is out of date, the one to store instead."""

    right: bool
    new_hash: str | None = None


class Passwords(Protocol):
    """Hashes passwords, slowly and on purpose, beside the event loop.

    At most a few are worked on at once; where too many wait, both methods raise ``ServerFull``.
    """

    @abstractmethod
    async def hash(self, password: str) -> str:
        """A salted hash; two of the same password differ. Every character of the password counts."""

    @abstractmethod
    async def verify(self, password: str, password_hash: str | None) -> Verdict:
        """Whether the password belongs to the hash. With ``None``, or with a hash that cannot be read, the answer is
        no, after the same time."""


@value(kw_only=True)
class AccessToken:
    """A signed token and its life in seconds."""

    text: str
    expires_in: int


@value(kw_only=True)
class Claims:
    """What a live token says: whose it is, and which session it belongs to."""

    user_id: UserId
    session_id: UUID


class Tokens(Protocol):
    """Signs access tokens and reads them again."""

    @abstractmethod
    def issue(self, claims: Claims) -> AccessToken:
        """A token that ``read`` takes until it expires."""

    @abstractmethod
    def read(self, token: str) -> Claims:
        """What the token says. Raises ``NotAuthenticated`` for everything that is not a live access token of ours:
        forged, altered, expired, from the future, for another purpose, or no token at all."""

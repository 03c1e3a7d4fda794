"""Every failure that a use case can report, as one tree.

::

    ChatError
    ├── Invalid                  what was asked makes no sense; says where
    ├── NotAuthenticated         nobody we know
    │   └── WrongCredentials     a log-in that failed, whatever the cause
    ├── Forbidden                seen, but not allowed
    │   └── WrongPassword        of somebody who is logged in: their token is as good as before
    ├── NotFound                 not there, or not for the caller's eyes
    ├── Conflict                 at odds with how things stand
    │   ├── UsernameTaken
    │   ├── EmailTaken
    │   ├── AlreadyMember
    │   ├── OwnerCannotLeave
    │   ├── RoomBusy
    │   ├── NotRetryable
    │   ├── CursorAhead          a cursor beyond the end of the log
    │   ├── RefreshRaced         a refresh token that was spent a moment ago
    │   └── MessageIdReused      the same m_id with other content
    ├── TooMany                  a limit or a quota; says when to come back
    │   ├── RateLimited          too often
    │   ├── TooManyReplies       as many as one person may have in the making
    │   └── QuotaExceeded        the day's tokens are used up
    ├── Unavailable              not now; nothing was written
    │   ├── StorageUnavailable   the database is away
    │   │   └── Contention       two transactions collided: the whole of one may be tried again
    │   ├── OutcomeUnknown       the database was lost during a commit
    │   └── ServerFull           no room for more work
    └── ModelError               the language model gave no answer
        ├── ModelUnavailable     may work later or elsewhere
        │   ├── ModelTimedOut    silent for too long
        │   └── ModelInterrupted the stream was cut short
        ├── ModelRefused         the provider does not take the request: key, model name, quota, input
        │   └── PromptTooLong
        └── ModelBadAnswer       what came back is no answer in the provider's format

Each leaf has a stable ``code``, which clients may rely on, and a ``title`` that is constant for it. ``detail`` is for
the client to read: it holds no secret and nothing of another person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from chat_core.ports.language_model import Usage


class ChatError(Exception):
    """The root: a failure with a stable code. ``detail`` may be shown to the client."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the input: a JSON pointer (RFC 6901) and what is wrong there."""

    pointer: str
    detail: str


class Invalid(ChatError):
    """What was asked makes no sense, whoever asks. ``faults`` says where."""

    code = "invalid-request"
    title = "The request is not valid"

    def __init__(self, detail: str = "", *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or "; ".join(fault.detail for fault in faults))
        self.faults = tuple(faults)

    @classmethod
    def at(cls, pointer: str, detail: str) -> "Invalid":
        """The error for a single fault."""
        return cls(faults=(Fault(pointer, detail),))


class NotAuthenticated(ChatError):
    """No token, or any token that is not a live access token: one error for all causes."""

    code = "not-authenticated"
    title = "A valid access token is needed"


class WrongCredentials(NotAuthenticated):
    """A log-in that failed: unknown name and wrong password look the same."""

    code = "wrong-credentials"
    title = "The name or the password is wrong"


class Forbidden(ChatError):
    """The caller sees it, and may not do this to it."""

    code = "forbidden"
    title = "You are not allowed to do this"


class WrongPassword(Forbidden):
    """The account's password, asked for once more, is wrong. Not a 401: clients take that for the end of a session."""

    code = "wrong-password"
    title = "The password is wrong"


class NotFound(ChatError):
    """It does not exist, or the caller may not know that it does."""

    code = "not-found"
    title = "There is no such thing here"


class Conflict(ChatError):
    """At odds with how things stand."""

    code = "conflict"
    title = "This is at odds with how things stand"


class UsernameTaken(Conflict):
    code = "username-taken"
    title = "This username is taken"


class EmailTaken(Conflict):
    code = "email-taken"
    title = "This e-mail address is taken"


class AlreadyMember(Conflict):
    code = "already-member"
    title = "This person is a member already"


class OwnerCannotLeave(Conflict):
    code = "owner-cannot-leave"
    title = "The owner of a room cannot leave it"


class RoomBusy(Conflict):
    code = "room-busy"
    title = "The room is busy with an answer"


class NotRetryable(Conflict):
    code = "not-retryable"
    title = "This reply cannot be tried again"


class CursorAhead(Conflict):
    """The client knows places that the log does not have: it has to start again, from the log as it is."""

    code = "cursor-ahead"
    title = "The room's log does not reach so far"


class RefreshRaced(Conflict):
    code = "refresh-raced"
    title = "This refresh token was used a moment ago"


class MessageIdReused(Conflict):
    code = "message-id-reused"
    title = "This m_id was used for other content"


class TooMany(ChatError):
    """A limit is reached. ``retry_after`` is in seconds."""

    code = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class RateLimited(TooMany):
    """Too often: ``limit_name`` allows ``count`` in ``seconds``."""

    code = "rate-limited"

    def __init__(self, *, name: str, count: int, seconds: float, retry_after: float) -> None:
        super().__init__(f"The limit is {count} in {seconds:g} seconds.", retry_after=retry_after)
        self.limit_name, self.count, self.seconds = name, count, seconds


class TooManyReplies(TooMany):
    code = "too-many-replies"
    title = "Too many answers are being made for you"


class QuotaExceeded(TooMany):
    code = "quota-exceeded"
    title = "Your tokens for today are used up"


class Unavailable(ChatError):
    """Not now; nothing of what was asked was written. ``retry_after`` is in seconds."""

    code = "unavailable"
    title = "The service cannot do this now"

    def __init__(self, detail: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StorageUnavailable(Unavailable):
    code = "storage-unavailable"
    title = "The database is away"


class Contention(StorageUnavailable):
    """Two transactions collided and this one was undone. The whole of it may be tried again."""

    code = "storage-contention"
    title = "The database is busy"


class OutcomeUnknown(Unavailable):
    """The database was lost during a commit: it may or may not have happened."""

    code = "outcome-unknown"
    title = "It is not known whether this was done"


class ServerFull(Unavailable):
    code = "server-full"
    title = "The server is full"


class ModelError(ChatError):
    """The language model gave no answer. ``detail`` is for the log; clients see code and title alone.

    ``usage`` is what the request cost all the same, where the provider had said so before it failed.
    """

    code = "provider-error"
    title = "The AI could not answer"
    usage: "Usage | None" = None


class ModelUnavailable(ModelError):
    """May work later or elsewhere. ``retry_after`` is the provider's own wish, in seconds."""

    code = "provider-unavailable"
    title = "The AI is not available"

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ModelTimedOut(ModelUnavailable):
    code = "provider-timeout"
    title = "The AI took too long"


class ModelInterrupted(ModelUnavailable):
    """The stream ended without the provider's finish reason."""

    code = "provider-interrupted"
    title = "The AI's answer was cut short"


class ModelRefused(ModelError):
    """The provider does not take the request; asking again in the same way is no use."""

    code = "provider-refused"
    title = "The AI's provider does not take the request"


class PromptTooLong(ModelRefused):
    code = "prompt-too-long"
    title = "The conversation is too long for the AI"


class ModelBadAnswer(ModelError):
    """What came back is no answer in the provider's format."""

    code = "provider-bad-response"
    title = "The AI's provider gave an answer that cannot be read"

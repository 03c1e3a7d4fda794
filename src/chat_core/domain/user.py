"""People with an account."""

import re
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chat_core.domain.ids import UserId
from chat_core.domain.message import is_unicode
from chat_core.errors import Fault, Invalid
from chat_core.values import value

USERNAME_PATTERN = r"^[A-Za-z0-9_.-]{3,32}$"
# What counts as a space is not the same in every dialect of patterns: U+0085 and U+FEFF are named.
EMAIL_PATTERN = r"^[^@\s\x00-\x1f\x7f-\x9f\ufeff]{1,64}@[A-Za-z0-9.-]{1,185}\.[A-Za-z0-9-]{2,63}$"
EMAIL_MAX = 254
PASSWORD_MIN, PASSWORD_MAX = 8, 1024

#: Names that a person could use to pass for the service itself, compared with punctuation and case taken away.
RESERVED_NAMES = frozenset(
    {"admin", "administrator", "ai", "aiassistant", "assistant", "deleteduser", "root", "system"}
)


@value(kw_only=True)
class User:
    """An account. Its name and e-mail are unique without regard to case."""

    id: UserId
    username: str
    email: str
    password_hash: str
    created_at: datetime

    def with_password_hash(self, password_hash: str) -> "User":
        return replace(self, password_hash=password_hash)


@value(kw_only=True)
class Actor:
    """Who is asking, as proved by an access token or a ticket, and in which session: ``None`` outside of one."""

    user_id: UserId
    username: str
    session_id: UUID | None = None


def check_sign_up(username: str, email: str, password: str) -> None:
    """Raise ``Invalid`` with every fault in what somebody signs up with."""
    faults: list[Fault] = []
    if not re.fullmatch(USERNAME_PATTERN, username):
        faults.append(Fault("/username", "must be 3 to 32 ASCII letters, digits, '_', '-' or '.'"))
    elif re.sub(r"[_.-]", "", username).lower() in RESERVED_NAMES:
        faults.append(Fault("/username", "is reserved"))
    if len(email) > EMAIL_MAX or not re.fullmatch(EMAIL_PATTERN, email) or not is_unicode(email):
        faults.append(Fault("/email", "must be an e-mail address"))
    faults += _password_faults("/password", password)
    if faults:
        raise Invalid(faults=faults)


def check_new_password(password: str) -> None:
    """Raise ``Invalid`` where it is none that may be chosen."""
    faults = _password_faults("/new_password", password)
    if faults:
        raise Invalid(faults=faults)


def _password_faults(pointer: str, password: str) -> list[Fault]:
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        return [Fault(pointer, f"must have {PASSWORD_MIN} to {PASSWORD_MAX} characters")]
    if "\x00" in password or not is_unicode(password):
        return [Fault(pointer, "must be Unicode text without a NUL character")]
    return []

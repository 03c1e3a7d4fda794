"""What went wrong at a provider, as the core's typed errors."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from chat_core.errors import ModelBadAnswer, ModelError, ModelRefused, ModelUnavailable, PromptTooLong

#: Characters of a provider's message that go into a log.
MESSAGE_MAX = 300
#: A wish to wait longer than a day is not told from never.
RETRY_AFTER_MAX = 86_400.0
#: How a provider's message says that the prompt is too long; the status is the general 400 with most of them.
_TOO_LONG = re.compile(
    r"exceeds the maximum number of (input )?tokens|context[_ ](length|limit|size)|too many tokens|prompt is too long",
    re.I,
)
#: An account without credit. Some say it with the status of a rate limit, but no retry of ours outlasts it.
_NO_CREDIT = re.compile(r"insufficient_quota")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class NoSuchModel(ModelRefused):
    """The provider does not know the model, or no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What the body of a provider's error says, as far as it could be read."""

    message: str = ""
    retry_after: float | None = None


#: Reads a provider's error body; never raises.
ReadError = Callable[[bytes], ErrorBody]


def of_status(status: int, body: ErrorBody, headers: Mapping[str, str], who: str) -> ModelError:
    """The error for an HTTP status that is no success; ``who`` is the ``provider:model`` that gave it."""
    detail = f"{who}: HTTP {status}"
    if body.message:
        detail += f": {body.message}"
    if status in (404, 429, 503):
        # A retired model does not always answer 404; some answer with 429 or 503 for weeks before.
        detail += " (if this goes on, the model may be retired: set LLM to another one)"
    elif status in (401, 403):
        detail += " (is the key right?)"
    if status == 429 and _NO_CREDIT.search(body.message):
        return ModelRefused(f"{detail} (the account has no credit left)")
    if status in (408, 429) or status >= 500:
        wishes = (body.retry_after, seconds_of(headers.get("retry-after", "")))
        known = [wish for wish in wishes if wish is not None]
        return ModelUnavailable(detail, retry_after=max(known) if known else None)
    if status == 404:
        return NoSuchModel(detail)
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(body.message)):
        return PromptTooLong(detail)
    if status >= 400:
        return ModelRefused(detail)
    if status >= 300:
        return ModelRefused(f"{detail} (redirects are not followed: is the base URL right?)")
    return ModelBadAnswer(detail)


def seconds_of(retry_after: str) -> float | None:
    """The seconds from now that a ``Retry-After`` header asks for, as a number or as a date."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            at = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_MAX) if math.isfinite(seconds) else None


def loggable(message: str, secret: str) -> str:
    """The message on one line, cut, and without the secret."""
    if secret:
        message = message.replace(secret, "(the key)")
    return _UNPRINTABLE.sub(" ", message)[:MESSAGE_MAX].strip()

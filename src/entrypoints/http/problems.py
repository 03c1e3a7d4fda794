"""Errors as problem details (RFC 9457): one table from kinds to statuses, and one body for all."""

import logging
import math
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from chat_core import errors
from entrypoints.http.methods import allowed
from entrypoints.http.request_log import request_id
from entrypoints.http.schemas import FaultOut, Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: The most exact kind that fits decides.
STATUSES: dict[type[errors.ChatError], int] = {
    errors.Invalid: 400,
    errors.NotAuthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.MessageIdReused: 422,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}

#: What the framework itself refuses, by status: code and title.
FRAMEWORK = {
    400: ("invalid-request", errors.Invalid.title),
    401: (errors.NotAuthenticated.code, errors.NotAuthenticated.title),
    404: (errors.NotFound.code, errors.NotFound.title),
    405: ("method-not-allowed", "This method is not allowed here"),
    413: ("too-large", "The body is too large"),
    415: ("unsupported-media-type", "The content type is not supported"),
    500: ("internal-error", "Something went wrong on our side"),
}


def problem_type(code: str) -> str:
    """The stable URI of an error's code."""
    return f"urn:chat-api:problem:{code}"


def problem(
    status: int,
    code: str,
    title: str,
    detail: str = "",
    *,
    faults: list[FaultOut] | None = None,
    headers: dict[str, str] | None = None,
) -> Response[bytes]:
    """A response with this error."""
    body = Problem(
        type=problem_type(code),
        title=title,
        status=status,
        detail=detail or title,
        instance=request_id(),
        errors=tuple(faults or ()),
    )
    return Response(msgspec.json.encode(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _status_of(error: errors.ChatError) -> int:
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return 500


def described(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The problem document of any error, and the headers that go with it over HTTP. Logs what is a fault of ours."""
    headers: dict[str, str] = {}
    faults: tuple[FaultOut, ...] = ()
    status = _status_of(error) if isinstance(error, errors.ChatError) else 500
    if not isinstance(error, errors.ChatError) or status == 500:
        if isinstance(error, errors.ChatError):
            log.error("an error has no status: %r", error, exc_info=error)
        else:
            log.error("unhandled: %s", type(error).__name__, exc_info=error)
        code, title = FRAMEWORK[500]
        detail = title
    else:
        code, title, detail = error.code, error.title, error.detail
    if isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooMany | errors.Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.RateLimited):
        headers |= _rate_limit(error)
    if isinstance(error, errors.Invalid):
        faults = tuple(FaultOut(pointer=fault.pointer, detail=fault.detail) for fault in error.faults)
    document = Problem(
        type=problem_type(code), title=title, status=status, detail=detail, instance=request_id(), errors=faults
    )
    return document, headers


def _rate_limit(error: errors.RateLimited) -> dict[str, str]:
    """https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.html"""
    wait = max(1, math.ceil(error.retry_after))
    return {
        "RateLimit-Policy": f'"{error.limit_name}";q={error.count};w={math.ceil(error.seconds)}',
        "RateLimit": f'"{error.limit_name}";r=0;t={wait}',
    }


def _answer(error: Exception) -> Response[bytes]:
    document, headers = described(error)
    return Response(msgspec.json.encode(document), status_code=document.status, media_type=MEDIA_TYPE, headers=headers)


def from_core(_: Request[Any, Any, Any], error: errors.ChatError) -> Response[bytes]:
    """The answer to an error of the core."""
    return _answer(error)


def from_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The answer to what Litestar refuses. Its own words are kept where they are about the request alone."""
    status = error.status_code
    code, title = FRAMEWORK.get(status, (f"http-{status}", "The request was refused"))
    headers = {str(name): str(value) for name, value in (error.headers or {}).items()}
    if status == 405:
        headers = {"Allow": allowed(request.app, request.scope["path"])}
    if status >= 500:
        log.error("the framework failed: %s", error.detail, exc_info=error)
        return problem(status, code, title)
    faults: list[FaultOut] = []
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        faults = [
            _missing_body()
            if extra.get("key") == "data"
            else FaultOut(pointer=str(extra.get("key", "")), detail=str(extra.get("message", "")))
            for extra in error.extra
            if isinstance(extra, dict)
        ]
    return problem(status, code, title, "; ".join(f.detail for f in faults), faults=faults, headers=headers)


def _missing_body() -> FaultOut:
    return FaultOut(pointer="", detail="A JSON body is needed.")


def from_bug(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to everything that nobody foresaw: the log has the stack, the client an id to ask about."""
    return _answer(error)


_AT = re.compile(r"^(?P<detail>.*) - at `(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def fault_of(error: msgspec.ValidationError) -> errors.Fault:
    """Where in the body, and what: msgspec's ``$.ai.mode`` as the JSON pointer ``/ai/mode``."""
    text = str(error)
    match = _AT.match(text)
    detail, path = (match["detail"], match["path"]) if match else (text, "$")
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(path.removeprefix("$")))
    missing = re.search(r"(?:missing required field|unknown field) `([^`]*)`", detail)
    if missing:
        pointer += "/" + missing[1].replace("~", "~0").replace("/", "~1")
    return errors.Fault(pointer, detail)

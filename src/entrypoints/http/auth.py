"""Who asks: a bearer token (RFC 6750) in the one ``Authorization`` header, and nowhere else."""

from collections.abc import Iterable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from chat_core.domain.user import Actor
from chat_core.errors import NotAuthenticated
from chat_core.use_cases.authentication import Authenticate


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token that a request carries. Raises ``NotAuthenticated`` for none, for two, and for other schemes."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        raise NotAuthenticated
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    return token.strip()


async def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: lets nobody in without a live token, before anything else of the request is looked at."""
    authenticate: Authenticate = connection.app.state.authenticate
    connection.scope["user"] = await authenticate(bearer_of(connection.scope["headers"]))


def actor(request: Request[Any, Any, Any]) -> Actor:
    """Who asks; only behind ``signed_in``."""
    user: Actor = request.scope["user"]
    return user

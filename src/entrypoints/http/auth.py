"""Who asks: a bearer token (RFC 6750) in the one ``Authorization`` header, and nowhere else."""

from collections.abc import Iterable
from typing import Any

from litestar import Request

from chat_core.domain.user import Actor, User
from chat_core.errors import NotAuthenticated
from chat_core.use_cases.authentication import Authenticate
from chat_core.use_cases.limits import Limits


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token that a request carries. Raises ``NotAuthenticated`` for none, for two, and for other schemes."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        raise NotAuthenticated
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    return token.strip()


async def signed_in(request: Request[Any, Any, Any]) -> None:
    """Lets nobody in without a live token, before anything else of the request is looked at."""
    # No guard of the framework's: it makes a copy of the handler for each of those.
    authenticate: Authenticate = request.app.state.authenticate
    limits: Limits = request.app.state.limits
    try:
        user = await authenticate(bearer_of(request.scope["headers"]))
    except NotAuthenticated:
        await limits.requested(request.app.state.peer_of(request.scope))
        raise
    await limits.requested(user.user_id)
    request.scope["user"] = user


async def anybody(request: Request[Any, Any, Any]) -> None:
    """For what needs no token: what one address may ask in all is limited."""
    limits: Limits = request.app.state.limits
    await limits.requested(request.app.state.peer_of(request.scope))


def turned_out_to_be(request: Request[Any, Any, Any], user: User) -> None:
    """Say whose log-in it was, for the request's line in the log."""
    request.scope["user"] = Actor(user_id=user.id, username=user.username)


def peer(request: Request[Any, Any, Any]) -> str:
    """The address that asks, as it is counted."""
    found: str = request.app.state.peer_of(request.scope)
    return found


def actor(request: Request[Any, Any, Any]) -> Actor:
    """Who asks; only behind ``signed_in``."""
    user: Actor = request.scope["user"]
    return user

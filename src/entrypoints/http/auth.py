"""Who asks: a bearer token (RFC 6750) in the one ``Authorization`` header, and nowhere else."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from litestar import Request

from chat_core.domain.user import Actor, User
from chat_core.errors import NotAuthenticated
from chat_core.use_cases.authentication import Authenticate
from chat_core.use_cases.limits import Limits


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of each request, before anything else is looked at; in the application's state as ``gate``."""

    authenticate: Authenticate
    limits: Limits
    peer_of: Callable[[Any], str]


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token that a request carries. Raises ``NotAuthenticated`` for none, for two, and for other schemes."""
    given = None
    for name, value in headers:
        if name == b"authorization":
            if given is not None:
                raise NotAuthenticated
            given = value
    if given is None:
        raise NotAuthenticated
    scheme, _, token = given.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    return token.strip()


async def signed_in(request: Request[Any, Any, Any]) -> None:
    """Lets nobody in without a live token, before anything else of the request is looked at."""
    # No guard of the framework's: it makes a copy of the handler for each of those.
    scope = request.scope
    gate: Gate = scope["litestar_app"].state.gate
    try:
        user = await gate.authenticate(bearer_of(scope["headers"]))
    except NotAuthenticated:
        await gate.limits.requested(gate.peer_of(scope))
        raise
    await gate.limits.requested(user.user_id)
    scope["user"] = user


async def anybody(request: Request[Any, Any, Any]) -> None:
    """For what needs no token: what one address may ask in all is limited."""
    gate: Gate = request.app.state.gate
    await gate.limits.requested(gate.peer_of(request.scope))


def turned_out_to_be(request: Request[Any, Any, Any], user: User) -> None:
    """Say whose log-in it was, for the request's line in the log."""
    request.scope["user"] = Actor(user_id=user.id, username=user.username)


def peer(request: Request[Any, Any, Any]) -> str:
    """The address that asks, as it is counted."""
    gate: Gate = request.app.state.gate
    return gate.peer_of(request.scope)


def actor(request: Request[Any, Any, Any]) -> Actor:
    """Who asks; only behind ``signed_in``."""
    user: Actor = request.scope["user"]
    return user

"""The application: routes, errors and the container, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import msgspec
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from chat_core.errors import ChatError
from entrypoints.container import Container
from entrypoints.http import accounting, accounts, chat, problems, replies, room_events, rooms, system
from entrypoints.http.auth import Gate, actor, peer
from entrypoints.http.bodies import StrictRequest
from entrypoints.http.dispatch import shorten
from entrypoints.http.injection import bridge
from entrypoints.http.methods import Methods
from entrypoints.http.openapi import document
from entrypoints.http.page import routes as page
from entrypoints.http.peers import peer_of
from entrypoints.http.reply_stream import ReplyStreams
from entrypoints.http.request_log import RequestLog
from entrypoints.http.sockets import Sockets
from entrypoints.loading import absent
from entrypoints.running import drains_first, running
from entrypoints.version import VERSION

ROUTES: list[ControllerRouterHandler] = [
    accounts.router,
    rooms.router,
    room_events.router,
    chat.router,
    replies.router,
    accounting.router,
    system.system_router,
]

_INJECTED = (
    "settings",
    "readiness",
    "sign_up",
    "log_in",
    "authenticate",
    "refresh",
    "log_out",
    "change_password",
    "list_sessions",
    "end_session",
    "end_account",
    "issue_ticket",
    "create_room",
    "list_rooms",
    "read_room",
    "update_room",
    "delete_room",
    "list_members",
    "add_member",
    "remove_member",
    "list_messages",
    "edit_message",
    "delete_message",
    "send_message",
    "await_reply",
    "open_streams",
    "draining",
    "read_reply",
    "stop_reply",
    "retry_reply",
    "read_context",
    "read_usage",
    "hub",
    "read_log",
)


def create_app(container: Container) -> RequestLog:
    """The ASGI application. Its lifespan opens and closes what the container holds."""
    settings = container.settings()
    dependencies: dict[str, Provide] = {name: bridge(getattr(container, name)) for name in _INJECTED}
    dependencies["actor"] = Provide(actor, sync_to_thread=False)
    dependencies["peer"] = Provide(peer, sync_to_thread=False)
    who = peer_of(settings.trusted_proxies)
    streams = ReplyStreams(follow=container.follow_reply(), hub=container.hub(), draining=container.draining())
    dependencies["reply_streams"] = bridge(lambda: streams)

    def models() -> list[str]:
        return sorted(container.update_room().models)

    @cache
    def openapi() -> bytes:
        return msgspec.json.encode(document(ROUTES, dependencies, settings.app_name, VERSION, models()))

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with running(container):
            with drains_first(container.draining(), settings.drain_delay):
                yield

    # It would load them where they are installed, to take them as forms; ours are of msgspec.
    with absent("attr", "pydantic"):
        app = Litestar(
            [*ROUTES, system.docs_router, page.router],
            dependencies=dependencies,
            lifespan=[lifespan],
            request_class=StrictRequest,
            request_max_body_size=settings.max_body_bytes,
            exception_handlers={
                ChatError: problems.from_core,
                HTTPException: problems.from_framework,
                Exception: problems.from_bug,
            },
            cors_config=_cors(settings.cors_origins),
            openapi_config=None,
            logging_config=None,
            state=State({"openapi": openapi, "gate": Gate(container.authenticate(), container.limits(), who)}),
        )
    shorten(app)
    sockets = Sockets(
        hub=container.hub(),
        authenticate=container.authenticate(),
        redeem=container.redeem_ticket(),
        send_message=container.send_message(),
        open_streams=container.open_streams(),
        open_sockets=container.open_sockets(),
        limits=container.limits(),
        peer_of=who,
        origins=frozenset(settings.cors_origins),
        limited=settings.rate_limits == "on",
    )
    metrics = container.metrics()
    return RequestLog(sockets.before(Methods(app)), who, metrics.requested if metrics is not None else None)


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id", "prefer", "x-request-id"],
        expose_headers=[
            "idempotency-replayed",
            "location",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "x-request-id",
        ],
        max_age=600,
    )

"""The HTTP server: uvicorn with uvloop and httptools."""

import asyncio
import sys
from typing import TypedDict

import uvicorn

from entrypoints.http.guarded import GuardedProtocol
from entrypoints.http.guarded_socket import GuardedSocket
from entrypoints.logs import configure_logs
from entrypoints.settings import Settings


class Uvicorn(TypedDict):
    """Options of uvicorn."""

    ws: type[asyncio.Protocol]
    ws_per_message_deflate: bool
    proxy_headers: bool
    server_header: bool
    access_log: bool
    log_config: None
    http: type[asyncio.Protocol]


#: How long requests that run may go on after the service was told to end, in seconds.
GRACE_SECONDS = 20

#: How uvicorn is to be, wherever it is started, besides ``ws_max_size``, the longest frame in bytes. Compression of
#: frames is off: each connection would keep windows for it, and a small frame can be a large one compressed. Addresses
#: that a client claims in a header are not believed by it: what is, says ``TRUSTED_PROXIES``.
UVICORN: Uvicorn = {
    "ws": GuardedSocket,
    "ws_per_message_deflate": False,
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "log_config": None,
    "http": GuardedProtocol,
}


def run(settings: Settings) -> int:
    """Serve until told to end."""
    configure_logs(settings.log_level)
    if sys.stderr.isatty():
        print(f"{settings.app_name} on http://{settings.host}:{settings.port}  (try /app, or /docs)", file=sys.stderr)
    uvicorn.run(
        "entrypoints.http.asgi:create",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **UVICORN,
        ws_max_size=settings.max_body_bytes,
    )
    return 0

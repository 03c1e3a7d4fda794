"""The HTTP server: uvicorn with uvloop and httptools."""

import sys
from typing import Literal, TypedDict

import uvicorn

from entrypoints.logs import configure_logs
from entrypoints.settings import Settings


class Uvicorn(TypedDict):
    """Options of uvicorn."""

    ws: Literal["websockets-sansio"]
    ws_per_message_deflate: bool


#: How long requests that run may go on after the service was told to end, in seconds.
GRACE_SECONDS = 20

#: How uvicorn is to speak WebSocket, besides ``ws_max_size``, which is the longest frame in bytes. Compression is off:
#: each connection would keep windows for it, and a small frame can be a large one compressed.
WEBSOCKETS: "Uvicorn" = {"ws": "websockets-sansio", "ws_per_message_deflate": False}


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
        log_config=None,
        access_log=False,
        server_header=False,
        # Addresses that a client claims in a header are not believed.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **WEBSOCKETS,
        ws_max_size=settings.max_body_bytes,
    )
    return 0

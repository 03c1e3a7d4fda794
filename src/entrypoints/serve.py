"""The HTTP server: uvicorn with uvloop and httptools."""

import sys

import uvicorn

from entrypoints.logs import configure_logs
from entrypoints.settings import Settings

#: How long requests that run may go on after the service was told to end, in seconds.
GRACE_SECONDS = 20


def run(settings: Settings) -> int:
    """Serve until told to end."""
    configure_logs(settings.log_level)
    if sys.stderr.isatty():
        print(f"{settings.app_name} on http://{settings.host}:{settings.port}  (try /docs)", file=sys.stderr)
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
    )
    return 0

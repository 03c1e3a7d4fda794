"""What the floors share: an ASGI application by hand, and the service's own server around it.

``python -m bench.floors.asgi NAME PORT`` serves ``bench.floors.NAME:app``.
"""

import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from entrypoints.serve import UVICORN

Answer = Callable[[Any, bytes], Awaitable[bytes]]
_JSON = (b"content-type", b"application/json")


def application(answer: Answer, start: Callable[[], Awaitable[None]] | None = None) -> Any:
    """``answer`` gets a request's scope and body, and gives back JSON; ``start`` is called once, first."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        out = await answer(scope, body)
        headers = [_JSON, (b"content-length", str(len(out)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": out})

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        if start is not None:
            await start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


if __name__ == "__main__":
    # All as the service has it, but for the HTTP protocol that is its own.
    options: dict[str, Any] = {**UVICORN, "http": "httptools"}
    app = importlib.import_module(f"bench.floors.{sys.argv[1]}").app
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), **options)

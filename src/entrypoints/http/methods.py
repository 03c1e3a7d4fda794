"""Which methods a path has: for OPTIONS, where the framework forgets some, and for 405 (RFC 9110, section 15.5.6)."""

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.types import Receive, Scope, Send
from litestar.utils import normalize_path


def allowed(app: Litestar, path: str) -> str:
    """The value of ``Allow``; empty where nothing is at that path."""
    try:
        *_, template = app.asgi_router.handle_routing(path=normalize_path(path), method="OPTIONS")
    except NotFoundException:
        return ""
    methods = {method for route in app.routes if route.path_format == template for method in route.methods}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


class Methods:
    """Answers OPTIONS, whoever asks, but for a browser's preflight where there are origins; leaves all else to the
    application."""

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS" or self._preflight(scope):
            await self._app(scope, receive, send)
            return
        methods = allowed(self._app, scope["path"])
        if not methods:
            await self._app(scope, receive, send)
            return
        headers = [(b"allow", methods.encode())]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _preflight(self, scope: Scope) -> bool:
        names = {name for name, _ in scope["headers"]}
        return self._app.cors_config is not None and {b"origin", b"access-control-request-method"} <= names

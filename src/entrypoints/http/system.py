"""The welcome, the health of the service, and its documentation."""

from functools import cache
from importlib.resources import files
from typing import Any

from litestar import Request, Response, Router, get
from litestar.params import FromPath

from chat_core.errors import NotFound
from entrypoints.health import Readiness
from entrypoints.http.injection import Use
from entrypoints.http.schemas import HealthOut, LiveOut, PartOut, ReadyOut, WelcomeOut
from entrypoints.settings import Settings
from entrypoints.version import VERSION

_PAGES = files("entrypoints.http").joinpath("docs")
_SWAGGER_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REDOC_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@get("/", summary="Welcome")
async def welcome(settings: Use[Settings]) -> WelcomeOut:
    """What this is, and where to go."""
    return WelcomeOut(
        name=settings.app_name,
        version=VERSION,
        links={"app": "/app", "docs": "/docs", "redoc": "/redoc", "openapi": "/openapi.json", "health": "/health"},
    )


@get("/health", summary="Is it running")
async def health() -> HealthOut:
    """The process answers."""
    return HealthOut(status="healthy", message="Chat API is running", version=VERSION)


@get("/health/live", summary="Is it alive")
async def live() -> LiveOut:
    """The process answers: restart it when this does not."""
    return LiveOut(status="ok")


@get("/health/ready", summary="Is it ready")
async def ready(readiness: Use[Readiness]) -> Response[ReadyOut]:
    """Each part by itself. 503 when sends cannot be stored or the process is draining, and only then."""
    report = await readiness()
    parts = {name: PartOut(status=part.status, detail=part.detail) for name, part in report.parts.items()}
    return Response(ReadyOut(status=report.status, **parts), status_code=200 if report.takes_sends else 503)


system_router = Router("/", route_handlers=[welcome, health, live, ready], tags=["System"])


@cache
def _file(name: str) -> bytes:
    return _PAGES.joinpath(name).read_bytes()


def _page(name: str, policy: str) -> Response[bytes]:
    return Response(_file(name), media_type="text/html", headers={"Content-Security-Policy": policy})


@get("/docs", sync_to_thread=False)
def swagger_ui() -> Response[bytes]:
    return _page("swagger.html", _SWAGGER_CSP)


@get("/redoc", sync_to_thread=False)
def redoc() -> Response[bytes]:
    return _page("redoc.html", _REDOC_CSP)


@get("/docs/assets/{name:str}", sync_to_thread=False)
def asset(name: FromPath[str]) -> Response[bytes]:
    suffix = name[name.rfind(".") :]
    known = {entry.name for entry in _PAGES.joinpath("assets").iterdir()}
    if name not in known or suffix not in _TYPES:
        raise NotFound
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(_file(f"assets/{name}"), media_type=_TYPES[suffix], headers=headers)


@get("/openapi.json", sync_to_thread=False)
def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    body: bytes = request.app.state.openapi()
    return Response(body, media_type="application/json")


docs_router = Router("/", route_handlers=[swagger_ui, redoc, asset, openapi_json], include_in_schema=False)

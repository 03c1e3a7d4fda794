"""The short way to a handler does what the framework's own way does."""

from collections.abc import Callable
from typing import Annotated, Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, HeaderParameter, JSONBody

from entrypoints.http.bodies import StrictRequest
from entrypoints.http.dispatch import shorten
from entrypoints.http.injection import Use


class Said(msgspec.Struct):
    text: str


class Wrong(Exception):
    pass


def _closed(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    raise NotAuthorizedException


@get("/plain/{name:str}")
async def plain(
    name: FromPath[str], punctuation: Use[str], loud: Annotated[str | None, HeaderParameter(name="Loud")] = None
) -> Said:
    return Said(f"{name.upper() if loud else name}{punctuation}")


@get("/guarded", guards=[_closed])
async def guarded() -> Said:
    return Said("secret")


@get("/headed", response_headers=[ResponseHeader(name="X-Of-The-Handler", value="there")])
async def headed() -> Said:
    return Said("with a header")


@post("/echo", status_code=202)
async def echo(data: JSONBody[Said]) -> Response[Said]:
    return Response(data, status_code=203, headers={"X-Own": "too"})


@get("/nothing", status_code=204)
async def nothing() -> None:
    return None


@get("/wrong")
async def wrong() -> Said:
    raise Wrong


@get("/unwritable")
async def unwritable() -> Said:
    return Said(text=object())  # type: ignore[arg-type]


def _told(_: Any, error: Exception) -> Response[bytes]:
    return Response(b"an error", status_code=getattr(error, "status_code", 500), media_type="text/plain")


def _app(change: Callable[[Litestar], None]) -> httpx.AsyncClient:
    app = Litestar(
        [plain, guarded, headed, echo, nothing, wrong, unwritable],
        dependencies={"punctuation": Provide(lambda: "!", sync_to_thread=False)},
        request_class=StrictRequest,
        request_max_body_size=40,
        exception_handlers={Exception: _told},
        openapi_config=None,
    )
    change(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://test")


ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/plain/ann", {}),
    ("GET", "/plain/ann/", {"headers": {"Loud": "yes"}}),
    ("GET", "/plain/ann", {"headers": {"Host": "a b"}}),
    ("GET", "/guarded", {}),
    ("GET", "/headed", {}),
    ("GET", "/nothing", {}),
    ("GET", "/wrong", {}),
    ("GET", "/unwritable", {}),
    ("GET", "/nowhere", {}),
    ("DELETE", "/echo", {}),
    ("POST", "/echo", {"json": {"text": "hello"}}),
    ("POST", "/echo", {"json": {"text": 5}}),
    ("POST", "/echo", {"json": {"text": "x" * 100}}),
    ("POST", "/echo", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/echo", {"content": b"text", "headers": {"Content-Type": "text/plain"}}),
]


@pytest.mark.parametrize(("method", "path", "more"), ASKED)
async def test_both_ways_give_the_same_answer(method: str, path: str, more: dict[str, Any]):
    answers = []
    for change in (shorten, lambda _: None):
        async with _app(change) as http:
            answer = await http.request(method, path, **more)
            answers.append((answer.status_code, answer.content, sorted(answer.headers.items())))
    assert answers[0] == answers[1]


async def test_a_guard_is_asked_on_either_way():
    async with _app(shorten) as http:
        assert b"secret" not in (await http.get("/guarded")).content

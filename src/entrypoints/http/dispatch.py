"""The short way of a request to its handler, by what the framework found out of the handler when it was declared.

Litestar declares the routes, finds them, takes parameters from requests and checks them, and has the handlers of
errors. How it calls a handler and writes the answer costs several times what a small answer of ours does, for it asks
at each request what was known at the start: whether there are guards, caches, cookies, hooks, background tasks. Here
that is asked once. What is declared in any way that is not known here goes the framework's own way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar._asgi.utils import is_valid_host
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware._internal.cors import CORSMiddleware
from litestar.middleware._internal.exceptions import ExceptionHandlerMiddleware
from litestar.routes import HTTPRoute
from litestar.types import Receive, Scope, Send
from litestar.types.empty import Empty
from litestar.utils import normalize_path
from litestar.utils.scope.state import ScopeState

from entrypoints.http.bodies import StrictRequest

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_host_is_valid = lru_cache(maxsize=1024)(is_valid_host)


@dataclass(frozen=True, slots=True)
class _Way:
    """To one handler. ``own`` are dependencies that take nothing, ``asking`` those that take the request."""

    handler: HTTPRouteHandler
    before: Callable[[Any], Any] | None
    extractors: Sequence[Callable[[dict[str, Any], Any], Any]]
    own: Sequence[tuple[str, Callable[[], Any]]]
    asking: Sequence[tuple[str, Callable[[Any], Any]]]
    checked: bool
    status: int


def shorten(app: Litestar) -> None:
    """Have the application answer over the short way wherever there is one."""
    dispatch = Dispatch(app)
    app.asgi_handler = CORSMiddleware(app=dispatch, config=app.cors_config) if app.cors_config else dispatch


class Dispatch:
    """Stands in for the framework's router and the catcher of exceptions around it."""

    def __init__(self, app: Litestar) -> None:
        self._router = app.asgi_router
        self._framework = ExceptionHandlerMiddleware(app.asgi_router, debug=None)
        self._app = app
        # As large as the framework's own, which is asked after the path was looked at.
        self._route = lru_cache(1024)(self._look_up)
        self._ways: dict[object, _Way] = {}
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                for handler, model in route.route_handler_map.values():
                    if (way := _way(handler, model)) is not None:
                        self._ways[handler] = way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._find(scope)
        if way is None:
            await self._framework(scope, receive, send)
            return
        try:
            request = StrictRequest(scope, receive, send)
            answer = await self._ask(way, request)
            body = _body(answer)
        except Exception as error:  # noqa: BLE001 - the handlers of errors are asked
            await self._refuse(way, scope, receive, send, error)
            return
        if body is None:
            await self._respond(way, request, answer, send)
        elif isinstance(answer, Response):
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
            await _write(send, answer.status_code or way.status, body, headers)
        else:
            await _write(send, way.status, body, ())

    async def _respond(self, way: _Way, request: StrictRequest, answer: Any, send: Any) -> None:
        """What takes its time, and may find out that there is nothing to say before it has begun."""
        started = False

        async def told(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            response = await way.handler.to_response(self._app, answer, request)
            await response(request.scope, request.receive, told)
        except Exception as error:
            if started:
                raise
            await self._refuse(way, request.scope, request.receive, send, error)

    async def _refuse(self, way: _Way, scope: Any, receive: Any, send: Any, error: Exception) -> None:
        ScopeState.from_scope(scope).exception_handlers = way.handler.resolve_exception_handlers()
        await self._framework.handle_request_exception(self._app, scope, receive, send, error)

    def _find(self, scope: Any) -> _Way | None:
        """``None`` where the framework is to say what becomes of a request."""
        if scope["type"] != ScopeType.HTTP or scope.get("root_path"):
            return None
        for name, value in scope["headers"]:
            if name == b"host" and not _host_is_valid(value):
                return None
        way, path, parameters, template = self._route(scope["path"], scope["method"])
        if way is not None:
            scope["path"], scope["path_params"] = path, parameters
            scope["route_handler"], scope["path_template"] = way.handler, template
        return way

    def _look_up(self, path: str, method: Any) -> tuple[_Way | None, str, dict[str, Any], str]:
        try:
            _, handler, path, parameters, template = self._router.handle_routing(
                path=normalize_path(path), method=method
            )
        except Exception:  # noqa: BLE001 - the framework raises it again, where it is answered
            return None, path, {}, ""
        return self._ways.get(handler), path, parameters, template

    async def _ask(self, way: _Way, request: StrictRequest) -> Any:
        """What the handler gives."""
        if way.before is not None:
            await way.before(request)
        given: dict[str, Any] = {}
        for extract in way.extractors:
            await extract(given, request)
        if given.get("data") is Empty:
            del given["data"]
        for name, provide in way.own:
            given[name] = provide()
        for name, ask in way.asking:
            given[name] = ask(request)
        if way.checked:
            given = way.handler.signature_model.parse_values_from_connection_kwargs(request, given)
        answer: Any = way.handler.fn(**given)
        return answer if way.handler.has_sync_callable else await answer


def _body(answer: Any) -> bytes | None:
    """Of a struct, or of a response that is one with a status and headers and nothing else; ``None`` for all others."""
    if isinstance(answer, msgspec.Struct):
        return _encode(answer)
    if (
        type(answer) is Response
        and isinstance(answer.content, msgspec.Struct)
        and not (answer.media_type or answer.cookies or answer.background or answer.response_type_encoders)
    ):
        return _encode(answer.content)
    return None


async def _write(send: Any, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    headers = [*headers, _JSON, (b"content-length", b"%d" % len(body))]
    whole = getattr(send, "whole", None)
    if whole is None or not whole(status, headers, body):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _way(handler: HTTPRouteHandler, model: Any) -> _Way | None:
    """``None`` for a handler that asks for something that only the framework does."""
    special = (
        handler.resolve_guards(),
        any(layer.after_request for layer in handler.ownership_layers),
        handler.resolve_after_response(),
        handler.resolve_middleware(),
        handler.resolve_return_dto(),
        handler.resolve_response_headers(),
        handler.resolve_response_cookies(),
        handler.background,
        handler.cache,
        model.expected_form_data,
    )
    if any(special) or handler.resolve_request_class() is not StrictRequest:
        return None
    own: list[tuple[str, Callable[[], Any]]] = []
    asking: list[tuple[str, Callable[[Any], Any]]] = []
    for dependency in (one for batch in model.dependency_batches for one in batch):
        provide = dependency.provide
        takes = set(provide.signature_model._fields)
        if not provide.has_sync_callable or provide.has_sync_generator_dependency or takes - {"request"}:
            return None
        (asking if takes else own).append((dependency.key, provide.dependency))
    provided = {name for name, _ in [*own, *asking]}
    checked = bool(set(handler.signature_model._fields) - provided)
    return _Way(
        handler=handler,
        before=handler.resolve_before_request(),
        # Where nothing else is taken, there is nothing to be read but what dependencies are given here.
        extractors=tuple(model.extractors) if checked else (),
        own=tuple(own),
        asking=tuple(asking),
        checked=checked,
        status=handler.status_code,
    )

"""The page's files, under a policy that lets in nothing but them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from litestar import Request, Response, Router, get
from litestar.params import FromPath

from chat_core.errors import NotFound

_HERE = files("entrypoints.http.page")
_FOLDERS = ("assets", "vendor")
#: The sanitizer alone may make HTML of a text: it does so under the policy that is named here.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
#: The framework says UTF-8 of any text.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def _read(path: str, media_type: str) -> _File:
    body = _HERE.joinpath(path).read_bytes()
    return _File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@cache
def _page() -> _File:
    return _read("index.html", "text/html")


@cache
def _assets() -> dict[str, _File]:
    names = [(folder, entry.name) for folder in _FOLDERS for entry in _HERE.joinpath(folder).iterdir()]
    return {
        name: _read(f"{folder}/{name}", _TYPES[suffix])
        for folder, name in names
        if (suffix := name[name.rfind(".") :]) in _TYPES
    }


def _answer(request: Request[Any, Any, Any], file: _File, **headers: str) -> Response[bytes]:
    # Asked for again each time, so that the modules of two versions never meet; what is unchanged is not sent again.
    headers |= {"Cache-Control": "no-cache", "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)


@get("/app", sync_to_thread=False)
def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    return _answer(request, _page(), **{"Content-Security-Policy": _CSP})


@get("/app/assets/{name:str}", sync_to_thread=False)
def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    file = _assets().get(name)
    if file is None:
        raise NotFound
    return _answer(request, file)


router = Router("/", route_handlers=[page, asset], include_in_schema=False)

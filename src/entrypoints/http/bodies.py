"""Reading bodies strictly, where the framework is open by default."""

import sys
from functools import cache, lru_cache
from typing import Any

import msgspec
from litestar import Request
from litestar._multipart import parse_content_header
from litestar.exceptions import ClientException, HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE
from litestar.types.empty import Empty

from chat_core.errors import Invalid
from entrypoints.http.problems import fault_of


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_)


@lru_cache(maxsize=256)
def _is_json(content_type: bytes, encoding: bytes) -> bool:
    media_type, parameters = parse_content_header(content_type.decode("latin-1"))
    charset = parameters.get("charset", "utf-8").strip('"').lower()
    return (
        media_type == "application/json"
        and charset in ("utf-8", "utf8", "us-ascii")
        and encoding.lower() == b"identity"
    )


class StrictRequest(Request[Any, Any, Any]):
    """Decodes a JSON body as the very type that the handler asks for, in one pass.

    The framework's own way takes any content type, turns ``"5"`` into 5, and answers 500 to deep JSON. Here: 415
    for what is not ``application/json`` in UTF-8, 400 with a pointer for what does not fit.
    """

    async def json(self) -> Any:
        given = dict(self.scope["headers"])
        if not _is_json(given.get(b"content-type", b""), given.get(b"content-encoding", b"identity")):
            raise HTTPException(
                status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE, detail="The body must be application/json in UTF-8."
            )
        body = await self.body()
        asked = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        try:
            return _decoder(asked).decode(body)
        except msgspec.ValidationError as error:
            raise Invalid(faults=[fault_of(error)]) from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Invalid("The body is not valid JSON.") from error

    async def body(self) -> bytes:
        """All of it. Raises ``RequestEntityTooLarge`` as soon as it is known to be so."""
        if self._body is Empty:
            self._body = await self._read()
        return self._body

    async def _read(self) -> bytes:
        most = self.route_handler.resolve_request_max_body_size() or sys.maxsize
        for name, announced in self.scope["headers"]:
            # The server has looked at the header: it is a number.
            if name == b"content-length" and int(announced) > most:
                raise RequestEntityTooLarge
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            event: Any = await self.receive()
            if event["type"] == "http.disconnect":
                raise ClientException("The client left before its request was there.")
            chunks.append(event.get("body", b""))
            size += len(chunks[-1])
            if size > most:
                raise RequestEntityTooLarge
            more = event.get("more_body", False)
        return b"".join(chunks)

"""Reading bodies strictly, where the framework is open by default."""

from functools import cache
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE

from chat_core.errors import Invalid
from entrypoints.http.problems import fault_of


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_)


class StrictRequest(Request[Any, Any, Any]):
    """Decodes a JSON body as the very type that the handler asks for, in one pass.

    The framework's own way takes any content type, turns ``"5"`` into 5, and answers 500 to deep JSON. Here: 415
    for what is not ``application/json`` in UTF-8, 400 with a pointer for what does not fit.
    """

    async def json(self) -> Any:
        media_type, parameters = self.content_type
        charset = parameters.get("charset", "utf-8").strip('"').lower()
        encoding = self.headers.get("content-encoding", "identity").lower()
        if media_type != "application/json" or charset not in ("utf-8", "utf8", "us-ascii") or encoding != "identity":
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

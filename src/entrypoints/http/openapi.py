"""The OpenAPI document: true down to each error, with examples that validate."""

from collections.abc import Iterable
from typing import Any

from litestar import Litestar
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.types import ControllerRouterHandler

from chat_core.domain.user import EMAIL_PATTERN
from entrypoints.http.examples import EXAMPLES
from entrypoints.http.schemas import EVENT_DATA, In, Problem

MEDIA_TYPE = "application/problem+json"
SECURED: list[dict[str, list[str]]] = [{"bearer": []}]

_WHAT = {
    400: "The request is not valid; `errors` says where.",
    401: "No token, or one that is not live.",
    403: "Seen, but not allowed.",
    404: "Not there, or not for the caller's eyes.",
    405: "The method is not allowed here.",
    409: "At odds with how things stand.",
    413: "The body is too large.",
    415: "The content type is not `application/json`.",
    422: "The `m_id` was used for other content.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "A fault of ours; ask with the request id.",
    503: "Not now; `Retry-After` says when to come back.",
}

_TEXT = r"^[^\x00]*$"
# What ``str.isspace`` takes for a space. The dialects of patterns do not agree about ``\s``: that of JSON Schema
# (ECMA-262, 22.2.2.9) leaves out U+001C to U+001F and U+0085, and has U+FEFF.
_SPACES = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# No two of its parts can take the same character: else a long text takes whoever checks it the square of its length.
_NOT_BLANK = rf"^[{_SPACES}]*[^{_SPACES}\x00][^\x00]*$"
_TEXTS = (
    ("SendIn", "content", _NOT_BLANK),
    ("EditMessageIn", "content", _NOT_BLANK),
    ("CreateRoomIn", "name", _NOT_BLANK),
    ("CreateRoomIn", "description", _TEXT),
    ("UpdateRoomIn", "name", _NOT_BLANK),
    ("UpdateRoomIn", "description", _TEXT),
    ("RoomAIIn", "system_prompt", _TEXT),
    ("SignUpIn", "password", _TEXT),
    ("ChangePasswordIn", "new_password", _TEXT),
)


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors that are an operation's own; those that every operation can give are added by ``document``."""
    return {status: _refusal(status) for status in statuses}


def _refusal(status: int) -> ResponseSpec:
    return ResponseSpec(Problem, description=_WHAT[status], media_type=MEDIA_TYPE, generate_examples=False)


def document(
    routes: list[ControllerRouterHandler],
    dependencies: dict[str, Any],
    title: str,
    version: str,
    models: Iterable[str] = (),
) -> dict[str, Any]:
    """The document as JSON-ready data. Built on demand: starting the service does not wait for it."""
    app = Litestar(
        routes,
        dependencies=dependencies,
        # Left to itself, even an application that is only described takes over the logging of the process.
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title=title,
            version=version,
            description=(
                "Rooms where several people and an AI talk. Errors are problem details (RFC 9457). Times are UTC. "
                "Every path works with and without a trailing slash."
            ),
            license=License(name="MIT", identifier="MIT"),
            use_handler_docstrings=True,
            components=Components(
                security_schemes={
                    "bearer": SecurityScheme(
                        type="http", scheme="bearer", bearer_format="JWT", description="From `POST /auth/login`."
                    )
                }
            ),
        ),
    )
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    for path in schema["paths"].values():
        for operation in path.values():
            _complete(operation)
    _headers(schema)
    schemas = schema["components"]["schemas"]
    for strict in In.__subclasses__():
        schemas[strict.__name__]["additionalProperties"] = False
    schemas["SignUpIn"]["properties"]["email"]["pattern"] = EMAIL_PATTERN
    for name, field, pattern in _TEXTS:
        schemas[name]["properties"][field]["pattern"] = pattern
    ai = schemas["RoomAIIn"]["properties"]
    ai["model"]["enum"] = [*models, None]
    ai["temperature"]["minimum"] = 0  # the framework leaves out a bound of 0
    schemas["RoomEventOut"]["properties"]["data"] |= {
        "anyOf": [{"$ref": f"#/components/schemas/{data.__name__}"} for data in EVENT_DATA]
    }
    texts = {name: {"type": "string"} for name in ("id", "event", "data")}
    event = {"type": "object", "properties": {**texts, "retry": {"type": "integer"}}}
    stream = {"text/event-stream": {"schema": event}}
    schema["paths"]["/rooms/{room_id}/events"]["get"]["responses"]["200"]["content"] |= stream
    schema["paths"]["/replies/{reply_id}/events"]["get"]["responses"]["200"]["content"] = stream
    for name, example in EXAMPLES.items():
        schema["components"]["schemas"][name]["examples"] = [example]
    return schema


def _complete(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        _exact(parameter["schema"])
    responses = operation["responses"]
    # The framework announces errors in its own format, which this service never sends.
    for status in [
        status for status in responses if int(status) >= 400 and MEDIA_TYPE not in _media(responses[status])
    ]:
        del responses[status]
    common = [500, 503]
    if operation.get("parameters"):
        common.append(400)
    if "requestBody" in operation:
        operation["requestBody"]["required"] = True
        common += [400, 413, 415]
    if operation.get("security"):
        common.append(401)
    for status in common:
        responses.setdefault(
            str(status),
            {
                "description": _WHAT[status],
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        )
    for status, response in responses.items():
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
        if status in ("429", "503"):
            headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    operation["responses"] = dict(sorted(responses.items()))


def _exact(schema: dict[str, Any]) -> None:
    """What is left out has no null in a URL or a header."""
    one_of: list[dict[str, Any]] = schema.pop("oneOf", [])
    schema.update({**next((type_ for type_ in one_of if type_ != {"type": "null"}), {}), **schema})


def _media(response: dict[str, Any]) -> dict[str, Any]:
    media: dict[str, Any] = response.get("content") or {}
    return media


def _headers(schema: dict[str, Any]) -> None:
    schema["components"]["headers"] = {
        "X-Request-ID": {
            "description": "The id of the request: the client's own, where it sent a fitting one.",
            "schema": {"type": "string"},
        },
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    }

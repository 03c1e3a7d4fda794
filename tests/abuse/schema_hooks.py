"""What Schemathesis needs to know of a service: who asks, what is there, and what must not be ended.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``), which gets the rest from the environment: ``FUZZ_URL``, and ``FUZZ_KNOWN``,
the JSON that ``tests.abuse.fuzz`` wrote.
"""

import json
import os
import random
import threading
from itertools import count
from typing import Any

import httpx
import schemathesis
from schemathesis.core.parameters import ParameterLocation

URL = os.environ["FUZZ_URL"]
KNOWN: dict[str, Any] = json.loads(os.environ["FUZZ_KNOWN"])
PASSWORD = KNOWN["password"]

#: These end a session or an account: each is asked by somebody made for it.
ENDING = {
    ("POST", "/auth/logout"),
    ("POST", "/auth/password"),
    ("DELETE", "/auth/me"),
    ("DELETE", "/auth/sessions/{session_id}"),
}
#: The rooms that are known are needed until the end; a generated id finds none to delete.
DELETES_ROOM = ("DELETE", "/rooms/{room_id}")

FOLLOWS_ROOM = "/rooms/{room_id}/events"

_numbers = count()
_lock = threading.Lock()
_http = httpx.Client(base_url=URL, timeout=60, verify=False)  # noqa: S501 - plain HTTP
_throwaway: dict[str, Any] | None = None


def _somebody() -> dict[str, Any]:
    """A throw-away with a session of its own; the same one until something succeeded in its name."""
    global _throwaway  # noqa: PLW0603 - one for the process
    with _lock:
        if _throwaway is None:
            name = f"throwaway-{os.getpid()}-{next(_numbers)}"
            body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            _http.post("/auth/signup", json=body).raise_for_status()
            session = _http.post("/auth/login", json={"username": name, "password": PASSWORD}).raise_for_status().json()
            bearer = {"Authorization": f"Bearer {session['access_token']}"}
            [own] = _http.get("/auth/sessions", headers=bearer).raise_for_status().json()["sessions"]
            _throwaway = {"headers": bearer, "session_id": own["id"]}
        return _throwaway


def _known_ids(case: Any, chance: random.Random) -> dict[str, str]:
    room = chance.choice(KNOWN["rooms"])
    found = {
        "room_id": room["id"],
        "message_id": chance.choice(room["messages"]),
        "reply_id": chance.choice(room["replies"]),
        "user_id": chance.choice(KNOWN["users"]),
    }
    if case.operation.path.startswith("/messages/"):
        found["message_id"] = chance.choice(room["answers"])
    return found


def _negative_path(case: Any) -> bool:
    return case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Known ids in half of the cases, a throw-away where something ends, and no stream without an end."""
    operation = case.operation.method.upper(), case.operation.path
    chance = random.Random(repr((case.path_parameters, case.query, case.headers)))
    somebody = None
    if operation in ENDING and "Authorization" in (case.headers or kwargs.get("headers") or {}):
        somebody = _somebody()
        kwargs["headers"] = {**(kwargs.get("headers") or {}), **somebody["headers"]}
    generated = case.path_parameters or {}
    if generated and chance.random() < 0.5 and operation != DELETES_ROOM and not _negative_path(case):
        known = _known_ids(case, chance)
        if somebody is not None:
            known["session_id"] = somebody["session_id"]
        case.path_parameters = {name: known.get(name, value) for name, value in generated.items()}
    # A room's stream ends after a quarter of an hour; tests of its own read it.
    if case.operation.path == FOLLOWS_ROOM and "event-stream" in str((case.headers or {}).get("Accept", "")).lower():
        case.headers["Accept"] = "application/json"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """A throw-away in whose name something succeeded is used up."""
    global _throwaway  # noqa: PLW0603 - one for the process
    if (case.operation.method.upper(), case.operation.path) in ENDING and response.status_code < 300:
        with _lock:
            _throwaway = None

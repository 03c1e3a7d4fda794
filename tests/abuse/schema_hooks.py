"""What Schemathesis needs to know of a service: who asks, what is there, and what must not be ended.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``), which gets the rest from the environment: ``FUZZ_URL``; ``FUZZ_KNOWN``,
the JSON that ``tests.abuse.fuzz`` wrote; and ``FUZZ_COUNTS``, a file for how many answers had each status.
"""

import atexit
import json
import os
import random
import threading
from collections import Counter
from itertools import count
from pathlib import Path
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

ADDS_MEMBER = ("POST", "/rooms/{room_id}/members")
FOLLOWS_ROOM = "/rooms/{room_id}/events"

_numbers = count()
_lock = threading.Lock()
_http = httpx.Client(base_url=URL, timeout=60)
_statuses: Counter[int] = Counter()
_throwaway: dict[str, str] | None = None


@atexit.register
def _tell() -> None:
    Path(os.environ["FUZZ_COUNTS"]).write_text(json.dumps(_statuses))


def _operation(case: Any) -> tuple[str, str]:
    return case.operation.method.upper(), case.operation.path


def _somebody() -> dict[str, str]:
    """A throw-away with a session of its own; the same one until something succeeded in its name."""
    global _throwaway
    with _lock:
        if _throwaway is None:
            name = f"throwaway-{os.getpid()}-{next(_numbers)}"
            body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            _http.post("/auth/signup", json=body).raise_for_status()
            session = _http.post("/auth/login", json={"username": name, "password": PASSWORD}).raise_for_status().json()
            bearer = {"Authorization": f"Bearer {session['access_token']}"}
            [own] = _http.get("/auth/sessions", headers=bearer).raise_for_status().json()["sessions"]
            _throwaway = {"token": session["access_token"], "session_id": own["id"]}
        return _throwaway


@schemathesis.auth(refresh_interval=None)
class Bearer:
    def get(self, case: Any, context: Any) -> str:
        token: str = KNOWN["token"]
        return token

    def set(self, case: Any, data: str, context: Any) -> None:
        token = _somebody()["token"] if _operation(case) in ENDING else data
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


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
    if "session_id" in case.path_parameters:
        found["session_id"] = _somebody()["session_id"]
    return found


def _follows(case: Any) -> bool:
    """Whether it goes on with what an earlier request made."""
    return case.meta is not None and case.meta.phase.name.value == "stateful"


def _negative(case: Any, location: ParameterLocation) -> bool:
    return case.meta is not None and case.meta.is_negative_at(location)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Known ids in half of the cases, what no schema can say, and no stream without an end."""
    chance = random.Random(repr((case.path_parameters, case.query, case.headers)))
    generated = {} if _follows(case) else case.path_parameters or {}
    deletes = _operation(case) == DELETES_ROOM
    if generated and chance.random() < 0.5 and not deletes and not _negative(case, ParameterLocation.PATH):
        known = _known_ids(case, chance)
        case.path_parameters = {name: known.get(name, value) for name, value in generated.items()}
    # At most one place in a room's history can be asked for.
    if case.query and not _negative(case, ParameterLocation.QUERY):
        places = [name for name in ("before", "after", "around") if name in case.query]
        case.query = {name: value for name, value in case.query.items() if name not in places[1:]}
    body = case.body if isinstance(case.body, dict) else {}
    if body.get("m_id") is not None:
        # What only stands in for an ``m_id`` is not looked at beside one.
        case.headers = {name: text for name, text in case.headers.items() if name.lower() != "idempotency-key"}
    if _operation(case) == ADDS_MEMBER and _follows(case) and not _negative(case, ParameterLocation.BODY):
        # The 404 of a name that nobody has would be taken for that of the room, which was just created.
        case.body = {**body, "username": KNOWN["guest"]}
    ai = body.get("ai")
    if isinstance(ai, dict) and isinstance(tokens := ai.get("max_output_tokens"), float) and tokens.is_integer():
        ai["max_output_tokens"] = int(tokens)  # an integer to JSON Schema alone
    # A room's stream ends after a quarter of an hour; tests of its own read it.
    if case.operation.path == FOLLOWS_ROOM and "event-stream" in str((case.headers or {}).get("Accept", "")).lower():
        case.headers["Accept"] = "application/json"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """A throw-away in whose name something succeeded is used up."""
    global _throwaway
    with _lock:
        _statuses[response.status_code] += 1
        if _operation(case) in ENDING and response.status_code < 300:
            _throwaway = None

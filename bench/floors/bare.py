"""The floor of any answer: 200 with some JSON, and nothing behind it."""

from typing import Any

from bench.floors.asgi import application

_ANSWER = b'{"id":"0193f8a0-0000-7000-8000-000000000000","username":"bench","email":"bench@example.com","created_at":"2026-01-01T00:00:00Z"}'  # noqa: E501


async def _answer(scope: Any, body: bytes) -> bytes:
    return _ANSWER


app = application(_answer)

"""The floor of a log-in: the password against its hash (``PASSWORD_HASH``), in a thread."""

import asyncio
import os
from typing import Any

import msgspec
from argon2 import PasswordHasher

from bench.floors.asgi import application

_hasher = PasswordHasher()  # the hash says by which parameters


async def _answer(scope: Any, body: bytes) -> bytes:
    given = msgspec.json.decode(body)
    await asyncio.to_thread(_hasher.verify, os.environ["PASSWORD_HASH"], given["password"])
    return b'{"access_token":"x"}'


app = application(_answer)

"""Password hashes: argon2id for new ones, bcrypt still verified and replaced at log-in.

``passlib`` is the maintained ``libpass`` distribution. The parameters of argon2id are those of the OWASP Password
Storage Cheat Sheet (19 MiB, two passes, one lane).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from passlib.context import CryptContext
from passlib.exc import PasswordSizeError, PasswordValueError, UnknownHashError

from chat_core.errors import ServerFull
from chat_core.ports.security import Passwords, Verdict

T = TypeVar("T")


class CryptContextPasswords(Passwords):
    """Hashes in ``workers`` threads, each of which takes 19 MiB while it works; at most ``waiting`` wait for one."""

    def __init__(self, *, workers: int = 2, waiting: int = 64) -> None:
        self._context = CryptContext(
            schemes=["argon2", "bcrypt"],
            deprecated="auto",
            argon2__type="ID",
            argon2__memory_cost=19_456,
            argon2__time_cost=2,
            argon2__parallelism=1,
            bcrypt__rounds=12,
        )
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="passwords")
        self._places = BoundedSemaphore(workers + waiting)

    async def hash(self, password: str) -> str:
        return await self._slowly(lambda: str(self._context.hash(password)))

    async def verify(self, password: str, password_hash: str | None) -> Verdict:
        return await self._slowly(lambda: self._verify(password, password_hash))

    def _verify(self, password: str, password_hash: str | None) -> Verdict:
        if password_hash is None:
            self._context.dummy_verify()
            return Verdict(False)
        try:
            right, new_hash = self._context.verify_and_update(password, password_hash)
        except (UnknownHashError, PasswordSizeError, PasswordValueError, ValueError):
            # bcrypt 5 raises ValueError for more than 72 bytes: such a password was never hashed with it.
            self._context.dummy_verify()
            return Verdict(False)
        return Verdict(bool(right), new_hash)

    async def _slowly(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise ServerFull("Too many log-ins and sign-ups at once.", retry_after=2)
        future = self._workers.submit(work)
        # Of the thread's own future: a caller that leaves ends the wait, but not what the thread has begun.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the threads end."""
        self._workers.shutdown(wait=False, cancel_futures=True)

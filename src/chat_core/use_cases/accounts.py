"""Signing up, logging in, and knowing who asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from chat_core.domain.ids import UserId, utc_now, uuid7
from chat_core.domain.user import PASSWORD_MAX, Actor, User, check_sign_up
from chat_core.errors import NotAuthenticated, WrongCredentials
from chat_core.ports.security import AccessToken, Claims, Passwords, Tokens
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.transactions import again_on_contention


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUp:
    """Make an account. Raises ``Invalid``, ``UsernameTaken`` or ``EmailTaken``."""

    uow: UnitOfWork
    passwords: Passwords
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, username: str, email: str, password: str) -> User:
        check_sign_up(username, email, password)
        user = User(
            id=UserId(uuid7()),
            username=username,
            email=email,
            password_hash=await self.passwords.hash(password),
            created_at=self.now(),
        )
        await self._store(user)
        return user

    @again_on_contention
    async def _store(self, user: User) -> None:
        async with self.uow() as tx:
            await tx.users.add(user)
            await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A session that has just begun."""

    user: User
    token: AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """Begin a session, by username or e-mail. Raises ``WrongCredentials``, in the same time for every cause."""

    uow: UnitOfWork
    passwords: Passwords
    tokens: Tokens

    async def __call__(self, *, login: str, password: str) -> LoggedIn:
        user = None
        if "\x00" not in login:
            async with self.uow.read() as tx:
                user = await tx.users.by_login(login)
        verdict = await self.passwords.verify(password[: PASSWORD_MAX + 1], user.password_hash if user else None)
        if user is None or not verdict.right:
            raise WrongCredentials
        if verdict.new_hash:
            await self._store(user, verdict.new_hash)
        return LoggedIn(user=user, token=self.tokens.issue(Claims(user_id=user.id, session_id=uuid7())))

    @again_on_contention
    async def _store(self, user: User, new_hash: str) -> None:
        async with self.uow() as tx:
            if await tx.users.replace_password_hash(user.id, user.password_hash, new_hash):
                await tx.commit()


class RecentUsers:
    """Accounts that were found within the last second: what ends an account or a session takes hold within that."""

    def __init__(self, seconds: float = 1.0, most: int = 10_000, monotonic: Callable[[], float] = time.monotonic):
        self._seconds, self._most, self._monotonic = seconds, most, monotonic
        self._found: dict[UserId, tuple[float, User]] = {}

    def get(self, user_id: UserId) -> User | None:
        until, user = self._found.get(user_id, (0.0, None))
        return user if self._monotonic() < until else None

    def put(self, user: User) -> None:
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[user.id] = (self._monotonic() + self._seconds, user)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """Whose token this is. Raises ``NotAuthenticated``, one error for all causes."""

    uow: UnitOfWork
    tokens: Tokens
    recent: RecentUsers = field(default_factory=RecentUsers)

    async def __call__(self, token: str) -> Actor:
        user = await self.account(self.tokens.read(token).user_id)
        return Actor(user_id=user.id, username=user.username)

    async def account(self, user_id: UserId) -> User:
        """The account, as it is or was within the last second."""
        user = self.recent.get(user_id)
        if user is None:
            async with self.uow.read() as tx:
                user = await tx.users.get(user_id)
            if user is None:
                raise NotAuthenticated
            self.recent.put(user)
        return user

"""Signing up, logging in, and the account's own affairs."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chat_core.domain.ids import UserId, utc_now, uuid7
from chat_core.domain.session import Session, digest, new_secret, tidy_user_agent
from chat_core.domain.user import PASSWORD_MAX, Actor, User, check_new_password, check_sign_up
from chat_core.errors import NotAuthenticated, WrongCredentials, WrongPassword
from chat_core.ports.security import AccessToken, Claims, Passwords, Tokens
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.authentication import RecentSessions
from chat_core.use_cases.limits import Limits
from chat_core.use_cases.transactions import again_on_contention

#: So many expired sessions, and tickets, are forgotten at a time, by whoever begins a session or takes a ticket.
TIDIED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUp:
    """Make an account. Raises ``Invalid``, ``UsernameTaken``, ``EmailTaken``, ``RateLimited``."""

    uow: UnitOfWork
    passwords: Passwords
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, username: str, email: str, password: str, peer: str = "-") -> User:
        check_sign_up(username, email, password)
        await self.limits.signing_up(peer)
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
    """A session that has begun or goes on: an access token, and the refresh token to get the next one with."""

    user: User
    session: Session
    token: AccessToken
    refresh_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """Begin a session, by username or e-mail. Raises ``WrongCredentials``, in the same time for every cause, and
    ``RateLimited``: by ``peer``, the address that asks, so that nobody can lock another one out."""

    uow: UnitOfWork
    passwords: Passwords
    tokens: Tokens
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = utc_now

    async def __call__(self, *, login: str, password: str, user_agent: str | None = None, peer: str = "-") -> LoggedIn:
        tried = False
        while True:
            user = None
            if "\x00" not in login:
                async with self.uow.read() as tx:
                    user = await tx.users.by_login(login)
            account = str(user.id) if user else _nobody(login)
            if not tried:
                await self.limits.trying_password(account, peer)
                tried = True
            verdict = await self.passwords.verify(password[: PASSWORD_MAX + 1], user.password_hash if user else None)
            right = user is not None and verdict.right
            await self.limits.password_was(right=right, account=account)
            if user is None or not right:
                raise WrongCredentials
            at = self.now()
            session = Session(
                id=uuid7(),
                user_id=user.id,
                user_agent=tidy_user_agent(user_agent),
                created_at=at,
                last_used_at=at,
            )
            refresh_token = new_secret()
            if await self._store(user, session, digest(refresh_token), verdict.new_hash):
                break
            # The password was changed, or hashed anew, while this one was worked on: it is tried against the new hash.
        token = self.tokens.issue(Claims(user_id=user.id, session_id=session.id))
        return LoggedIn(user=user, session=session, token=token, refresh_token=refresh_token)

    @again_on_contention
    async def _store(self, user: User, session: Session, refresh: bytes, new_hash: str | None) -> bool:
        """Says whether the password is still the one that was found to be right."""
        async with self.uow() as tx:
            # Held, so that a change of password meets this session among those that it ends, or this one the change.
            held = await tx.users.hold(user.id)
            if held is None or held.password_hash != user.password_hash:
                return False
            if new_hash:
                await tx.users.replace_password_hash(user.id, user.password_hash, new_hash)
            await tx.sessions.add(session, refresh)
            await tx.sessions.tidy(session.created_at, TIDIED)
            await tx.commit()
        return True


def _nobody(login: str) -> str:
    """Who is tried where there is no such account: what names it is not to be kept in the clear."""
    return hashlib.sha256(login.casefold().encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPassword:
    """Ask somebody who is logged in for their password once more. Raises ``WrongPassword``, ``NotAuthenticated``."""

    uow: UnitOfWork
    passwords: Passwords
    limits: Limits = field(default_factory=Limits)

    async def __call__(self, *, user_id: UserId, password: str) -> User:
        """The account, with the hash that the password fits. Raises ``RateLimited``, too: it counts as a log-in."""
        await self.limits.trying_password(str(user_id), str(user_id))
        async with self.uow.read() as tx:
            user = await tx.users.get(user_id)
        if user is None:
            raise NotAuthenticated
        right = (await self.passwords.verify(password[: PASSWORD_MAX + 1], user.password_hash)).right
        await self.limits.password_was(right=right, account=str(user_id))
        if not right:
            raise WrongPassword
        return user


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePassword:
    """Set a new password; all sessions but the one that asks end. Raises ``Invalid``, ``WrongPassword``."""

    uow: UnitOfWork
    passwords: Passwords
    check: CheckPassword
    recent: RecentSessions

    async def __call__(self, *, actor: Actor, current_password: str, new_password: str) -> None:
        check_new_password(new_password)
        new_hash = None
        while True:
            user = await self.check(user_id=actor.user_id, password=current_password)
            new_hash = new_hash or await self.passwords.hash(new_password)
            if await self._store(user, new_hash, actor.session_id):
                break
        self.recent.forget_account(actor.user_id)

    @again_on_contention
    async def _store(self, user: User, new_hash: str, session_id: UUID | None) -> bool:
        async with self.uow() as tx:
            if not await tx.users.replace_password_hash(user.id, user.password_hash, new_hash):
                return False
            await tx.sessions.end_others(user.id, session_id)
            await tx.commit()
        return True

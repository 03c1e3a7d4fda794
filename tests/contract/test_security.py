"""Every adapter of passwords and tokens keeps the contract of its port."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import jwt
import pytest
from passlib.hash import bcrypt

from adapters.auth.passwords import CryptContextPasswords
from adapters.auth.tokens import JwtTokens, Key
from adapters.memory.security import MemoryPasswords, MemoryTokens
from chat_core.domain.ids import utc_now
from chat_core.ports.security import Passwords, Tokens
from chat_core.testing.security import OldHash, PasswordsContract, TokensContract
from tests.clocks import Seconds, TimeOfDay

KEY, OTHER_KEY = Key("k" * 64), Key("o" * 64)


class TestCryptContextPasswords(PasswordsContract):
    @pytest.fixture
    def passwords(self) -> Iterator[Passwords]:
        passwords = CryptContextPasswords()
        yield passwords
        passwords.close()

    @pytest.fixture
    def room_for_one(self) -> Iterator[Passwords]:
        passwords = CryptContextPasswords(workers=1, waiting=0)
        yield passwords
        passwords.close()

    @pytest.fixture
    def old_hash(self) -> OldHash:
        return OldHash(password="old-password", password_hash=bcrypt.using(rounds=4).hash("old-password"))


class TestMemoryPasswords(PasswordsContract):
    @pytest.fixture
    def passwords(self) -> Passwords:
        return MemoryPasswords()


class TestJwtTokens(TokensContract):
    @pytest.fixture(params=["HS256", "HS512"])
    def algorithm(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def clock(self) -> TimeOfDay:
        return TimeOfDay()

    @pytest.fixture
    def tokens(self, algorithm: str, clock: TimeOfDay) -> Tokens:
        return JwtTokens([KEY], algorithm=algorithm, now=clock)

    @pytest.fixture
    def let_pass(self, clock: TimeOfDay) -> Callable[[float], None]:
        return clock.let_pass

    @pytest.fixture
    def stranger(self, algorithm: str, clock: TimeOfDay) -> Tokens:
        return JwtTokens([OTHER_KEY], algorithm=algorithm, now=clock)

    @pytest.fixture
    def from_the_future(self, algorithm: str) -> Tokens:
        return JwtTokens([KEY], algorithm=algorithm, now=lambda: utc_now() + timedelta(hours=1))

    @pytest.fixture
    def for_other_purposes(self, tokens: Tokens, algorithm: str) -> Sequence[str]:
        payload = {"sub": "somebody", "aud": "chat-api", "purpose": "refresh"}
        return [
            jwt.encode(payload, KEY.secret, algorithm=algorithm, headers={"kid": KEY.kid, "typ": kind})
            for kind in ("JWT", "rt+jwt", "ticket+jwt")
        ]


class TestMemoryTokens(TokensContract):
    @pytest.fixture
    def clock(self) -> Seconds:
        return Seconds()

    @pytest.fixture
    def tokens(self, clock: Seconds) -> Tokens:
        return MemoryTokens(monotonic=clock)

    @pytest.fixture
    def let_pass(self, clock: Seconds) -> Callable[[float], None]:
        return clock.let_pass

    @pytest.fixture
    def stranger(self) -> Tokens:
        return MemoryTokens()

"""Passwords and tokens without cryptography: fast, for tests and trials, and never for people's passwords."""

import hashlib
import secrets
import time
from collections.abc import Callable

from chat_core.errors import NotAuthenticated
from chat_core.ports.security import AccessToken, Claims, Passwords, Tokens, Verdict


class MemoryPasswords(Passwords):
    """One round of salted SHA-256: as quick to guess as it is to compute."""

    async def hash(self, password: str) -> str:
        salt = secrets.token_hex(8)
        return f"{salt}${self._digest(salt, password)}"

    async def verify(self, password: str, password_hash: str | None) -> Verdict:
        salt, _, digest = (password_hash or "").partition("$")
        # As bytes, since texts that are not ASCII cannot be compared in constant time.
        expected = self._digest(salt, password).encode()
        return Verdict(secrets.compare_digest(digest.encode("utf-8", "replace"), expected))

    def _digest(self, salt: str, password: str) -> str:
        return hashlib.sha256(f"{salt}{password}".encode("utf-8", "surrogatepass")).hexdigest()


class MemoryTokens(Tokens):
    """Random texts that this object remembers for ``lifetime`` seconds."""

    def __init__(self, lifetime: int = 1800, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lifetime, self._monotonic = lifetime, monotonic
        self._issued: dict[str, tuple[float, Claims]] = {}

    def issue(self, claims: Claims) -> AccessToken:
        now = self._monotonic()
        self._issued = {text: issued for text, issued in self._issued.items() if issued[0] > now}
        text = secrets.token_urlsafe(24)
        self._issued[text] = (self._monotonic() + self._lifetime, claims)
        return AccessToken(text=text, expires_in=self._lifetime)

    def read(self, token: str) -> Claims:
        until, claims = self._issued.get(token, (0.0, None))
        if claims is None or self._monotonic() >= until:
            raise NotAuthenticated
        return claims

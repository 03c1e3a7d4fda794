"""Access tokens as JWTs (RFC 7519, with the advice of RFC 8725 and the header type of RFC 9068)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt

from chat_core.domain.ids import UserId, utc_now
from chat_core.errors import NotAuthenticated
from chat_core.ports.security import AccessToken, Claims, Tokens

ISSUER = "chat-api"
AUDIENCE = "chat-api"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type
ALGORITHMS = ("HS256", "HS384", "HS512")
#: How far two hosts' clocks may be apart, in seconds.
LEEWAY = 30.0
#: Longer than any token of ours; what is longer is not worth the work of parsing it.
LONGEST = 2048
#: So many tokens that were verified are remembered, by their digests: reading one takes a hundred times as long.
KNOWN = 10_000

_REQUIRED = ["exp", "iat", "nbf", "sub", "jti", "sid", "aud", "iss"]


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A secret and its ``kid``, which is a digest of it that tells nothing of it."""

    secret: str

    @property
    def kid(self) -> str:
        return hashlib.sha256(b"chat-api kid\0" + self.secret.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a token says that was signed by one of our keys, and from when to when (in seconds since 1970)."""

    claims: Claims
    begins: float
    ends: float

    def check(self, now: float) -> None:
        if self.begins > now + LEEWAY or self.ends <= now - LEEWAY:
            raise NotAuthenticated


class JwtTokens(Tokens):
    """Signs with the first key of the ring, and reads tokens of any key in it, found by ``kid``.

    ``algorithm`` is one of HS256, HS384 and HS512; a token that names another one is refused, whatever its key.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        algorithm: str = "HS256",
        lifetime: timedelta = timedelta(minutes=30),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"{algorithm} is not one of {', '.join(ALGORITHMS)}")
        self._signing = keys[0]
        self._ring = {key.kid: key for key in keys}
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._now = now
        self._known: dict[bytes, _Verified] = {}

    def issue(self, claims: Claims) -> AccessToken:
        at = int(self._now().timestamp())
        lifetime = int(self._lifetime.total_seconds())
        text = jwt.encode(
            {
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": str(claims.user_id),
                "sid": str(claims.session_id),
                "jti": str(uuid4()),
                "iat": at,
                "nbf": at,
                "exp": at + lifetime,
            },
            self._signing.secret,
            algorithm=self._algorithm,
            headers={"kid": self._signing.kid, "typ": TOKEN_TYPE},
        )
        return AccessToken(text=text, expires_in=lifetime)

    def read(self, token: str) -> Claims:
        if len(token) > LONGEST:
            raise NotAuthenticated
        # A signature that was good once is good for ever; the times are looked at each time.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._verified(token)
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[digest] = known
        known.check(self._now().timestamp())
        return known.claims

    def _verified(self, token: str) -> "_Verified":
        """Whatever the time is."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._ring.get(header["kid"]) if isinstance(header.get("kid"), str) else None
            if key is None or header.get("typ") != TOKEN_TYPE:
                raise NotAuthenticated
            payload = jwt.decode(
                token,
                key.secret,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                # The times are checked below, against the clock that signs.
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            times = [payload[name] for name in ("iat", "nbf", "exp")]
            if not all(isinstance(time, int) and not isinstance(time, bool) for time in times):
                raise NotAuthenticated
            # Moments that there can be: what is none is no token.
            issued, begins, ends = (datetime.fromtimestamp(time, UTC).timestamp() for time in times)
            claims = Claims(user_id=UserId(UUID(payload["sub"])), session_id=UUID(payload["sid"]))
            return _Verified(claims, max(issued, begins), ends)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise NotAuthenticated from error

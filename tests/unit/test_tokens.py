"""Access tokens as JWTs: what is signed, and every way of forging one that has been tried on others."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from adapters.auth.tokens import JwtTokens, Key
from chat_core.domain.ids import UserId
from chat_core.errors import NotAuthenticated
from chat_core.ports.security import Claims
from tests.clocks import TimeOfDay

# 64 bytes, so that the key is long enough for each algorithm.
KEY, OLD_KEY, FOREIGN_KEY = Key("k" * 64), Key("o" * 64), Key("f" * 64)
CLAIMS = Claims(user_id=UserId(UUID(int=1)), session_id=UUID(int=2))
NAMES = ("exp", "iat", "nbf", "sub", "jti", "sid", "aud", "iss")


@pytest.fixture
def clock() -> TimeOfDay:
    return TimeOfDay()


@pytest.fixture
def tokens(clock: TimeOfDay) -> JwtTokens:
    return JwtTokens([KEY], now=clock)


def good_payload(clock: TimeOfDay) -> dict[str, Any]:
    at = int(clock().timestamp())
    return {
        "iss": "chat-api",
        "aud": "chat-api",
        "sub": str(CLAIMS.user_id),
        "sid": str(CLAIMS.session_id),
        "jti": str(uuid4()),
        "iat": at,
        "nbf": at,
        "exp": at + 60,
    }


def good_header(**changes: object) -> dict[str, Any]:
    header = {"alg": "HS256", "kid": KEY.kid, "typ": "at+jwt", **changes}
    return {name: value for name, value in header.items() if value is not None}


def coded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Mapping[str, object], payload: object, key: Key = KEY, algorithm: str = "HS256") -> str:
    """A token with this header and payload, whatever they are, and a signature that is right for the key."""
    text = f"{coded(header)}.{coded(payload)}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(text.encode(), key.secret.encode())
    return f"{text}.{coded(signature)}"


def is_refused(tokens: JwtTokens, token: str) -> bool:
    try:
        tokens.read(token)
    except NotAuthenticated:
        return True
    return False


def test_the_helper_signs_tokens_that_are_read(tokens: JwtTokens, clock: TimeOfDay):
    assert tokens.read(signed(good_header(), good_payload(clock))) == CLAIMS


def test_a_token_names_its_kind_and_its_key_and_tells_nothing_of_the_key(tokens: JwtTokens):
    header = jwt.get_unverified_header(tokens.issue(CLAIMS).text)
    assert header == {"alg": "HS256", "kid": KEY.kid, "typ": "at+jwt"}
    assert KEY.secret not in KEY.kid
    assert KEY.secret not in repr(KEY)


def test_a_token_holds_ids_and_times_and_no_more(tokens: JwtTokens, clock: TimeOfDay):
    token = tokens.issue(CLAIMS)
    payload = jwt.decode(token.text, options={"verify_signature": False})
    at = int(clock().timestamp())
    assert set(payload) == set(NAMES)
    assert (payload["iat"], payload["nbf"], payload["exp"]) == (at, at, at + 1800)
    assert token.expires_in == 1800


def test_each_token_has_an_id_of_its_own(tokens: JwtTokens):
    texts = [tokens.issue(CLAIMS).text for _ in range(5)]
    assert len({jwt.decode(text, options={"verify_signature": False})["jti"] for text in texts}) == 5


@pytest.mark.parametrize("algorithm", ["none", "None", "NoNe", "NONE", "", None, "HS257", "HMAC", ["HS256"], 256])
@pytest.mark.parametrize("signature", ["", "right"])
def test_a_token_without_an_algorithm_is_refused(
    tokens: JwtTokens, clock: TimeOfDay, algorithm: object, signature: str
):
    token = signed(good_header(alg=algorithm), good_payload(clock))
    assert is_refused(tokens, token if signature else token.rpartition(".")[0] + ".")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused_although_the_secret_is_right(tokens: JwtTokens, clock: TimeOfDay, algorithm: str):
    assert is_refused(tokens, signed(good_header(alg=algorithm), good_payload(clock), algorithm=algorithm))
    assert is_refused(tokens, signed(good_header(alg="HS256"), good_payload(clock), algorithm=algorithm))
    assert is_refused(tokens, signed(good_header(alg=algorithm), good_payload(clock), algorithm="HS256"))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "PS256"])
def test_an_asymmetric_algorithm_is_refused(tokens: JwtTokens, clock: TimeOfDay, algorithm: str):
    assert is_refused(tokens, signed(good_header(alg=algorithm), good_payload(clock)))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_the_algorithm_that_is_set_is_the_one_that_is_taken(clock: TimeOfDay, algorithm: str):
    tokens = JwtTokens([KEY], algorithm=algorithm, now=clock)
    assert tokens.read(tokens.issue(CLAIMS).text) == CLAIMS
    assert is_refused(tokens, JwtTokens([KEY], now=clock).issue(CLAIMS).text)


@pytest.mark.parametrize("algorithm", ["none", "RS256", "hs256", ""])
def test_tokens_are_signed_by_hmac_and_nothing_else(algorithm: str):
    with pytest.raises(ValueError, match="HS256, HS384, HS512"):
        JwtTokens([KEY], algorithm=algorithm)


@pytest.mark.parametrize(
    "kid",
    [
        None,
        "",
        FOREIGN_KEY.kid,
        KEY.kid.upper(),
        KEY.kid + " ",
        "../../dev/null",
        "' OR 1=1--",
        "k" * 60_000,
        ["a", "b"],
        [KEY.kid],
        {"kid": KEY.kid},
        1,
        True,
        1e308,
    ],
    ids=lambda kid: repr(kid)[:20],
)
def test_a_key_that_is_not_in_the_ring_is_refused(tokens: JwtTokens, clock: TimeOfDay, kid: object):
    assert is_refused(tokens, signed(good_header(kid=kid), good_payload(clock)))


def test_another_key_under_our_kid_is_refused(tokens: JwtTokens, clock: TimeOfDay):
    assert is_refused(tokens, signed(good_header(), good_payload(clock), FOREIGN_KEY))


@pytest.mark.parametrize("secret", ["", "secret", "your_secret_key_here", "your-secret-key-change-this-in-production"])
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_well_known_key_is_refused(tokens: JwtTokens, clock: TimeOfDay, secret: str):
    for kid in (KEY.kid, Key(secret).kid):
        assert is_refused(tokens, signed(good_header(kid=kid), good_payload(clock), Key(secret or "\0")))


def test_an_old_key_reads_and_never_signs(clock: TimeOfDay):
    before = JwtTokens([OLD_KEY], now=clock)
    after = JwtTokens([KEY, OLD_KEY], now=clock)
    assert after.read(before.issue(CLAIMS).text) == CLAIMS
    assert jwt.get_unverified_header(after.issue(CLAIMS).text)["kid"] == KEY.kid
    assert is_refused(before, after.issue(CLAIMS).text)


def test_a_key_that_was_taken_away_reads_no_more(tokens: JwtTokens, clock: TimeOfDay):
    assert is_refused(tokens, JwtTokens([OLD_KEY], now=clock).issue(CLAIMS).text)


def test_an_old_key_under_the_new_kid_is_refused(clock: TimeOfDay):
    after = JwtTokens([KEY, OLD_KEY], now=clock)
    assert is_refused(after, signed(good_header(), good_payload(clock), OLD_KEY))


@pytest.mark.parametrize("name", NAMES)
def test_each_claim_is_needed(tokens: JwtTokens, clock: TimeOfDay, name: str):
    payload = good_payload(clock)
    del payload[name]
    assert is_refused(tokens, signed(good_header(), payload))


WRONG_TYPES: tuple[Any, ...] = (
    None,
    [],
    {},
    True,
    "",
    "x",
    -1,
    0,
    1e308,
    10**30,
    "9999999999",
    [str(CLAIMS.user_id)],
    {"a": 1},
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", WRONG_TYPES, ids=lambda value: repr(value)[:12])
def test_each_claim_has_its_type(tokens: JwtTokens, clock: TimeOfDay, name: str, value: object):
    # Any text is a good jti; and a token may have been valid, and issued, for long.
    fine = {"jti": ("", "x", "9999999999"), "iat": (-1, 0), "nbf": (-1, 0)}
    token = signed(good_header(), {**good_payload(clock), name: value})
    good = not isinstance(value, bool) and value in fine.get(name, ())
    assert is_refused(tokens, token) is not good


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "chat-api.example.com"),
        ("iss", "CHAT-API"),
        ("aud", "another-api"),
        ("aud", ["another-api"]),
        ("sub", "1"),
        ("sub", "admin"),
        ("sid", "1"),
        ("exp", "NaN"),
        ("exp", float("nan")),
        ("exp", float("inf")),
        ("nbf", float("-inf")),
    ],
)
def test_a_claim_with_another_value_is_refused(tokens: JwtTokens, clock: TimeOfDay, name: str, value: object):
    assert is_refused(tokens, signed(good_header(), {**good_payload(clock), name: value}))


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff\xfe", b"[" * 1000])
def test_a_payload_that_is_no_object_is_refused(tokens: JwtTokens, payload: bytes):
    assert is_refused(tokens, signed(good_header(), payload))


@pytest.mark.parametrize(
    ("name", "seconds", "good"),
    [
        ("exp", 1, True),
        ("exp", -29, True),
        ("exp", -31, False),
        ("exp", -120, False),
        ("nbf", 29, True),
        ("nbf", 31, False),
        ("nbf", 120, False),
        ("iat", 29, True),
        ("iat", 31, False),
        ("iat", 120, False),
    ],
)
def test_clocks_may_be_half_a_minute_apart(tokens: JwtTokens, clock: TimeOfDay, name: str, seconds: int, good: bool):
    at = int(clock().timestamp())
    token = signed(good_header(), {**good_payload(clock), name: at + seconds})
    assert is_refused(tokens, token) is not good


def test_a_token_ends_with_its_life(clock: TimeOfDay):
    tokens = JwtTokens([KEY], lifetime=timedelta(minutes=5), now=clock)
    token = tokens.issue(CLAIMS)
    assert token.expires_in == 300
    clock.let_pass(299)
    assert tokens.read(token.text) == CLAIMS
    clock.let_pass(1 + 31)
    assert is_refused(tokens, token.text)


@pytest.mark.parametrize(
    "typ", [None, "", "JWT", "jwt", "at", "rt+jwt", "ticket+jwt", "application/at+jwt", 1, ["at+jwt"]]
)
def test_other_kinds_of_tokens_are_refused(tokens: JwtTokens, clock: TimeOfDay, typ: object):
    assert is_refused(tokens, signed(good_header(typ=typ), good_payload(clock)))


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t"])
def test_a_key_that_the_token_brings_along_is_not_used(tokens: JwtTokens, clock: TimeOfDay, name: str):
    own = {"kty": "oct", "k": coded(FOREIGN_KEY.secret.encode())}
    brought = {"jwk": own, "x5c": [coded(b"certificate")]}.get(name, "http://127.0.0.1:9/keys.json")
    header = good_header(**{name: brought})
    assert is_refused(tokens, signed(header, good_payload(clock), FOREIGN_KEY))
    # Nor does it hurt: it is as if it were not there.
    assert tokens.read(signed(header, good_payload(clock))) == CLAIMS


def test_an_extension_that_must_be_understood_is_refused(tokens: JwtTokens, clock: TimeOfDay):
    assert is_refused(tokens, signed(good_header(crit=["something"], something=1), good_payload(clock)))


def test_a_huge_token_is_refused_unread(tokens: JwtTokens, clock: TimeOfDay, monkeypatch: pytest.MonkeyPatch):
    def reading(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(jwt, "get_unverified_header", reading)
    payload = {**good_payload(clock), "more": "x" * 4000}
    for token in (signed(good_header(), payload), "a." * 100_000, "x" * 1_000_000):
        assert is_refused(tokens, token)


def test_the_ids_come_back_as_ids(tokens: JwtTokens):
    claims = tokens.read(tokens.issue(CLAIMS).text)
    assert isinstance(claims.user_id, UUID)
    assert isinstance(claims.session_id, UUID)


def test_the_time_of_day_is_in_utc(clock: TimeOfDay):
    assert clock().tzinfo is UTC
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=1)

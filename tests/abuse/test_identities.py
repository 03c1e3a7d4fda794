"""Tokens that are none, over HTTP: each is refused in the same words, and nothing is written."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from adapters.auth.tokens import JwtTokens, Key
from chat_core.domain.ids import utc_now
from chat_core.domain.user import PASSWORD_MAX
from tests.abuse.conftest import Start
from tests.e2e.conftest import KEY
from tests.e2e.service import PASSWORD, Person, people
from tests.unit.test_tokens import coded, signed

WELL_KNOWN = (
    "your_secret_key_here",
    "your-secret-key-change-this-in-production",
    "secret",
    "",
    "changeme",
    "password",
    "supersecret",
    "jwt_secret",
    "my-secret-key",
    "0" * 32,
    "a" * 32,
    "1234567890" * 4,
)
CLAIMS = ("exp", "iat", "nbf", "sub", "jti", "sid", "aud", "iss")


class Forger:
    """Makes tokens out of a live one."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.header: dict[str, Any] = jwt.get_unverified_header(token)
        self.payload: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})

    def changed(self, header: dict[str, Any] | None = None, key: str = KEY, **payload: Any) -> str:
        """With these changes, signed anew. A change to ``...`` takes away."""
        heads = {**self.header, **(header or {})}
        claims = {**self.payload, **payload}
        return signed(
            {name: value for name, value in heads.items() if value is not ...},
            {name: value for name, value in claims.items() if value is not ...},
            key=Key(key or "-"),
        )


def forged(live: str) -> dict[str, list[str]]:
    """Tokens that nobody should take, by case."""
    forger = Forger(live)
    head, payload, signature = live.split(".")
    at = int(utc_now().timestamp())
    gone: dict[str, Any] = dict.fromkeys(CLAIMS, ...)
    no_subjects: list[Any] = [["a"], {}, 1, None, "", "a" * 36]
    no_audiences: list[Any] = ["other", [], None, 1]
    found: dict[str, list[str]] = {
        "A01": [
            f"{coded({'alg': algorithm, 'typ': typ})}.{payload}.{end}"
            for algorithm in ("none", "None", "NoNe", "nOnE", "")
            for typ in ("JWT", "at+jwt")
            for end in ("", signature)
        ],
        "A02": [
            signed({**forger.header, "alg": algorithm}, forger.payload, key=Key(KEY), algorithm="HS512")
            for algorithm in ("HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS512")
        ],
        "A03": [forger.changed(header, key=key) for key in WELL_KNOWN for header in ({}, {"kid": ...})],
        "A04": [
            forger.changed({"kid": kid})
            for kid in (
                "unknown",
                "../../dev/null",
                "' OR 1=1--",
                ["a"],
                {"a": 1},
                0,
                True,
                None,
                ...,
                "k" * 1500,
                "http://127.0.0.1:1/",
                "\u0000",
            )
        ],
        "A05": [
            forger.changed({name: value}, key="attacker" * 8)
            for name, value in (
                ("jku", "http://127.0.0.1:1/keys"),
                ("x5u", "http://127.0.0.1:1/cert"),
                ("jwk", {"kty": "oct", "k": coded(b"attacker" * 8)}),
                ("x5c", ["MII"]),
            )
        ],
        "A07": [
            *(forger.changed(**{name: value}) for name, value in gone.items()),
            *(forger.changed(exp=value) for value in ("9999999999", 1e308, None, [at + 60], True, -1)),
            *(forger.changed(sub=value) for value in no_subjects),
            *(forger.changed(aud=value) for value in no_audiences),
            forger.changed(iss="other"),
            forger.changed(sid="no id"),
        ],
        "A08": [
            forger.changed(exp=at - 120),
            forger.changed(nbf=at + 120),
            forger.changed(iat=at + 120),
        ],
        "others": [
            ".",
            "..",
            "...",
            head,
            f"{head}.{payload}",
            f"{head}.{payload}.",
            f"{head}.{payload}.{signature}.x",
            f"{head}.{payload}.{signature[:-2]}",
            f"{head}.{coded({**forger.payload, 'sub': str(uuid4())})}.{signature}",
            forger.changed(sid=str(uuid4())),
            forger.changed(sub=str(uuid4())),
            coded(b"[]") + f".{payload}.{signature}",
            "a" * 5000,
        ],
    }
    return found


@pytest.mark.abuse("A01", "A02", "A03", "A04", "A05", "A07", "A08")
async def test_every_forged_token_gets_the_same_401_and_writes_nothing(start: Start):
    async with start() as url, people(url, "ada") as [ada], httpx.AsyncClient(base_url=url) as http:
        live = ada.http.headers["Authorization"].removeprefix("Bearer ")
        room = await ada.room()
        answers: set[tuple[int, bytes, str]] = set()
        for case, tokens in forged(live).items():
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "same"}
                asked = await http.get("/auth/me", headers=headers)
                sent = await http.post(f"/chat/{room}", json={"content": "forged"}, headers=headers)
                for answer in (asked, sent):
                    kept = {name: text for name, text in answer.headers.items() if name != "date"}
                    answers.add((answer.status_code, answer.content, json.dumps(kept)))
                    assert answer.status_code == 401, (case, token)
        assert len(answers) == 1
        assert (await ada.get(f"/rooms/{room}")).json()["last_seq"] == 0


@pytest.mark.abuse("A08")
async def test_clocks_may_be_half_a_minute_apart(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        forger = Forger(ada.http.headers["Authorization"].removeprefix("Bearer "))
        at = int(utc_now().timestamp())
        tries: list[dict[str, Any]] = [{"exp": at - 20}, {"nbf": at + 20}, {"iat": at + 20}]
        for changes in tries:
            answer = await ada.get("/auth/me", headers={"Authorization": f"Bearer {forger.changed(**changes)}"})
            assert answer.status_code == 200, changes


@pytest.mark.abuse("A11")
async def test_a_token_counts_in_the_one_header_alone(start: Start):
    async with start() as url, people(url, "ada") as [ada], httpx.AsyncClient(base_url=url) as http:
        token = ada.http.headers["Authorization"].removeprefix("Bearer ")
        tried: list[dict[str, Any]] = [
            {"headers": {"Authorization": f"Basic {token}"}},
            {"headers": {"Authorization": token}},
            {"headers": {"Authorization": f"Token {token}"}},
            {"headers": {"Authorization": f"Bearer {token} {token}"}},
            {"headers": {"Authorization": f"Bearer {token}, Bearer {token}"}},
            {"headers": [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]},
            {"headers": {"X-Access-Token": token, "Proxy-Authorization": f"Bearer {token}"}},
            {"headers": {"Cookie": f"access_token={token}; token={token}; Authorization=Bearer {token}"}},
            {"params": {"access_token": token, "token": token}},
        ]
        for request in tried:
            assert (await http.get("/auth/me", **request)).status_code == 401, request
        form = {"access_token": token}
        assert (await http.post("/auth/logout", data=form)).status_code == 401
        assert (await http.get("/auth/me", headers={"Authorization": f"bearer {token}"})).status_code == 200


@pytest.mark.abuse("A10")
async def test_no_secret_stands_in_for_another(start: Start):
    async with start() as url, people(url, "ada") as [ada], httpx.AsyncClient(base_url=url) as http:
        begun = (await ada.post("/auth/login", {"username": "ada", "password": PASSWORD})).json()
        ticket = (await ada.post("/auth/ws-ticket")).json()["ticket"]
        for token in (begun["refresh_token"], ticket, PASSWORD):
            assert (await http.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401
        for token in (begun["access_token"], ticket, PASSWORD):
            assert (await http.post("/auth/refresh", json={"refresh_token": token})).status_code == 401


@pytest.mark.abuse("A19")
async def test_a_token_of_a_key_that_is_gone_is_like_any_other_that_is_none(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        claims = Forger(ada.http.headers["Authorization"].removeprefix("Bearer ")).payload
        gone = JwtTokens([Key("another-key-of-before-0123456789-0123456789")], lifetime=timedelta(minutes=5))
        token = signed({"alg": "HS256", "kid": gone._signing.kid, "typ": "at+jwt"}, claims, key=gone._signing)
        assert (await ada.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401


# --- accounts ---


@pytest.mark.abuse("A21")
async def test_a_sign_up_tells_only_what_is_public_and_is_documented(start: Start):
    """Names are public, so that one that is taken is said to be; asking for an address costs a sign-up of the limit."""
    async with start() as url, people(url, "ada") as [ada]:
        taken = await ada.post("/auth/signup", {"username": "ADA", "email": "new@example.com", "password": PASSWORD})
        assert taken.status_code == 409
        assert b"ada@" not in taken.content
        limited = {"rate_limits": "on", "signup_limit": (2, 90_000.0)}
    async with start(**limited) as url:
        eve = Person(url, "eve")
        body = {"email": "ada@example.com", "password": PASSWORD}
        tried = [(await eve.post("/auth/signup", {"username": f"eve{n}", **body})).status_code for n in range(3)]
        assert tried == [409, 409, 429]
        await eve.http.aclose()


@pytest.mark.abuse("A26")
@pytest.mark.parametrize(
    "password",
    [
        "a" * 64,
        "b" * 128,
        "é" * PASSWORD_MAX,
        "😀" * 64,
        "  leading and trailing  ",
        "ﬁne\u0301 words",
        "tab\tand\nline",
    ],
)
async def test_a_password_is_taken_as_it_is(start: Start, password: str):
    async with start() as url:
        ada = Person(url, "ada")
        body = {"username": "ada", "email": "ada@example.com", "password": password}
        assert (await ada.post("/auth/signup", body)).status_code == 201
        for tried, status in ((password, 200), (password[:-1], 401), (password + "x", 401), (password.strip(), 401)):
            if len(tried) <= PASSWORD_MAX and (tried != password or status == 200):
                answer = await ada.post("/auth/login", {"username": "ada", "password": tried})
                assert answer.status_code == status, tried
        await ada.http.aclose()


@pytest.mark.abuse("A26")
@pytest.mark.parametrize("password", ["", "short", "x" * (PASSWORD_MAX + 1), "x" * 100_000, "with a \u0000 in it"])
async def test_a_password_that_is_none_is_refused_before_it_is_hashed(start: Start, password: str):
    async with start() as url:
        ada = Person(url, "ada")
        body = {"username": "ada", "email": "ada@example.com", "password": password}
        assert (await ada.post("/auth/signup", body)).status_code == 400
        await ada.http.aclose()


@pytest.mark.abuse("A30")
@pytest.mark.parametrize("field", ["id", "role", "is_admin", "created_at", "password_hash", "verified", "user_id"])
async def test_nobody_sets_what_is_not_theirs(start: Start, field: str):
    async with start() as url, people(url, "ada") as [ada]:
        body = {"username": "eve", "email": "eve@example.com", "password": PASSWORD, field: "x"}
        refused = await ada.post("/auth/signup", body)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == f"/{field}"
        assert (await ada.post("/rooms/", {"name": "a room", field: "x"})).status_code == 400


@pytest.mark.abuse("A32")
@pytest.mark.parametrize(
    "name",
    [
        "ada\r\nX: y",
        "\x1b[31mada",
        "\u202eada",
        "a\u0000da",
        "a" * 10_000,
        "admin",
        "Admin",
        "AI Assistant",
        "ai_assistant",
        "A.I.Assistant",
        "system",
        "аda",
        "ada ",
        "<b>ada</b>",
        "ad",
        "",
    ],
)
async def test_a_name_that_deceives_is_refused(start: Start, name: str):
    async with start() as url:
        eve = Person(url, "eve")
        body = {"username": name, "email": "eve@example.com", "password": PASSWORD}
        assert (await eve.post("/auth/signup", body)).status_code == 400
        await eve.http.aclose()

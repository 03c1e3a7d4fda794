"""Input that is none, or more than it seems."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_core.domain.message import CONTENT_MAX
from entrypoints.container import memory_container
from tests.abuse.conftest import Start
from tests.e2e.processes import serving
from tests.e2e.service import people, served

JSON = {"Content-Type": "application/json"}
KEY = "a-key-of-tests-with-enough-characters-0123456789"


@pytest.mark.abuse("A49")
async def test_bytes_that_are_no_utf8_are_a_bad_request(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        for bad in (b'{"content": "\xff\xfe"}', b'{"content": "\xc0\xaf"}', b'{"content": "\xed\xa0\x80"}', b"\xff"):
            assert (await ada.post(f"/chat/{room}", content=bad, headers=JSON)).status_code == 400
        for path in ("/rooms/%ff%fe", "/rooms/?cursor=%ff", "/rooms/?limit=%ff", f"/rooms/{room}/messages?after=%c0"):
            assert (await ada.get(path)).status_code in (400, 404), path


@pytest.mark.abuse("A50")
async def test_bodies_of_a_shape_that_costs_are_bad_requests(start: Start):
    shapes = {
        "deep": b"[" * 100_000,
        "deep and closed": b'{"content": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "brackets": b"[" * 5_000_000,
        "many keys": json.dumps({f"key{number}": number for number in range(10_000)}).encode(),
        "many items": b"[" + b"1," * 1_000_000 + b"1]",
        "one key many times": b"{" + b'"content": "x",' * 20_000 + b'"content": "x"}',
        "a huge number": b'{"content": ' + b"9" * 100_000 + b"}",
    }
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        for name, shape in shapes.items():
            answer = await ada.post(f"/chat/{room}", content=shape, headers=JSON)
            assert answer.status_code in ((400, 413) if name != "one key many times" else (201, 400)), name


@pytest.mark.abuse("A52")
async def test_a_nul_is_refused_in_every_text(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = (await ada.send(room, "hello")).json()["data"]["messages"]["user_message"]["id"]
        tried: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", f"/chat/{room}", {"content": "a\u0000b"}),
            ("POST", f"/chat/{room}", {"content": "a", "m_id": "a\u0000b"}),
            ("PATCH", f"/rooms/{room}/messages/{sent}", {"content": "a\u0000b"}),
            ("POST", "/rooms/", {"name": "a\u0000b"}),
            ("POST", "/rooms/", {"name": "a", "description": "a\u0000b"}),
            ("PATCH", f"/rooms/{room}", {"ai": {"system_prompt": "a\u0000b"}}),
            ("PATCH", f"/rooms/{room}", {"ai": {"model": "a\u0000b"}}),
            ("POST", "/auth/password", {"current_password": "x", "new_password": "with a \u0000 in it"}),
        ]
        for method, path, body in tried:
            assert (await ada.call(method, path, body)).status_code == 400, (method, path)
        assert (await ada.post(f"/rooms/{room}/members", {"username": "a\u0000b"})).status_code in (400, 404)
        assert (await ada.post("/auth/login", {"username": "a\u0000b", "password": "x"})).status_code == 401
        assert (await ada.post("/auth/refresh", {"refresh_token": "a\u0000b"})).status_code == 401
        assert (await ada.get("/rooms/?cursor=%00")).status_code == 400


@pytest.mark.abuse("A57")
async def test_numbers_out_of_range_are_refused(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        bad = (
            "-1",
            "9007199254740992",
            "9223372036854775808",
            "1e30",
            "1.0",
            "0x10",
            "NaN",
            "inf",
            "",
            "٣",
            "1 2",
            "+1",
        )
        for value in bad:
            for path in (
                f"/rooms/{room}/messages?after=",
                f"/rooms/{room}/events?after=",
                f"/rooms/{room}/messages?around=",
            ):
                answer = await ada.get(path + value.replace("+", "%2B"))
                assert answer.status_code == 400, (path, value, answer.text)
        for value in ("-1", "0", "201", "1000000000", "1e2", "1.5", "NaN", "x"):
            for path in ("/rooms/?limit=", f"/rooms/{room}/messages?limit=", f"/rooms/{room}/events?limit="):
                assert (await ada.get(path + value)).status_code == 400, (path, value)
        assert (await ada.get(f"/rooms/{room}/messages?after=9007199254740991")).json()["messages"] == []
        # A cursor names a place, and is no key to what is there.
        other = await ada.room()
        for seq in (0, 5, 10**6):
            assert (await ada.get(f"/rooms/{other}/messages?before={seq}")).json()["messages"] == []


METACHARACTERS = (
    "' OR '1'='1",
    "'; DROP TABLE messages; --",
    '" OR ""="',
    "%' ESCAPE '!",
    "%_%",
    "\\",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}",
    "$(id)",
    "`id`",
    "| cat /etc/passwd",
    '{"$gt": ""}',
    "(a+)+$",
    "*)(uid=*",
    "%s%s%n",
    "\r\nSet-Cookie: a=b",
    "<script>alert(1)</script>",
    '=HYPERLINK("http://127.0.0.1","x")',
    "-- ",
    "/**/",
    ":1",
    "?",
    "$1",
    "@ai",
)


@pytest.mark.abuse("A58", "A61")
async def test_metacharacters_are_characters(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        for text in METACHARACTERS:
            sent = await ada.send(room, text)
            assert sent.status_code == 201, text
            assert sent.json()["data"]["messages"]["user_message"]["content"] == text
            assert sent.headers["content-type"] == "application/json"
            assert sent.headers["x-content-type-options"] == "nosniff"
            named = await ada.post("/rooms/", {"name": text, "description": text})
            assert named.json()["data"]["room"]["name"] == text
            assert (await ada.post("/auth/login", {"username": text, "password": text})).status_code == 401
            assert (await ada.post(f"/rooms/{room}/members", {"username": text[:32]})).status_code == 404
            assert (await ada.get("/rooms/", params={"cursor": text})).status_code == 400
            assert (await ada.get(f"/rooms/{room}/messages", params={"after": text})).status_code == 400
            header = text.encode().replace(b"\r\n", b" ").strip()
            headed = await ada.http.get(
                "/rooms/", headers=[(b"X-Request-ID", header), (b"Prefer", header), (b"Accept", header)]
            )
            assert headed.status_code == 200
            keyed = await ada.post(f"/chat/{room}", {"content": "x"}, headers={b"Idempotency-Key": header})
            assert keyed.status_code in (200, 201, 400, 422)
        page = (await ada.get(f"/rooms/{room}/messages?limit=200")).json()["messages"]
        assert set(METACHARACTERS) <= {message["content"] for message in page}


@pytest.mark.abuse("A59")
async def test_paths_that_climb_lead_nowhere(start: Start):
    climbing = (
        "/../etc/passwd",
        "/rooms/../auth/me",
        "/docs/assets/../../app.py",
        "/docs/assets/..%2f..%2fapp.py",
        "/docs/assets/%2e%2e%2f%2e%2e%2fapp.py",
        "/app/assets/..%5c..%5capp.py",
        "/app/assets/%252e%252e%252fapp.py",
        "/app/assets/main.js%00.css",
        "/app/assets//etc/passwd",
        "/rooms/%00",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/.env",
        "/.git/config",
        "//evil.example/",
    )
    async with start() as url, people(url, "ada") as [ada]:
        for path in climbing:
            request = httpx.Request("GET", url, headers=dict(ada.http.headers))
            request.url = httpx.URL(url).copy_with(raw_path=path.encode())
            answer = await ada.http.send(request)
            # A client or the router may have made /auth/me of the one that climbs to it.
            assert answer.status_code in (400, 404) or path == "/rooms/../auth/me", (path, answer.status_code)
            assert b"root:" not in answer.content
            assert b"import" not in answer.content


TEXTS = {
    "as long as may be": "x" * CONTENT_MAX,
    "as long in astral planes": "😀" * CONTENT_MAX,
    "combining marks": "a" + "\u0301" * (CONTENT_MAX - 1),
    "joiners": "👩\u200d👩\u200d👧\u200d👦" * 1000,
    "bidirectional": "\u202eabc\u202c \u2066x\u2069 \u200f",
    "decomposed": unicodedata.normalize("NFD", "Ångström é"),
    "all whitespace around": " \n\tx\u2003\u00a0 ",
    "non-characters": "\ufffe\uffff\U0001fffe",
    "private use": "\ue000\U00100000",
    "controls": "".join(chr(code) for code in range(1, 32)) + "x\x7f\x80\x9f",
    "line separators": "a\u2028b\u2029c\x85d\rb\ne",
    "a byte order mark": "\ufeffx",
}


@pytest.mark.abuse("A60")
async def test_every_text_comes_back_as_it_was_said(start: Start):
    async with start() as url, people(url, "ada") as [ada]:
        room = await ada.room()
        await ada.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})
        for name, text in TEXTS.items():
            sent = await ada.send(room, text)
            assert sent.status_code == 201, name
            assert sent.json()["data"]["messages"]["user_message"]["content"] == text, name
            last = (await ada.get(f"/rooms/{room}/messages?limit=1")).json()["messages"][0]["content"]
            assert last == text, name
        for text in ("", " ", "\n\t\u2003\u00a0", "x" * (CONTENT_MAX + 1), "\ud800"):
            body = json.dumps({"content": text}).encode()
            assert (await ada.post(f"/chat/{room}", content=body, headers=JSON)).status_code == 400


@pytest.mark.abuse("A60")
def test_whatever_is_said_comes_back_byte_for_byte(tmp_path: Path):
    with (
        serving(tmp_path, LLM="echo", SECRET_KEY=KEY, RATE_LIMITS="off", LOG_LEVEL="WARNING") as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        person = {"username": "ada", "email": "ada@example.com", "password": "correct horse battery"}
        http.post("/auth/signup", json=person).raise_for_status()
        session = http.post("/auth/login", json={"username": "ada", "password": person["password"]}).json()
        http.headers["Authorization"] = f"Bearer {session['access_token']}"
        room = http.post("/rooms/", json={"name": "a room"}).json()["data"]["room"]["id"]
        http.patch(f"/rooms/{room}", json={"ai": {"mode": "off"}}).raise_for_status()

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=500))
        def comes_back(text: str) -> None:
            sent = http.post(f"/chat/{room}", json={"content": text})
            if not text.strip():
                assert sent.status_code == 400
                return
            assert sent.json()["data"]["messages"]["user_message"]["content"].encode() == text.encode()
            last = http.get(f"/rooms/{room}/messages?limit=1").json()["messages"][0]
            assert last["content"].encode() == text.encode()

        comes_back()


@pytest.mark.abuse("A62")
def test_what_breaks_lines_breaks_none_of_the_log(tmp_path: Path):
    log = tmp_path / "log"
    evil = "x\r\nGET / injected \x1b[31mred\x1b[0m\u2028"
    with (
        serving(tmp_path, log=log, LLM="echo", SECRET_KEY=KEY, RATE_LIMITS="off") as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        http.get("/rooms/" + evil.encode().hex())
        for path in ("/%0d%0aSet-Cookie:%20a=b", "/%1b%5b31m", "/a%0ab%0dc", "/%e2%80%a8"):
            answer = http.get(path)
            assert "set-cookie" not in answer.headers
        http.get("/health", headers=[(b"User-Agent", b"a\tb \xc2\x85\xe2\x80\xa8"), (b"X-Request-ID", b"a b\tc")])
        http.post("/auth/login", json={"username": evil, "password": evil})
    lines = log.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert len(lines) > 6
    for line in lines:
        json.loads(line)
        assert "\x1b" not in line
        assert "injected" not in line


@pytest.mark.abuse("A91")
async def test_long_texts_do_not_make_patterns_slow():
    """None of these takes the service longer than a thousandth of what a slow pattern would."""
    async with served(memory_container()) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        for text in (
            "a" * 100_000 + "!",
            "a@" * 50_000,
            "-" * 100_000,
            " " * 100_000 + "x",
            "." * 100_000,
            "@ai" * 30_000,
        ):
            for body in ({"username": text, "email": text, "password": text}, {"username": text, "password": text}):
                path = "/auth/signup" if "email" in body else "/auth/login"
                assert (await ada.post(path, body, timeout=5)).status_code in (400, 401)
            short = {"email": text[:250], "username": text[:30], "password": "long enough"}
            assert (await ada.post("/auth/signup", short, timeout=5)).status_code == 400
            assert (await ada.post(f"/chat/{room}", {"content": text, "m_id": text}, timeout=5)).status_code == 400
            assert (await ada.send(room, text[:CONTENT_MAX], timeout=10)).status_code in (201, 400)
            value = text[:5000].strip() or "x"
            headers = dict.fromkeys(("Prefer", "Accept", "Last-Event-ID", "X-Request-ID", "Cookie"), value)
            assert (await ada.get(f"/rooms/{room}", headers=headers, timeout=5)).status_code in (200, 400)

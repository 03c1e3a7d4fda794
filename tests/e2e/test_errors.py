"""Every refusal is a problem document, and writes nothing."""

import json

import httpx
import pytest

from tests.e2e.service import PASSWORD, Person, people, served

JSON = {"content-type": "application/json"}


def is_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:chat-api:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == response.headers["X-Request-ID"]


BODIES = {
    "not JSON": b"{",
    "no body": b"",
    "white space": b" ",
    "not UTF-8": b'{"content": "\xff"}',
    "deep": b"[" * 100_000,
    "deep inside": b'{"content": ' + b"[" * 50_000,
    "NaN": b'{"content": NaN}',
    "a NUL": b'{"content": "a\\u0000b"}',
    "half a surrogate pair": b'{"content": "\\ud800"}',
    "wrong type": b'{"content": 5}',
    "missing": b"{}",
    "null": b'{"content": null}',
    "a list": b"[]",
    "unknown field": b'{"content": "x", "role": "admin"}',
    "empty": b'{"content": ""}',
    "blank": b'{"content": " \\n\\t\\u2003"}',
    "too long": json.dumps({"content": "x" * 32_001}).encode(),
    "m_id empty": b'{"content": "x", "m_id": ""}',
    "m_id with space": b'{"content": "x", "m_id": "a b"}',
    "m_id with newline": b'{"content": "x", "m_id": "ab\\n"}',
    "m_id too long": json.dumps({"content": "x", "m_id": "k" * 129}).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_bad_body_is_a_400_and_stores_nothing(memory, body):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        is_problem(await ada.post(f"/chat/{room}", content=body, headers=JSON), 400, "invalid-request")
        assert (await ada.get(f"/rooms/{room}")).json()["last_seq"] == 0


async def test_a_fault_is_pointed_at(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        refused = await ada.patch(f"/rooms/{room}", {"ai": {"temperature": "hot"}})
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/ai/temperature"]
        refused = await ada.post(f"/chat/{room}", {"content": "x", "a/b": 1})
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/a~1b"]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ],
)
async def test_another_content_type_is_a_415(memory, content_type):
    async with served(memory) as url:
        body = json.dumps({"username": "ada", "password": PASSWORD}).encode()
        async with httpx.AsyncClient(base_url=url) as http:
            refused = await http.post("/auth/login", content=body, headers={"content-type": content_type})
            is_problem(refused, 415, "unsupported-media-type")
            is_problem(await http.post("/auth/login", content=body), 415, "unsupported-media-type")


async def test_a_body_over_the_limit_is_a_413(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()

        async def endless():
            for _ in range(600):
                yield b" " * 1024

        for content in (b" " * (512 * 1024 + 1), endless()):
            is_problem(await ada.post(f"/chat/{room}", content=content, headers=JSON), 413, "too-large")


async def test_every_token_that_is_not_live_gets_the_same_answer(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        live = ada.http.headers["Authorization"]
        answers = []
        for headers in (
            [],
            [("Authorization", "Bearer")],
            [("Authorization", "Bearer nonsense")],
            [("Authorization", live.replace("Bearer", "Basic"))],
            [("Authorization", live.removeprefix("Bearer "))],
            [("Authorization", live), ("Authorization", live)],
        ):
            async with httpx.AsyncClient(base_url=url, headers=headers) as http:
                refused = await http.get("/auth/me", headers={"X-Request-ID": "same"})
                is_problem(refused, 401, "not-authenticated")
                assert refused.headers["WWW-Authenticate"] == "Bearer"
                answers.append(refused.content)
        assert len(set(answers)) == 1


async def test_a_closed_door_looks_like_no_door(memory):
    async with served(memory) as url, people(url, "ada", "eve") as [ada, eve]:
        private = await ada.room(visibility="private")
        nowhere = "019a3c1e-8000-7bbb-8000-000000000002"
        same = {"X-Request-ID": "same"}
        for path in (private, nowhere, "not-an-id", "%00", "..%2f..%2fetc"):
            is_problem(await eve.get(f"/rooms/{path}", headers=same), 404, "not-found")
            is_problem(await eve.send(path, "knock", headers=same), 404, "not-found")
        closed = await eve.get(f"/rooms/{private}", headers=same)
        assert closed.content == (await eve.get(f"/rooms/{nowhere}", headers=same)).content


async def test_unknown_paths_and_methods_are_problems_too(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        is_problem(await ada.get("/nope"), 404, "not-found")
        for method in ("PUT", "TRACE", "PROPFIND"):
            refused = await ada.call(method, "/rooms/")
            is_problem(refused, 405, "method-not-allowed")
            assert {"GET", "POST"} <= {name.strip() for name in refused.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=-1", "limit=x", "after=-1", f"before={10**30}", "around=0x10"]
)
async def test_a_query_out_of_range_is_a_400(memory, query):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        is_problem(await ada.get(f"/rooms/{room}/messages?{query}"), 400, "invalid-request")


async def test_only_one_place_may_be_asked_for(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        is_problem(await ada.get(f"/rooms/{room}/messages?before=3&after=1"), 400, "invalid-request")
        is_problem(await ada.get("/rooms/?cursor=nonsense"), 400, "invalid-request")


async def test_names_and_addresses_are_taken_once_without_regard_to_case(container):
    async with served(container) as url, people(url, "ada"):
        other = Person(url, "other")
        body = {"username": "ADA", "email": "other@example.com", "password": PASSWORD}
        is_problem(await other.post("/auth/signup", body), 409, "username-taken")
        body = {"username": "other", "email": "Ada@Example.com", "password": PASSWORD}
        is_problem(await other.post("/auth/signup", body), 409, "email-taken")
        await other.http.aclose()


async def test_a_fault_of_ours_tells_the_client_nothing(memory, monkeypatch):
    async def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("secret detail")

    async with served(memory) as url, people(url, "ada") as [ada]:
        monkeypatch.setattr(type(memory.list_rooms()), "__call__", broken)
        failed = await ada.get("/rooms/")
        is_problem(failed, 500, "internal-error")
        assert "secret" not in failed.text


async def test_a_missing_body_is_said_to_be_missing(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        refused = await ada.post("/rooms/", content=b"", headers=JSON)
        is_problem(refused, 400, "invalid-request")
        assert refused.json()["errors"] == [{"pointer": "", "detail": "A JSON body is needed."}]


async def test_a_head_is_a_get_without_content_and_no_fault_of_ours(memory, caplog):
    async with served(memory) as url, people(url, "ada") as [ada]:
        for path in ("/health", "/rooms/", "/nope"):
            got = await ada.get(path)
            head = await ada.call("HEAD", path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-length"] == got.headers["content-length"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_every_path_works_with_and_without_a_trailing_slash(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        for path in ("/auth/me", "/rooms", f"/rooms/{room}", f"/rooms/{room}/messages", "/health", "/health/ready"):
            assert (await ada.get(path)).status_code == 200
            assert (await ada.get(f"{path}/")).status_code == 200


async def test_every_answer_carries_a_request_id_and_safe_headers(memory):
    async with served(memory) as url, people(url, "ada") as [ada]:
        for path in ("/health", "/nope", "/auth/me"):
            answer = await ada.get(path, headers={"X-Request-ID": "my-id.1"})
            assert answer.headers["X-Request-ID"] == "my-id.1"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "server" not in answer.headers
        odd = await ada.get("/health", headers={"X-Request-ID": 'a "quoted" id'})
        assert odd.headers["X-Request-ID"] != 'a "quoted" id'

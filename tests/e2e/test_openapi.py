"""The OpenAPI document is true, and its pages need nothing from outside."""

import logging
import re
from typing import Any

import httpx
import jsonschema
import jsonschema_rs
import pytest
from openapi_spec_validator import validate

from entrypoints.container import memory_container
from tests.e2e.service import people, served


@pytest.fixture
async def document() -> dict[str, Any]:
    async with served(memory_container()) as url, httpx.AsyncClient(base_url=url) as http:
        found: dict[str, Any] = (await http.get("/openapi.json")).json()
        return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()]


async def test_the_document_is_valid(document):
    validate(document)


async def test_asking_for_it_leaves_the_logging_as_it_is():
    before = list(logging.getLogger().handlers), logging.getLogger().level
    async with served(memory_container()) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/openapi.json")).status_code == 200
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


async def test_every_example_validates_against_its_schema(document):
    schemas = document["components"]["schemas"]
    examined = 0
    for name, schema in schemas.items():
        for example in schema.get("examples", []):
            # The components go along, so that references are found.
            jsonschema.validate(example, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})
            examined += 1
    assert examined > 15


async def test_the_document_and_the_service_agree_which_texts_are_blank(document):
    pattern = document["components"]["schemas"]["SendIn"]["properties"]["content"]["pattern"]
    in_javascript = jsonschema_rs.validator_for({"type": "string", "pattern": pattern})
    for text in (f"{space}{character}" for character in map(chr, range(0xD800)) for space in ("", " ")):
        taken = bool(text.strip()) and "\x00" not in text
        assert in_javascript.is_valid(text) == taken, ascii(text)
        assert bool(re.search(pattern, text)) == taken, ascii(text)


async def test_every_error_is_announced_as_a_problem(document):
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)
                assert response["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")


async def test_what_needs_a_token_says_so(document):
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    open_to_all = {path for path, _, operation in operations(document) if not operation.get("security")}
    by_a_secret_of_their_own = {"/auth/login", "/auth/refresh"}
    assert open_to_all == {
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/auth/signup",
        *by_a_secret_of_their_own,
    }
    for path, _, operation in operations(document):
        known = path not in open_to_all or path in by_a_secret_of_their_own
        assert ("401" in operation["responses"]) == known


async def test_answers_fit_their_schemas(memory, document):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        sent = await ada.send(room, "hello", "k1")

        def fits(path: str, method: str, response: httpx.Response) -> None:
            announced = document["paths"][path][method]["responses"][str(response.status_code)]
            schema = announced["content"][response.headers["content-type"].split(";")[0]]["schema"]
            jsonschema.validate(response.json(), {**schema, "components": document["components"]})

        fits("/chat/{room_id}", "post", sent)
        fits("/chat/{room_id}", "post", await ada.send(room, "hello", "k1"))
        fits("/chat/{room_id}", "post", await ada.send(room, "other", "k1"))
        fits("/rooms/{room_id}", "get", await ada.get(f"/rooms/{room}"))
        fits("/rooms", "get", await ada.get("/rooms"))
        fits("/auth/me", "get", await ada.get("/auth/me"))
        fits("/auth/sessions", "get", await ada.get("/auth/sessions"))
        fits("/auth/ws-ticket", "post", await ada.post("/auth/ws-ticket"))
        fits("/auth/refresh", "post", await ada.post("/auth/refresh", {"refresh_token": "never issued"}))
        fits("/health/ready", "get", await ada.get("/health/ready"))
        fits("/", "get", await ada.get("/"))


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_pages_come_from_here_with_all_they_need(memory, path):
    async with served(memory) as url, httpx.AsyncClient(base_url=url) as http:
        page = await http.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert assets
        for asset in assets:
            if not asset.startswith("data:"):
                assert asset.startswith("/")
                assert (await http.get(asset)).status_code == 200
        assert (await http.get("/docs/assets/LICENSE-redoc")).status_code == 404


# The last one takes a pattern that can be read in two ways a square of steps.
@pytest.mark.parametrize("text", ["\x00", "a\x00", "\x00a", "a\x00b", " \x00", " ", "", "ab " * 10_000 + "\x00"])
async def test_no_text_that_is_refused_fits_its_pattern(memory, text):
    async with served(memory) as url, people(url, "ada") as [ada]:
        room = await ada.room()
        document = (await ada.get("/openapi.json")).json()
        pattern = document["components"]["schemas"]["SendIn"]["properties"]["content"]["pattern"]
        assert not re.search(pattern, text)
        assert (await ada.send(room, text)).status_code == 400

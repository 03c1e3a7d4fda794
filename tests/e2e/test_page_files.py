"""What the page consists of is served as it should be, and nothing besides."""

import re

import httpx
import pytest

from entrypoints.container import memory_container
from tests.e2e.service import served


@pytest.fixture
async def http():
    async with served(memory_container()) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


async def test_the_welcome_leads_to_the_page(http):
    page = await http.get((await http.get("/")).json()["links"]["app"])
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_the_page_may_run_and_ask_for_what_comes_from_here_alone(http):
    policy = (await http.get("/app")).headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {"script-src 'self'", "connect-src 'self'", "require-trusted-types-for 'script'"} <= set(policy)
    assert not any("unsafe" in part or "*" in part or "//" in part for part in policy)


async def test_a_password_is_hidden_and_left_to_the_keepers_of_passwords(http):
    """They fill in and paste what nobody could remember."""
    page, module = (await http.get("/app")).text, (await http.get("/app/assets/main.js")).text
    [field] = re.findall(r'<input [^>]*name="password"[^>]*>', page)
    assert 'type="password"' in field
    assert 'maxlength="1024"' in field
    assert 'password.autocomplete = is ? "new-password" : "current-password"' in module
    assert "paste" not in page + module


async def test_the_page_and_its_modules_find_all_that_they_name(http):
    page = (await http.get("/app")).text
    assert re.findall(r"<script(?![^>]* src=)|\bon\w+=|style=", page) == []
    left, seen = set(re.findall(r'(?:src|href)="(/app/assets/[^"]+)"', page)), set()
    assert left
    while left:
        path = left.pop()
        seen.add(path)
        asset = await http.get(path)
        assert asset.status_code == 200, path
        kind = "text/css" if path.endswith(".css") else "text/javascript"
        assert asset.headers["content-type"] == f"{kind}; charset=utf-8"
        left |= {f"/app/assets/{name}" for name in re.findall(r'from "\./([^"]+)"', asset.text)} - seen
    assert {"/app/assets/marked.esm.js", "/app/assets/purify.es.mjs"} < seen


@pytest.mark.parametrize("name", ["none.js", "LICENSE-marked", "README.md", "..%2Froutes.py", "..%2Findex.html", ""])
async def test_other_names_are_not_found(http, name):
    assert (await http.get(f"/app/assets/{name}")).status_code == 404


async def test_what_one_has_already_is_not_sent_again(http):
    for path in ("/app", "/app/assets/main.js"):
        first = await http.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = await http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.get(path, headers={"If-None-Match": '"other"'})).content == first.content

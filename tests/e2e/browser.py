"""A Chromium without a window, and people who look at the service's page with it."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import pytest

from tests.e2e.service import PASSWORD

_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
#: What a browser says of a connection that is refused or lost; a page cannot keep it from saying so.
_LOST = re.compile(r"net::ERR_|WebSocket connection to")


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"the page cannot be tried: {what}")
    pytest.skip(f"the page cannot be tried: {what}")


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """The machine's own browser. Skips where there is none, and fails where that must not be (``CI`` is set)."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        _missing("no chromium, chromium-browser or google-chrome is installed")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        _missing("the package playwright is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """Somebody with the page open. What the page asks for and what the browser complains of is kept."""

    def __init__(self, name: str, url: str, context: Any, page: Any) -> None:
        self.name, self.url, self.context, self.page = name, url, context, page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.watch(page)

    def watch(self, page: Any) -> None:
        """Keep what this page asks for, too."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws", "http", 1)))

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def examine(self, *, lost: bool = False) -> None:
        """Nothing was asked of others, and there was nothing to complain of but, with ``lost``, lost connections."""
        assert [url for url in self.asked if not url.startswith((f"{self.url}/", "data:"))] == []
        assert any(url.startswith(f"{self.url}/ws") for url in self.asked)
        assert [said for said in self.complaints if not (lost and _LOST.search(said))] == []

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def field(self, name: str) -> Any:
        return self.page.get_by_role("textbox", name=name, exact=True)

    @property
    def timeline(self) -> Any:
        return self.page.locator("#timeline")

    @property
    def answers(self) -> Any:
        """What the AI said; drafts are not among it."""
        return self.page.locator("#timeline .ai:not(.draft):not(.stopped)")

    @property
    def draft(self) -> Any:
        return self.page.locator("#timeline .draft .body")

    @property
    def connection(self) -> Any:
        return self.page.locator("#connection")

    async def sign_up(self) -> "Visitor":
        await self.page.goto(f"{self.url}/app")
        await self.button("Sign up").click()
        await self.field("Name").fill(self.name)
        await self.field("E-mail").fill(f"{self.name}@example.com")
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.keyboard.press("Enter")
        await self.page.get_by_text("Choose a room").wait_for()
        return self

    async def log_in(self) -> None:
        """On the page as it is, at the door."""
        await self.field("Name").fill(self.name)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.keyboard.press("Enter")

    async def make_room(self, name: str, *, private: bool = False, about: str = "") -> None:
        await self.button("New room").click()
        await self.field("Name").fill(name)
        await self.field("What it is about").fill(about)
        if private:
            await self.page.get_by_role("radio", name="members only").check()
        await self.button("Create").click()
        await self.field("Message").wait_for()

    async def enter(self, other: "Visitor") -> None:
        """The room in which the other one is."""
        await self.page.goto(f"{self.url}/app{other.page.url[other.page.url.index('#') :]}")
        await self.field("Message").wait_for()

    async def say(self, text: str) -> None:
        await self.field("Message").fill(text)
        await self.page.keyboard.press("Enter")


@asynccontextmanager
async def visitors(**urls: str) -> AsyncIterator[list[Visitor]]:
    """People, each with a browser of their own, by name and the URL at which they find the service."""
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(chromium())
        found = []
        for name, url in urls.items():
            context = await browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-GB")
            found.append(Visitor(name, url, context, await context.new_page()))
        for visitor in found:
            await visitor.sign_up()
        yield found


def shows(what: Any) -> Any:
    """Playwright's ``expect``, which looks until it is so, for ten seconds: the machine may be busy."""
    from playwright.async_api import expect

    expect.set_options(timeout=10_000)
    return expect(what)

"""The service on a port of its own, in the test's event loop, and people who use it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from entrypoints.container import Container
from entrypoints.http.app import create_app
from entrypoints.serve import UVICORN

PASSWORD = "correct horse battery"


@asynccontextmanager
async def served(container: Container) -> AsyncIterator[str]:
    """The URL of the service that this container makes, while it runs."""
    # TCP by name: asyncio sets TCP_NODELAY on no other socket, and each answer would wait 40 ms for an ACK.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(container),
            **UVICORN,
            ws_max_size=container.settings().max_body_bytes,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class Person:
    """Somebody with an account, or nobody yet."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.http = httpx.AsyncClient(base_url=url, timeout=60, verify=False)  # noqa: S501 - plain HTTP: loading certificates is slow

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return (
            await self.http.request(method, path, json=body, **more)
            if body is not None
            else (await self.http.request(method, path, **more))
        )

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.call("POST", path, body, **more)

    async def patch(self, path: str, body: Any) -> httpx.Response:
        return await self.call("PATCH", path, body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.call("DELETE", path)

    async def sign_up(self) -> "Person":
        signed_up = await self.post(
            "/auth/signup", {"username": self.name, "email": f"{self.name}@example.com", "password": PASSWORD}
        )
        assert signed_up.status_code == 201, signed_up.text
        self.id = signed_up.json()["data"]["user"]["id"]
        return await self.log_in()

    async def log_in(self) -> "Person":
        logged_in = await self.post("/auth/login", {"username": self.name, "password": PASSWORD})
        assert logged_in.status_code == 200, logged_in.text
        self.http.headers["Authorization"] = f"Bearer {logged_in.json()['access_token']}"
        return self

    async def room(self, **fields: Any) -> str:
        created = await self.post("/rooms/", {"name": "A room", **fields})
        assert created.status_code == 201, created.text
        room_id: str = created.json()["data"]["room"]["id"]
        return room_id

    async def send(self, room_id: str, content: str, m_id: str | None = None, **more: Any) -> httpx.Response:
        body = {"content": content} if m_id is None else {"content": content, "m_id": m_id}
        return await self.post(f"/chat/{room_id}", body, **more)


@asynccontextmanager
async def people(url: str, *names: str) -> AsyncIterator[list[Person]]:
    """People with accounts, logged in."""
    found = [Person(url, name) for name in names]
    try:
        for person in found:
            await person.sign_up()
        yield found
    finally:
        for person in found:
            await person.http.aclose()

"""Somebody who uses the service in a bench."""

import aiohttp

PASSWORD = "correct horse battery"


class Person:
    """Signed up and logged in."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http, self.url = http, url
        self.port = int(url.rpartition(":")[2])

    async def sign_in(self, name: str = "bench") -> "Person":
        who = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        async with self.http.post(f"{self.url}/auth/signup", json=who) as answer:
            assert answer.status == 201, await answer.text()
            self.id = (await answer.json())["data"]["user"]["id"]
        async with self.http.post(f"{self.url}/auth/login", json={"username": name, "password": PASSWORD}) as answer:
            self.token = (await answer.json())["access_token"]
        self.headers = {"authorization": f"Bearer {self.token}"}
        return self

    async def room(self, name: str = "bench") -> str:
        async with self.http.post(f"{self.url}/rooms/", json={"name": name}, headers=self.headers) as answer:
            assert answer.status == 201, await answer.text()
            found: str = (await answer.json())["data"]["room"]["id"]
            return found

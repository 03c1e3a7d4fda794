"""Sessions as clients meet them, on each kind of storage."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from adapters.auth.tokens import JwtTokens, Key
from chat_core.domain.ids import utc_now
from chat_core.errors import NotAuthenticated
from entrypoints.container import Container, build_container
from tests.clocks import TimeOfDay
from tests.e2e.conftest import KEY, settings
from tests.e2e.processes import chat_api, serving
from tests.e2e.service import PASSWORD, Person, people, served

LOGGED_IN = {"access_token", "token_type", "expires_in", "refresh_token", "user"}
SESSION = {"id", "created_at", "last_used_at", "user_agent", "current"}
SAME = {"X-Request-ID": "same"}
NEW_PASSWORD = "staple of the battery"


def refuses(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.json()["type"] == f"urn:chat-api:problem:{code}"


def with_token(person: Person, token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **SAME}


async def log_in(person: Person, **more: Any) -> dict[str, Any]:
    """A further session of this person's; its tokens are not theirs to use by default."""
    answer = await person.post("/auth/login", {"username": person.name, "password": PASSWORD}, **more)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def me(person: Person, token: str) -> httpx.Response:
    return await person.get("/auth/me", headers=with_token(person, token))


async def refresh(person: Person, token: str) -> httpx.Response:
    return await person.post("/auth/refresh", {"refresh_token": token}, headers=SAME)


def later(container: Container, clock: TimeOfDay) -> None:
    """Have all that deals with sessions go by this clock."""
    for provider in (container.log_in, container.refresh, container.list_sessions, container.authenticate):
        provider.add_kwargs(now=clock)


async def test_a_session_from_its_log_in_to_its_log_out(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        begun = await log_in(ada, headers={"User-Agent": "a browser"})
        assert begun.keys() == LOGGED_IN
        assert (await me(ada, begun["access_token"])).json() == begun["user"]

        gone_on = await refresh(ada, begun["refresh_token"])
        assert gone_on.status_code == 200
        assert gone_on.json().keys() == LOGGED_IN
        assert gone_on.json()["user"] == begun["user"]
        assert gone_on.json()["refresh_token"] != begun["refresh_token"]
        token = gone_on.json()["access_token"]

        raced = await refresh(ada, begun["refresh_token"])
        refuses(raced, 409, "refresh-raced")
        assert (await me(ada, token)).status_code == 200

        listed = (await ada.get("/auth/sessions", headers=with_token(ada, token))).json()["sessions"]
        assert [session["current"] for session in listed] == [True, False]
        assert all(session.keys() == SESSION for session in listed)
        assert [session["user_agent"].split("/")[0] for session in listed] == ["a browser", "python-httpx"]

        ended = await ada.post("/auth/logout", headers=with_token(ada, token))
        assert (ended.status_code, ended.content) == (204, b"")
        for dead in (token, begun["access_token"]):
            refuses(await me(ada, dead), 401, "not-authenticated")
        for spent in (begun, gone_on.json()):
            refuses(await refresh(ada, spent["refresh_token"]), 401, "not-authenticated")
        assert (await ada.get("/auth/me")).status_code == 200


@pytest.mark.abuse("A15")
async def test_a_stolen_refresh_token_ends_the_session_of_thief_and_owner(container):
    clock = TimeOfDay()
    later(container, clock)
    async with served(container) as url, people(url, "ada") as [ada]:
        begun = await log_in(ada)
        thiefs = (await refresh(ada, begun["refresh_token"])).json()
        clock.let_pass(11)
        again = await refresh(ada, begun["refresh_token"])
        refuses(again, 401, "not-authenticated")
        assert again.headers["WWW-Authenticate"] == "Bearer"
        refuses(await refresh(ada, thiefs["refresh_token"]), 401, "not-authenticated")
        for token in (begun["access_token"], thiefs["access_token"]):
            refuses(await me(ada, token), 401, "not-authenticated")
        assert (await ada.get("/auth/me")).status_code == 200


@pytest.mark.abuse("A17")
async def test_a_session_ends_with_its_time(container):
    """14 days without a refresh."""
    clock = TimeOfDay()
    later(container, clock)
    async with served(container) as url, people(url, "ada") as [ada]:
        begun = await log_in(ada)
        clock.let_pass(14 * 86_400)
        refuses(await refresh(ada, begun["refresh_token"]), 401, "not-authenticated")


@pytest.mark.abuse("A10")
async def test_every_secret_is_good_for_one_thing(container):
    """Whatever else is tried is refused in the same words as any dead token."""
    async with served(container) as url, people(url, "ada") as [ada]:
        begun = await log_in(ada)
        ticket = await ada.post("/auth/ws-ticket")
        assert ticket.status_code == 200
        assert ticket.json().keys() == {"ticket", "expires_in"}
        assert ticket.json()["expires_in"] == 30
        answers = [
            await me(ada, begun["refresh_token"]),
            await me(ada, ticket.json()["ticket"]),
            await me(ada, "nonsense"),
            await refresh(ada, begun["access_token"]),
            await refresh(ada, ticket.json()["ticket"]),
            await refresh(ada, "nonsense"),
        ]
        redeem = container.redeem_ticket()
        for other in (begun["access_token"], begun["refresh_token"], "nonsense"):
            with pytest.raises(NotAuthenticated):
                await redeem(ticket=other)
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.content for answer in answers}) == 1
        assert str((await redeem(ticket=ticket.json()["ticket"])).user_id) == ada.id


@pytest.mark.abuse("A14")
async def test_a_new_password_ends_the_other_sessions(container):
    async with served(container) as url, people(url, "ada") as [ada]:
        other = await log_in(ada)
        assert (await me(ada, other["access_token"])).status_code == 200
        wrong = await ada.post("/auth/password", {"current_password": "wrong", "new_password": NEW_PASSWORD})
        refuses(wrong, 403, "wrong-password")
        assert "WWW-Authenticate" not in wrong.headers
        changed = await ada.post("/auth/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
        assert (changed.status_code, changed.content) == (204, b"")
        assert (await ada.get("/auth/me")).status_code == 200
        refuses(await me(ada, other["access_token"]), 401, "not-authenticated")
        refuses(await refresh(ada, other["refresh_token"]), 401, "not-authenticated")
        refuses(await ada.post("/auth/login", {"username": "ada", "password": PASSWORD}), 401, "wrong-credentials")
        again = await ada.post("/auth/login", {"username": "ada", "password": NEW_PASSWORD})
        assert again.status_code == 200


async def test_sessions_are_ended_by_their_owner_alone(container):
    async with served(container) as url, people(url, "ada", "eve") as [ada, eve]:
        other = await log_in(ada)
        listed = (await ada.get("/auth/sessions")).json()["sessions"]
        [there] = [session["id"] for session in listed if not session["current"]]
        nowhere = "019a3c1e-8000-7bbb-8000-000000000002"
        for person, session in ((eve, there), (ada, nowhere), (ada, "not-an-id")):
            refuses(await person.delete(f"/auth/sessions/{session}"), 404, "not-found")
        assert (await me(ada, other["access_token"])).status_code == 200
        assert (await ada.delete(f"/auth/sessions/{there}")).status_code == 204
        refuses(await me(ada, other["access_token"]), 401, "not-authenticated")
        refuses(await ada.delete(f"/auth/sessions/{there}"), 404, "not-found")


@pytest.mark.abuse("A13", "A45")
async def test_the_end_of_an_account(container):
    async with served(container) as url, people(url, "ada", "bob") as [ada, bob]:
        shared, own = await ada.room(), await ada.room()
        await bob.send(shared, "hello")
        await ada.send(shared, "good bye")
        before = (await bob.get(f"/rooms/{shared}")).json()["last_seq"]
        refuses(await ada.call("DELETE", "/auth/me", {"password": "wrong"}), 403, "wrong-password")
        refuses(await ada.call("DELETE", "/auth/me", {}), 400, "invalid-request")
        ended = await ada.call("DELETE", "/auth/me", {"password": PASSWORD})
        assert (ended.status_code, ended.content) == (204, b"")
        refuses(await ada.get("/auth/me"), 401, "not-authenticated")

        room = (await bob.get(f"/rooms/{shared}")).json()
        said = [(m["user_id"], m["username"], m["content"]) for m in room["messages"] if m["message_type"] == "user"]
        assert said == [(bob.id, "bob", "hello"), (None, "Deleted user", "good bye")]
        assert room["created_by"] is None
        assert room["last_seq"] == before + 2
        members = (await bob.get(f"/rooms/{shared}/members")).json()["members"]
        assert [(member["username"], member["role"]) for member in members] == [("bob", "owner")]
        refuses(await bob.get(f"/rooms/{own}"), 404, "not-found")
        refuses(await bob.post(f"/rooms/{shared}/members", {"username": "ada"}), 404, "not-found")

        taken = {"username": "Ada", "email": "another@example.com", "password": PASSWORD}
        refuses(await bob.post("/auth/signup", taken), 409, "username-taken")
        anew = {"username": "ada2", "email": "ada@example.com", "password": PASSWORD}
        assert (await bob.post("/auth/signup", anew)).status_code == 201


@pytest.mark.parametrize("name", ["id", "role", "is_admin", "created_at", "password_hash", "verified", "session_id"])
@pytest.mark.abuse("A30")
async def test_nothing_is_taken_over_that_was_not_asked_for(memory, name):
    """Wherever accounts and sessions take a body."""
    async with served(memory) as url, people(url, "ada") as [ada]:
        bodies = {
            "/auth/signup": {"username": "eve", "email": "eve@example.com", "password": PASSWORD},
            "/auth/login": {"username": "ada", "password": PASSWORD},
            "/auth/refresh": {"refresh_token": "any"},
            "/auth/password": {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        }
        for path, body in bodies.items():
            refused = await ada.post(path, {**body, name: True})
            refuses(refused, 400, "invalid-request")
            assert [error["pointer"] for error in refused.json()["errors"]] == [f"/{name}"]
        refuses(await ada.call("DELETE", "/auth/me", {"password": PASSWORD, name: True}), 400, "invalid-request")
        assert (await ada.get("/auth/me")).status_code == 200


@pytest.mark.abuse("A19")
async def test_a_key_is_exchanged_without_anybody_noticing(tmp_path):
    """What the old key signed is read, a refresh gives what the new one signs, and a key that is gone reads
    nothing any more."""
    new_key = KEY[::-1]
    database = f"sqlite:///{tmp_path}/chat.db"
    async with served(build_container(settings(database))) as url, people(url, "ada") as [ada]:
        begun = await log_in(ada)
    both = replace(settings(database), secret_keys=(new_key, KEY))
    async with served(build_container(both)) as url:
        ada = Person(url, "ada")
        assert (await me(ada, begun["access_token"])).status_code == 200
        gone_on = (await refresh(ada, begun["refresh_token"])).json()
        JwtTokens([Key(new_key)], now=utc_now).read(gone_on["access_token"])
        await ada.http.aclose()
    async with served(build_container(replace(both, secret_keys=(new_key,)))) as url:
        ada = Person(url, "ada")
        refuses(await me(ada, begun["access_token"]), 401, "not-authenticated")
        assert (await me(ada, gone_on["access_token"])).status_code == 200
        assert (await refresh(ada, gone_on["refresh_token"])).status_code == 200
        await ada.http.aclose()


@pytest.mark.postgres
@pytest.mark.abuse("A13", "A14", "A29")
async def test_what_ends_on_one_process_ends_on_all(postgres_url, tmp_path):
    """Of the requests that are sent a second after the answer, none gets in; no log has a secret."""
    # For a second it asks as fast as it can.
    names = {"DATABASE_URL": postgres_url, "SECRET_KEY": KEY, "LOG_LEVEL": "DEBUG", "REQUEST_LIMIT": "off"}
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    secrets = [PASSWORD]
    assert chat_api("migrate", cwd=tmp_path, **names).returncode == 0
    with (
        serving(tmp_path, log=logs[0], **names) as one,
        serving(tmp_path, log=logs[1], **names) as two,
    ):
        async with people(one, "ada") as [here], httpx.AsyncClient(base_url=two, timeout=60) as there:

            async def session() -> dict[str, str]:
                begun = await log_in(here)
                secrets.extend([begun["access_token"], begun["refresh_token"]])
                return {"Authorization": f"Bearer {begun['access_token']}"}

            async def ends_there(headers: dict[str, str], ended: float) -> None:
                while True:
                    sent = time.monotonic()
                    status = (await there.get("/auth/me", headers=headers)).status_code
                    if status == 401:
                        return
                    assert status == 200
                    assert sent < ended + 1.0, "it got in later than a second after the end"

            async def end_by(method: str, path: str, body: Any = None, *, as_other: bool = False) -> None:
                headers = await session()
                assert (await there.get("/auth/me", headers=headers)).status_code == 200
                answer = await here.call(method, path, body, headers=headers if as_other else {})
                assert answer.status_code == 204, answer.text
                await ends_there(headers, time.monotonic())

            ticket = (await there.post("/auth/ws-ticket", headers=await session())).json()["ticket"]
            secrets.append(ticket)
            await end_by("POST", "/auth/logout", as_other=True)
            change = {"current_password": PASSWORD, "new_password": PASSWORD}
            await end_by("POST", "/auth/password", change)
            await end_by("DELETE", "/auth/me", {"password": PASSWORD})
    for log in logs:
        text = log.read_text()
        assert all(json.loads(line) for line in text.splitlines())
        for secret in secrets:
            assert secret not in text
        assert "$argon2" not in text


@pytest.mark.postgres
async def test_one_refresh_token_at_two_processes_at_once_is_spent_once(postgres_url, tmp_path):
    """And a ticket of the one is good at the other, once."""
    one, two = (build_container(settings(postgres_url)) for _ in range(2))
    async with served(one) as first, served(two) as second, people(first, "ada") as [ada]:
        elsewhere = Person(second, "ada")
        for _ in range(5):
            begun = await log_in(ada)
            answers = await asyncio.gather(*(refresh(person, begun["refresh_token"]) for person in (ada, elsewhere)))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
        ticket = (await ada.post("/auth/ws-ticket")).json()["ticket"]
        assert str((await two.redeem_ticket()(ticket=ticket)).user_id) == ada.id
        with pytest.raises(NotAuthenticated):
            await one.redeem_ticket()(ticket=ticket)
        await elsewhere.http.aclose()

"""People who use the service over HTTP, repeat what got no answer, and write down everything that they see."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.faults.history import FINAL_STATUSES, Call, Kind
from tests.faults.polling import until
from tests.faults.recorder import Recorder

PASSWORD = "correct horse battery"
#: What says that the same send may do better a little later.
_AGAIN = frozenset({429, 502, 503})


class Person:
    """Somebody with an account. Processes are taken by their number in ``urls``; who fails is followed by the next."""

    def __init__(self, session: aiohttp.ClientSession, recorder: Recorder, urls: Sequence[str], name: str) -> None:
        self.name, self.id, self._token = name, "", ""
        self._session, self._recorder, self.urls = session, recorder, list(urls)
        self._random = random.Random(name)

    @property
    def token(self) -> str:
        """What they show to be let in."""
        return self._token

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        at: int = 0,
        kind: Kind = "other",
        seconds: float = 75.0,
        prefer: str = "",
        **known: Any,
    ) -> Call:
        """One call to one process, written down; never raises for what the service does."""
        number = at % len(self.urls)
        call = self._recorder.begin(kind, f"api{number}", user_id=self.id, **known)
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        if prefer:
            headers["prefer"] = prefer
        try:
            async with self._session.request(
                method,
                self.urls[number] + path,
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:
                data = await answer.json(content_type=None) if answer.status != 204 else None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._recorder.end(call, "unknown", body=repr(error))
        except asyncio.CancelledError:
            self._recorder.end(call, "unknown", body="the client left")
            raise
        told = {"status": answer.status, "retry_after": answer.headers.get("retry-after", ""), "body": data}
        if answer.status >= 300:
            code = str((data or {}).get("type", "")).rpartition(":")[2]
            return self._recorder.end(call, "refused", code=code, **told)
        replayed = answer.headers.get("idempotency-replayed") == "true"
        return self._recorder.end(call, "ok", replayed=replayed, **told)

    async def must(self, method: str, path: str, body: Any = None, *, at: int = 0, seconds: float = 30.0) -> Any:
        """The body of a 2xx, after as many repeats as it takes. Raises ``AssertionError`` for another refusal."""
        end = time.monotonic() + seconds
        while True:
            call = await self.call(method, path, body, at=at)
            if call.outcome == "ok":
                return call.body
            again = call.outcome == "unknown" or call.status in _AGAIN
            assert again and time.monotonic() < end, f"{method} {path}: {call} {call.body}"
            at += 1
            await asyncio.sleep(self._random.uniform(0.02, 0.1))

    async def sign_up(self, at: int = 0) -> "Person":
        account = {"username": self.name, "email": f"{self.name}@example.com", "password": PASSWORD}
        await self.must("POST", "/auth/signup", account, at=at)
        answer = await self.must("POST", "/auth/login", {"username": self.name, "password": PASSWORD}, at=at)
        self._token, self.id = answer["access_token"], answer["user"]["id"]
        return self

    async def make_room(self, name: str = "room", **ai: Any) -> str:
        """The id of a new public room; ``ai`` are its AI settings."""
        room = (await self.must("POST", "/rooms/", {"name": name}))["data"]["room"]
        if ai:
            await self.must("PATCH", f"/rooms/{room['id']}", {"ai": ai})
        return str(room["id"])

    async def send(
        self, room: str, m_id: str, content: str, *, at: int = 0, wait: bool = False, seconds: float = 75.0
    ) -> Call:
        """One try. Without ``wait`` it is acknowledged as soon as it is stored."""
        call = await self.call(
            "POST",
            f"/chat/{room}",
            {"content": content, "m_id": m_id},
            at=at,
            kind="send",
            seconds=seconds,
            prefer="" if wait else "respond-async, wait=0",
            room_id=room,
            m_id=m_id,
            content=content,
        )
        if call.outcome == "ok":
            sent, reply = call.body["data"]["messages"]["user_message"], call.body["data"]["reply"] or {}
            call.message_id, call.seq = sent["id"], sent["seq"]
            call.reply_id, call.reply_status = reply.get("id", ""), reply.get("status", "")
        return call

    async def send_until_settled(
        self, room: str, m_id: str, content: str, *, at: int = 0, wait: bool = False, within: float = 60.0
    ) -> Call:
        """Repeat it, with the same ``m_id`` and at the next process, until it is acknowledged or refused for good."""
        end = time.monotonic() + within
        while True:
            call = await self.send(room, m_id, content, at=at, wait=wait)
            if call.outcome == "ok" or (call.outcome == "refused" and call.status not in _AGAIN):
                return call
            if time.monotonic() >= end:
                return call
            at += 1
            await asyncio.sleep(self._random.uniform(0.02, 0.15))

    async def read(self, room: str, *, after: int = 0, at: int = 0, limit: int = 200) -> Call:
        """One page of the history above ``after``."""
        path = f"/rooms/{room}/messages?after={after}&limit={limit}"
        call = await self.call("GET", path, at=at, kind="read", room_id=room, after=after, seconds=15)
        if call.outcome == "ok":
            call.shown = tuple((message["seq"], message["id"]) for message in call.body["messages"])
            call.to_end = not call.body["has_newer"]
            call.body = None
        return call

    async def read_all(self, room: str, *, at: int = 0) -> None:
        """The whole history, page by page."""
        after = 0
        while True:
            page = await self.read(room, after=after, at=at)
            if page.outcome != "ok" or page.to_end:
                return
            after = page.shown[-1][0]

    async def reply(self, reply_id: str, *, at: int = 0) -> Call:
        """How a reply stands."""
        call = await self.call("GET", f"/replies/{reply_id}", at=at, kind="reply", seconds=15)
        if call.outcome == "ok":
            call.reply_id, call.reply_status = call.body["id"], call.body["status"]
        return call

    async def answer_to(self, call: Call, *, at: int | None = None, within: float = 60.0) -> Call:
        """Repeat a send, at this process or at all in turn, until its reply has its end: it is in what comes back."""
        seen = [call]

        async def final() -> bool:
            seen.append(await self.send(call.room_id, call.m_id, call.content, at=len(seen) if at is None else at))
            return seen[-1].reply_status in FINAL_STATUSES

        if call.reply_status not in FINAL_STATUSES:
            await until(final, within, f"the reply to {call.m_id} has its end; seen last: {seen[-1]}")
        return seen[-1]

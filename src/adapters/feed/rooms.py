"""News of rooms over Redis pub/sub: ids, places and, for who is there, names; never what was said."""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID, uuid4

from adapters.feed.pubsub import RedisLine
from chat_core.domain.ids import ReplyId, RoomId, UserId
from chat_core.ports.delivery import IsPresent, IsTyping, LogGrew, ReplyChanged, RoomFeed, RoomNews

log = logging.getLogger(__name__)

#: So much is kept for the next message at the most; what is beyond is dropped, as the hint that it is.
MOST = 10_000
#: News of so many go in one message: one wakes every process.
TOGETHER = 200

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class LocalRoomFeed(RoomFeed, Protocol):
    """The feed within this process."""

    def spread(self, news: RoomNews) -> None:
        """Tell everyone here, at once."""


def written(news: RoomNews) -> tuple[str, str]:
    """What the news are about, and what they say of it: of two about the same thing the later one counts."""
    match news:
        case LogGrew():
            # Under names of their own: messages that come after what moves doors must not stand for it.
            return f"{'g' if news.moves_doors else 'm'}{news.room_id.hex}", str(news.seq)
        case ReplyChanged():
            return f"r{news.room_id.hex}{news.reply_id.hex}", ""
        case IsTyping():
            return f"t{news.room_id.hex}{news.user_id.hex}", news.username
        case IsPresent():
            return f"p{news.room_id.hex}{news.user_id.hex}", ("+" if news.present else "-") + news.username


def read(line: str) -> RoomNews | None:
    """What ``written`` wrote, with a space between; ``None`` for anything else: anybody who reaches Redis can write."""
    key, _, rest = line.partition(" ")
    try:
        room_id = RoomId(UUID(hex=key[1:33]))
        if key[0] in "gm" and len(key) == 33 and re.fullmatch(r"[0-9]{1,19}", rest):
            return LogGrew(room_id=room_id, seq=int(rest), moves_doors=key[0] == "g")
        other = UUID(hex=key[33:65]) if len(key) == 65 else None
    except (ValueError, IndexError):
        return None
    if other is None:
        return None
    if key[0] == "r" and not rest:
        return ReplyChanged(room_id=room_id, reply_id=ReplyId(other))
    if key[0] == "t" and _NAME.fullmatch(rest):
        return IsTyping(room_id=room_id, user_id=UserId(other), username=rest)
    if key[0] == "p" and rest[:1] in ("+", "-") and _NAME.fullmatch(rest[1:]):
        return IsPresent(room_id=room_id, user_id=UserId(other), username=rest[1:], present=rest[0] == "+")
    return None


class RedisRoomFeed(RoomFeed):
    """What is told in one process is heard in all that have the same Redis; in this one even without it."""

    def __init__(self, local: LocalRoomFeed, line: RedisLine) -> None:
        self._local = local
        self._line = line
        # By this a process knows its own news when they come back to it.
        self._name = uuid4().hex[:12]
        self._news: dict[str, str] = {}
        line.of_rooms = self._take

    async def tell(self, news: RoomNews) -> None:
        self._local.spread(news)
        if not self._line.connected or len(self._news) >= MOST:
            return
        if not self._news:
            asyncio.get_running_loop().call_soon(self._flush)
        key, rest = written(news)
        self._news.pop(key, None)
        self._news[key] = rest

    def listen(self, heard: Callable[[RoomNews], None]) -> AbstractContextManager[None]:
        return self._local.listen(heard)

    def _flush(self) -> None:
        lines = [f"{key} {rest}" for key, rest in self._news.items()]
        self._news = {}
        for start in range(0, len(lines), TOGETHER):
            self._line.say_of_rooms("\n".join((self._name, *lines[start : start + TOGETHER])))

    def _take(self, text: str) -> None:
        name, *lines = text.split("\n")
        if name == self._name:
            return
        for line in lines:
            news = read(line)
            if news is not None:
                self._local.spread(news)

"""Bringing the parts of an answer to those who watch, while it is made."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from chat_core.domain.ids import ReplyId
from chat_core.domain.reply import Part
from chat_core.ports.delivery import ReplyFeed
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.drafts import Draft
from chat_core.use_cases.transactions import again_on_contention


class Uncarried:
    """Replies that are made here, and whose parts no feed brings to other processes: the storage has to."""

    def __init__(self) -> None:
        self._parts: dict[ReplyId, Sequence[Part]] = {}
        self._kept: dict[ReplyId, int] = {}

    def add(self, reply_id: ReplyId, parts: Sequence[Part]) -> None:
        """``parts`` are all of the epoch, and may grow."""
        self._parts[reply_id] = parts

    def drop(self, reply_id: ReplyId) -> None:
        """It has its end, or its parts are carried again."""
        self._parts.pop(reply_id, None)
        self._kept.pop(reply_id, None)

    def unkept(self) -> list[tuple[ReplyId, Sequence[Part]]]:
        """What the storage does not have yet."""
        found = ((reply_id, parts[self._kept.get(reply_id, 0) :]) for reply_id, parts in self._parts.items())
        return [(reply_id, parts) for reply_id, parts in found if parts]

    def keep(self, reply_id: ReplyId, last: Part) -> None:
        """The storage has all up to this one."""
        if reply_id in self._parts:
            self._kept[reply_id] = last.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepParts:
    """Bring the storage what no feed carries, of all replies in one transaction."""

    uow: UnitOfWork
    uncarried: Uncarried

    @again_on_contention
    async def __call__(self) -> None:
        unkept = self.uncarried.unkept()
        if not unkept:
            return
        async with self.uow() as tx:
            for reply_id, parts in unkept:
                await tx.replies.keep_parts(reply_id, parts)
            await tx.commit()
        for reply_id, parts in unkept:
            self.uncarried.keep(reply_id, parts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class DropParts:
    """Have the storage forget the parts of replies that have their end."""

    uow: UnitOfWork
    limit: int = 1000

    async def __call__(self) -> None:
        # A look first: most of the time there is nothing, and a writer would stand in the way of others.
        async with self.uow.read() as tx:
            spent = await tx.replies.spent_parts(self.limit)
        if spent:
            async with self.uow() as tx:
                await tx.replies.drop_parts(spent)
                await tx.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowParts:
    """Show what a draft has, as it grows: its first text at once, later ones joined for ``joined_for`` seconds."""

    feed: ReplyFeed
    uncarried: Uncarried
    joined_for: float = 0.04

    async def __call__(self, reply_id: ReplyId, draft: Draft) -> None:
        """Goes on until it is cancelled."""
        while True:
            await draft.fresh.wait()
            await self.now(reply_id, draft)
            await asyncio.sleep(self.joined_for)

    def now(self, reply_id: ReplyId, draft: Draft) -> Coroutine[None, None, None]:
        """Cut what was not cut yet, at once, and show it when awaited. Not to be awaited twice at the same time."""
        return self._bring(reply_id, draft, draft.cut())

    async def _bring(self, reply_id: ReplyId, draft: Draft, parts: Sequence[Part]) -> None:
        if not parts:
            return
        if await self.feed.append(reply_id, parts):
            self.uncarried.drop(reply_id)
        else:
            self.uncarried.add(reply_id, draft.parts)


class Showing:
    """Shows a draft from its first text on, until it is stopped. Most answers that come whole are never shown by it."""

    def __init__(self, show: ShowParts, reply_id: ReplyId, draft: Draft) -> None:
        self._show, self._reply_id, self._draft = show, reply_id, draft
        self._start: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        draft.on_fresh = self._begin

    def _begin(self) -> None:
        # In the next turn of the event loop, not in this one, in which the end may come too.
        self._draft.on_fresh = None
        self._start = asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self._task = asyncio.create_task(self._show(self._reply_id, self._draft))

    async def stop(self) -> None:
        self._draft.on_fresh = None
        if self._start is not None:
            self._start.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

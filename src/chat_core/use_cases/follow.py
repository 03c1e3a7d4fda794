"""Following a reply part by part, from any process, while it is made and after it ended."""

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from chat_core.domain.ids import ReplyId
from chat_core.domain.message import Message, MessageStatus
from chat_core.domain.reply import Cuts, Part, Place, Reply, ReplyStatus
from chat_core.errors import NotFound, Unavailable
from chat_core.ports.delivery import PartsWatch, ReplyFeed
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases.replies import Ends
from chat_core.values import value


@value()
class Started:
    """The reply is being made, or has ended already."""

    reply: Reply
    place: Place


@value()
class Delta:
    """Text to append."""

    text: str
    place: Place


@value()
class Reset:
    """Forget the text so far."""

    place: Place


@value()
class Answered:
    """The stored message: its text is exactly that of the deltas since the last reset."""

    message: Message
    place: Place


@value()
class Failed:
    """There is no answer."""

    reply: Reply
    place: Place


@value()
class Ended:
    """Always the last."""

    reply: Reply
    place: Place


@value()
class Quiet:
    """Nothing has happened for a while."""


ReplyEvent = Started | Delta | Reset | Answered | Failed | Ended | Quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the storage said."""

    reply: Reply
    message: Message | None = None
    parts: Sequence[Part] = ()


def _begun(reply: Reply, watch: PartsWatch) -> Reply | None:
    """What its first maker's claim has made of a reply that was queued, where that one said so."""
    if reply.epoch or watch.epoch != 1 or watch.request is None:
        return None
    provider, model = watch.request
    return replace(reply.claimed(), attempts=1, provider=provider, model=model)


class _Viewer:
    """Where one viewer is, and what brings them further. Pure: it waits for nothing and reads nothing.

    The parts of an epoch bring it from place to place; behind the last one come the message or the failure, and the
    end, as if they were two parts more. So whatever was the last that a viewer has had, its place says what is next.
    """

    def __init__(self, after: Place | None) -> None:
        self.place = after

    def enters(self, reply: Reply) -> Iterator[ReplyEvent]:
        """Into the epoch that the reply is in."""
        if self.place is None:
            self.place = Place(reply.epoch, 0)
            yield Started(reply, self.place)
        elif self.place.epoch != reply.epoch:
            seen = self.place.offset > 0
            self.place = Place(reply.epoch, 0)
            if seen:
                yield Reset(self.place)

    def takes(self, parts: Sequence[Part]) -> Iterator[ReplyEvent]:
        """Those that come right behind each other."""
        for part in parts:
            if self.place is not None and part.epoch == self.place.epoch and part.offset == self.place.offset + 1:
                self.place = part.place
                yield Reset(part.place) if part.text is None else Delta(part.text, part.place)

    def ends(self, reply: Reply, message: Message | None) -> Iterator[ReplyEvent]:
        """All that is left, where the reply is final."""
        yield from self.enters(reply)
        text = message.content if message is not None and message.status is not MessageStatus.DELETED else None
        cuts = reply.cuts
        if cuts is None and text is not None:
            cuts = Cuts(0, (len(text),))  # ended by a version that did not keep them
        if cuts is not None and text is not None:
            yield from self._the_rest(cuts, text)
            last = cuts.last
        else:
            last = yield from self._nothing_more(cuts)
        yield from self._conclusion(reply, message, last)

    def _at(self, offset: int) -> Place:
        assert self.place is not None  # noqa: S101 - for the type checker: whoever has entered is somewhere
        self.place = Place(self.place.epoch, offset)
        return self.place

    def _offset(self) -> int:
        return self.place.offset if self.place is not None else 0

    def _the_rest(self, cuts: Cuts, text: str) -> Iterator[ReplyEvent]:
        if self._offset() > cuts.last + 2:
            yield Reset(self._at(0))  # a place that never was
        if self._offset() < cuts.base:
            yield Reset(self._at(cuts.base))
        begin = 0
        for offset, length in enumerate(cuts.lengths, cuts.base + 1):
            if offset > self._offset():
                yield Delta(text[begin : begin + length], self._at(offset))
            begin += length

    def _nothing_more(self, cuts: Cuts | None) -> Generator[ReplyEvent, None, int]:
        """Where there is no text, or no more: whoever has seen some is told to forget it. Returns the last offset."""
        if cuts is None:
            # Somebody else than its maker ended it: how far that one came is not known, only that it is void.
            if self._offset():
                yield Reset(self._at(self._offset() + 1))
            return self._offset()
        if self._offset() < cuts.last or (cuts.lengths and self._offset() == cuts.last):
            yield Reset(self._at(cuts.last))
        return cuts.last

    def _conclusion(self, reply: Reply, message: Message | None, last: int) -> Iterator[ReplyEvent]:
        if self._offset() <= last:
            place = self._at(last + 1)
            yield Answered(message, place) if message is not None else Failed(reply, place)
        yield Ended(reply, self._at(last + 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowReply:
    """The events of a reply, from its start or from behind the place ``after``, to its end, in order and each once.

    What the feed brings is shown at once, and so is the end of a reply that was made in this process (``ends``). The
    storage decides about everything else: it is looked at when the row is announced, when an epoch begins whose maker
    does not say how, every ``look_every`` seconds, and every ``poll_every`` where the feed does not bring parts; while
    it is away the stream waits. Ends early, without ``Ended``, soon after ``leave`` says so. Raises ``NotFound`` where
    there is no such reply; who may see it is for the caller to decide.
    """

    uow: UnitOfWork
    feed: ReplyFeed
    ends: Ends = field(default_factory=Ends)
    look_every: float = 2.0
    poll_every: float = 0.25
    quiet_after: float = 15.0
    monotonic: Callable[[], float] = time.monotonic

    async def __call__(
        self,
        *,
        reply_id: ReplyId,
        after: Place | None = None,
        known: Reply | None = None,
        leave: Callable[[], bool] = lambda: False,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """``known`` is the reply as it was stored a moment ago: then the storage is not asked again for the same."""
        viewer = _Viewer(after)
        async with self.feed.follow(reply_id) as watch:
            with self.ends.awaited(reply_id):
                look = _Look(reply=known) if known is not None else await self._look(reply_id, viewer, watch)
                now = spoke = looked = self.monotonic()
                while True:
                    for event in self._news(viewer, look, watch):
                        spoke = now
                        yield event
                    if look.reply.final or leave():
                        return
                    if now - spoke >= self.quiet_after:
                        spoke = now
                        yield Quiet()
                    every = self.look_every if watch.live else self.poll_every
                    announced = await watch.wait(min(0.5, looked + every - now))
                    now = self.monotonic()
                    if not announced and (begun := _begun(look.reply, watch)) is not None:
                        look = _Look(reply=begun)
                    elif announced or watch.epoch > look.reply.epoch or now - looked >= every:
                        look = await self._look(reply_id, viewer, watch, look)
                        looked = now = self.monotonic()

    def _news(self, viewer: _Viewer, look: _Look, watch: PartsWatch) -> Iterator[ReplyEvent]:
        if look.reply.final:
            yield from viewer.ends(look.reply, look.message)
        elif look.reply.epoch:
            yield from viewer.enters(look.reply)
            yield from viewer.takes(look.parts)
            if viewer.place is not None:
                yield from viewer.takes(watch.parts(viewer.place))

    async def _look(self, reply_id: ReplyId, viewer: _Viewer, watch: PartsWatch, last: _Look | None = None) -> _Look:
        if (end := self.ends.get(reply_id)) is not None:
            return _Look(reply=end.reply, message=end.message)
        try:
            async with self.uow.read() as tx:
                answer = await tx.answered(reply_id)
                if answer is None:
                    raise NotFound
                reply = answer.reply
                if reply.status is not ReplyStatus.RUNNING:
                    return _Look(reply=reply, message=answer.message)
                place = viewer.place
                after = place if place is not None and place.epoch == reply.epoch else Place(reply.epoch, 0)
                return _Look(reply=reply, parts=await tx.replies.parts(reply_id, after))
        except Unavailable:
            if last is None:
                raise
            return last

"""Steady traffic: people who send into rooms, repeat some of their sends, and read in between."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.client import Person
from tests.faults.history import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """``repeated`` of the sends are made twice at once, ``reads`` are as many reads, of the
    history and of the reply, for each send."""

    people: Sequence[Person]
    rooms: Sequence[str]
    seed: int
    repeated: float = 0.1
    reads: float = 0.2
    wait: bool = False
    marker: str = ""
    within: float = 60.0

    async def send(self, sends: int, concurrency: int) -> list[Call]:
        """So many sends, ``concurrency`` at a time; what became of each."""
        settled: list[Call] = []
        await self._run(lambda number: number < sends, concurrency, settled)
        return settled

    @asynccontextmanager
    async def flowing(self, concurrency: int) -> AsyncGenerator[list[Call]]:
        """Sends until the block is left, which then waits for the last of them. Gives what became of each."""
        settled: list[Call] = []
        flows = True
        task = asyncio.create_task(self._run(lambda _: flows, concurrency, settled))
        try:
            yield settled
            flows = False
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, goes_on: Callable[[int], bool], concurrency: int, settled: list[Call]) -> None:
        begun = 0

        async def one_after_another(stream: int) -> None:
            nonlocal begun
            chance = random.Random(f"{self.seed}-{stream}")
            while goes_on(begun):
                number, begun = begun, begun + 1
                settled.append(await self._one(number, chance))

        async with asyncio.TaskGroup() as group:
            for stream in range(concurrency):
                group.create_task(one_after_another(stream))

    async def _one(self, number: int, chance: random.Random) -> Call:
        person, room = chance.choice(self.people), chance.choice(self.rooms)
        m_id, content = f"s{self.seed}-{number}", f"{self.marker}message {number} of seed {self.seed}"
        at = chance.randrange(len(person.urls))
        tries = [person.send_until_settled(room, m_id, content, at=at, wait=self.wait, within=self.within)]
        if chance.random() < self.repeated:
            again = at + chance.randrange(len(person.urls))
            tries.append(person.send_until_settled(room, m_id, content, at=again, wait=self.wait, within=self.within))
        first, *_ = await asyncio.gather(*tries)
        if chance.random() < self.reads:
            await person.read(room, after=max(0, first.seq - 20), at=at + chance.randrange(len(person.urls)))
            if first.reply_id:
                await person.reply(first.reply_id, at=at + chance.randrange(len(person.urls)))
        return first

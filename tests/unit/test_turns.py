"""One writer at a time in a room, and bad news for all who wait at once."""

import asyncio

import pytest

from chat_core.domain.ids import RoomId, uuid7
from chat_core.errors import Contention, ServerFull, StorageUnavailable
from chat_core.use_cases.turns import Turns
from entrypoints.container import Container
from entrypoints.settings import Settings

ROOM, OTHER = RoomId(uuid7()), RoomId(uuid7())


async def test_those_who_come_to_a_room_go_in_one_at_a_time_and_in_order():
    turns, order, inside = Turns(), [], 0

    async def visit(number: int) -> None:
        nonlocal inside
        async with turns(ROOM):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            order.append(number)
            inside -= 1

    await asyncio.gather(*(visit(number) for number in range(20)))
    assert order == list(range(20))


async def test_another_room_does_not_wait():
    turns = Turns()
    async with turns(ROOM), asyncio.timeout(5), turns(OTHER):
        pass


async def test_when_the_storage_is_away_all_who_wait_are_told_at_once():
    turns, held, asked = Turns(), asyncio.Event(), 0

    async def visit() -> None:
        nonlocal asked
        async with turns(ROOM):
            asked += 1
            await held.wait()
            raise StorageUnavailable

    visits = [asyncio.create_task(visit()) for _ in range(50)]
    await asyncio.sleep(0)
    held.set()
    found = await asyncio.gather(*visits, return_exceptions=True)
    assert all(isinstance(error, StorageUnavailable) for error in found)
    assert asked == 1
    async with turns(ROOM):
        pass  # who comes later tries anew


@pytest.mark.parametrize("error", [Contention, ValueError])
async def test_one_who_fails_for_a_reason_of_its_own_stops_nobody(error):
    turns = Turns()

    async def fail() -> None:
        async with turns(ROOM):
            await asyncio.sleep(0)
            raise error

    async def visit() -> str:
        async with turns(ROOM):
            return "in"

    found = await asyncio.gather(fail(), visit(), return_exceptions=True)
    assert isinstance(found[0], error)
    assert found[1] == "in"


async def test_one_who_leaves_the_line_holds_up_nobody():
    turns = Turns()
    async with turns(ROOM):
        waiting = asyncio.create_task(turns(ROOM).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(5), turns(ROOM):
        pass
    assert turns._lines == {}


async def test_one_who_waits_for_too_long_is_told_that_the_server_is_full():
    turns = Turns(patience=0.01)
    async with turns(ROOM):
        with pytest.raises(ServerFull):
            async with turns(ROOM):
                pass
    async with turns(ROOM) as waited:
        assert not waited


async def test_who_comes_second_knows_it():
    turns = Turns()

    async def visit() -> bool:
        async with turns(ROOM) as waited:
            await asyncio.sleep(0)
            return waited

    assert list(await asyncio.gather(visit(), visit(), visit())) == [False, True, True]


@pytest.mark.parametrize(("url", "promised"), [("postgresql://db/chat", 2.0), ("sqlite:///chat.db", 6.0)])
def test_who_has_waited_for_too_long_is_told_within_the_time_that_clients_are_promised(url, promised):
    container = Container(settings=Settings(database_url=url))
    assert container.turns().patience < promised

"""The fault proxy does to a connection what its modes say."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from tests.faults.polling import until
from tests.faults.proxy import BlackHole, CutAfter, Latency, Pass, Proxy, Refuse, Throttle


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
        for client in Client.all:
            client.writer.close()
        Client.all.clear()
    server.close()


class Client:
    all: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, proxy: Proxy) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", proxy.port))
        cls.all.append(client)
        return client

    async def says(self, text: bytes) -> bytes:
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.readexactly(len(text)), 5)


async def test_what_goes_in_comes_out(proxy: Proxy):
    client = await Client.to(proxy)
    assert await client.says(b"x" * 200_000) == b"x" * 200_000
    assert (proxy.accepted, proxy.open) == (1, 1)


async def test_a_refusing_proxy_takes_nobody_in_and_comes_back_at_the_same_port(proxy: Proxy):
    client, port = await Client.to(proxy), proxy.port
    await proxy.set(Refuse())
    with pytest.raises(ConnectionRefusedError):
        await Client.to(proxy)
    assert await client.says(b"still here") == b"still here"
    await proxy.set(Pass())
    assert proxy.port == port
    assert await (await Client.to(proxy)).says(b"back") == b"back"


async def test_a_black_hole_holds_old_connections_and_new_ones_until_it_ends(proxy: Proxy):
    old = await Client.to(proxy)
    assert await old.says(b"before") == b"before"
    await proxy.set(BlackHole())
    new = await Client.to(proxy)
    waiting = [asyncio.create_task(client.says(b"held")) for client in (old, new)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    await proxy.set(Pass())
    assert await asyncio.gather(*waiting) == [b"held", b"held"]


async def test_a_cut_resets_what_is_open_and_nothing_else(proxy: Proxy):
    client = await Client.to(proxy)
    await client.says(b"before")
    assert proxy.cut() == 1
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.says(b"after")
    assert await (await Client.to(proxy)).says(b"next") == b"next"


async def test_a_connection_is_cut_after_that_many_bytes_from_now(proxy: Proxy):
    client = await Client.to(proxy)
    await client.says(b"before")
    await proxy.set(CutAfter(15))
    client.writer.write(b"0123456789")
    assert await asyncio.wait_for(client.reader.readexactly(5), 5) == b"01234"
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(client.reader.readexactly(1), 5)


@pytest.mark.parametrize(("mode", "least"), [(Latency(0.05), 0.1), (Throttle(1000), 0.1)])
async def test_a_slow_proxy_takes_its_time_both_ways(proxy: Proxy, mode: Latency | Throttle, least: float):
    client = await Client.to(proxy)
    await proxy.set(mode)
    began = asyncio.get_running_loop().time()
    assert await client.says(b"x" * 50) == b"x" * 50
    assert asyncio.get_running_loop().time() - began >= least * 0.9


async def test_nothing_is_open_when_the_clients_left(proxy: Proxy):
    clients = [await Client.to(proxy) for _ in range(5)]
    for client in clients:
        await client.says(b"hello")
        client.writer.close()
    await until(lambda: not proxy.open, 5, "the proxy lets go of its connections")

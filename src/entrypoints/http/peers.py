"""Where a request comes from, for limits: never by what a client says of itself."""

import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Whoever comes over a socket without addresses.
NOBODY = "-"


@lru_cache(maxsize=4096)
def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def bucket_of(text: str) -> str:
    """The name under which an address is counted: itself, or its /64, which is what one IPv6 subscriber has."""
    found = _address(text)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return NOBODY if found is None else str(found)


def peer_of(proxies: tuple[Network, ...]) -> Callable[[Any], str]:
    """Reads the peer of an ASGI scope. Only a peer among ``proxies`` is believed to name another one, and only by the
    right-most address of ``X-Forwarded-For`` that is no proxy: what stands left of it anybody can write."""

    def trusted(address: _Address | None) -> bool:
        return address is not None and any(address in network for network in proxies)

    @lru_cache(maxsize=4096)
    def found(client: str, forwarded: tuple[bytes, ...]) -> str:
        peer = client
        for hop in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            if not trusted(_address(peer)) or _address(hop.strip()) is None:
                break
            peer = hop.strip()
        return bucket_of(peer)

    def of(scope: Any) -> str:
        client = (scope.get("client") or ("", 0))[0]
        return found(client, _forwarded(scope["headers"]) if proxies else ())

    return of


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(value for name, value in headers if name == b"x-forwarded-for")

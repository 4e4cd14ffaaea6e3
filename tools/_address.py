"""Which addresses belong to the public internet, and which hosts may be asked for."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

__all__ = ["Address", "Resolve", "address_of", "host_problem", "is_public", "system_resolve"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PUBLIC_BUT_INTERNAL = (ipaddress.IPv4Address("168.63.129.16"),)  # Azure's platform service, seen from every machine there
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


async def system_resolve(host: str, port: int) -> list[str]:
    """Every address of the host, as the system resolves it. Raises OSError when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def address_of(host: str) -> Address | None:
    """The address that a host of a URL spells out, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def host_problem(host: str) -> str:
    """Why a host is refused for how it is written, or nothing.

    A name whose last label is a number is an address in disguise (127.1, 0177.0.0.1, 0x7f.1, 2130706433): the rule
    "ends in a number" of the WHATWG URL standard.
    """
    if not host:
        return "has no host"
    if address_of(host):
        return ""
    labels = host.lower().split(".")
    if _NUMBER.fullmatch(host.lower().removesuffix(".").rpartition(".")[2]):
        return "has a number as its host; write an address as four decimal numbers"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "has a host that is not a plain name (letters, digits, hyphens; no dot at the end)"
    return ""


def is_public(address: Address) -> bool:
    """Whether the address is on the public internet: not private, local, multicast, reserved or a way round to one.

    Source: IANA's special-purpose registries as `ipaddress` knows them, with the gaps filled that it leaves (fec0::/10,
    multicast, ::/96), and IPv4 addresses looked for in the IPv6 ones that carry them.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and address not in _PUBLIC_BUT_INTERNAL
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:
        return is_public(address.sixtofour)
    return address in _GLOBAL_UNICAST and address.is_global

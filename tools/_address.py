"""Which addresses belong to the public internet, which hosts may be asked for, and name look-ups."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from ._threads import Slots, in_thread

__all__ = ["Address", "Resolve", "address_of", "host_problem", "is_public", "system_resolver"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

# IANA's registries of special-purpose addresses. All entries are in, also the few that are globally reachable, such as
# the anycast addresses of protocols: none is the address of a web site. `ipaddress.is_global` differs between releases.
# https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry
_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "168.63.129.16/32",  # not IANA's: Azure's platform service, which every machine there can reach
    )
)  # fmt: skip
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarking, ORCHID and other protocols
        "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""Everything outside is special: loopback, IPv4 in IPv6, unique local, link-local, multicast, and what is not assigned."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def system_resolver(at_once: int = 100) -> Resolve:
    """Resolves names as the system does, in threads of its own: a slow DNS server holds no thread that others need.

    A look-up that its caller has given up goes on until the system gives it up. While `at_once` look-ups are running, a
    new one raises BlockingIOError. A host without addresses raises OSError.
    """
    slots = Slots(at_once)

    async def resolve(host: str, port: int) -> list[str]:
        found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), slots=slots)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    return resolve


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
    """Whether the address is on the public internet: not private, local, multicast, reserved, or a way round to one.

    An address with a zone (`%eth0`) names an interface of this machine, so it is not.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_V6)

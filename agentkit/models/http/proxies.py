"""The proxy that the environment names for one server. Proxies for other servers are ignored."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import field
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from ..._dataclass import frozen_dataclass

__all__ = ["Proxy", "proxy_for"]

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_PORTS = {"http": 80, "https": 443}


@frozen_dataclass
class Proxy:
    """A proxy. Its URL may contain a password; `str()` gives it without one."""

    url: str = field(repr=False)
    variable: str
    """Where it was found: the name of a variable, or "the system's settings"."""

    def __str__(self) -> str:
        scheme, _, rest = self.url.rpartition("://")
        host = re.split("[/?#]", rest.rpartition("@")[2], maxsplit=1)[0]
        return f"the proxy {scheme or 'http'}://{host} ({self.variable})"

    @property
    def is_valid(self) -> bool:
        """Whether its URL is well-formed and has a supported scheme."""
        import httpx

        try:
            parts = urlsplit(self.url)
            httpx.URL(self.url)
            return parts.scheme in ("http", "https", "socks5", "socks5h") and bool(parts.hostname) and parts.port != 0
        except (ValueError, httpx.InvalidURL):
            return False


def proxy_for(url: str) -> Proxy | None:
    """The proxy for this URL: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, else `ALL_PROXY`; None for hosts in `NO_PROXY`.

    If no such variable is set, the system settings of macOS and Windows are used.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    named = getproxies_environment()
    if not named:  # the settings of the system
        found = getproxies().get(parts.scheme, "")
        return Proxy(found, "the system's settings") if found and not proxy_bypass(host) else None
    variable = parts.scheme if named.get(parts.scheme, "").strip() else "all"
    address = named.get(variable, "").strip()
    if not address or _is_excepted(host, port, named.get("no", "")):
        return None
    if address.startswith("socks://"):  # GNOME's spelling of version 5
        address = f"socks5{address.removeprefix('socks')}"
    return Proxy(address if "://" in address else f"http://{address}", f"{variable.upper()}_PROXY")


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether `NO_PROXY` names this host. Malformed entries are ignored."""
    host = host.rstrip(".").lower()
    address = _address(host)
    return any(_names(entry, host, address, port) for entry in re.split(r"[\s,;]+", exceptions.lower()) if entry)


def _names(entry: str, host: str, address: _Address | None, port: int) -> bool:
    """Whether an entry is this host, or a domain or network that contains it."""
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    if address is None:
        entry = entry.partition("/")[0]  # a path means nothing
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?(/\d+)?", entry)
    if bracketed:
        name, only = bracketed[1] + (bracketed[2] or bracketed[4] or ""), bracketed[3]
    else:
        name, colon, only = entry.partition(":")
        if not colon or not only.isdigit() or entry.count(":") > 1:
            name, only = entry, None
    if only and int(only) != port:
        return False
    if address is not None:
        return _contains(name, address)
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _contains(network: str, address: _Address) -> bool:
    try:
        return address in ipaddress.ip_network(network.partition("%")[0] if "/" not in network else network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found

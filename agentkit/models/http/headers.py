"""Request headers: visible ones, and secret ones that no repr shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import SettingsError
from ...names import with_article
from ...redact.keys import Secret, Unseen, is_secret_header

__all__ = ["Headers", "checked_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]+")
_RESERVED = ("accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade")  # fmt: skip
_KEY_HEADERS = frozenset(["authorization", "api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key"])


class Headers:
    """Header names, in lower case, and values. Secret values are in no repr, and cannot be iterated over by accident."""

    __slots__ = ("_secrets", "visible")

    def __init__(self, visible: Mapping[str, str], secrets: Mapping[str, Secret]) -> None:
        self.visible, self._secrets = visible, secrets

    def __repr__(self) -> str:
        return f"Headers({', '.join(self.names)})"

    @property
    def names(self) -> list[str]:
        """All names."""
        return [*self.visible, *self._secrets]

    @property
    def secrets(self) -> list[Secret]:
        """The values that are secrets."""
        return [*self._secrets.values()]

    @property
    def has_key(self) -> bool:
        """Whether one of the headers carries a key, so that no other key is sent."""
        return not _KEY_HEADERS.isdisjoint(self._secrets)

    def with_defaults(self, others: Mapping[str, str]) -> Headers:
        """These headers, with visible defaults for missing ones."""
        return Headers({**others, **self.visible}, self._secrets)

    def with_bearer(self, key: Secret) -> Headers:
        """These headers, and an Authorization header with the key."""
        return Headers(self.visible, {**self._secrets, "authorization": Secret(f"Bearer {key.reveal()}")})

    def plain(self) -> dict[str, str]:
        """All headers as text, for the library that sends them. Don't bind the result to a name."""
        return {**self.visible, **{name: value.reveal() for name, value in self._secrets.items()}}

    def secret_lines(self) -> bytes:
        """The secret headers as lines of HTTP/1.1. Don't bind the result to a name."""
        return b"".join(f"{name}: {value.reveal()}\r\n".encode("ascii") for name, value in self._secrets.items())


def checked_headers(given: Unseen[Any]) -> Headers:
    """The headers that the program gave. Raises `SettingsError`, which shows no value, for a header that cannot be sent."""
    if not isinstance(given.reveal(), Mapping):
        raise SettingsError(f"headers is {with_article(type(given.reveal()).__name__)}; allowed: a dict of names and texts")
    visible: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    for name in given.reveal():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SettingsError(f"headers has the name {name!r:.80}; allowed: letters, digits and hyphens")
        lower = name.lower()
        if lower in _RESERVED:
            raise SettingsError(f"headers has {name}, which the client sets itself")
        if lower in visible or lower in secrets:
            raise SettingsError(f"headers has {name} twice")
        if not isinstance(given.reveal()[name], str) or not _VALUE.fullmatch(given.reveal()[name].strip()):
            raise SettingsError(f"the header {name} has a value that is no line of ASCII characters (it is not shown here)")
        if is_secret_header(lower, given.reveal()[name]):
            secrets[lower] = Secret(given.reveal()[name].strip())
        else:
            visible[lower] = given.reveal()[name].strip()
    return Headers(visible, secrets)

"""Where a model is served and with which key: from arguments and the environment."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import MissingKey, SettingsError
from ..redact import redact

__all__ = ["DEFAULT_BASE_URL", "DEFAULT_MODEL", "Endpoint", "find_endpoint", "is_loopback"]

DEFAULT_MODEL = "deepseek-v4-flash"
DEFAULT_BASE_URL = "https://www.anyfast.ai/v1"
_DEEPSEEK_URL = "https://api.deepseek.com"
_OPENAI_URL = "https://api.openai.com/v1"
_NO_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, a model there, and the key that was made for that server (None on loopback or where none was found)."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address of chat completions. A base without a path gets `/v1`; it may also be the whole address already."""
        base = self.base_url.rstrip("/")
        if base.endswith("/chat/completions"):
            return base
        return f"{base}/chat/completions" if urlsplit(base).path else f"{base}/v1/chat/completions"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine; it needs no key."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    def require_key(self) -> None:
        """Raise `MissingKey`, which says what to set, if this server needs a key and has none."""
        if self.api_key or self.is_loopback:
            return
        parts = urlsplit(self.base_url)
        raise MissingKey(
            f"no API key for {parts.scheme}://{parts.netloc}. Set AGENTKIT_API_KEY (and AGENTKIT_BASE_URL for another server), "
            f"or DEEPSEEK_API_KEY for {_DEEPSEEK_URL}, or OPENAI_API_KEY with a model's name; or give api_key= and base_url= "
            "(--base-url) yourself. A server on this machine needs no key. `agentkit demo` works offline, without one."
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_endpoint(model: str | None, base_url: str | None, api_key: str | None, env: Mapping[str, str]) -> Endpoint:
    """The endpoint by arguments first, then by the environment; what is empty counts as not given.

    A key goes only to the server that it was made for: the same scheme, host and port. `AGENTKIT_API_KEY` belongs to
    `AGENTKIT_BASE_URL`; without that, to any base URL that is given. Without it and `api_key`, `DEEPSEEK_API_KEY` selects
    DeepSeek's own API, `OPENAI_API_KEY` selects `OPENAI_BASE_URL` or OpenAI's own (the model must then be named). Raises
    `SettingsError` for a base URL of another form, a model that is not named, or a key that cannot be one.
    """
    named = model or env.get("AGENTKIT_MODEL")
    own_url, own_key = env.get("AGENTKIT_BASE_URL"), env.get("AGENTKIT_API_KEY")
    deepseek = (_DEEPSEEK_URL, env.get("DEEPSEEK_API_KEY"))
    openai = (env.get("OPENAI_BASE_URL") or _OPENAI_URL, env.get("OPENAI_API_KEY"))
    url = base_url or own_url
    if not url and not api_key and not own_key:
        selected = next((server for server in (deepseek, openai) if server[1]), None)
        if selected is openai and not named:
            raise SettingsError("OPENAI_API_KEY is set, but no model is named; give one, or set AGENTKIT_MODEL")
        url = selected and selected[0]
    url = (url or DEFAULT_BASE_URL).strip()
    _check_url(url)
    keys = ((own_url or url, own_key), deepseek, openai)
    found = api_key or next((key for server, key in keys if key and _same_server(url, server)), None)
    return Endpoint(url, named or DEFAULT_MODEL, found and _checked_key(found))


def _check_url(url: str) -> None:
    server = None if _NO_URL.search(url) else _server(url)
    if server is None:
        raise SettingsError(f"base_url is {redact(url)!r}; allowed: an http or https address such as {DEFAULT_BASE_URL}")
    parts = urlsplit(url)
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise SettingsError(
            "base_url has a user name, a password, a query or a fragment in it; allowed: scheme, host, port and path, "
            f"such as {DEFAULT_BASE_URL} (the key goes into api_key=)"
        )


def _server(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None if there are none."""
    try:
        parts = urlsplit(url)
        port = {"http": 80, "https": 443}[parts.scheme] if parts.port is None else parts.port
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None


def _same_server(a: str, b: str) -> bool:
    return _server(a.strip()) == _server(b.strip())


def _checked_key(key: str) -> str:
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise SettingsError("the API key is not one word of ASCII characters (it is not shown here); look for a slip in it")
    return key

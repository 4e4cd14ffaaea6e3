"""The server, model and key of a client, from its arguments and the environment."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .._dataclass import frozen_dataclass
from .._sync import is_being_cancelled
from .._threads import Threads
from ..errors import AuthError, MissingKey, ModelError, SettingsError
from ..names import with_article
from ..redact import redact
from ..redact.keys import Secret, Unseen

__all__ = ["DEFAULT_BASE_URL", "DEFAULT_MODEL", "Endpoint", "KeyFunction", "find_endpoint", "is_loopback"]

DEFAULT_MODEL = "deepseek-v4-flash"
DEFAULT_BASE_URL = "https://www.anyfast.ai/v1"
_DEEPSEEK_URL = "https://api.deepseek.com"
_OPENAI_URL = "https://api.openai.com/v1"
_NO_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_KEY = re.compile(r"(?![\"'`])[\x21-\x7e]+(?<![\"'`])")

KeyFunction: TypeAlias = Callable[[], "str | Awaitable[str]"]


@frozen_dataclass
class Endpoint:
    """A server, a model on it, and the key that was issued for that server; None on loopback or if none was found."""

    base_url: str
    model: str
    key: Secret | KeyFunction | None = field(default=None, repr=False)
    """A fixed key, or a function that returns one for each request."""
    is_authenticated: bool = False
    """Whether the program's own headers or client carry the credentials, so that no key is needed."""

    @property
    def api_key(self) -> str | None:
        """The fixed key as text; None without a key or with a key function."""
        return self.key.reveal() if isinstance(self.key, Secret) else None

    @property
    def url(self) -> str:
        """The URL of chat completions. A base URL without a path gets `/v1`; a complete URL is used as it is."""
        base = self.base_url.rstrip("/")
        if base.endswith("/chat/completions"):
            return base
        return f"{base}/chat/completions" if urlsplit(base).path else f"{base}/v1/chat/completions"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine; it needs no key."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def is_plain(self) -> bool:
        """Whether the key would go unencrypted: HTTP without TLS to another machine."""
        return urlsplit(self.base_url).scheme == "http" and not self.is_loopback

    def require_key(self) -> None:
        """Raise `MissingKey`, which says what to set, if the server needs a key and none was found."""
        if self.key or self.is_authenticated or self.is_loopback:
            return
        parts = urlsplit(self.base_url)
        raise MissingKey(
            f"no API key for {parts.scheme}://{parts.netloc}. Set AGENTKIT_API_KEY (and AGENTKIT_BASE_URL for another server), "
            f"or DEEPSEEK_API_KEY for {_DEEPSEEK_URL}, or OPENAI_API_KEY with a model's name; or give api_key= and base_url= "
            "(--base-url) yourself. A server on this machine needs no key. `agentkit demo` works offline, without one."
        )

    async def ask_key(self, ask: KeyFunction, threads: Threads) -> Secret:
        """The key that the function returns for one request. A sync function runs in a thread, since it may do I/O.

        Raises `AuthError` if the function fails; a `ModelError` of its own is raised unchanged. Raises `SettingsError` if the
        result is not a key.
        """
        try:
            if inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(type(ask).__call__):
                given: Unseen[Any] = Unseen(ask())
            else:
                given = await threads.run(lambda: Unseen(ask()))
            if inspect.isawaitable(given.reveal()):
                given = Unseen(await given.reveal())
        except ModelError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # of the program's own code
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            reason = redact(f"{type(error).__name__}: {error}"[:500])
            raise AuthError(f"{self.base_url}: the function given as api_key failed: {reason}") from error
        return _checked_key(given, of="the function given as api_key")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_endpoint(
    model: str | None,
    base_url: str | None,
    api_key: str | KeyFunction | Unseen[Any] | None,
    env: Mapping[str, str],
    *,
    with_env_keys: bool = True,
) -> Endpoint:
    """The endpoint, from the arguments or else the environment. Empty values count as not given.

    A key from the environment goes only to the server that it was issued for: the same scheme, host and port.
    `AGENTKIT_API_KEY` belongs to `AGENTKIT_BASE_URL`, or to any given base URL if that variable is not set. Without it and
    without `api_key`, `DEEPSEEK_API_KEY` selects DeepSeek's API. `OPENAI_API_KEY` selects `OPENAI_BASE_URL` or OpenAI's API,
    and then the model must be named. With `with_env_keys=False`, no key is taken from the environment. Raises `SettingsError`
    for a malformed base URL, a model that is not named, or a malformed key.
    """
    given: Unseen[Any] = api_key if isinstance(api_key, Unseen) else Unseen(api_key)
    environment = _Environment(env)
    del api_key, env  # an error must not show them
    named = model or environment.text("AGENTKIT_MODEL")
    own_url, own_key = environment.text("AGENTKIT_BASE_URL"), environment.secret("AGENTKIT_API_KEY")
    deepseek = (_DEEPSEEK_URL, environment.secret("DEEPSEEK_API_KEY"))
    openai = (environment.text("OPENAI_BASE_URL") or _OPENAI_URL, environment.secret("OPENAI_API_KEY"))
    url = base_url or own_url
    if not url and not given.reveal() and not own_key:
        selected = next((server for server in (deepseek, openai) if server[1]), None)
        if selected is openai and not named:
            raise SettingsError("OPENAI_API_KEY is set, but no model is named; give one, or set AGENTKIT_MODEL")
        url = selected and selected[0]
    url = (url or DEFAULT_BASE_URL).strip()
    _check_url(url)
    if callable(given.reveal()):
        return Endpoint(url, named or DEFAULT_MODEL, given.reveal())
    keys = ((own_url or url, own_key), deepseek, openai) if with_env_keys else ()
    matching = (key for server, key in keys if key and _is_same_server(url, server))
    chosen = given if given.reveal() else next(matching, None)
    return Endpoint(url, named or DEFAULT_MODEL, None if chosen is None else _checked_key(chosen))


class _Environment:
    """The environment's variables. No repr shows them, since some are keys."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._get = Unseen(env.get)

    def text(self, name: str) -> str | None:
        """The value of a variable; None if it is empty."""
        return self._get.reveal()(name) or None

    def secret(self, name: str) -> Unseen[Any] | None:
        """The value of a variable, wrapped so that no repr shows it; None if it is empty."""
        return Unseen(self._get.reveal()(name)) if self._get.reveal()(name) else None


_BASE_URL_WITH_EXTRAS = (
    "base_url has a user name, a password, a query or a fragment in it; allowed: scheme, host, port and path, "
    f"such as {DEFAULT_BASE_URL} (the key goes into api_key=)"
)


def _check_url(url: str) -> None:
    if "@" in url:  # the text before it may be a key, however a parser splits the URL
        raise SettingsError(_BASE_URL_WITH_EXTRAS)
    server = None if _NO_URL.search(url) else _server(url)
    if server is None:
        raise SettingsError(f"base_url is {redact(url)!r}; allowed: an http or https address such as {DEFAULT_BASE_URL}")
    if "?" in url or "#" in url:
        raise SettingsError(_BASE_URL_WITH_EXTRAS)


def _server(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None if any is missing."""
    try:
        parts = urlsplit(url)
        port = {"http": 80, "https": 443}[parts.scheme] if parts.port is None else parts.port
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None


def _is_same_server(a: str, b: str) -> bool:
    return _server(a.strip()) == _server(b.strip())


def _checked_key(key: Unseen[Any], *, of: str = "") -> Secret:
    if not isinstance(key.reveal(), str):
        subject, allowed = (f"{of} gave", "text") if of else ("api_key is", "text, a function that gives it, or None")
        raise SettingsError(f"{subject} {with_article(type(key.reveal()).__name__)}; allowed: {allowed}")
    if not _KEY.fullmatch(key.reveal().strip()):
        subject = f"the API key of {of}" if of else "the API key"
        raise SettingsError(f"{subject} is not one word of ASCII characters (it is not shown here); look for a slip in it")
    return Secret(key.reveal().strip())

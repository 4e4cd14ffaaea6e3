"""Where a model is served and with which key: from arguments and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import MissingKey, SettingsError

__all__ = ["DEFAULT_BASE_URL", "DEFAULT_MODEL", "Endpoint", "find_endpoint"]

DEFAULT_MODEL = "deepseek-v4-flash"
DEFAULT_BASE_URL = "https://www.anyfast.ai/v1"
_DEEPSEEK_URL = "https://api.deepseek.com"
_OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, a model there, and the key that was made for that server (None on loopback or where none was found)."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address of chat completions; the base may end in a slash, or in the whole path already."""
        base = self.base_url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine; it needs no key."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    def require_key(self) -> None:
        """Raise `MissingKey`, which says what to set, if this server needs a key and has none."""
        if self.api_key or self.is_loopback:
            return
        raise MissingKey(
            f"no API key for {_origin(self.base_url)}. Set AGENTKIT_API_KEY (and AGENTKIT_BASE_URL for another server), or "
            f"DEEPSEEK_API_KEY for {_DEEPSEEK_URL}, or OPENAI_API_KEY with a model's name; or give api_key= and base_url= "
            "(--base-url) yourself. A server on this machine needs no key. `agentkit demo` works offline, without one."
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _same_host(a: str, b: str) -> bool:
    return urlsplit(a).hostname == urlsplit(b).hostname


def find_endpoint(model: str | None, base_url: str | None, api_key: str | None, env: Mapping[str, str]) -> Endpoint:
    """The endpoint by arguments first, then by the environment. A key goes only to the host that it was made for.

    `AGENTKIT_API_KEY` belongs to `AGENTKIT_BASE_URL`; without that, to any base URL that is given. Without it,
    `DEEPSEEK_API_KEY` selects DeepSeek's own API, `OPENAI_API_KEY` selects `OPENAI_BASE_URL` or OpenAI's own (the model must
    then be named). Raises `SettingsError` for a base URL that is not http or https, or a model that is not named.
    """
    named = model or env.get("AGENTKIT_MODEL")
    own_url, own_key = env.get("AGENTKIT_BASE_URL"), env.get("AGENTKIT_API_KEY")
    openai_url = env.get("OPENAI_BASE_URL") or _OPENAI_URL
    foreign = ((_DEEPSEEK_URL, env.get("DEEPSEEK_API_KEY")), (openai_url, env.get("OPENAI_API_KEY")))
    url = base_url or own_url
    if url is None and own_key is None:
        url = next((host for host, key in foreign if key), None)
        if url == openai_url and url != _DEEPSEEK_URL and not named:
            raise SettingsError("OPENAI_API_KEY is set, but no model is named; give one, or set AGENTKIT_MODEL")
    url = url or DEFAULT_BASE_URL
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SettingsError(f"base_url is {url!r}; allowed: an http or https address such as {DEFAULT_BASE_URL}")
    if api_key is None and own_key and (own_url is None or _same_host(url, own_url)):
        api_key = own_key
    if api_key is None:
        api_key = next((key for host, key in foreign if key and _same_host(url, host)), None)
    return Endpoint(url, named or DEFAULT_MODEL, api_key)

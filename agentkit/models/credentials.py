"""What stands for a key: `api_key`, a header, or a client that authenticates itself; and whose requests are paced together."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from ..errors import EndpointWarning, SettingsError
from ..redact.keys import Secret, Unseen
from .endpoint import Endpoint, find_endpoint
from .http.headers import Headers
from .http.senders import authenticates_itself, may_authenticate

__all__ = ["endpoint_with", "payer"]


def endpoint_with(
    model: str | None, base_url: Unseen[str | None], api_key: Unseen[Any], headers: Headers, client: Any
) -> Endpoint:
    """The endpoint, with no key of the environment where headers or the client carry the credentials.

    Warns of a key that everybody on the way to the server can read. Raises `SettingsError` as `find_endpoint` does.
    """
    if api_key.reveal() and "authorization" in headers.names:
        raise SettingsError("headers has Authorization, and api_key is given as well; give one of them")
    is_signed = client is not None and authenticates_itself(client)
    try:
        found = find_endpoint(model, base_url.reveal(), api_key, os.environ, with_env_keys=not (is_signed or headers.has_key))
    except SettingsError as error:
        raise error.with_traceback(None)  # noqa: B904  its frames have the URL, which may have a password in it
    is_signed = is_signed or (client is not None and may_authenticate(client, found.url))
    found = replace(found, is_authenticated=is_signed or bool(headers.secrets))
    secrets = [*headers.secrets, *([found.key] if isinstance(found.key, Secret) else [])]
    if found.is_plain and (callable(found.key) or any(secret.is_worth_hiding for secret in secrets)):
        text = f"{found.base_url}: the API key goes over HTTP without TLS to another machine; anybody on the way can read it"
        warnings.warn(text, EndpointWarning, stacklevel=3)
    return found


def payer(endpoint: Endpoint, headers: Headers, client: Any) -> Hashable:
    """Whose requests are paced together: those with the same key, key function, secret headers, or client that signs them."""
    key: Hashable = id(endpoint.key)
    with contextlib.suppress(TypeError):  # a function may be an object that has no hash
        hash(endpoint.key)
        key = endpoint.key
    who: list[Hashable] = [one for one in (key, *headers.secrets) if one is not None]
    if not who and client is not None and authenticates_itself(client):
        who.append(id(client))
    return who[0] if len(who) == 1 else tuple(who) or None

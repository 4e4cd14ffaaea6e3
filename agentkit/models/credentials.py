"""Credentials: an `api_key`, a header, or a client that authenticates itself, and the account that they stand for."""

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
from .http.transports import authenticates_itself, may_authenticate

__all__ = ["account_of", "endpoint_with"]


def endpoint_with(
    model: str | None, base_url: Unseen[str | None], api_key: Unseen[Any], headers: Headers, client: Any
) -> Endpoint:
    """The endpoint. If headers or the client carry credentials, no key is taken from the environment.

    Warns if the key would go unencrypted to another machine. Raises `SettingsError` as `find_endpoint` does.
    """
    if api_key.reveal() and "authorization" in headers.names:
        raise SettingsError("headers has Authorization, and api_key is given as well; give one of them")
    is_signed = client is not None and authenticates_itself(client)
    try:
        found = find_endpoint(model, base_url.reveal(), api_key, os.environ, with_env_keys=not (is_signed or headers.has_key))
    except SettingsError as error:
        raise error.with_traceback(None)  # noqa: B904  its frames hold the URL, which may contain a password
    is_signed = is_signed or (client is not None and may_authenticate(client, found.url))
    found = replace(found, is_authenticated=is_signed or bool(headers.secrets))
    secrets = [*headers.secrets, *([found.key] if isinstance(found.key, Secret) else [])]
    if found.is_plain and (callable(found.key) or any(secret.is_worth_hiding for secret in secrets)):
        text = f"{found.base_url}: the API key goes over HTTP without TLS to another machine; anybody on the way can read it"
        warnings.warn(text, EndpointWarning, stacklevel=3)
    return found


def account_of(endpoint: Endpoint, headers: Headers, client: Any) -> Hashable:
    """Identifies the account whose requests share a limiter: by key, key function, secret headers, or a client that signs."""
    key: Hashable = id(endpoint.key)
    with contextlib.suppress(TypeError):  # a function may be an object without a hash
        hash(endpoint.key)
        key = endpoint.key
    identities: list[Hashable] = [secret for secret in (key, *headers.secrets) if secret is not None]
    if not identities and client is not None and authenticates_itself(client):
        identities.append(id(client))
    return identities[0] if len(identities) == 1 else tuple(identities) or None

"""Identifies a server's profile by its marks, which are listed in the profile table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..chat import ChatModel
from ..http.headers import Headers
from ..profiles import PROFILES, Profile

__all__ = ["identify"]

_SECONDS = 5.0


async def identify(model: ChatModel) -> tuple[Profile, str] | None:
    """The profile that the server's own marks name, and the mark; None if there is none.

    The list of models is requested first, with the key, then some paths of the server's root, without the key. Failures are
    ignored: the checks report whether the server can be reached.
    """
    if model.client is not None:
        return await _identify(model, model.client)
    no_keep_alive = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=no_keep_alive, trust_env=not model.endpoint.is_loopback) as client:
        return await _identify(model, client)


async def _identify(model: ChatModel, client: Any) -> tuple[Profile, str] | None:
    url = model.endpoint.url.removesuffix("/chat/completions") + "/models"
    marks = {*_marks_of(await _get(client, url, await model.headers()))}
    for profile in PROFILES:
        if mark := next((mark for mark in profile.marks if mark in marks), None):
            return profile, mark
    parts = urlsplit(url)
    for profile, path, key in _paths():
        found = _json(await _get(client, f"{parts.scheme}://{parts.netloc}{path}"))
        if isinstance(found, Mapping) and key in found:
            return profile, f"GET {path}"
    return None


def _paths() -> Iterator[tuple[Profile, str, str]]:
    for profile in PROFILES:
        for mark in profile.marks:
            path, _, key = mark.removeprefix("GET ").partition(": ")
            if mark.startswith("GET "):
                yield profile, path, key


def _marks_of(response: Any) -> Iterator[str]:
    """The headers and the owners of the models, in the form of marks."""
    if response is None:
        return
    yield from (f"{name.lower()}: {value.lower()}" for name, value in response.headers.items())
    yield from (f"header {name.lower()}" for name in response.headers)
    listed = _json(response)
    models = listed.get("data") if isinstance(listed, Mapping) else None
    for entry in models if isinstance(models, list) else ():
        if isinstance(entry, Mapping):
            yield f"owned_by: {entry.get('owned_by')}"


async def _get(client: Any, url: str, headers: Headers | None = None) -> Any:
    """The response; None for any failure, including errors of another HTTP library."""
    try:
        return await client.get(url, headers=headers.plain() if headers else None, timeout=_SECONDS)
    except Exception:  # noqa: BLE001
        return None


def _json(response: Any) -> Any:
    if response is None or response.status_code != 200:
        return None
    try:
        return response.json()
    except ValueError:
        return None

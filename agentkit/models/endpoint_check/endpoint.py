"""Runs all checks against one server, and estimates their max cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ...errors import ModelError, StreamBroken
from ...messages import Usage
from ..chat import ChatModel
from ..prices import cost_of
from ..profiles import find_profile
from .asking import MAX_TOKENS, Server, TemporaryFailure
from .checks import CHECKS, Check
from .findings import Finding, Report
from .marks import identify

__all__ = ["check_endpoint", "estimate"]


def estimate(model: ChatModel) -> tuple[int, Usage, float | None]:
    """Max requests, max tokens and max cost of all checks, with every answer at its max length.

    Requests that are repeated after a failed connection or a cut reply are not included.
    """
    requests = sum(count for _check, count, _tokens in CHECKS)
    usage = Usage(requests, sum(tokens for _check, _count, tokens in CHECKS), requests * MAX_TOKENS + 3 * MAX_TOKENS)
    return requests, usage, _cost(model, usage)


def _cost(model: ChatModel, usage: Usage) -> float | None:
    prices = model.profile.price_of(model.name)
    return cost_of(prices, usage, datetime.now(UTC)) if prices else None


async def check_endpoint(model: ChatModel, tell: Callable[[Finding], None] | None = None) -> Report:
    """Run all checks against the model's server, one after another. `tell` is called with each finding.

    The checks use the model's own transport, with a new connection per request. They use the model's profile if it was given.
    If the profile was only guessed from the URL or the model's name, the profile that the server's own marks name replaces it.

    Raises `MissingKey` before anything is sent, and a `ModelError` if the server cannot be reached at all. If the first check
    gets no answer, the others are skipped.
    """
    model.endpoint.require_key()
    findings: list[Finding] = []
    named = await identify(model) if _is_guess(model) else None
    is_other = named is not None and named[0].name != model.profile.name
    profile, mark = named if named and is_other else (model.profile, "")
    server = Server(model, profile)
    for check, _count, _tokens in CHECKS:
        findings.append(await _checked(check, server, is_first=not findings))
        if tell:
            tell(findings[-1])
        if not server.usage.requests:
            break
    cost = _cost(model, server.usage)
    return Report(tuple(findings), profile, server.sent, server.usage, cost, mark, server.sent_again)


def _is_guess(model: ChatModel) -> bool:
    """Whether the profile was neither given nor found by a vendor's own host."""
    found = find_profile(model.endpoint.base_url, model.name)
    return model.profile.name == found.name and urlsplit(model.endpoint.base_url).hostname not in found.hosts


async def _checked(check: Check, server: Server, *, is_first: bool) -> Finding:
    try:
        return await check(server)
    except TemporaryFailure as error:
        return Finding(_name_of(check), "unknown", f"{error}; try again later")
    except StreamBroken as error:
        server.model.clean(error)
        return Finding(_name_of(check), "broken", f"the reply was not whole, twice: {error}")
    except ModelError as error:
        server.model.clean(error)
        if is_first:
            raise
        return Finding(_name_of(check), "broken", f"the connection failed twice: {error}")


def _name_of(check: Check) -> str:
    return check.__name__.strip("_").replace("_", " ")

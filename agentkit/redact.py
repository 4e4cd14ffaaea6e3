"""Secrets out of a text before a model, or a log, sees it."""

from __future__ import annotations

import re

__all__ = ["redact"]

_SECRETS = re.compile(
    r"""
      (?P<url>\b[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]+@                                   # user:password@ in a URL
    | (?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}                              # Authorization headers
    | (?P<field>["']?\b[\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d|pwd|credential)[\w-]*["']?\s*[=:]\s*["']?)[^\s"'&,;]+
    | \b(?:sk|pk|rk|ghp|gho|ghs|github_pat|xox[abprs]|glpat)[-_][A-Za-z0-9_-]{8,}          # keys with a known beginning
    | \bAKIA[0-9A-Z]{12,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+                               # JSON web tokens
    """,
    re.IGNORECASE | re.VERBOSE,
)


def redact(text: str) -> str:
    """The text with passwords, keys and tokens replaced by `[redacted]`; what stands before a value stays readable.

    It knows common forms only: credentials in URLs, Authorization values, `password=...` and the like, and keys of
    well-known issuers. A secret of another form passes.
    """

    def hide(match: re.Match[str]) -> str:
        kept = match["url"] or match["scheme"] or match["field"] or ""
        return f"{kept}[redacted]{'@' if match['url'] else ''}"

    return _SECRETS.sub(hide, text)

"""Secrets out of a text before a model, or a log, sees it."""

from __future__ import annotations

import re

__all__ = ["redact"]

_SECRETS = re.compile(
    r"""
      (?P<url>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/:]{0,256}:(?!\d{1,5}/)[^\s"']{1,256}@          # user:password@ in a URL
    | (?P<field>\b[\w-]{0,40}(?:(?:api|account|access|private)[_-]?key|token(?!s\b)|secret|passw(?:or)?d|passphrase|pwd
          |credential|authorization)[\w-]{0,40}
        \\?["']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)                                             # password=..., "token": "..."
        (?:(?P<quote>\\?["'])(?:bearer\s+|basic\s+)?(?:(?!(?P=quote)).)+|[^\s"'&,;]+)
    | (?P<scheme>\b(?:bearer|basic)\s+)(?=[a-z._~+/-]{0,99}[0-9=])[A-Za-z0-9._~+/=-]{8,}       # Authorization values
    | (?P<header>\b(?:set-)?cookie\\?["']?\s*:\s*\\?["']?)[^\r\n"'\\]+                           # all of a cookie
    | (?P<signature>[?&](?:sig|signature|x-amz-signature|x-goog-signature)=)[^\s"'&]+           # signed URLs
    | \b(?:sk|npm|pypi|dop_v1|gh[opsu]|github_pat|xox[abprs]|glpat|hf|(?:pk|rk)_(?:live|test))[-_][\w-]{8,}  # known beginnings
    | \b(?:AKIA|ASIA|AIza)[0-9A-Za-z_-]{12,}
    | \beyJ[A-Za-z0-9_-]{8,1024}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+                           # JSON web tokens
    | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----[^-]*(?:-----END\ [A-Z\ ]*PRIVATE\ KEY-----)?
    """,
    re.IGNORECASE | re.VERBOSE,
)


def redact(text: str) -> str:
    """The text with passwords, keys and tokens replaced by `[redacted]`; what stands before a value stays readable.

    It knows common forms only: credentials in URLs, Authorization values, `password=...` and the like, and keys of
    well-known issuers. A secret of another form passes.
    """

    def hide(match: re.Match[str]) -> str:
        kept = (
            match["url"]
            or match["scheme"]
            or match["header"]
            or match["signature"]
            or (match["field"] or "") + (match["quote"] or "")
        )
        return f"{kept}[redacted]{'@' if match['url'] else ''}"

    return _SECRETS.sub(hide, text)

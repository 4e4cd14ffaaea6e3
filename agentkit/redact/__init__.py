"""Removes secrets from a text before a model or a log sees it: by the form of a key, and by the name before a value."""

from __future__ import annotations

import base64
import re

from .key_forms import compiled, hide_known_forms, is_random
from .secret_names import hide_named

__all__ = ["MASK", "redact", "redacted_traceback"]

MASK = "[redacted]"

_ADDRESS = r"(?i)\b(?P<scheme>[a-z][a-z0-9+.-]{1,20})://(?P<rest>[^\s\"'<>`]*)"
_HTTP = frozenset(["http", "https", "ws", "wss", "ftp", "sftp"])
_SCHEME = r"""(?ix)(?:\b|(?<=%20)|(?<=%3A)|(?<=_))
    (?P<head>(?P<bearer>bearer)(?:\s+|%20)|basic(?:\s+|%20)|auth\\?["']?\s{0,3}[:=]\s{0,3}\\?["']?)(?P<value>[A-Za-z0-9._~+/-]{6,}={0,2})"""
"""Credentials after their scheme, and the logins in settings of docker and npm."""
_BEGIN = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_BODY = r"(?:(?:\s|\\[rn])*[A-Z][A-Za-z]+-[A-Z][a-z]+:[^\n\\]{0,100})*(?:(?:\s|\\[rn])*[A-Za-z0-9+/=_-]{16,})*"
_HASH = r"\$(?:2[abxy]|5|6|7|y|argon2(?:id|i|d)|scrypt)\$[\w./$=,+-]{20,}|\$(?:1|apr1)\$[\w./]{1,8}\$[\w./]{20,}"
"""A password hash in crypt's format."""
_MARKS = (
    "auth",
    "sig",
    "hooks.",
    "webhook",
    "thin:",
    "machine",
    "curl",
    "wget",
    "mysql",
    "mariadb",
    "sshpass",
    "mongo",
    "docker login",
)
_AFTER_A_HEAD = r"""(?ix)
    (?P<head>
        (?:[?&]|\bSharedAccessSignature\s)(?:[^\s&]{0,64}&)?(?:sig|signature|x-amz-signature|x-goog-signature)=  # signed URLs
      | (?:\bauth=\(|\bHTTP(?:Basic|Digest|Proxy)Auth\(|\bBasicAuth\()\s{0,8}["'][^"'\n]{0,128}["'],\s{0,8}["']
      | \bhooks\.slack\.com/(?:services|workflows|triggers)/
      | \bdiscord(?:app)?\.com/api/webhooks/\d{1,20}/
      | \bwebhook\.office\.com/webhookb2/
      | \bthin:[^\s/:@]{1,64}/(?=[^\s/@]{1,128}@)                           # Oracle's driver: user/password@
      | \bmachine\s{1,8}\S{1,128}\s{1,8}login\s{1,8}\S{1,128}\s{1,8}password\s{1,8}  # .netrc
      | \b(?:mysql|mariadb)[\w-]{0,16}\b[^\n]{0,200}?\s(?-i:-p)\s{0,3}(?=[^\s-]{0,40}\d)(?!\d{1,5}\b)
      | \b(?:sshpass|mongosh?|mongodump|mongorestore|docker\slogin)\b[^\n]{0,200}?\s(?:-p|--password)\s{1,3}(?![-$<])
      | \b(?:curl|wget)\b[^\n]{0,200}?\s(?:-u|-U|--(?:proxy-)?user)[\s=]["']?[^\s:"'/]{0,128}:(?!\d+\b|\$)
    )[^\s"'&@;,]+"""


def redact(text: str) -> str:
    """The text with passwords, keys and tokens replaced by `[redacted]`. Names before the values stay readable.

    It recognizes known forms of keys, private keys, credentials in URLs and headers, and values after a name such as
    `password=`. It misses secrets of other forms, and secrets that read like a word in a sentence. Its time is linear in the
    text.
    """
    if "PRIVATE KEY" in text:
        text = _without_private_keys(text)
    if "://" in text:
        text = compiled(_ADDRESS).sub(_without_login, text)
    if any(mark in text.lower() for mark in _MARKS):
        text = compiled(_AFTER_A_HEAD).sub(lambda found: found["head"] + MASK, text)
    text = hide_named(compiled(_HASH).sub(MASK, text), MASK)
    text = compiled(_SCHEME).sub(_without_credentials, text)
    return hide_known_forms(text, MASK)


def redacted_traceback(error: BaseException) -> str:
    """The traceback of an error, for a log, without secrets."""
    import traceback

    return redact("".join(traceback.format_exception(error)))


def _without_private_keys(text: str) -> str:
    pieces, done, has_end = list[str](), 0, True
    for begin in compiled(_BEGIN).finditer(text):
        if begin.start() < done:
            continue
        end = compiled(_END).search(text, begin.end()) if has_end else None
        has_end = end is not None
        rest = end or compiled(_BODY).match(text, begin.end())
        pieces += [text[done : begin.start()], MASK]
        done = rest.end() if rest else begin.end()
    return "".join([*pieces, text[done:]])


def _without_login(found: re.Match[str]) -> str:
    """A URL without the password or token before its host."""
    scheme, rest = found["scheme"], found["rest"]
    authority = rest.partition("/")[0] if scheme.lower() in _HTTP else rest  # other schemes often have unescaped passwords
    login, at, host = authority.rpartition("@")
    user, _, password = login.partition(":")
    is_login = at and "/" not in user and "@" not in user and not host.startswith("sha256:")
    return f"{scheme}://{MASK}{rest[len(login) :]}" if is_login and (password or is_random(user)) else found[0]


def _without_credentials(found: re.Match[str]) -> str:
    """Masks the credential after "Bearer", "Basic" or "auth". After the last two, only a user and password in base64 count."""
    if found["bearer"]:
        is_secret = is_random(found["value"])
    else:
        try:
            is_secret = b":" in base64.b64decode(found["value"], validate=True)
        except ValueError:
            is_secret = False
    return f"{found['head']}{MASK}" if is_secret else found[0]

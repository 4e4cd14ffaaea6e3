"""Keys that stay out of sight: values that no repr shows, and their removal from texts and tracebacks by their value."""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from .redact import redact

__all__ = ["HIDDEN", "Hider", "Secret", "clean_error", "hiders_of", "is_secret_header"]

HIDDEN = "[api key]"
_SHORTEST = 8
_CERTAIN = 20
_WORDS = re.compile(r"[a-z_-]+|[A-Z_-]+")
_KEPT = 32
"""Secrets that a `Hider` knows at a time. A key that is renewed pushes out the oldest."""
_LIBRARIES = frozenset(
    ["agentkit", "anyio", "asyncio", "contextlib", "h11", "h2", "httpcore", "httpcore2", "httpx", "httpx2", "sniffio", "ssl"]
)
_HEADER_WORDS = re.compile(
    r"(?:^|[-_])(?:authorization|auth|cookie|key|api-?key|token|secret|password|passphrase|credentials?|jwt|signature)$", re.I
)
_OTHER_KEYS = re.compile(r"(?:idempotency|cache|surrogate|partition|routing|sort|websocket)-key$", re.I)


class Secret:
    """A text that `repr`, `pickle` and tracebacks with local variables do not show: only a function gives it.

    Two secrets with the same text are equal. Take the text where it is used and bind it to no name, so that no frame has it.
    """

    __slots__ = ("reveal",)

    def __init__(self, text: str) -> None:
        self.reveal: Callable[[], str] = lambda: text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    @property
    def is_worth_hiding(self) -> bool:
        """Whether it can be a key. A short text, or a plain word such as "lm-studio", is a placeholder and may be said."""
        return len(self.reveal()) >= _CERTAIN or (len(self.reveal()) >= _SHORTEST and not _WORDS.fullmatch(self.reveal()))


class Hider:
    """Takes secrets out of texts by their value: as it is, and in base64, in hexadecimal digits, and escaped for a URL or JSON."""

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: deque[tuple[Secret, Callable[[], list[str]]]] = deque(maxlen=_KEPT)
        for secret in secrets:
            self.add(secret)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, secret: Secret) -> None:
        """Hide this one as well, if it can be a key."""
        if secret.is_worth_hiding and all(secret != known for known, _forms in tuple(self._known)):
            self._known.append((secret, _forms_of(secret)))

    def hide(self, text: str) -> str:
        """The text with `[api key]` for each secret, and for the first characters of one at the end of a text that was cut."""
        for _secret, forms in tuple(self._known):
            for form in forms():
                if form in text:
                    text = text.replace(form, HIDDEN)
            begun = _begun(text, forms()[:1])
            if begun >= _SHORTEST:
                text = text[:-begun] + HIDDEN
        return text

    def begun(self, text: str) -> int:
        """How many characters at the end of the text may be the beginning of a secret."""
        return max((_begun(text, forms()) for _secret, forms in tuple(self._known)), default=0)


def _begun(text: str, forms: list[str]) -> int:
    longest = 0
    for form in forms:
        at = text.find(form[0], max(0, len(text) - len(form) + 1))
        while at >= 0 and not form.startswith(text[at:]):
            at = text.find(form[0], at + 1)
        longest = max(longest, len(text) - at if at >= 0 else 0)
    return longest


def _forms_of(secret: Secret) -> Callable[[], list[str]]:
    """A function that gives the ways in which a secret is written, the longest first; they are made once."""
    found = {secret.reveal(), quote(secret.reveal(), safe=""), json.dumps(secret.reveal())[1:-1]}
    found |= {secret.reveal().replace("/", "\\/"), secret.reveal().encode().hex(), secret.reveal().encode().hex().upper()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(_inside_base64(secret, before, encode))
    ordered = [secret.reveal(), *sorted(found - {secret.reveal()}, key=len, reverse=True)]
    return lambda: ordered


def _inside_base64(secret: Secret, before: int, encode: Callable[[bytes], bytes]) -> str:
    """The digits of a secret with so many other bytes before it: those that no neighbour has a bit in."""
    bits = 8 * (before + len(secret.reveal().encode()))
    return encode(bytes(before) + secret.reveal().encode()).decode()[-(-8 * before // 6) : bits // 6]


def hiders_of(model: Any) -> list[Hider]:
    """Those of a model, of the one that it wraps, or of all that it chooses among: whatever has a `hider`."""
    own: Hider | None = getattr(model, "hider", None)
    inner = [*(getattr(model, "models", None) or ()), *([model.model] if hasattr(model, "model") else [])]
    return [own] if isinstance(own, Hider) else [hider for one in inner for hider in hiders_of(one)]


def is_secret_header(name: str, value: str) -> bool:
    """Whether a header carries a secret: by its name, or as its value has the form of a key."""
    return bool(_HEADER_WORDS.search(name) and not _OTHER_KEYS.search(name)) or redact(value) != value


def clean_error(error: BaseException, hider: Hider) -> None:
    """Take the secrets out of an error and of those behind it: out of their texts, and with their tracebacks.

    HTTP libraries hold headers in local variables, and a traceback shows these in pytest, Sentry and rich. Of frames that are
    the program's own (an auth class, a hook, the function that gives a key), a note keeps the lines. What is behind an
    interruption that is no `Exception` stays as it is.
    """
    for one in _chain(error):
        one.args = tuple(_clean(part, hider) if isinstance(part, str) else part for part in one.args)
        for name in ("body", "partial", "code", "request_id"):
            if isinstance(text := getattr(one, name, None), str):
                setattr(one, name, _clean(text, hider))
        own = [frame for frame in traceback.walk_tb(one.__traceback__) if not _is_library(frame[0].f_globals)]
        if own and not hasattr(one, "__notes__"):
            lines = traceback.StackSummary.extract(iter(own), capture_locals=False).format()
            one.add_note("It came through:\n" + hider.hide("".join(lines)).rstrip())
        one.__traceback__ = None


def _is_library(names: dict[str, Any]) -> bool:
    return str(names.get("__name__", "")).partition(".")[0] in _LIBRARIES


def _clean(text: str, hider: Hider) -> str:
    return hider.hide(text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen, waiting = set[int](), [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, Exception) or one is not error:
            waiting += [next_one for next_one in (one.__cause__, one.__context__) if next_one is not None]
            waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()

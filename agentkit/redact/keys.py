"""Values that no repr shows, and the removal of known secrets from texts, errors and tracebacks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from ..errors import ModelError
from . import redact

__all__ = ["HIDDEN", "Hider", "Secret", "Unseen", "clean_error", "is_secret_header", "secrets_of_header"]

T = TypeVar("T")

HIDDEN = "[api key]"
_SHORTEST = 8
_CERTAIN = 20
_STRETCH = 16
"""Min length of a part of a secret that is hidden like the whole secret."""
_BLOCK = 8
_STEP = _STRETCH - _BLOCK + 1
_WORD = re.compile(r"[a-z_-]+|[A-Z_-]+")
_MAX_SECRETS = 32
"""Max secrets that a `Hider` knows. Renewed keys push out the oldest ones."""
_LIBRARIES = frozenset(
    ["agentkit", "anyio", "asyncio", "concurrent", "contextlib", "h11", "h2", "httpcore", "httpcore2", "httpx", "httpx2", "ssl"]
)
_SECRET_HEADER = re.compile(
    r"(?i)(?:^|[-_])(?:authorization|auth|cookie|key|apikey|token|secret|password|passphrase|credentials?|jwt|signature)$"
)
_OTHER_HEADER = re.compile(r"(?i)(?:cache|idempotency|partition|routing|surrogate|websocket)-key$")


class Unseen(Generic[T]):
    """A value that `repr`, `pickle` and tracebacks with local variables do not show. Only `reveal()` returns it.

    Use the result of `reveal()` in the same expression. A local variable that holds it would show up in tracebacks.
    """

    __slots__ = ("reveal",)

    def __init__(self, value: T) -> None:
        self.reveal: Callable[[], T] = lambda: value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Secret(Unseen[str]):
    """A text that is not shown. Secrets with the same text are equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    @property
    def is_worth_hiding(self) -> bool:
        """Whether the text can be a key. A short text, or a plain word such as "lm-studio", is a placeholder and not hidden."""
        is_word = (
            self.reveal().islower() != self.reveal().isupper() and self.reveal().replace("-", "").replace("_", "").isalpha()
        )
        return len(self.reveal()) >= _CERTAIN or (len(self.reveal()) >= _SHORTEST and not is_word)


_Known: TypeAlias = tuple[Secret, Unseen[list[str]], Unseen[list[str]], Unseen[frozenset[str]]]
"""A secret with its forms, its blocks and the endings of its beginnings: see `_forms_of`, `_blocks_of` and `_pairs_of`."""


class Hider:
    """Removes known secrets from texts: as they are, in base64, in hex, and escaped for URLs and JSON."""

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: deque[_Known] = deque(maxlen=_MAX_SECRETS)
        for secret in secrets:
            self.add(secret)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, secret: Secret) -> None:
        """Hide this secret as well, if it can be a key."""
        if secret.is_worth_hiding and all(secret != known for known, _forms, _blocks, _pairs in tuple(self._known)):
            forms = Unseen(_forms_of(secret))
            self._known.append((secret, forms, Unseen(_blocks_of(secret)), Unseen(_pairs_of(forms.reveal()))))

    def finds(self, text: str) -> bool:
        """Whether the text contains a secret, or the first half of one."""
        if len(text) < _SHORTEST // 2:
            return False
        for _secret, forms, blocks, _pairs in tuple(self._known):
            if len(text) >= _BLOCK and any([block in text for block in blocks.reveal()]) and any(self._stretches(text)):  # noqa: C419
                return True
            half = len(forms.reveal()[0]) // 2
            if len(text) >= half and (forms.reveal()[0][:half] in text or any([form in text for form in forms.reveal()])):  # noqa: C419
                return True
        return False

    def hide(self, text: str, *, more_follows: bool = False) -> str:
        """The text with each secret replaced by `[api key]`.

        The first half of a secret at the end of the text is replaced too, since the text may be cut. With `more_follows`, the
        end is left unchanged.
        """
        if not self.finds(text):
            return text
        pieces, done = list[str](), 0
        for start, end in self.spans(text, more_follows=more_follows):
            pieces += [text[done:start], HIDDEN]
            done = end
        return "".join([*pieces, text[done:]])

    def spans(self, text: str, *, more_follows: bool = False) -> list[tuple[int, int]]:
        """The (start, end) of each part of the text that `hide` replaces."""
        found = list[tuple[int, int]]()
        for _secret, forms, _blocks, _pairs in tuple(self._known):
            for form in forms.reveal():
                at = text.find(form)
                while at >= 0:
                    found.append((at, at + len(form)))
                    at = text.find(form, at + 1)
            length = 0 if more_follows else _partial_at_end(text, forms.reveal()[:1])
            if 2 * length >= len(forms.reveal()[0]):
                found.append((len(text) - length, len(text)))
        found += [span for span in self._stretches(text) if not (more_follows and span[1] == len(text))]
        return _merged(found)

    def _stretches(self, text: str) -> Iterator[tuple[int, int]]:
        """The (start, end) of long parts of secrets in the text. Each part contains one of the blocks."""
        for secret, _forms, blocks, _pairs in tuple(self._known):
            for number, block in enumerate(blocks.reveal()):
                offset = number * _STEP
                at = text.find(block)
                while at >= 0:
                    before = _common(reversed(text[max(0, at - offset) : at]), reversed(secret.reveal()[:offset]))
                    after = _common(text[at : at + len(secret.reveal())], secret.reveal()[offset:])
                    if before + after >= _STRETCH:
                        yield at - before, at + after
                    at = text.find(block, at + 1)

    def touches(self, text: str) -> bool:
        """Whether the text may contain anything of a secret: a whole one, a half, or the beginning of one at its end."""
        return self.partial_at_end(text) > 0 or self.finds(text)

    def partial_at_end(self, text: str) -> int:
        """The number of characters at the end of the text that may be the beginning of a secret."""
        length, end = 0, (text[-1:], text[-2:])
        for _secret, forms, _blocks, pairs in tuple(self._known):
            if not pairs.reveal().isdisjoint(end):  # a quick check, false for most texts
                length = max(length, _partial_at_end(text, forms.reveal()))
        return length


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    apart = list[tuple[int, int]]()
    for start, end in sorted(spans):
        if apart and start < apart[-1][1]:
            apart[-1] = apart[-1][0], max(end, apart[-1][1])
        else:
            apart.append((start, end))
    return apart


def _pairs_of(forms: list[str]) -> frozenset[str]:
    """The possible endings of a form's beginning: its first character, or any two adjacent characters of it."""
    return frozenset([form[0] for form in forms] + [form[at : at + 2] for form in forms for at in range(len(form) - 1)])


def _partial_at_end(text: str, forms: list[str]) -> int:
    longest = 0
    for form in forms:
        at = text.find(form[0], max(0, len(text) - len(form) + 1))
        while at >= 0 and not form.startswith(text[at:]):
            at = text.find(form[0], at + 1)
        longest = max(longest, len(text) - at if at >= 0 else 0)
    return longest


def _forms_of(secret: Secret) -> list[str]:
    """The encodings of a secret, beginning with the secret itself."""
    forms = {quote(secret.reveal(), safe=""), json.dumps(secret.reveal())[1:-1], secret.reveal().replace("/", "\\/")}
    forms |= {secret.reveal().encode().hex(), secret.reveal().encode().hex().upper()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(_in_base64(secret, before, encode))
    return [secret.reveal(), *(forms - {secret.reveal()})]


def _blocks_of(secret: Secret) -> list[str]:
    """Blocks of a secret. Every part of the secret with `_STRETCH` characters contains one of them."""
    last = len(secret.reveal()) - _BLOCK if len(secret.reveal()) > _STRETCH else -1
    return [secret.reveal()[at : at + _BLOCK] for at in range(0, last + 1, _STEP)]


def _common(a: Iterable[str], b: Iterable[str]) -> int:
    """The number of equal characters at the beginning of both."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _in_base64(secret: Secret, before: int, encode: Callable[[bytes], bytes]) -> str:
    """The base64 digits of a secret that follows `before` other bytes, without digits that share bits with its neighbours."""
    bits = 8 * (before + len(secret.reveal().encode()))
    return encode(bytes(before) + secret.reveal().encode()).decode()[-(-8 * before // 6) : bits // 6]


def is_secret_header(name: str, value: str) -> bool:
    """Whether a header carries a secret, by its name or because its value has the form of a key."""
    return bool(_SECRET_HEADER.search(name) and not _OTHER_HEADER.search(name)) or redact(value) != value


def secrets_of_header(name: str, value: Unseen[str]) -> list[Secret]:
    """The secret parts of a header: the text after a scheme such as "Bearer", a password, the values of cookies."""
    if name.lower() == "cookie":
        return [Secret((pair.partition("=")[2].strip() or pair).rpartition(" ")[2]) for pair in value.reveal().split(";")]
    found = [Secret(value.reveal().strip().partition(" ")[2] or value.reveal().strip())]
    if value.reveal()[:6].lower() == "basic ":
        with contextlib.suppress(ValueError):
            found.append(Secret(base64.b64decode(found[0].reveal()).decode("latin-1").partition(":")[2]))
    return found


def clean_error(error: BaseException, hider: Hider) -> None:
    """Remove secrets from the texts of an error and its causes, and remove their tracebacks.

    HTTP libraries hold headers in local variables, and pytest, Sentry and rich show these with a traceback. Frames of the
    program's own code (an auth class, a hook, the key function) are listed in a note instead.
    """
    for each in _chain(error):
        is_ours = isinstance(each, ModelError | OSError) or type(each).__module__.partition(".")[0] in _LIBRARIES
        args = tuple(_cleaned(part, hider, by_form=is_ours) for part in each.args)
        if args != each.args:
            each.args = args
        for name, value in [*vars(each).items()]:
            if isinstance(value, str) and (cleaned := _cleaned(value, hider, by_form=name == "body")) != value:
                setattr(each, name, cleaned)
        own = [step for step in traceback.walk_tb(each.__traceback__) if not _is_library(step[0].f_globals)]
        if own and not getattr(each, "__notes__", None):
            lines = "".join(traceback.StackSummary.extract(iter(own)).format())
            each.add_note("It came through:\n" + hider.hide(lines).rstrip())
        each.__traceback__ = None


def _cleaned(part: Any, hider: Hider, *, by_form: bool = False) -> Any:
    if not isinstance(part, str):
        return part
    return redact(hider.hide(part)) if by_form else hider.hide(part)


def _is_library(names: dict[str, Any]) -> bool:
    return str(names.get("__name__", "")).partition(".")[0] in _LIBRARIES


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, recursively. Causes of an interruption such as KeyboardInterrupt are not included."""
    seen, pending = set[int](), [error]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, Exception | asyncio.CancelledError):
            pending += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
            pending += each.exceptions if isinstance(each, BaseExceptionGroup) else ()

"""Secrets that are recognized by a name before them: `password=...`, `"token": "..."`, `--api-key ...`, `Authorization:
...`."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, TypeAlias

from .._dataclass import frozen_dataclass
from .key_forms import compiled, is_random

__all__ = ["hide_named"]

_Span: TypeAlias = tuple[int, int]
_MAX_SEEN = 64
"""Characters of a value that are examined. If the value is a secret, all of it is hidden."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- names

_PASSWORD = r"contraseña|kennwort|mot de passe|senha|пароль|密码|密碼|パスワード|비밀번호"
"""A password in other languages than English."""
_NAME = (
    rf"(?i)pass(?:word|wd|phrase|code|wort)|{_PASSWORD}|(?<=[_-])pass|pwd|token|secret|credentials?|key|authorization|cookie"
)
_TAIL = (
    r"(?i)(?:(?<=key)[_-](?:data|base)|[_-]?(?:value|plain|raw|b64|base64))?[_-]?\d{0,2}"
    r"(?![A-Za-z0-9]|[_-][A-Za-z0-9])(?P<quote>\\?[\"'`]|&quot;)?\]?"
)
_LAST_WORD = r"[A-Z]?[a-z]+\Z|[A-Z]+\Z"
_OPTION = r"(?i)(?:^|[\s\"'`=\[(])--?[a-z0-9_-]*\Z"
_TAG = r"<[\w:.-]*\Z"
_OF_KEYS = _words("""access account api auth encryption licence license master private secret signing subscription""")
"""Words before "key" that make it a secret, in one name or as two words."""
_OF_KEYS_JOINED = _OF_KEYS | _words("app client consumer fernet function functions preshared service shared storage virtual")
_OF_PASS = _words(
    """admin api app auth basic db email ftp http imap key ldap login mail mongo my mysql pg postgres proxy rabbitmq redis
    root smtp sql ssh store sudo user wifi"""
)
_OF_SECRETS = _words(
    """access api app auth bearer bot client consumer db deploy github gitlab hf id jwt npm oauth personal refresh security
    session shared signing slack user webhook"""
)
"""Words before "token" or "secret" that can only mean a secret."""
_NO_SECRETS = _words(
    """audio backward begin bos cancellation change cls continuation csrf current device end eos first forward image input
    last line lock mask new next output pad page pagination prev previous prompt public sep special start starting
    stop sub sync this unexpected unk word"""
)
"""Words before "token" that make it something other than a credential."""

# ---- values

_SCHEME = r"(?:bearer|basic|token|digest|negotiate|apikey|api-key|bot|hmac|key|sharedkey|aws4-hmac-sha256)"
_PAIR = rf"""(?ix)
    (?:
        (?P<equals>[ \t]{{0,3}}(?::[ \t]{{0,3}}(?:Optional\[)?(?:str|SecretStr|bytes)\]?(?:[ ]?\|[ ]?None)?[ \t]{{0,3}})?
            (?::=|=>|={{1,3}}|%3D|＝)[ \t]{{0,3}}|\n[ \t]{{1,8}}[^\n]{{1,160}}?\binput_value=)
      | (?P<colon>[,;]?\s{{0,12}}["']?value["']?\s{{0,3}}[:=]\s{{0,3}}|[ \t]{{0,3}}(?::|%3A|：)[ \t\xa0]{{0,8}})
      | (?P<comma>,[ ]?(?=b?\\?["']))
      | (?P<cell></[\w:.-]{{1,20}}>\s{{0,12}}<[\w:.-]{{1,20}}>)
      | (?P<element>(?:\s[^<>]{{0,200}})?>)
      | (?P<gap>[ \t]{{1,3}})
    )
    (?:(?P<block>[|>][-+0-9]{{0,2}}[ \t]*\r?\n(?=[ \t]))|(?:b(?=["']))?(?P<quote>\\?["'`]|&quot;|&\#39;)?)
    (?P<scheme>{_SCHEME}\s+)?"""
_IN_QUERY = r"=(?P<value>[A-Za-z0-9_-]{20,})(?![\w.%/+=-])"
_IN_SENTENCE = r"""(?ix)
    (?=[ \t:"'`(])(?:[ \t]+(?:provided|given|is|was|of|used|supplied|value))?[ \t]{0,3}:?[ \t]{0,3}["'`(]{0,2}
    (?P<value>[A-Za-z0-9][\w+/=.~!@$*-]{7,511})"""
_HEADER = rf"""(?ix)
    [ \t]{{0,3}}(?::=|=>|[:=,]|%3A)[ \t]{{0,3}}(?:b(?=["']))?(?P<quote>\\?["'])?(?P<scheme>{_SCHEME}(?:\s+|%20))?"""
_PARAMETERS = r"(?:=\\?\"[^\"\n]*\"|[^\n\"'])+"
_COOKIE = r"""(?ix)
    [ \t]{0,2}(?:(?::|=>)[ \t]{0,2}b?\\?["']?|,[ ]?b?["'])(?P<value>[\w!$*.^`|~+-]{1,100}(?==)(?:="[^"\r\n]*"|[^\r\n"'\\])*)"""

_PROSE = _words(
    """compat db files nis sss systemd unchanged updated
    a an and any are as at auth authentication be been blank bool boolean bytes can cannot changed confirm could default
    dict did different do does empty enter expected expired false field for found from given got had has have header
    hidden if in incorrect int integer invalid is it list literal masked may missing must needed needs new nil no none
    not null number object of old omitted on only optional or please provided redacted removed required same scheme
    set should some str string that the this to token too true type undefined unexpected unknown unset updated use
    used using valid validation value was were when will with wrong would you your"""
)
"""Words that continue a sentence about a secret, and values that are not secrets."""
_INNOCENT = r"(?is)\[(?:redacted|api key)\].*|[*.x_#-]{3,}.{0,4}|[*.x_#-]+|[$%({\[<#@!?)}\]].*|[,;:]\s.*|[^A-Za-z0-9]*|n/?a"
"""Masks, placeholders, references to variables, punctuation."""
_CODE = (
    r"(?s)(?:self|cls|os|env|environ|process|settings|config|conf|cfg|args|opts|options|params|kwargs|request|ctx|data)\..*"
    r"|[A-Za-z_][\w.]*[\[(].*|[a-z_.]*(?:password|passwd|pwd|passphrase|token|secret|key|credentials?)\)?"
)
"""Program text: an attribute, a call, an item, or a variable of the same name."""
_VARIABLE = r"_?[a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+|await"
_TYPE = r"_?[A-Za-z.]*(?:Str|Secret|Key|Token|T|Password|Type|Provider|Params?|Credentials?)|[\w.]+\.[A-Z][A-Za-z]+"
_ANNOTATION = r"[A-Z][\w.]*[ ]{1,3}[=|]"
_LOCATION = r"https?://|arn:|[/~]|\.{1,2}/|[A-Za-z]:\\"


@frozen_dataclass
class _Name:
    word: str
    kind: Literal["strong", "weak"]
    """A strong name always means a secret. A weak name also occurs in ordinary text."""
    is_quoted: bool
    is_option: bool
    """Whether the name is a command's option, `--name`."""


@frozen_dataclass
class _Value:
    seen: str
    """The beginning of the value."""
    link: str
    """The separator between the name and the value: the name of a group in `_PAIR`."""
    is_bare: bool
    """Whether the value is outside quotes, elements and blocks."""
    is_spaced: bool
    """Whether there is white space around the separator."""
    has_scheme: bool
    """Whether a word such as "Bearer" precedes the value."""
    is_last: bool
    """Whether the value is the last text in its line."""


def hide_named(text: str, mask: str) -> str:
    """The text with each value after a secret's name replaced by the mask."""
    pieces, done = list[str](), 0
    for name in compiled(_NAME).finditer(text):
        if name.start() >= done and (span := _secret_after(text, name)):
            pieces += [text[done : span[0]], mask]
            done = span[1]
    return "".join([*pieces, text[done:]]) if pieces else text


def _secret_after(text: str, found: re.Match[str]) -> _Span | None:
    """The (start, end) of the secret after a name; None if there is none."""
    tail = compiled(_TAIL).match(text, found.end())
    if tail is None:
        return None
    word = found[0].lower()
    if word == "authorization":
        return _in_header(text, tail.end())
    if word == "cookie":
        cookie = compiled(_COOKIE).match(text, tail.end())
        return cookie and cookie.span("value")
    before = text[max(0, found.start() - 32) : found.start()]
    kind = _kind_of(found[0], before)
    if kind is None:
        return _in_query(text, tail.end()) if word == "key" and before.endswith(("?", "&")) else None
    is_option = "-" in before and bool(compiled(_OPTION).search(before))
    name = _Name(word, kind, bool(tail["quote"]), is_option)
    pair = compiled(_PAIR).match(text, tail.end())
    if pair is None or (pair["gap"] and not is_option) or (pair["element"] and not compiled(_TAG).search(before)):
        in_sentence = None if tail["quote"] else compiled(_IN_SENTENCE).match(text, tail.end())
        return in_sentence.span("value") if in_sentence and is_random(in_sentence["value"]) else None
    return _value_of(text, name, pair)


def _in_query(text: str, start: int) -> _Span | None:
    """The (start, end) of a key in a URL, `?key=...`. Other values of a parameter with this name are not long and random."""
    found = compiled(_IN_QUERY).match(text, start)
    return found.span("value") if found and is_random(found["value"]) else None


def _kind_of(name: str, before: str) -> Literal["strong", "weak"] | None:
    """The kind of a name, by the text before it; None if it does not name a secret."""
    low = name.lower()
    if (low.startswith("pass") and low != "pass") or compiled(_PASSWORD).fullmatch(low):
        return "strong"
    gap = before[-1:] if before.endswith((" ", "_", "-")) else ""
    found = compiled(_LAST_WORD).search(before[: len(before) - len(gap)][-14:])
    word = found[0].lower() if found else ""
    if low == "pass":
        return "strong" if word in _OF_PASS else None
    is_glued = bool(word) and not gap and not (name[0].isupper() and before[-1:].islower())  # and no camel case
    known = (_OF_KEYS if gap == " " else _OF_KEYS_JOINED) if low == "key" else _OF_SECRETS
    if word in known or (is_glued and word.endswith(tuple(known))):
        return "strong"
    return None if low == "key" or is_glued or (low == "token" and word in _NO_SECRETS) else "weak"


def _value_of(text: str, name: _Name, pair: re.Match[str]) -> _Span | None:
    ending = "<" if pair["element"] or pair["cell"] else "block" if pair["block"] else pair["quote"] or ""
    end = len(text) if ending == "<" else pair.end() + _MAX_SEEN
    seen = _until(ending).match(text, pair.end(), end)
    if seen is None:
        return None
    link = next(link for link in ("equals", "colon", "comma", "cell", "element", "gap") if pair[link])
    trimmed = seen[0].strip() if ending else seen[0].rstrip(".,:;!?)]}")
    is_last = text[seen.end() : seen.end() + 1] in ("", "\n", "\r")
    value = _Value(trimmed, link, not ending, pair[link].strip() != pair[link], bool(pair["scheme"]), is_last)
    if link == "colon" and not ending and compiled(_ANNOTATION).match(text, seen.start(), seen.end() + 4):
        return None
    if _is_innocent(name, value) or not _is_secret(name, value):
        return None
    whole = _until(ending).match(text, pair.end())
    return whole and whole.span()


def _is_innocent(name: _Name, value: _Value) -> bool:
    seen = value.seen
    if not seen or compiled(_INNOCENT).fullmatch(seen) or seen.split()[0].strip(".,:;!?\"'").lower() in _PROSE:
        return True
    is_password = name.word.startswith("pass")
    if not is_password and len(seen) < 3:
        return True
    if compiled(_LOCATION).match(seen) and (not is_password or (value.is_bare and value.link != "equals")):
        return True
    if not value.is_bare:
        return False
    if not seen[0].isascii():  # a sentence in another script
        return True
    if value.link == "equals" and value.is_spaced and compiled(_VARIABLE).fullmatch(seen):
        return True
    is_number = seen.isdigit() and len(seen) <= 5  # a count or a position
    is_code = compiled(_CODE).fullmatch(seen) or compiled(_TYPE).fullmatch(seen)
    return bool(is_code) or (is_number and (name.kind == "weak" or value.link == "colon"))


def _is_secret(name: _Name, value: _Value) -> bool:
    is_strong = name.kind == "strong"
    if value.link == "cell":  # of a table, which may describe a parameter of this name
        return is_random(value.seen)
    if value.has_scheme or value.link == "element" or (is_strong and not value.is_bare and value.link != "comma"):
        return True
    if name.is_option or (value.link == "colon" and value.is_bare):
        is_entry = name.word == "passwd" and value.is_last  # a line such as "passwd: correcthorse"
        return is_random(value.seen) or (is_strong and (is_entry or _is_no_word(value.seen)))
    if value.link == "equals" and (is_strong or not (value.is_bare and value.is_spaced)):
        return True
    return is_random(value.seen) or (name.is_quoted and not value.is_bare and value.link == "colon" and _is_no_word(value.seen))


def _is_no_word(seen: str) -> bool:
    """Whether the text contains a digit or a sign, has mixed case, or is very long."""
    letters = seen.replace("-", "").replace("_", "").replace("'", "")
    is_word = letters.isalpha() and (letters.islower() or letters.isupper() or letters.istitle())
    return not is_word or len(seen) >= 24


def _in_header(text: str, start: int) -> _Span | None:
    """The (start, end) of the credentials in an Authorization header: the text after its scheme, or all of a quoted value."""
    head = compiled(_HEADER).match(text, start)
    if head is None:
        return None
    scheme = (head["scheme"] or "").strip().lower()
    if head["quote"]:
        whole = _until(head["quote"]).match(text, head.start("scheme") if scheme else head.end())
    elif scheme in ("digest", "hmac", "aws4-hmac-sha256"):
        whole = compiled(_PARAMETERS).match(text, head.end())
    else:
        whole = _until("").match(text, head.end())
    first = text[head.end() : whole.end()].split(maxsplit=1)[:1] if whole else []
    word = first[0].strip(".,:;!?)") if first else ""
    if not word or word.lower() in _PROSE or compiled(_INNOCENT).fullmatch(word) or compiled(_CODE).fullmatch(word):
        return None
    return whole.span() if whole and (scheme or _is_no_word(word)) else None


@cache
def _until(ending: str) -> re.Pattern[str]:
    """A pattern of the text before this ending: a quote, the end of a word (""), of an element ("<") or of a block."""
    match ending:
        case "":
            return compiled(r"(?:[^\s\"'`,;&<>|%]|%(?!26))+")
        case "<":
            return compiled(r"[^<\s][^<]*(?=</)")
        case "block":
            return compiled(r"(?:[ \t]+[^\n]*(?:\n|$))+")
    return compiled(rf"(?s)(?:(?!{re.escape(ending)})(?:\\.|[^\n]))+")

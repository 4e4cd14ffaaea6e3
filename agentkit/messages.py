"""The messages of a transcript, and the usage and cost of model calls. Frozen values, equal by content."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import Any, Literal, TypeAlias, cast

from ._dataclass import frozen_dataclass
from .errors import SettingsError
from .parts import Audio, Content, File, Image, Part, checked_parts, content_text

__all__ = [
    "BYTES_PER_TOKEN",
    "Assistant",
    "Message",
    "Spending",
    "System",
    "ToolCall",
    "ToolResult",
    "Usage",
    "User",
    "bytes_of",
    "checked",
    "checked_content",
    "distinct_text",
    "message_text",
    "plain_text",
    "shorten",
]

BYTES_PER_TOKEN = 4
"""For estimating tokens that nobody has counted. About right for English text and JSON."""


def plain_text(text: str) -> str:
    """The text as a plain `str` that UTF-8 can encode.

    An instance of a subclass (a node of a parsed page, markup) is converted, as it could keep a large object alive. A lone
    surrogate becomes U+FFFD.
    """
    text = str.__str__(text)  # for a subclass, this is its text
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def shorten(text: str, max_output: int | None) -> str:
    """The text or, if it is longer than `max_output` characters, its head and tail with a count of what is left out."""
    if max_output is None or len(text) <= max_output:
        return text
    head, tail = text[: max_output - max_output // 4], text[len(text) - max_output // 4 :]
    left_out = f"[... {len(text) - max_output:,} of {len(text):,} characters are left out here ...]"
    return f"{head}\n{left_out}\n{tail}"


class _Encoded:
    """Caches a message's wire bytes: they are made once and stay with the message."""

    __slots__ = ("_wire",)
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    _wire: tuple[object, bytes]

    def encoded(self, dialect: object, encode: Callable[[object], bytes]) -> bytes:
        """This message as JSON bytes in `dialect`. `encode` is called only if they are not cached."""
        try:
            made_for, data = self._wire
            if made_for is dialect:
                return data
        except AttributeError:
            pass
        data = encode(self)
        object.__setattr__(self, "_wire", (dialect, data))
        return data


@frozen_dataclass
class System(_Encoded):
    """The instructions at the beginning of a conversation."""

    content: str
    role: Literal["system"] = "system"

    parts = ()


@frozen_dataclass
class User(_Encoded):
    """A message of the user: text, or a list of texts, images, audio and files, which becomes a tuple.

    `name` distinguishes several users if the server supports the field.
    """

    content: Content
    name: str | None = None
    role: Literal["user"] = "user"

    def __post_init__(self) -> None:
        if isinstance(self.content, list):
            object.__setattr__(self, "content", tuple(self.content))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The images, audio and files of the message."""
        return () if isinstance(self.content, str) else tuple(item for item in self.content if not isinstance(item, str))


@frozen_dataclass
class ToolCall:
    """A tool call that the model makes. `arguments` is the JSON text exactly as the model wrote it.

    `opaque` holds the fields of the call that agentkit does not know, such as a signature, as one JSON object; empty for none.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    id: str
    name: str
    arguments: str = "{}"
    opaque: str = field(default="", repr=False)


@frozen_dataclass
class Assistant(_Encoded):
    """One whole reply of the model. `reasoning` is its thinking text, exactly as received.

    `opaque` holds the fields of the reply that agentkit does not know, as one JSON object; empty for none. `origin` names the
    profile of the server that sent such fields, in the reply or in a call. They are sent back unchanged to servers of that
    profile only.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    role: Literal["assistant"] = "assistant"
    opaque: str = field(default="", repr=False)
    origin: str = field(default="", repr=False)

    parts = ()


class _WithShown(_Encoded):
    """Caches the message that shows the parts of tool results."""

    __slots__ = ("_shown",)
    _shown: tuple[Sequence[ToolResult], User]


@frozen_dataclass
class ToolResult(_WithShown):
    """The answer to one tool call, as the model gets it. `parts` are sent after the results of all calls of the reply."""

    call_id: str
    name: str
    content: str
    is_error: bool = False
    role: Literal["tool"] = "tool"
    parts: tuple[Part, ...] = ()

    def shown_with(self, others: Sequence[ToolResult]) -> User:
        """The message that shows the parts of this result and of the `others`. It is made once, so it is encoded once."""
        try:
            made_for, shown = self._shown
            if len(made_for) == len(others) and all(a is b for a, b in zip(made_for, others, strict=True)):
                return shown
        except AttributeError:
            pass
        content: list[str | Part] = []
        for result in (self, *others):
            content += [f"[returned by the call {result.call_id} of {result.name}; the user did not write this]", *result.parts]
        shown = User(tuple(content))
        object.__setattr__(self, "_shown", (tuple(others), shown))
        return shown


Message: TypeAlias = System | User | Assistant | ToolResult

_TEXTS: dict[type, tuple[str, ...]] = {
    System: ("content",),
    User: (),
    Assistant: ("text", "reasoning", "opaque", "origin"),
    ToolResult: ("call_id", "name", "content"),
    ToolCall: ("id", "name", "arguments", "opaque"),
}


def checked(message: object) -> Message:
    """The message, with its texts as `plain_text`. Raises ValueError, which names the field, if it is not a valid message."""
    kind = type(message)
    if kind not in _TEXTS or kind is ToolCall:
        raise ValueError(f"{message!r:.80} is no message; allowed: System, User, Assistant and ToolResult")
    found: Any = _with_plain_texts(message)
    if isinstance(found, User):
        return _checked_user(found)
    if isinstance(found, ToolResult):
        parts = checked_parts(found.parts, "ToolResult.parts")
        found = found if parts is found.parts else replace(found, parts=parts)
    if isinstance(found, Assistant):
        if not isinstance(found.tool_calls, tuple | list) or not all(type(call) is ToolCall for call in found.tool_calls):
            raise ValueError(f"Assistant.tool_calls is {found.tool_calls!r:.60}; allowed: a tuple of ToolCall")
        calls = tuple(_with_plain_texts(call) for call in found.tool_calls)
        found = found if calls == found.tool_calls else replace(found, tool_calls=calls)
    return cast("Message", found)


def checked_content(content: object, what: str = "User.content") -> Content:
    """The content of a user message, with its texts as `plain_text`, and a list as a tuple. Raises `SettingsError`."""
    if isinstance(content, str):
        return plain_text(content)
    if not isinstance(content, list | tuple) or not content:
        raise SettingsError(f"{what} is {content!r:.60}; allowed: text, or a list of texts, images, audio and files")
    for item in content:
        if not isinstance(item, str | Image | Audio | File):
            raise SettingsError(f"{what} has {item!r:.60}; allowed: text, Image, Audio and File")
    return tuple(plain_text(item) if isinstance(item, str) else item for item in content)


def _checked_user(message: User) -> User:
    if not isinstance(message.name, str | None):
        raise ValueError(f"User.name is {message.name!r:.60}; allowed: text or None")
    content = checked_content(message.content)
    is_same = content is message.content or (type(content) is tuple and all(map(operator.is_, content, message.content)))
    return message if is_same else replace(message, content=content)


def _with_plain_texts(value: Any) -> Any:
    changed = {}
    for name in _TEXTS[type(value)]:
        text = getattr(value, name)
        if text.__class__ is str and text.isascii():
            continue
        if not isinstance(text, str):
            raise ValueError(f"{type(value).__name__}.{name} is {text!r:.60}; allowed: text")
        if (plain := plain_text(text)) is not text:
            changed[name] = plain
    return replace(value, **changed) if changed else value


@frozen_dataclass
class Usage:
    """Counts of one model call or, added up, of a run. Tokens are the server's own numbers, or 0 if it reports none.

    `input_tokens` is the whole prompt. `cache_read_tokens` is the part of it read from the prompt cache (a cache hit), and
    `cache_miss_tokens` is the rest. `output_tokens` includes `reasoning_tokens`.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0

    @property
    def cache_miss_tokens(self) -> int:
        """Prompt tokens that were not read from the cache."""
        return self.input_tokens - self.cache_read_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """The sum, field by field."""
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.tool_calls + other.tool_calls,
        )


@frozen_dataclass
class Spending:
    """Usage and cost of model calls. `cost` is in US dollars, None if a price is unknown."""

    usage: Usage = Usage()
    cost: float | None = 0.0

    def __add__(self, other: Spending) -> Spending:
        """The sum. If one cost is unknown, so is the sum's."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Spending(self.usage + other.usage, cost)


def message_text(message: Message) -> str:
    """The text of a message. For a reply: its thinking text, its text and the arguments of its calls, joined.

    An image, audio or a file in a user's message is its label, such as `[image: a.png, 12 kB]`.
    """
    if isinstance(message, Assistant):
        return "".join([message.reasoning, message.text, *(call.arguments for call in message.tool_calls)])
    content = message.content
    return content if isinstance(content, str) else content_text(content)


def distinct_text(message: User | ToolResult) -> str:
    """A text that differs if the message's text or the data of its parts does."""
    text = message_text(message)
    return "\0".join([text, *(part.key for part in message.parts)]) if message.parts else text


def bytes_of(message: Message) -> int:
    """The number of bytes of a message's text in UTF-8, and four for each estimated token of its parts."""
    text = message_text(message)
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return size + sum(part.tokens for part in message.parts) * BYTES_PER_TOKEN if message.parts else size

"""A request to the simulator, and the simulator's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .tokens import prompt_bytes

__all__ = ["CONTEXT_LENGTH", "HALF", "MODELS", "Behaviour", "Passback", "SimRequest"]

MODELS: Mapping[str, str] = {
    "deepseek-v4-pro": "deepseek-v4-pro",
    "deepseek-v4-flash": "deepseek-flash",
    "deepseek-v4-flash-vision-exp": "deepseek-flash",
    "deepseek-flash": "deepseek-flash",
}
"""The accepted model names, and the model name in the answer (docs/deepseek.md)."""

CONTEXT_LENGTH = 1_048_565

Passback: TypeAlias = Literal["probe", "every", "present"]

HALF = re.compile("[\ud800-\udfff]")
_EFFORT = {"minimal": "low", "medium": "high", "xhigh": "high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The settings of a simulator; `DeepSeekSimulator` explains them."""

    usage_place: Literal["finish", "alone"] = "finish"
    keep_alive: int = 0
    chunk: int = 8
    api_key: str | None = None
    delay: float = 0.0
    passback: Passback = "probe"
    context_length: int = CONTEXT_LENGTH
    deserialize_status: Literal[400, 422] = 422
    models: Mapping[str, str] = field(default_factory=lambda: MODELS)
    refuse_strict_null: bool = False
    obey_tool_choice: bool = False
    parts: Collection[str] = ("image", "file")


class SimRequest:
    """One request to the simulator, for reading only.

    `headers` have lower-case names. `raw` is the body as it was sent. `body` is the parsed body, or `{}` if it is not a JSON
    object. A recorded request is parsed again when it is read, so that keeping many requests is cheap.
    """

    __slots__ = ("_body", "_prompt", "headers", "path", "raw")

    def __init__(self, path: str, headers: Mapping[str, str], raw: bytes) -> None:
        self.path, self.headers, self.raw = path, headers, raw
        self._body: dict[str, Any] | None = None
        self._prompt: bytes | None = None

    def __repr__(self) -> str:
        return f"SimRequest({self.path!r}, {self.raw[:200]!r})"

    @property
    def body(self) -> dict[str, Any]:
        """The parsed JSON object."""
        if self._body is None:
            try:
                parsed = self.parse()
            except (ValueError, RecursionError):
                parsed = None
            self._body = parsed if isinstance(parsed, dict) else {}
        return self._body

    def parse(self) -> Any:
        """The JSON value of `raw`. Raises ValueError or RecursionError if the server's parser would fail.

        That parser is stricter than Python's: UTF-8 without a byte order mark, no NaN or Infinity, and no escape for half of a
        surrogate pair.
        """
        value = json.loads(self.raw.decode(), parse_constant=_no_number)
        if b"\\u" in self.raw:
            _refuse_halves(value, "")
        return value

    def forget(self) -> None:
        """Drop the parsed body. It is parsed again on the next access."""
        self._body = self._prompt = None

    @property
    def prompt(self) -> bytes:
        """The prompt as the model reads it, for counting tokens. `tool_choice` "none" drops the tools, as on the server."""
        if self._prompt is None:
            tools = self.tools if self.body.get("tool_choice") != "none" else []
            self._prompt = prompt_bytes(tools, self.messages)
        return self._prompt

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the body."""
        return self.body.get("messages") or []

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The offered functions: name, description, parameters. Empty if there are none."""
        return [tool["function"] for tool in self.body.get("tools") or []]

    @property
    def last(self) -> dict[str, Any]:
        """The last message."""
        return self.messages[-1]

    @property
    def turn(self) -> int:
        """The number of assistant messages in the request: 0 at the beginning of a conversation."""
        return sum(message.get("role") == "assistant" for message in self.messages)

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        return self.body.get("stream") is True

    @property
    def beta(self) -> bool:
        """Whether the request was sent to the `/beta` base URL."""
        return self.path.startswith("/beta/")

    @property
    def effort(self) -> str:
        """The reasoning effort: "low", "high" or "max", or "none" if thinking is off. Aliases are resolved.

        The effort is a top-level field (DeepSeek) or a field of `thinking` (AnyFast); the top level wins. `thinking.type`
        "disabled" wins over both.
        """
        thinking = self.body.get("thinking") or {}
        if thinking.get("type") == "disabled":
            return "none"
        effort = self.body.get("reasoning_effort") or thinking.get("reasoning_effort") or "high"
        return _EFFORT.get(effort, effort)

    @property
    def thinking(self) -> bool:
        """Whether the model thinks before it answers. It does unless the request turns thinking off."""
        return self.effort != "none"


def _no_number(_word: str) -> None:
    raise ValueError("expected value")


def _refuse_halves(value: Any, at: str) -> None:
    """Raise ValueError with the server's texts if the value contains half of a surrogate pair."""
    match value:
        case str() if half := HALF.search(value):
            text = "unexpected end of hex escape" if half[0] < "\udc00" else "lone leading surrogate in hex escape"
            raise ValueError(f"{at.removeprefix('.')}: {text}")
        case dict():
            for name, inner in value.items():
                _refuse_halves(name, at)
                _refuse_halves(inner, f"{at}.{name}")
        case list():
            for index, inner in enumerate(value):
                _refuse_halves(inner, f"{at}[{index}]")

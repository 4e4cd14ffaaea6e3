"""The model protocol: a model turns a request into a whole reply, and describes itself. `ModelWrapper` wraps a model."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from ._dataclass import frozen_dataclass
from .errors import SettingsError
from .events import Delta, Retrying
from .messages import Assistant, Message, Spending, Usage
from .prices import Price
from .redact.keys import Hider

__all__ = [
    "DeltaSink",
    "Effort",
    "FailedAttempts",
    "Model",
    "ModelInfo",
    "ModelReply",
    "ModelRequest",
    "ModelSettings",
    "PromptPrefix",
    "ToolSpec",
    "close",
    "info_of",
]

Effort: TypeAlias = Literal["low", "medium", "high", "max"]
DeltaSink: TypeAlias = Callable[[Delta], Awaitable[None]]

_CHOICES: Mapping[str, tuple[object, ...]] = {
    "thinking": (True, False),
    "reasoning_effort": ("low", "medium", "high", "max"),
    "response_format": ("text", "json_object"),
    "stream": (True, False),
}
_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,512}")


@frozen_dataclass(kw_only=True)
class ModelSettings:
    """Settings of every model call of an agent. None means that the setting is not sent and the server decides.

    A value outside the ranges below raises `SettingsError` here. A value outside a server's narrower range (its profile) raises
    it before the first request. The ranges are those of the DeepSeek V4 Flash page.
    """

    thinking: bool | None = None
    """Let the model think before it answers. None: the profile's default (DeepSeek: True)."""
    reasoning_effort: Effort | None = None
    """How hard it thinks: low, medium, high or max."""
    max_tokens: int | None = None
    """Max tokens of one reply, thinking included; 1 to 393216 on DeepSeek V4."""
    temperature: float | None = None
    """0 to 2. DeepSeek ignores it while thinking."""
    top_p: float | None = None
    """Above 0, up to 1."""
    stop: str | Sequence[str] | None = None
    """A text, or a list or tuple of up to 16 texts, at which the answer ends."""
    response_format: Literal["text", "json_object"] | Mapping[str, Any] | None = None
    """"json_object": the answer is one JSON object. The word json is added to the prompt if it is missing. The form of the API
    is accepted too: {"type": "json_object"}."""
    user_id: str | None = None
    """1 to 512 of A-Z a-z 0-9 _ -. On DeepSeek it also separates prompt caches."""
    stream: bool | None = None
    """Ask for a stream. None: only if an observer wants the pieces."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """More fields for the request body, sent unchanged. They override the fields above."""

    def __post_init__(self) -> None:
        self._read_api_forms()
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, bool | str) and value in allowed):
                raise SettingsError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")
        _check_range("max_tokens", self.max_tokens, 1, None)
        if isinstance(self.max_tokens, float):
            raise SettingsError(f"max_tokens is {self.max_tokens!r}; allowed: a whole number of at least 1")
        _check_range("temperature", self.temperature, 0, 2)
        _check_range("top_p", self.top_p, 0, 1, above=True)
        if self.thinking is False and self.reasoning_effort is not None:
            raise SettingsError("reasoning_effort is set but thinking is off; leave one of them out")
        if self.user_id is not None and not (isinstance(self.user_id, str) and _USER_ID.fullmatch(self.user_id)):
            raise SettingsError(f"user_id is {self.user_id!r}; allowed: 1 to 512 of A-Z a-z 0-9 _ -")
        if self.stop is not None:
            if not isinstance(self.stop, str):
                if not isinstance(self.stop, list | tuple):  # a set has no order, and a mapping would lose its values
                    raise SettingsError(f"stop is {self.stop!r}; allowed: a text, or a list of 1 to 16 texts")
                object.__setattr__(self, "stop", tuple(self.stop))
            _check_stop((self.stop,) if isinstance(self.stop, str) else self.stop)
        _check_extra(self.extra_body)

    def _read_api_forms(self) -> None:
        """Accept the forms of the API's own page, such as `response_format={"type": "json_object"}`."""
        if isinstance(self.response_format, Mapping):
            kind = self.response_format.get("type")
            if kind == "json_schema":
                raise SettingsError("response_format: json_schema is not used here; give the agent an output_type=")
            object.__setattr__(self, "response_format", kind if len(self.response_format) == 1 else self.response_format)
        for name, thinking in (("enabled", True), ("disabled", False)):
            if cast("Any", self.thinking) == {"type": name}:
                object.__setattr__(self, "thinking", thinking)


def _check_extra(fields: Any) -> None:
    if not isinstance(fields, Mapping) or "messages" in fields:
        raise SettingsError("extra_body is not a mapping of fields without messages; allowed: such a mapping")
    try:
        json.dumps(dict(fields), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingsError(f"extra_body cannot be written as JSON: {error}") from None


def _check_stop(texts: Sequence[str]) -> None:
    if not 1 <= len(texts) <= 16:
        raise SettingsError(f"stop has {len(texts)} entries; allowed: a text, or 1 to 16 texts")
    for text in texts:
        if not isinstance(text, str) or not text:
            raise SettingsError(f"stop has the entry {text!r}; allowed: texts that are not empty")


def _check_range(name: str, value: float | None, low: float, high: float | None, *, above: bool = False) -> None:
    if value is None:
        return
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or value < low or (above and value == low) or (high is not None and value > high) or value != value:
        allowed = f"at least {low}" if high is None else f"above {low}, up to {high}" if above else f"{low} to {high}"
        raise SettingsError(f"{name} is {value!r}; allowed: {allowed}")


class _Formed:
    """Caches a tool's form on the wire: it is made once per profile, and stays with the tool."""

    __slots__ = ("_form",)
    _form: tuple[object, dict[str, Any]]


@frozen_dataclass
class ToolSpec(_Formed):
    """A tool as the model sees it: name, description and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False

    def form(self, dialect: object, make: Callable[[ToolSpec], dict[str, Any]]) -> dict[str, Any]:
        """This tool in the form of `dialect`. `make` is called only if the form is not cached."""
        try:
            made_for, form = self._form
            if made_for is dialect:
                return form
        except AttributeError:
            pass
        form = make(self)
        object.__setattr__(self, "_form", (dialect, form))
        return form


@frozen_dataclass
class ModelRequest:
    """One model call: the whole transcript, the tools, and how to choose among them.

    `tool_choice` is "auto", "none", "required" or a tool's name. `messages` may be a list that changes later: read it before
    the first await, and never change it.
    """

    messages: Sequence[Message]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    settings: ModelSettings = ModelSettings()
    run_id: str = field(default="", repr=False, compare=False)
    """The id of the run that makes the request; empty outside a run."""
    before_retry: Callable[[Spending], None] | None = field(default=None, repr=False, compare=False)
    """Called before a retry, with what the failed attempts spent. It raises if a limit forbids the retry."""
    on_retry: Callable[[Retrying], Awaitable[None]] | None = field(default=None, repr=False, compare=False)
    """Told of each retry if there is no `on_delta`, because nobody wants the pieces of the reply."""
    reason: str = field(default="", repr=False, compare=False)
    """Why a middleware changed the messages, in words for the user. `Retrying` and `CacheReport` say it."""


class PromptPrefix(NamedTuple):
    """How much of a request's beginning its run had sent before. `CacheReport` sets it."""

    sent: int = 0
    """Number of messages in the request."""
    same: int = 0
    """How many of them, from the first on, an earlier request had too."""
    changed: str = ""
    """What changed in the beginning of the prompt; empty if the prompt only grew."""


@frozen_dataclass
class ModelReply:
    """A whole reply.

    `finish_reason` is the server's word. `cost` is in US dollars, None if the price is unknown. `waited` is how many seconds
    the request waited for its slot and between retries. `estimated` is spending that is not in `usage` and `cost`: failed
    attempts whose replies broke off, and what the server did not count of this reply. `price_note` says whose prices the cost
    is based on, if not the server's own.
    """

    message: Assistant
    usage: Usage = field(default_factory=lambda: Usage(requests=1))
    finish_reason: str = "stop"
    model: str = ""
    cost: float | None = None
    waited: float = 0.0
    estimated: Spending = field(default_factory=Spending)
    price_note: str = ""
    prefix: PromptPrefix = field(default_factory=PromptPrefix)
    asked: str = field(default="", compare=False, repr=False)
    """What was asked, in words: the URL, the model's name and the request id. Empty if no server was asked."""


@dataclass(slots=True)
class FailedAttempts:
    """What failed attempts spent, and how many seconds they waited."""

    spent: Spending = field(default_factory=Spending)
    waited: float = 0.0

    def add(self, error: BaseException) -> None:
        """Add a failed attempt."""
        self.spent += getattr(error, "estimated", None) or Spending()
        self.waited += getattr(error, "waited", 0.0)

    def attach_to(self, error: BaseException) -> None:
        """Set `estimated` and `waited` of the error, or of the cancellation, that ends all attempts."""
        ending: Any = error
        ending.estimated, ending.waited = self.spent, self.waited

    def add_to(self, reply: ModelReply) -> ModelReply:
        """The reply, with the failed attempts added to its `estimated` and `waited`."""
        if self.spent.usage.total_tokens:
            reply = replace(reply, estimated=self.spent + reply.estimated)
        return replace(reply, waited=reply.waited + self.waited) if self.waited else reply


def _accept(request: ModelRequest) -> None:
    """Accept every request."""


def _open() -> float:
    return 0.0


@frozen_dataclass(kw_only=True)
class ModelInfo:
    """A model's description of itself. The defaults suit a model without one."""

    name: str = ""
    """The model's name as sent to the server. For several models, the name of the first."""
    output_mode: Literal["tool", "json_object"] = "tool"
    """How to ask for a typed answer: with a final-answer tool, or as a JSON object with the schema in the prompt."""
    price: Price | None = None
    """The newest price, if known. For several models, the price with the most expensive output."""
    unpriced: tuple[str, ...] = ()
    """Models whose price is unknown, and whose server does not report costs. `Limits(cost=)` is refused for them."""
    makes_retries: bool = False
    """Whether the model retries failed requests itself. If so, an agent adds no retries."""
    check: Callable[[ModelRequest], None] = _accept
    """Raises `SettingsError` for a request that the server would refuse. An agent calls it in its constructor."""
    closed_for: Callable[[], float] = _open
    """For how many more seconds the server must get no requests; 0.0 if it may. `Fallback` skips such a model."""
    hiders: tuple[Hider, ...] = field(default=(), repr=False)
    """They remove the model's keys from everything that a run stores, shows and sends."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers a request: a server, a script, or a wrapper of another model (see `ModelWrapper`).

    A model must have only `reply`. It may also have `info`, a `ModelInfo`, preferably as a property; without it, `info_of`
    gives the defaults. It is not declared here, because a Python protocol has no optional members. If a model has a method
    `aclose`, `Agent.aclose` awaits it.
    """

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """Return one whole reply, or raise a `ModelError`. `on_delta`, if given, is awaited with each piece as it arrives."""
        ...


def info_of(model: object) -> ModelInfo:
    """The `info` of a model, or the defaults.

    If a model has no `info` but holds other models in its attributes, their keys are hidden nevertheless.
    """
    info = _own_info(model)
    return ModelInfo(hiders=tuple(_hiders_of_inner(model, set()))) if info is None else info


def _own_info(model: object) -> ModelInfo | None:
    info = cast("Any", model).info if hasattr(type(model), "info") else getattr(model, "info", None)
    return info if isinstance(info, ModelInfo) else None


def _hiders_of_inner(model: object, seen: set[int]) -> Iterator[Hider]:
    for inner in _inner_models(model):
        if id(inner) not in seen:
            seen.add(id(inner))
            info = _own_info(inner)
            yield from _hiders_of_inner(inner, seen) if info is None else info.hiders


def _inner_models(model: object) -> Iterator[object]:
    """The models that an object holds in its attributes, alone or in a list."""
    named = getattr(model, "model", None), getattr(model, "models", None)  # in case they are properties
    for value in (*named, *getattr(model, "__dict__", {}).values()):
        several = value if isinstance(value, list | tuple) else (value,)
        if several and hasattr(type(several[0]), "reply"):
            yield from several


async def close(model: object) -> None:
    """Close a model, if it can be closed."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(model, "aclose", None)
    if aclose is not None:
        await aclose()

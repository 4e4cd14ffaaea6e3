"""What a model is to the loop: it turns a request into a whole reply, and tells about itself. `ModelWrapper` wraps one."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from .errors import SettingsError
from .events import Delta, Retrying
from .messages import Assistant, Message, Spent, Usage
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Settings of every model call of an agent. None means: not sent, the server decides.

    Values outside of the ranges below raise `SettingsError` here; a server's narrower range (its profile) raises it
    before the first request. Ranges are those of the DeepSeek V4 Flash page.
    """

    thinking: bool | None = None
    """Let the model think before it answers. None: the profile's default (DeepSeek: True)."""
    reasoning_effort: Effort | None = None
    """How hard it thinks: low, medium, high or max."""
    max_tokens: int | None = None
    """Most tokens of one reply, thinking included; 1 to 393216 on DeepSeek V4."""
    temperature: float | None = None
    """0 to 2. DeepSeek ignores it while thinking."""
    top_p: float | None = None
    """Above 0, up to 1."""
    stop: str | Sequence[str] | None = None
    """Text, or a list or tuple of up to 16 texts, at which the answer ends."""
    response_format: Literal["text", "json_object"] | Mapping[str, Any] | None = None
    """"json_object": the answer is one JSON object. The word json is put into the prompt if it is not there. It may also be
    written as the API has it: {"type": "json_object"}."""
    user_id: str | None = None
    """1 to 512 of A-Z a-z 0-9 _ -. On DeepSeek it also separates prompt caches."""
    stream: bool | None = None
    """Ask for a stream. None: only when somebody watches the run."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """More fields for the request body, sent as they are; they win over the fields above."""

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
        """Take in the forms of the API's own page, such as `response_format={"type": "json_object"}`."""
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
        span = f"at least {low}" if high is None else f"above {low}, up to {high}" if above else f"{low} to {high}"
        raise SettingsError(f"{name} is {value!r}; allowed: {span}")


class _Formed:
    """Room for a tool's form on the wire: it is made once for a profile, and stays with the tool."""

    __slots__ = ("_form",)
    _form: tuple[object, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolSpec(_Formed):
    """A tool as the model sees it: name, description and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False

    def form(self, dialect: object, make: Callable[[ToolSpec], dict[str, Any]]) -> dict[str, Any]:
        """This tool as `dialect` has it; `make` is called only when that is not there yet."""
        try:
            made_for, form = self._form
            if made_for is dialect:
                return form
        except AttributeError:
            pass
        form = make(self)
        object.__setattr__(self, "_form", (dialect, form))
        return form


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call: the whole transcript, the tools, and how to choose among them.

    `tool_choice` is "auto", "none", "required" or a tool's name. `messages` may be a live
    list: read it before the first await, never change it.
    """

    messages: Sequence[Message]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    settings: ModelSettings = ModelSettings()
    run_id: str = field(default="", repr=False, compare=False)
    """The run that asks; empty for a request outside of a run."""
    again: Callable[[Spent], None] | None = field(default=None, repr=False, compare=False)
    """Called before the request is made again, with what the failed attempts used; raises where a limit forbids it."""
    on_retry: Callable[[Retrying], Awaitable[None]] | None = field(default=None, repr=False, compare=False)
    """Told that the request is made again where nobody wants the pieces of the reply, and so there is no `on_delta`."""


class PromptPrefix(NamedTuple):
    """How much of a request's beginning its run had sent before. `CacheReport` fills it in."""

    sent: int = 0
    """The messages of the request."""
    same: int = 0
    """How many of them, from the first on, a request before had as well."""
    changed: str = ""
    """What changed in the beginning of the prompt; empty if it only grew."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A whole reply. `finish_reason` is the server's word; `cost` is in US dollars, None where the price is unknown;
    `waited` is how many seconds the request waited for its turn, or between retries; `uncounted` is, by estimate, what
    is not in `usage`: attempts before this one whose replies broke off, and what the server did not count of this one;
    `price_note` says whose prices the cost is made with, where they are not the server's own."""

    message: Assistant
    usage: Usage = field(default_factory=lambda: Usage(requests=1))
    finish_reason: str = "stop"
    model: str = ""
    cost: float | None = None
    waited: float = 0.0
    uncounted: Spent = field(default_factory=Spent)
    price_note: str = ""
    prefix: PromptPrefix = field(default_factory=PromptPrefix)


@dataclass(slots=True)
class FailedAttempts:
    """What the attempts before a reply used, and how long they waited."""

    spent: Spent = field(default_factory=Spent)
    waited: float = 0.0

    def add(self, error: BaseException) -> None:
        """Count a failed attempt in."""
        self.spent += getattr(error, "uncounted", None) or Spent()
        self.waited += getattr(error, "waited", 0.0)

    def tell(self, error: BaseException) -> None:
        """Let the error, or the cancellation, that ends all attempts tell of them by its `uncounted` and `waited`."""
        told: Any = error
        told.uncounted, told.waited = self.spent, self.waited

    def beside(self, reply: ModelReply) -> ModelReply:
        """The reply, with these counted in."""
        if self.spent.usage.total_tokens:
            reply = replace(reply, uncounted=self.spent + reply.uncounted)
        return replace(reply, waited=reply.waited + self.waited) if self.waited else reply


def _accept(request: ModelRequest) -> None:
    """Accept every request."""


def _open() -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model tells about itself. The defaults are those of a model that tells nothing."""

    name: str = ""
    """The model's name, as it is sent. Of several models: the one that is asked first."""
    output_mode: Literal["tool", "json_object"] = "tool"
    """How to ask for a typed answer: with a final-answer tool, or as a JSON object with the schema in the prompt."""
    price: Price | None = None
    """The newest price, if it is known. Of several models: the one with the highest price of output."""
    unpriced: tuple[str, ...] = ()
    """Models that cost money, though neither a price is known nor does the server report the cost of a reply.
    `Limits(cost=)` is refused for them."""
    makes_retries: bool = False
    """Whether the model retries failed requests itself. An agent then adds no retries."""
    check: Callable[[ModelRequest], None] = _accept
    """Raises `SettingsError` for a request that the server would refuse. An agent calls it when it is made."""
    closed_for: Callable[[], float] = _open
    """For how many more seconds the server must not be asked, 0.0 for none. `Fallback` passes over such a model."""
    hiders: tuple[Hider, ...] = field(default=(), repr=False)
    """They take the model's keys out of whatever a run stores, shows and sends."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers a request: a server, a script, or a wrapper round another model (see `ModelWrapper`).

    `reply` is all that a model must have. It may also have `info`, a `ModelInfo`, best as a property; for one without,
    `info_of` gives the defaults. A Python protocol has no optional members, so `info` is not declared here. If a model has
    a method `aclose`, `Agent.aclose` awaits it.
    """

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """One whole reply, or a `ModelError`. Pieces are awaited into `on_delta` as they come, if it is given."""
        ...


def info_of(model: object) -> ModelInfo:
    """What a model tells about itself: its `info`, or the defaults.

    If it has no info but holds other models in its attributes, their keys are hidden all the same.
    """
    info = _own_info(model)
    return ModelInfo(hiders=tuple(_hiders_within(model, set()))) if info is None else info


def _own_info(model: object) -> ModelInfo | None:
    info = cast("Any", model).info if hasattr(type(model), "info") else getattr(model, "info", None)
    return info if isinstance(info, ModelInfo) else None


def _hiders_within(model: object, seen: set[int]) -> Iterator[Hider]:
    for one in _models_in(model):
        if id(one) not in seen:
            seen.add(id(one))
            info = _own_info(one)
            yield from _hiders_within(one, seen) if info is None else info.hiders


def _models_in(model: object) -> Iterator[object]:
    """The models that an object holds in its attributes, alone or in a list."""
    named = getattr(model, "model", None), getattr(model, "models", None)  # in case they are properties
    for value in (*named, *getattr(model, "__dict__", {}).values()):
        several = value if isinstance(value, list | tuple) else (value,)
        if several and hasattr(type(several[0]), "reply"):
            yield from several


async def close(model: object) -> None:
    """Close a model that can be closed; any other is left as it is."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(model, "aclose", None)
    if aclose is not None:
        await aclose()

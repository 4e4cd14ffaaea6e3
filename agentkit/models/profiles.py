"""What differs between servers, as data. The client has no branch on a server's name; it reads its profile.

Sources: each vendor's reference page, and for DeepSeek the behaviour that others have measured (docs/deepseek.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from .prices import DEEPSEEK_FLASH, DEEPSEEK_PRO, Price

__all__ = ["ANYFAST", "DEEPSEEK", "GENERIC", "OPENAI", "PROFILES", "Profile", "find_profile"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """How to speak to one kind of server. Change single fields with `dataclasses.replace(DEEPSEEK, strict=True)`."""

    name: str
    hosts: tuple[str, ...] = ()
    """Host names of its base URLs; one that begins with a dot stands for all hosts below it."""
    models: tuple[str, ...] = ()
    """Beginnings of the model names that it serves, in lower case."""

    thinking_default: bool | None = None
    """What is sent when the settings do not say; None sends nothing."""
    thinking_on: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a request body that turn thinking on."""
    thinking_off: Mapping[str, Any] = field(default_factory=dict)
    effort_in: tuple[str, ...] = ()
    """Path of the reasoning effort in the body; empty: the server has none."""
    effort_names: Mapping[str, str] = field(default_factory=dict)
    """Other words for low, medium, high and max."""
    reasoning_back: str | None = None
    """The field that takes the thinking text back on every assistant message; None: it is not sent back."""
    forced_choice_while_thinking: bool = True
    """Whether a forced tool choice is allowed while thinking. If not, that one call is made with thinking off."""

    output_mode: Literal["tool", "json_object"] = "tool"
    """How a typed answer is asked for: by a final-answer tool, or as a JSON object with the schema in the prompt."""
    max_tokens_field: str = "max_tokens"
    max_tokens: int | None = None
    """The most that `max_tokens` may be."""
    temperature: float = 2.0
    """The most that `temperature` may be."""
    user_field: str = "user"
    """The field that takes `user_id`."""
    stops: int = 16
    tools: int = 128
    stream_usage: bool = True
    """Whether `stream_options.include_usage` may be sent."""
    strict: bool = False
    """Whether strict function schemas may be sent. DeepSeek takes them on its beta base URL only."""
    markup_calls: bool = False
    """Whether calls in the markup of DeepSeek V4 may come as text, and then count as calls if they are complete."""
    nine_character_ids: bool = False
    """Whether a call's id must have nine letters and digits. Others are mapped on the wire."""
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)
    """Prices by the beginning of the model's name; the longest match counts."""

    def price_of(self, model: str) -> tuple[Price, ...]:
        """The prices of a model; empty when they are not known."""
        matches = [start for start in self.prices if model.lower().startswith(start)]
        return self.prices[max(matches, key=len)] if matches else ()


_DEEPSEEK: dict[str, Any] = {
    "thinking_default": True,
    "thinking_on": {"thinking": {"type": "enabled"}},
    "thinking_off": {"thinking": {"type": "disabled"}},
    "reasoning_back": "reasoning_content",
    "forced_choice_while_thinking": False,
    "max_tokens": 393_216,
    "user_field": "user_id",
    "markup_calls": True,
}

DEEPSEEK = Profile(
    name="deepseek",
    hosts=("api.deepseek.com",),
    models=("deepseek",),
    effort_in=("reasoning_effort",),
    prices={
        "deepseek-v4-flash": DEEPSEEK_FLASH,
        "deepseek-flash": DEEPSEEK_FLASH,
        "deepseek-v4-pro": DEEPSEEK_PRO,
    },
    **_DEEPSEEK,
)
"""DeepSeek's own API, and any server of a DeepSeek model that is not known otherwise."""

ANYFAST = Profile(
    name="anyfast", hosts=("www.anyfast.ai", "anyfast.ai"), effort_in=("thinking", "reasoning_effort"), **_DEEPSEEK
)
"""The reseller of the DeepSeek V4 Flash page: effort stands inside `thinking`. Its prices are not published."""

OPENAI = Profile(
    name="openai",
    hosts=("api.openai.com",),
    models=("gpt-", "o1", "o3", "o4"),
    effort_in=("reasoning_effort",),
    effort_names={"max": "high"},
    max_tokens_field="max_completion_tokens",
    stops=4,
    strict=True,
)

OPENROUTER = Profile(
    name="openrouter",
    hosts=("openrouter.ai",),
    thinking_on={"reasoning": {"enabled": True}},
    thinking_off={"reasoning": {"enabled": False}},
    effort_in=("reasoning", "effort"),
    effort_names={"max": "high"},
    reasoning_back="reasoning",
    stops=4,
)

MISTRAL = Profile(
    name="mistral",
    hosts=("api.mistral.ai",),
    models=("mistral", "magistral", "ministral", "codestral", "devstral"),
    nine_character_ids=True,
    temperature=1.5,
)

GENERIC = Profile(name="generic")
"""A careful client of an unknown server: nothing is sent that is not in OpenAI's first chat-completions reference."""

PROFILES = (ANYFAST, DEEPSEEK, OPENAI, OPENROUTER, MISTRAL)


def find_profile(base_url: str, model: str) -> Profile:
    """The profile by the base URL's host, else by the beginning of the model's name, else `GENERIC`."""
    host = (urlsplit(base_url).hostname or "").lower()
    for profile in PROFILES:
        if any(host == h or (h.startswith(".") and host.endswith(h)) for h in profile.hosts):
            return profile
    name = model.lower().rsplit("/", 1)[-1]
    return next((profile for profile in PROFILES if name.startswith(profile.models or ("\0",))), GENERIC)

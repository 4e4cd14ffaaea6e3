"""What differs between servers, as data. The client has no branch on a server's name; it reads its profile.

Sources: each vendor's reference page, and for DeepSeek the behaviour that others have measured (docs/deepseek.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import SettingsError
from ..schema.loosen import CAREFUL, SchemaRule
from .endpoint import is_loopback
from .finish import Ending
from .prices import DEEPSEEK_FLASH, DEEPSEEK_PRO, Price

__all__ = [
    "ANYFAST", "DASHSCOPE", "DEEPSEEK", "GENERIC", "GROQ", "LLAMA_CPP", "LM_STUDIO", "MINIMAX", "MISTRAL", "MOONSHOT", "OLLAMA",
    "OPENAI", "OPENROUTER", "PROFILES", "SGLANG", "SILICONFLOW", "VLLM", "ZHIPU", "Profile", "find_profile", "profile_named",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """How to speak to one kind of server. Change single fields with `dataclasses.replace(DEEPSEEK, strict=True)`."""

    name: str
    hosts: tuple[str, ...] = ()
    """Host names of its base URLs; one that begins with a dot stands for all hosts below it, ":1234" for any host's port."""
    models: tuple[str, ...] = ()
    """Beginnings of the model names that it serves, in lower case."""
    marks: tuple[str, ...] = ()
    """By what a server that is found by none of these shows itself to `check-endpoint`: `server: value` (a header), `header
    name`, `owned_by: value` (in the list of models), or `GET /path: key` (a key of the JSON there)."""

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
    forced_choice: Literal["named", "named only", "required", "auto"] = "named"
    """The most that `tool_choice` may force: a tool by its name (with "named only" not any tool), any tool, or nothing. What is
    more is sent as this, and the model is asked in words if it does not call."""
    thinks_in_streams: bool = False
    """Whether it refuses to think in a reply that is not streamed. Then replies are streamed, if anybody watches or not."""

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
    stream_fields: Mapping[str, Any] = field(default_factory=dict)
    """More fields of a request whose reply is streamed."""
    think_tags: bool = False
    """Whether thinking text may stand in the content, between <think> and </think> at its beginning."""
    user_after_tool: bool = True
    """Whether a user message may follow a tool result. If not, a short assistant message is put between them."""
    schema_rules: tuple[SchemaRule, ...] = CAREFUL
    """What its tools' JSON Schemas have to do without (`schema/loosen.py` has the rules); none: it takes all of JSON Schema."""
    strict: bool = False
    """Whether strict function schemas may be sent. DeepSeek takes them on its beta base URL only."""
    markup_calls: bool = False
    """Whether calls in the markup of DeepSeek V4 may come as text, and then count as calls if they are complete."""
    nine_character_ids: bool = False
    """Whether a call's id must have nine letters and digits. Others are mapped on the wire."""
    finish_reasons: Mapping[str, Ending] = field(default_factory=dict)
    """Finish reasons of this server that mean something else than in the table of finish.py, in the form of `finish.normal`."""
    opaque_back: bool = True
    """Whether fields of its replies that agentkit does not know go back to it."""
    cost_in: tuple[str, ...] = ()
    """Path in the usage where the server tells the cost of a reply in US dollars; empty: it does not. It wins over `prices`."""
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)
    """Prices by the beginning of the model's name; the longest match counts."""
    price_note: str = ""
    """Whose prices these are, where they are not the server's own. It is shown wherever a cost is."""

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
    "schema_rules": (),
}

_LIST_PRICES = {"deepseek-v4-flash": DEEPSEEK_FLASH, "deepseek-flash": DEEPSEEK_FLASH, "deepseek-v4-pro": DEEPSEEK_PRO}

DEEPSEEK = Profile(
    name="deepseek",
    hosts=("api.deepseek.com",),
    models=("deepseek",),
    marks=("header x-ds-trace-id",),
    effort_in=("reasoning_effort",),
    prices=_LIST_PRICES,
    **_DEEPSEEK,
)
"""DeepSeek's own API, and any server of a DeepSeek model that is not known otherwise."""

ANYFAST = Profile(
    name="anyfast",
    hosts=("www.anyfast.ai", "anyfast.ai"),
    effort_in=("thinking", "reasoning_effort"),
    prices=_LIST_PRICES,
    price_note="estimated at DeepSeek's list price",
    **_DEEPSEEK,
)
"""The reseller of the DeepSeek V4 Flash page: effort stands inside `thinking`. It publishes no prices, so a cost is estimated
at those of DeepSeek, which makes `Limits(cost=)` work."""

OPENAI = Profile(
    name="openai",
    hosts=("api.openai.com",),
    models=("gpt-3", "gpt-4", "gpt-5", "chatgpt", "o1", "o3", "o4"),
    effort_in=("reasoning_effort",),
    effort_names={"max": "high"},
    max_tokens_field="max_completion_tokens",
    stops=4,
    schema_rules=("root", "patterns", "tuples"),
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
    cost_in=("cost",),
)

MISTRAL = Profile(
    name="mistral",
    hosts=("api.mistral.ai",),
    models=("mistral", "magistral", "ministral", "codestral", "devstral"),
    nine_character_ids=True,
    user_after_tool=False,
    temperature=1.5,
    stream_usage=False,
    opaque_back=False,
    schema_rules=("root", "patterns", "tuples"),
)

_GRAMMARS: tuple[SchemaRule, ...] = ("root", "keywords", "patterns", "tuples", "types")
"""For servers that make a grammar of a schema: they follow references, and know few keywords."""

VLLM = Profile(
    name="vllm",
    marks=("owned_by: vllm",),  # its GET /version says no more than that of many other servers
    reasoning_back="reasoning",
    markup_calls=True,
    schema_rules=_GRAMMARS,
)
"""A vLLM server; found by its marks only, as it has no port or model names of its own. The field of the thinking text was
renamed in 2025; newer versions take both."""

SGLANG = Profile(
    name="sglang",
    hosts=(":30000",),
    marks=("owned_by: sglang", "GET /get_server_info: tokenizer_path"),
    reasoning_back="reasoning_content",
    markup_calls=True,
    schema_rules=_GRAMMARS,
)

LLAMA_CPP = Profile(
    name="llama.cpp",
    marks=("server: llama.cpp", "owned_by: llamacpp", "GET /props: default_generation_settings"),
    reasoning_back="reasoning_content",
    forced_choice="required",
    schema_rules=_GRAMMARS,
)
"""The server of llama.cpp, which needs --jinja for tools; found by its marks only. It takes a choice by name as "auto"."""

OLLAMA = Profile(
    name="ollama",
    hosts=(":11434", "ollama.com"),
    marks=("owned_by: library", "GET /api/version: version"),
    effort_in=("reasoning_effort",),
    forced_choice="auto",
)
"""It ignores `tool_choice`."""

LM_STUDIO = Profile(name="lmstudio", hosts=(":1234",), marks=("owned_by: organization_owner",), forced_choice="required")
"""It refuses a choice by name."""

DASHSCOPE = Profile(
    name="dashscope",
    hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    thinking_on={"enable_thinking": True},
    thinking_off={"enable_thinking": False},
    forced_choice_while_thinking=False,
    forced_choice="named only",
    thinks_in_streams=True,
)
"""By its host only: servers of one's own take `enable_thinking` elsewhere, or not at all."""

MOONSHOT = Profile(
    name="moonshot",
    hosts=("api.moonshot.ai", "api.moonshot.cn"),
    models=("kimi", "moonshot"),
    thinking_on={"thinking": {"type": "enabled"}},
    thinking_off={"thinking": {"type": "disabled"}},
    reasoning_back="reasoning_content",
    forced_choice_while_thinking=False,
    temperature=1.0,
)

ZHIPU = Profile(
    name="zhipu",
    hosts=("open.bigmodel.cn", "api.z.ai"),
    models=("glm",),
    thinking_on={"thinking": {"type": "enabled"}},
    thinking_off={"thinking": {"type": "disabled"}},
    reasoning_back="reasoning_content",
    forced_choice="auto",
    stream_fields={"tool_stream": True},
    temperature=1.0,
    stops=4,
)

GROQ = Profile(
    name="groq",
    hosts=("api.groq.com",),
    effort_in=("reasoning_effort",),
    effort_names={"max": "high"},
    stops=4,
    opaque_back=False,
    schema_rules=("root", "patterns", "tuples"),
)

SILICONFLOW = Profile(
    name="siliconflow",
    hosts=("api.siliconflow.cn", "api.siliconflow.com"),
    thinking_on={"enable_thinking": True},
    thinking_off={"enable_thinking": False},
)

MINIMAX = Profile(
    name="minimax", hosts=("api.minimax.io", "api.minimaxi.com"), models=("minimax",), think_tags=True, temperature=1.0
)

GENERIC = Profile(name="generic")
"""A careful client of an unknown server: it is sent what all known servers take, and `stream_options`, which most do. This
is also the profile for gateways to Gemini, Claude and Bedrock, which refuse the most in schemas."""

PROFILES = (
    ANYFAST, DEEPSEEK, OPENAI, OPENROUTER, MISTRAL, VLLM, SGLANG, LLAMA_CPP, OLLAMA, LM_STUDIO, DASHSCOPE, MOONSHOT, ZHIPU,
    GROQ, SILICONFLOW, MINIMAX,
)  # fmt: skip


def profile_named(name: str) -> Profile:
    """The profile of this name. Raises `SettingsError`, which lists the names."""
    for profile in (*PROFILES, GENERIC):
        if profile.name == name:
            return profile
    raise SettingsError(f"profile is {name!r}; allowed: a Profile, or one of {', '.join(p.name for p in (*PROFILES, GENERIC))}")


def find_profile(base_url: str, model: str) -> Profile:
    """The profile by the base URL's host or port, else by the beginning of the model's name, else `GENERIC`.

    A server that is not the vendor's own does not have its prices; one on this machine has, as it stands in for it in tests.
    """
    parts = urlsplit(base_url)
    host, port = (parts.hostname or "").lower(), f":{parts.port}"
    for profile in PROFILES:
        if any(h in (host, port) or (h.startswith(".") and host.endswith(h)) for h in profile.hosts):
            return profile
    name = model.lower().rsplit("/", 1)[-1]
    found = next((profile for profile in PROFILES if name.startswith(profile.models or ("\0",))), GENERIC)
    return found if is_loopback(host) or not found.prices else replace(found, prices={})

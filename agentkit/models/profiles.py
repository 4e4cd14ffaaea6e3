"""The differences between servers, as data. The client never branches on a server's name; it reads the profile.

Sources: each vendor's reference page and public reports (docs/providers/), and for DeepSeek the behaviour that others have
measured (docs/deepseek.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import SettingsError
from ..parts import PartKind
from ..schema.loosen import CAREFUL, SchemaRule
from .endpoint import is_loopback
from .finish import Ending
from .prices import DEEPSEEK_FLASH, DEEPSEEK_PRO, Price

__all__ = [
    "ANYFAST", "DASHSCOPE", "DEEPSEEK", "GENERIC", "GROQ", "LLAMA_CPP", "LM_STUDIO", "MINIMAX", "MISTRAL", "MOONSHOT",
    "OLLAMA", "OPENAI", "OPENROUTER", "PROFILES", "SGLANG", "SILICONFLOW", "VLLM", "ZHIPU", "Profile", "find_profile",
    "profile_for", "profile_named",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """How to speak to one kind of server. Change single fields with `dataclasses.replace(DEEPSEEK, strict=True)`."""

    name: str
    hosts: tuple[str, ...] = ()
    """Host names of its base URLs. A leading dot means all subdomains; ":1234" means that port on any host."""
    models: tuple[str, ...] = ()
    """Prefixes of its model names, in lower case."""
    marks: tuple[str, ...] = ()
    """Signs by which `check-endpoint` recognizes a server that has no known host or model name: `server: value` (a header),
    `header name`, `owned_by: value` (in the list of models), or `GET /path: key` (a key of the JSON there)."""

    thinking_default: bool | None = None
    """The value sent if the settings have none; None sends nothing."""
    thinking_on: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a request body that turn thinking on."""
    thinking_off: Mapping[str, Any] = field(default_factory=dict)
    effort_in: tuple[str, ...] = ()
    """Path of the reasoning effort in the body; empty if the server has none."""
    effort_names: Mapping[str, str] = field(default_factory=dict)
    """The server's own words for low, medium, high and max."""
    reasoning_back: str | None = None
    """The field in which assistant messages send the thinking text back; "<think>": the content, in these tags; None: none."""
    forced_choice_while_thinking: bool = True
    """Whether a forced tool choice is allowed while thinking. If not, thinking is off for that one call."""
    forced_choice: Literal["named", "named only", "required", "auto"] = "named"
    """The strongest `tool_choice` that the server enforces: a tool by its name (with "named only", not "required"), any tool,
    or none. A stronger choice is sent as this one, and the model is asked in words if it makes no call."""
    thinks_in_streams: bool = False
    """Whether the server thinks only in streamed replies. If so, replies are streamed even without observers."""

    output_mode: Literal["tool", "json_object"] = "tool"
    """How a typed answer is requested: by a final-answer tool, or as a JSON object with the schema in the prompt."""
    max_tokens_field: str = "max_tokens"
    max_tokens: int | None = None
    """Max value of `max_tokens`."""
    temperature: float = 2.0
    """Max value of `temperature`."""
    user_field: str = "user"
    """The field that takes `user_id`."""
    stops: int = 16
    tools: int = 128
    stream_usage: bool = True
    """Whether `stream_options.include_usage` may be sent."""
    stream_fields: Mapping[str, Any] = field(default_factory=dict)
    """Additional request fields for streamed replies."""
    think_tags: bool = False
    """Whether the content may begin with thinking text between `<think>` and `</think>`."""
    user_after_tool: bool = True
    """Whether a user message may follow a tool result. If not, a short assistant message is inserted between them."""
    schema_rules: tuple[SchemaRule, ...] = CAREFUL
    """Rules for rewriting tools' JSON Schemas (see `schema/loosen.py`); empty: the server takes all of JSON Schema."""
    strict: bool = False
    """Whether strict function schemas may be sent. DeepSeek takes them only on its beta base URL."""
    markup_calls: bool = False
    """Whether complete calls in DeepSeek V4's markup count as calls when they come as text."""
    nine_character_ids: bool = False
    """Whether a call's id must be nine letters and digits. Other ids are mapped on the wire."""
    finish_reasons: Mapping[str, Ending] = field(default_factory=dict)
    """Finish reasons that mean something else on this server than in finish.py, in the form that `finish.normal` returns."""
    opaque_back: bool = True
    """Whether unknown fields of replies are sent back to the server."""
    parts: frozenset[PartKind] = frozenset({"image"})
    """What the server takes in a user message besides text: "image", "audio", "file"."""
    part_addresses: frozenset[PartKind] = frozenset({"image"})
    """Which of them may be given by their address, and not only as data."""
    model_parts: Mapping[str, frozenset[PartKind]] = field(default_factory=dict)
    """`parts` by prefix of the model's name, where models differ; the longest match counts."""
    cost_in: tuple[str, ...] = ()
    """Path in the usage of a reply's cost in US dollars; empty if the server reports none. It wins over `prices`."""
    prices: Mapping[str, tuple[Price, ...]] = field(default_factory=dict)
    """Prices by prefix of the model's name; the longest match counts."""
    price_note: str = ""
    """Whose prices these are, if they are not the server's own. The note is shown with every cost."""

    def price_of(self, model: str) -> tuple[Price, ...]:
        """The prices of a model; empty if they are not known."""
        matches = [start for start in self.prices if model.lower().startswith(start)]
        return self.prices[max(matches, key=len)] if matches else ()


_NOTHING: frozenset[PartKind] = frozenset()
_IMAGES: frozenset[PartKind] = frozenset({"image"})
_SOUND: frozenset[PartKind] = frozenset({"image", "audio"})
_ALL: frozenset[PartKind] = frozenset({"image", "audio", "file"})

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
    "parts": _NOTHING,
    "model_parts": {"deepseek-flash": _IMAGES, "deepseek-v4-flash-vision": _IMAGES},
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
"""DeepSeek's own API, and any other server of a DeepSeek model that has no profile of its own."""

ANYFAST = Profile(
    name="anyfast",
    hosts=("www.anyfast.ai", "anyfast.ai"),
    effort_in=("thinking", "reasoning_effort"),
    prices=_LIST_PRICES,
    price_note="estimated at DeepSeek's list price",
    **_DEEPSEEK,
)
"""The reseller on the DeepSeek V4 Flash page. The effort is a field of `thinking`. It publishes no prices; costs are estimated
at DeepSeek's prices, so that `Limits(cost=)` works."""

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
    parts=_ALL,
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
    parts=_ALL,
    part_addresses=frozenset({"image", "file"}),
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
"""For servers that compile a schema to a grammar: they follow references, and know few keywords."""

VLLM = Profile(
    name="vllm",
    parts=_SOUND,
    marks=("owned_by: vllm",),  # not GET /version: many other servers answer it in the same way
    reasoning_back="reasoning",
    markup_calls=True,
    schema_rules=_GRAMMARS,
)
"""A vLLM server. It is recognized only by its marks, since it has no port or model names of its own. The field of the thinking
text was renamed in 2025; newer versions take both names."""

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
    parts=_SOUND,
    marks=("server: llama.cpp", "owned_by: llamacpp", "GET /props: default_generation_settings"),
    reasoning_back="reasoning_content",
    forced_choice="required",
    schema_rules=_GRAMMARS,
)
"""The server of llama.cpp, which needs --jinja for tools. Recognized only by its marks. It treats a named choice as "auto"."""

OLLAMA = Profile(
    name="ollama",
    hosts=(":11434", "ollama.com"),
    marks=("owned_by: library", "GET /api/version: version"),
    effort_in=("reasoning_effort",),
    forced_choice="auto",
    part_addresses=_NOTHING,
)
"""It ignores `tool_choice`, and fetches no images."""

LM_STUDIO = Profile(
    name="lmstudio",
    hosts=(":1234",),
    marks=("owned_by: organization_owner",),
    forced_choice="required",
    part_addresses=_NOTHING,
)
"""It refuses a named tool choice."""

DASHSCOPE = Profile(
    name="dashscope",
    hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    thinking_on={"enable_thinking": True},
    thinking_off={"enable_thinking": False},
    forced_choice_while_thinking=False,
    forced_choice="named only",
    thinks_in_streams=True,
)
"""Recognized only by its host: self-hosted servers take `enable_thinking` in another field, or not at all."""

MOONSHOT = Profile(
    name="moonshot",
    hosts=("api.moonshot.ai", "api.moonshot.cn"),
    models=("kimi", "moonshot"),
    thinking_on={"thinking": {"type": "enabled"}},
    thinking_off={"thinking": {"type": "disabled"}},
    reasoning_back="reasoning_content",
    forced_choice_while_thinking=False,
    temperature=1.0,
    part_addresses=_NOTHING,
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
    stops=4,
)

MINIMAX = Profile(
    name="minimax",
    hosts=("api.minimax.io", "api.minimaxi.com"),
    models=("minimax",),
    think_tags=True,
    reasoning_back="<think>",
    temperature=1.0,
    parts=_NOTHING,
)

GENERIC = Profile(name="generic")
"""For an unknown server: requests have only what all known servers take, and `stream_options`, which most take. It is also the
profile for gateways to Gemini, Claude and Bedrock, whose schema rules are the strictest."""

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


def profile_for(model: str, base_url: str, profile: Profile | str | None) -> Profile:
    """The given profile, or the one with the given name, or the one that is found; with the `parts` of this model."""
    if isinstance(profile, str):
        profile = profile_named(profile)
    if profile is not None and not isinstance(profile, Profile):
        raise SettingsError(f"profile is {profile!r}; allowed: a Profile, or the name of one such as 'vllm'")
    found, name = profile or find_profile(base_url, model), model.lower().rsplit("/", 1)[-1]
    parts = found.model_parts.get(max(filter(name.startswith, found.model_parts), key=len, default=""), found.parts)
    return found if parts == found.parts else replace(found, parts=parts)


def find_profile(base_url: str, model: str) -> Profile:
    """The profile by the base URL's host or port, else by the prefix of the model's name, else `GENERIC`.

    A profile found by the model's name has no prices, as another server may charge others. A server on localhost keeps the
    vendor's prices, so that tests can check costs.
    """
    parts = urlsplit(base_url)
    host, port = (parts.hostname or "").lower(), f":{parts.port}"
    for profile in PROFILES:
        if any(known in (host, port) or (known.startswith(".") and host.endswith(known)) for known in profile.hosts):
            return profile
    name = model.lower().rsplit("/", 1)[-1]
    found = next((profile for profile in PROFILES if name.startswith(profile.models or ("\0",))), GENERIC)
    return found if is_loopback(host) or not found.prices else replace(found, prices={})

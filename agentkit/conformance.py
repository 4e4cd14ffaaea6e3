"""What a chat-completions server really does, found out by small requests; behind `agentkit check-endpoint`.

Each check sends one or a few requests of a few hundred tokens and says what it saw. What differs from the profile in use is
collected, so that the report can name the profile that fits.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from .errors import ModelError
from .messages import Usage
from .models.bodies import read_chunk, read_whole
from .models.chat import ChatModel
from .models.prices import cost_of
from .models.profiles import Profile
from .models.refusals import read_error
from .models.replies import Parts, ReplyReader
from .sse import SSEParser

__all__ = ["CHECKS", "Finding", "Report", "check_endpoint", "estimate"]

Verdict: TypeAlias = Literal["yes", "no", "broken", "unknown"]
Message: TypeAlias = dict[str, Any]

_OUT = 400
_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city."}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
_ASK_WEATHER = "What is the weather in Paris now? Use the tool."
_LONG = "This line is here to fill the prompt, so that its beginning can be found in a cache. " * 60


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw: `yes` it works, `no` the server does not do it, `broken` it does it wrongly, `unknown` not seen."""

    check: str
    verdict: Verdict
    detail: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the profile that this server needs otherwise than the profile in use has them."""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, what they used, and the profile that fits."""

    findings: tuple[Finding, ...]
    profile: Profile
    requests: int
    """How many were sent; `usage` counts those that were answered."""
    usage: Usage
    cost: float | None

    @property
    def settings(self) -> dict[str, Any]:
        """What has to be changed in the profile."""
        return {name: value for finding in self.findings for name, value in finding.settings.items()}

    @property
    def fitting(self) -> Profile:
        """The profile with these changes."""
        return replace(self.profile, **self.settings)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A response: its status, its parsed reply or the text of its error, and its JSON bodies (one, or the chunks)."""

    status: int
    parts: Parts | None
    error: str
    bodies: tuple[Any, ...] = ()

    @property
    def calls(self) -> Sequence[Any]:
        return self.parts.message.tool_calls if self.parts else ()

    @property
    def text(self) -> str:
        return self.parts.message.text if self.parts else ""


class _Server:
    """Sends the requests of the checks, and counts what they use."""

    def __init__(self, model: ChatModel, client: Any) -> None:
        self.model, self.profile, self._client = model, model.profile, client
        self.usage = Usage()
        self.sent = 0
        self.max_tokens_field = self.profile.max_tokens_field

    def _hidden(self, error: ModelError) -> str:
        """The error's text without the key, which some servers repeat."""
        key = self.model.endpoint.api_key
        return str(error).replace(key, "[api key]") if key and len(key) >= 8 else str(error)

    async def ask(self, prompt: str | list[Message], *, thinking: bool = False, most: int = _OUT, **fields: Any) -> _Seen:
        """One request. Thinking is off where the profile knows how, since it costs; a field of None is left out."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"model": self.model.name, "messages": messages, self.max_tokens_field: most}
        body |= self.profile.thinking_on if thinking else self.profile.thinking_off
        body |= {name: value for name, value in fields.items() if value is not None}
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.model.endpoint.api_key:
            headers["authorization"] = f"Bearer {self.model.endpoint.api_key}"
        self.sent += 1
        response = await self._client.post(self.model.endpoint.url, content=json.dumps(body), headers=headers)
        if response.status_code >= 300:
            error = read_error(response.status_code, response.content, response.headers)
            if error.retryable:
                raise _Passing(self._hidden(error))
            return _Seen(response.status_code, None, self._hidden(error))
        try:
            parts, bodies = _read(response.content, self.profile)
        except ModelError as error:
            return _Seen(response.status_code, None, self._hidden(error))
        self.usage += parts.usage
        return _Seen(response.status_code, parts, "", bodies)


class _Passing(Exception):
    """A failure that says nothing of what the server supports: it is busy, or limits the rate."""


def _read(content: bytes, profile: Profile) -> tuple[Parts, tuple[Any, ...]]:
    if content.lstrip()[:1] == b"{":
        return read_whole(content, ReplyReader(think_tags=profile.think_tags)), (json.loads(content),)
    reader, bodies = ReplyReader(think_tags=profile.think_tags), []
    for data in SSEParser().feed(content + b"\n\n"):
        if data and data != b"[DONE]":
            bodies.append(read_chunk(data))
            list(reader.feed(bodies[-1]))
    return reader.parts(), (*bodies, *(["[DONE]"] if b"[DONE]" in content else []))


Check: TypeAlias = Callable[[_Server], Awaitable[Finding]]


async def _answers(server: _Server) -> Finding:
    seen = await server.ask("Say hello in one word.")
    settings: dict[str, Any] = {}
    if seen.status == 400 and "max_completion_tokens" in seen.error and server.max_tokens_field == "max_tokens":
        settings["max_tokens_field"] = server.max_tokens_field = "max_completion_tokens"
        seen = await server.ask("Say hello in one word.")
    if not seen.parts:
        return Finding("answers", "broken", seen.error, settings)
    counted = bool(seen.parts.usage.input_tokens and seen.parts.usage.output_tokens)
    verdict: Verdict = "yes" if seen.text.strip() and counted else "broken"
    return Finding("answers", verdict, f"{seen.text.strip()[:40]!r}; usage {'is' if counted else 'is not'} counted", settings)


async def _streams(server: _Server) -> Finding:
    options = {"include_usage": True}
    seen = await server.ask("Say hello in one word.", stream=True, stream_options=options)
    settings = {}
    if seen.status == 400:
        settings = {"stream_usage": False} if server.profile.stream_usage else {}
        seen = await server.ask("Say hello in one word.", stream=True)
    if not seen.parts:
        return Finding("streaming", "broken", seen.error, settings)
    if len(seen.bodies) < 2:
        return Finding("streaming", "no", "the reply came whole; it is read all the same", settings)
    done = seen.bodies[-1] == "[DONE]"
    counted = bool(seen.parts.usage.output_tokens)
    said = f"{len(seen.bodies) - done} chunks, {'with' if counted else 'no'} usage{'' if done else ', and no [DONE]'}"
    return Finding("streaming", "yes" if done and counted else "broken", said, settings)


async def _calls_tools(server: _Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, tools=[_WEATHER])
    if not seen.parts:
        return Finding("tools", "no", seen.error)
    if not seen.calls:
        if "DSML" in seen.text:
            return Finding("tools", "broken", "the call came as markup in the text", {"markup_calls": True})
        shaped = "get_weather" in seen.text and seen.text.lstrip()[:1] in "{[<"
        hint = "the call came as text: check the server's chat template and tool-call parser" if shaped else "no call came"
        return Finding("tools", "broken" if shaped else "unknown", hint)
    oddities = _oddities(seen)
    return Finding("tools", "yes", "; ".join(oddities) or "a call with an id, and its arguments as text")


def _oddities(seen: _Seen) -> list[str]:
    """What this server does otherwise than most, and agentkit puts right."""
    raw = next((call for call in _message(seen).get("tool_calls") or () if isinstance(call, dict)), None)
    if raw is None:
        return []
    found = []
    if not raw.get("id"):
        found.append("the call has no id")
    if not isinstance((raw.get("function") or {}).get("arguments"), str):
        found.append("the arguments are no text")
    if seen.parts and seen.parts.finish_reason != "tool_calls":
        found.append(f"finish_reason is {seen.parts.finish_reason!r}")
    return found


def _message(seen: _Seen) -> Mapping[str, Any]:
    """The message of a whole reply, or the first delta of a stream; empty where it is no object."""
    for body in seen.bodies:
        inner = body.get("data", body) if isinstance(body, dict) else {}
        for choice in inner.get("choices") or () if isinstance(inner, dict) else ():
            message = choice.get("message") or choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(message, dict) and any(message.values()):
                return message
    return {}


def _history(call_id: str, **assistant: Any) -> list[Message]:
    call = {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    return [
        {"role": "user", "content": _ASK_WEATHER},
        {"role": "assistant", "content": "", "tool_calls": [call], **assistant},
        {"role": "tool", "tool_call_id": call_id, "content": "18 degrees, sunny"},
    ]


async def _takes_results(server: _Server) -> Finding:
    echo = {server.profile.reasoning_back: "I ask the tool."} if server.profile.reasoning_back else {}
    seen = await server.ask(_history("call_00_a", **echo), tools=[_WEATHER])
    settings = {}
    if not seen.parts:
        first = seen
        seen = await server.ask(_history("aB3dE6gH9", **echo), tools=[_WEATHER])
        if not seen.parts:
            return Finding("tool results", "broken", first.error)
        settings = {"nine_character_ids": True} if not server.profile.nine_character_ids else {}
    used = "18" in seen.text
    said = "the answer uses it" if used else "accepted, but the answer does not use it"
    return Finding(
        "tool results", "yes" if used else "unknown", said + (", with ids of nine characters" if settings else ""), settings
    )


async def _echoes_thinking(server: _Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, thinking=True, tools=[_WEATHER], most=4 * _OUT)
    if not seen.parts:
        return Finding("thinking", "no", seen.error)
    if not seen.parts.message.reasoning:
        if seen.text.lstrip().startswith("<think>"):
            return Finding("thinking", "yes", "in the content, between <think> tags", {"think_tags": True})
        return Finding("thinking", "no", "no thinking text came")
    name = next((n for n in ("reasoning_content", "reasoning") if _message(seen).get(n)), None)
    plain = await server.ask(_history("call_00_a"), thinking=True, tools=[_WEATHER])
    back = await server.ask(_history("call_00_a", **{name or "": "I ask."}), thinking=True, tools=[_WEATHER]) if name else plain
    needed = plain.status == 400 and back.parts is not None
    said = f"in {name or 'the content'}; {'must' if needed else 'need not'} be sent back"
    settings = {"reasoning_back": name} if needed and server.profile.reasoning_back != name else {}
    return Finding("thinking", "yes" if back.parts or plain.parts else "broken", said, settings)


async def _calls_in_parallel(server: _Server) -> Finding:
    prompt = "Call the tool for Paris and for Rome, both in this one reply."
    seen = await server.ask(prompt, tools=[_WEATHER], stream=True)
    if not seen.parts or len(seen.calls) < 2:
        return Finding("parallel calls", "unknown" if seen.parts else "no", seen.error or f"{len(seen.calls)} call came")
    indices = [piece.get("index") for piece in _call_pieces(seen)]
    said = (
        "each with an index of its own" if len(set(indices)) == len(seen.calls) else "all at one index, told apart by their ids"
    )
    whole = all(_is_json(call.arguments) for call in seen.calls)
    return Finding("parallel calls", "yes" if whole else "broken", said if whole else "their arguments are mixed up")


async def _streams_arguments(server: _Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, tools=[_WEATHER], stream=True)
    if not seen.parts or not seen.calls:
        return Finding("streamed arguments", "unknown", seen.error or "no call came")
    pieces = [piece for piece in _call_pieces(seen) if (piece.get("function") or {}).get("arguments")]
    whole = all(_is_json(call.arguments) for call in seen.calls)
    said = f"in {len(pieces)} pieces" if len(pieces) > 1 else "in one piece"
    return Finding("streamed arguments", "yes" if whole else "broken", said if whole else "they are no JSON in the end")


def _call_pieces(seen: _Seen) -> list[Any]:
    deltas = [
        choice.get("delta") or {} for body in seen.bodies if isinstance(body, dict) for choice in body.get("choices") or ()
    ]
    return [piece for delta in deltas for piece in delta.get("tool_calls") or ()]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def _forces(server: _Server, name: str, choice: Any) -> Finding:
    prompt = "Say hello in one word."
    seen = await server.ask(prompt, tools=[_WEATHER], tool_choice=choice)
    if not seen.parts:
        return Finding(name, "no", seen.error)
    if not seen.calls:
        return Finding(name, "broken", "accepted, but not enforced; agentkit asks once more in words")
    if not server.profile.thinking_on or not server.profile.forced_choice_while_thinking:
        return Finding(name, "yes", "enforced")
    thinking = await server.ask(prompt, thinking=True, tools=[_WEATHER], tool_choice=choice)
    if thinking.parts:
        return Finding(name, "yes", "enforced, also while thinking")
    return Finding(name, "yes", "enforced, but not while thinking", {"forced_choice_while_thinking": False})


async def _forces_any(server: _Server) -> Finding:
    return await _forces(server, "tool_choice required", "required")


async def _forces_one(server: _Server) -> Finding:
    return await _forces(server, "tool_choice by name", {"type": "function", "function": {"name": "get_weather"}})


async def _obeys_none(server: _Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, tools=[_WEATHER], tool_choice="none")
    if not seen.parts:
        return Finding("tool_choice none", "no", seen.error)
    return Finding("tool_choice none", "broken" if seen.calls else "yes", "a call came" if seen.calls else "no call came")


async def _answers_json(server: _Server) -> Finding:
    prompt = 'Answer with this JSON object and nothing else: {"city": "Paris"}'
    seen = await server.ask(prompt, response_format={"type": "json_object"})
    if not seen.parts:
        return Finding("JSON mode", "no", seen.error)
    return Finding("JSON mode", "yes" if _is_json(seen.text) else "broken", f"{seen.text.strip()[:40]!r}")


async def _takes_json_schema(server: _Server) -> Finding:
    schema = {"name": "city", "schema": {**_WEATHER["function"]["parameters"]}, "strict": True}
    seen = await server.ask(
        'Answer with the city as JSON: {"city": "Paris"}', response_format={"type": "json_schema", "json_schema": schema}
    )
    if not seen.parts:
        return Finding("JSON schema", "no", f"{seen.error}; agentkit does not need it")
    return Finding("JSON schema", "yes" if _is_json(seen.text) else "broken", f"{seen.text.strip()[:40]!r}")


async def _takes_strict(server: _Server) -> Finding:
    function = {**_WEATHER["function"], "strict": True}
    seen = await server.ask(_ASK_WEATHER, tools=[{"type": "function", "function": function}])
    if not seen.parts:
        settings = {"strict": False} if server.profile.strict else {}
        return Finding("strict functions", "no", seen.error, settings)
    return Finding(
        "strict functions", "yes", "accepted; use @tool(strict=True)", {} if server.profile.strict else {"strict": True}
    )


async def _caches(server: _Server) -> Finding:
    prompt: list[Message] = [{"role": "system", "content": _LONG}, {"role": "user", "content": "Say hello in one word."}]
    await server.ask(prompt)
    seen = await server.ask(prompt)
    if not seen.parts:
        return Finding("prompt cache", "unknown", seen.error)
    hits = seen.parts.usage.cache_read_tokens
    said = f"{hits} of {seen.parts.usage.input_tokens} tokens came from the cache the second time"
    return Finding("prompt cache", "yes" if hits else "unknown", said)


async def _stops_at_max_tokens(server: _Server) -> Finding:
    seen = await server.ask("Count from 1 to 200.", most=8)
    if not seen.parts:
        return Finding("max_tokens", "no", seen.error)
    right = seen.parts.finish_reason == "length"
    said = f"finish_reason is {seen.parts.finish_reason!r}"
    return Finding(
        "max_tokens", "yes" if right else "broken", said if right else f"{said}: a cut answer passes for a whole one"
    )


def _name_of(check: Check) -> str:
    return check.__name__.strip("_").replace("_", " ")


CHECKS: tuple[tuple[Check, int, int], ...] = (
    (_answers, 2, 30),
    (_streams, 2, 30),
    (_calls_tools, 1, 150),
    (_takes_results, 2, 400),
    (_echoes_thinking, 3, 650),
    (_calls_in_parallel, 1, 150),
    (_streams_arguments, 1, 150),
    (_forces_any, 2, 300),
    (_forces_one, 2, 300),
    (_obeys_none, 1, 150),
    (_answers_json, 1, 30),
    (_takes_json_schema, 1, 100),
    (_takes_strict, 1, 150),
    (_caches, 2, 2600),
    (_stops_at_max_tokens, 1, 20),
)
"""Each check, the most requests that it sends, and about how many prompt tokens these have together."""


def estimate(model: ChatModel) -> tuple[int, Usage, float | None]:
    """The most requests of all checks, the most tokens (the output if each answer were as long as it may be), the cost."""
    requests = sum(count for _check, count, _tokens in CHECKS)
    usage = Usage(requests, sum(tokens for _check, _count, tokens in CHECKS), requests * _OUT + 3 * _OUT)
    return requests, usage, _cost(model, usage)


def _cost(model: ChatModel, usage: Usage) -> float | None:
    prices = model.profile.price_of(model.name)
    return cost_of(prices, usage, datetime.now(UTC)) if prices else None


async def check_endpoint(model: ChatModel, tell: Callable[[Finding], None] | None = None) -> Report:
    """Run all checks against the model's server, one after another; `tell` gets each finding as it comes.

    Raises `MissingKey` before anything is sent, and `ConnectionFailed` when the server cannot be reached at all. When the
    first check gets no answer, the others are not tried.
    """
    import httpx

    from .errors import ConnectionFailed

    model.endpoint.require_key()
    findings: list[Finding] = []
    async with httpx.AsyncClient(timeout=120, trust_env=not model.endpoint.is_loopback) as client:
        server = _Server(model, client)
        for check, _count, _tokens in CHECKS:
            try:
                findings.append(await check(server))
            except _Passing as error:
                findings.append(Finding(_name_of(check), "unknown", f"{error}; try again later"))
            except (httpx.TransportError, httpx.DecodingError) as error:
                if not findings:
                    raise ConnectionFailed(f"{model.endpoint.url}: {error or type(error).__name__}") from error
                findings.append(Finding(_name_of(check), "broken", f"the connection failed: {error!r}"))
            if tell:
                tell(findings[-1])
            if not server.usage.requests:
                break
    return Report(tuple(findings), model.profile, server.sent, server.usage, _cost(model, server.usage))

"""The checks themselves: each sends one or a few requests, and says what it saw."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from .asking import OUT, Message, Seen, Server, fits
from .findings import Finding, Verdict

__all__ = ["CHECKS", "Check"]

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
_TIME: dict[str, Any] = {
    "type": "function",
    "function": {**_WEATHER["function"], "name": "get_time", "description": "Current time in a city."},
}
_ASK_WEATHER = "What is the weather in Paris now? Use the tool."
_LONG = "This line is here to fill the prompt, so that its beginning can be found in a cache. " * 60
_CUT = "the answer was cut"

Check: TypeAlias = Callable[[Server], Awaitable[Finding]]


async def _answers(server: Server) -> Finding:
    seen = await server.ask("Say hello in one word.")
    settings: dict[str, Any] = {}
    if seen.status == 400 and "max_completion_tokens" in seen.error and server.max_tokens_field == "max_tokens":
        settings["max_tokens_field"] = server.max_tokens_field = "max_completion_tokens"
        seen = await server.ask("Say hello in one word.")
    if not seen.parts:
        return Finding("answers", "broken", seen.error, settings)
    counted = bool(seen.parts.usage.input_tokens and seen.parts.usage.output_tokens)
    if counted and seen.was_cut_before_it_began:
        return Finding("answers", "unknown", _CUT, settings)
    verdict: Verdict = "yes" if seen.text.strip() and counted else "broken"
    return Finding("answers", verdict, f"{seen.text.strip()[:40]!r}; usage {'is' if counted else 'is not'} counted", settings)


async def _streams(server: Server) -> Finding:
    options: dict[str, Any] | None = {"include_usage": True}
    seen = await server.ask("Say hello in one word.", stream=True, stream_options=options)
    settings = {}
    if seen.status == 400:
        settings, options = {"stream_usage": False} if server.profile.stream_usage else {}, None
        seen = await server.ask("Say hello in one word.", stream=True)
    if seen.parts and not (seen.came_whole or seen.is_done):  # this one stream may have been cut after its finish reason
        seen = await server.ask("Say hello in one word.", stream=True, stream_options=options)
    if not seen.parts:
        return Finding("streaming", "broken", seen.error, settings)
    if seen.came_whole:
        return Finding("streaming", "no", "the reply came whole; it is read all the same", settings)
    done = seen.is_done
    counted = bool(seen.parts.usage.output_tokens)
    said = f"{len(seen.bodies) - done} chunks, {'with' if counted else 'no'} usage{'' if done else ', and no [DONE]'}"
    return Finding("streaming", "yes" if done and counted else "broken", said, settings)


async def _calls_tools(server: Server) -> Finding:
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


def _oddities(seen: Seen) -> list[str]:
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


def _message(seen: Seen) -> Mapping[str, Any]:
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


async def _takes_results(server: Server) -> Finding:
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


async def _echoes_thinking(server: Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, thinking=True, tools=[_WEATHER], most=4 * OUT)
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


async def _calls_in_parallel(server: Server) -> Finding:
    prompt = "Call the tool for Paris and for Rome, both in this one reply."
    seen = await server.ask(prompt, tools=[_WEATHER], stream=True)
    if not seen.parts or len(seen.calls) < 2:
        return Finding("parallel calls", "unknown" if seen.parts else "no", seen.error or f"{len(seen.calls)} call came")
    indices = [piece.get("index") for piece in _call_pieces(seen)]
    said = (
        "each with an index of its own" if len(set(indices)) == len(seen.calls) else "all at one index, told apart by their ids"
    )
    whole = all(_is_json(call.arguments) for call in seen.calls)
    finding = Finding("parallel calls", "yes" if whole else "broken", said if whole else "their arguments are mixed up")
    return _unless_cut(seen, finding)


async def _streams_arguments(server: Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, tools=[_WEATHER], stream=True)
    if not seen.parts or not seen.calls:
        return Finding("streamed arguments", "unknown", seen.error or "no call came")
    pieces = [piece for piece in _call_pieces(seen) if (piece.get("function") or {}).get("arguments")]
    whole = all(_is_json(call.arguments) for call in seen.calls)
    said = f"in {len(pieces)} pieces" if len(pieces) > 1 else "in one piece"
    finding = Finding("streamed arguments", "yes" if whole else "broken", said if whole else "they are no JSON in the end")
    return _unless_cut(seen, finding)


def _call_pieces(seen: Seen) -> list[Any]:
    deltas = [
        choice.get("delta") or {} for body in seen.bodies if isinstance(body, dict) for choice in body.get("choices") or ()
    ]
    return [piece for delta in deltas for piece in delta.get("tool_calls") or ()]


def _unless_cut(seen: Seen, finding: Finding) -> Finding:
    return Finding(finding.check, "unknown", _CUT) if seen.was_cut and finding.verdict != "yes" else finding


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def _forces(server: Server, name: str, choice: Any) -> Finding:
    """A choice that a server takes may not be enforced. The second tool shows whether the name counts."""
    prompt, tools = "Say hello in one word.", [_WEATHER, _TIME]
    seen = await server.ask(prompt, tools=tools, tool_choice=choice)
    if not seen.parts:
        return Finding(name, "no", seen.error)
    if seen.was_cut_before_it_began:
        return Finding(name, "unknown", _CUT)
    if not seen.calls:
        return Finding(name, "broken", "accepted, but not enforced; agentkit asks once more in words")
    if isinstance(choice, dict) and {call.name for call in seen.calls} != {choice["function"]["name"]}:
        return Finding(name, "broken", f"another function was called: {seen.calls[0].name[:40]}")
    if not server.profile.thinking_on or not server.profile.forced_choice_while_thinking:
        return Finding(name, "yes", "enforced")
    thinking = await server.ask(prompt, thinking=True, tools=tools, tool_choice=choice)
    if thinking.parts:
        return Finding(name, "yes", "enforced, also while thinking")
    return Finding(name, "yes", "enforced, but not while thinking", {"forced_choice_while_thinking": False})


async def _forces_any(server: Server) -> Finding:
    found = await _forces(server, "tool_choice required", "required")
    server.forces_any = None if found.verdict == "unknown" else found.verdict == "yes"
    return found


async def _forces_one(server: Server) -> Finding:
    """The second of the two, so it knows what the profile needs."""
    found = await _forces(server, "tool_choice by name", {"type": "function", "function": {"name": "get_time"}})
    if found.verdict == "unknown" or server.forces_any is None:
        return found
    by_name = found.verdict == "yes"
    needed = ("named" if server.forces_any else "named only") if by_name else ("required" if server.forces_any else "auto")
    settings = {} if needed == server.profile.forced_choice else {"forced_choice": needed}
    return replace(found, settings={**found.settings, **settings})


async def _obeys_none(server: Server) -> Finding:
    seen = await server.ask(_ASK_WEATHER, tools=[_WEATHER], tool_choice="none")
    if not seen.parts:
        return Finding("tool_choice none", "no", seen.error)
    if seen.was_cut_before_it_began:
        return Finding("tool_choice none", "unknown", _CUT)
    return Finding("tool_choice none", "broken" if seen.calls else "yes", "a call came" if seen.calls else "no call came")


async def _answers_json(server: Server) -> Finding:
    prompt = 'Answer with this JSON object and nothing else: {"city": "Paris"}'
    seen = await server.ask(prompt, response_format={"type": "json_object"})
    if not seen.parts:
        return Finding("JSON mode", "no", seen.error)
    verdict: Verdict = "yes" if _is_json(seen.text) else "broken"
    return _unless_cut(seen, Finding("JSON mode", verdict, f"{seen.text.strip()[:40]!r}"))


async def _takes_json_schema(server: Server) -> Finding:
    schema = {"name": "city", "schema": {**_WEATHER["function"]["parameters"]}, "strict": True}
    seen = await server.ask(
        "Answer with the capital of France, as JSON with the only key capital.",
        response_format={"type": "json_schema", "json_schema": schema},
    )
    if not seen.parts:
        return Finding("JSON schema", "no", f"{seen.error}; agentkit does not need it")
    if fits(seen.text, "city"):
        return Finding("JSON schema", "yes", f"enforced: {seen.text.strip()[:40]!r}")
    said = f"accepted, but not enforced: {seen.text.strip()[:40]!r}; agentkit does not need it"
    return _unless_cut(seen, Finding("JSON schema", "no", said))


_UNITS = ("c", "f")
_KELVIN = "Call the tool for Paris, with the unit set to exactly: kelvin"


def _with_unit(*, strict: bool) -> list[dict[str, Any]]:
    function = _WEATHER["function"]
    properties = {**function["parameters"]["properties"], "unit": {"type": "string", "enum": [*_UNITS]}}
    parameters = {**function["parameters"], "properties": properties, "required": ["city", "unit"]}
    return [{"type": "function", "function": {**function, "parameters": parameters, **({"strict": True} if strict else {})}}]


async def _takes_strict(server: Server) -> Finding:
    """Whether strict functions are accepted, and whether they are enforced, which a server may leave out without a word.

    The prompt asks for what the schema forbids. A call that does it shows that nothing is enforced. One that does not is
    enforced if the same prompt breaks the schema without `strict`, or if a schema that strict mode forbids is refused.
    """
    name = "strict functions"
    seen = await server.ask(_KELVIN, tools=_with_unit(strict=True))
    if not seen.parts:
        return Finding(name, "no", seen.error, {"strict": False} if server.profile.strict else {})
    if seen.calls and not fits(seen.calls[0].arguments, "city", unit=_UNITS):
        said = f"accepted, but not enforced: the arguments are {seen.calls[0].arguments[:60]}"
        return _unless_cut(seen, Finding(name, "no", said, {"strict": False} if server.profile.strict else {}))
    settings = {} if server.profile.strict else {"strict": True}
    if seen.calls:
        plain = await server.ask(_KELVIN, tools=_with_unit(strict=False))
        if plain.calls and not plain.was_cut and not fits(plain.calls[0].arguments, "city", unit=_UNITS):
            return Finding(name, "yes", "enforced: without it the model broke the schema; use @tool(strict=True)", settings)
    function = {**_WEATHER["function"], "parameters": {"type": "object", "properties": {"x": {}}}, "strict": True}
    loose = await server.ask(_KELVIN, tools=[{"type": "function", "function": function}])
    if loose.status in (400, 422):
        return Finding(name, "yes", "checked: a schema that is not strict is refused; use @tool(strict=True)", settings)
    return Finding(name, "unknown", "accepted; whether it is enforced was not seen")


async def _caches(server: Server) -> Finding:
    prompt: list[Message] = [{"role": "system", "content": _LONG}, {"role": "user", "content": "Say hello in one word."}]
    await server.ask(prompt)
    seen = await server.ask(prompt)
    if not seen.parts:
        return Finding("prompt cache", "unknown", seen.error)
    hits = seen.parts.usage.cache_read_tokens
    said = f"{hits} of {seen.parts.usage.input_tokens} tokens came from the cache the second time"
    return Finding("prompt cache", "yes" if hits else "unknown", said)


async def _stops_at_max_tokens(server: Server) -> Finding:
    seen = await server.ask("Count from 1 to 200.", most=8)
    if not seen.parts:
        return Finding("max_tokens", "no", seen.error)
    used, said = seen.parts.usage.output_tokens, f"finish_reason is {seen.parts.finish_reason!r}"
    if seen.parts.finish_reason == "length":
        return Finding("max_tokens", "yes", said)
    if used < seen.most:
        return Finding("max_tokens", "unknown", f"{said} after {used} tokens, before the limit of {seen.most}")
    return Finding("max_tokens", "broken", f"{said} after {used} tokens of {seen.most}: a cut answer passes for a whole one")


CHECKS: tuple[tuple[Check, int, int], ...] = (
    (_answers, 2, 30),
    (_streams, 3, 45),
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
    (_takes_strict, 3, 450),
    (_caches, 2, 2600),
    (_stops_at_max_tokens, 1, 20),
)
"""Each check, the most requests that it sends, and about how many prompt tokens these have together."""

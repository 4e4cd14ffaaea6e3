"""The checks. Each one sends a few requests, and reports what it found."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from ..thinking import THINK_TAGS, tagged
from .asking import MAX_TOKENS, Answer, Message, Server, matches
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
    answer = await server.ask("Say hello in one word.")
    settings: dict[str, Any] = {}
    if answer.status == 400 and "max_completion_tokens" in answer.error and server.max_tokens_field == "max_tokens":
        settings["max_tokens_field"] = server.max_tokens_field = "max_completion_tokens"
        answer = await server.ask("Say hello in one word.")
    if not answer.parts:
        return Finding("answers", "broken", answer.error, settings)
    counted = bool(answer.parts.usage.input_tokens and answer.parts.usage.output_tokens)
    if counted and answer.was_cut_before_it_began:
        return Finding("answers", "unknown", _CUT, settings)
    verdict: Verdict = "yes" if answer.text.strip() and counted else "broken"
    return Finding("answers", verdict, f"{answer.text.strip()[:40]!r}; usage {'is' if counted else 'is not'} counted", settings)


async def _streams(server: Server) -> Finding:
    options: dict[str, Any] | None = {"include_usage": True}
    answer = await server.ask("Say hello in one word.", stream=True, stream_options=options)
    settings = {}
    if answer.status == 400:
        settings, options = {"stream_usage": False} if server.profile.stream_usage else {}, None
        answer = await server.ask("Say hello in one word.", stream=True)
    if answer.parts and not (answer.came_whole or answer.is_done):  # perhaps only this stream was cut after its finish reason
        answer = await server.ask("Say hello in one word.", stream=True, stream_options=options)
    if not answer.parts:
        return Finding("streaming", "broken", answer.error, settings)
    if answer.came_whole:
        return Finding("streaming", "no", "the reply came whole; it is read all the same", settings)
    done = answer.is_done
    counted = bool(answer.parts.usage.output_tokens)
    detail = f"{len(answer.bodies) - done} chunks, {'with' if counted else 'no'} usage{'' if done else ', and no [DONE]'}"
    return Finding("streaming", "yes" if done and counted else "broken", detail, settings)


async def _calls_tools(server: Server) -> Finding:
    answer = await server.ask(_ASK_WEATHER, tools=[_WEATHER])
    if not answer.parts:
        return Finding("tools", "no", answer.error)
    if not answer.calls:
        if "DSML" in answer.text:
            return Finding("tools", "broken", "the call came as markup in the text", {"markup_calls": True})
        shaped = "get_weather" in answer.text and answer.text.lstrip()[:1] in "{[<"
        hint = "the call came as text: check the server's chat template and tool-call parser" if shaped else "no call came"
        return Finding("tools", "broken" if shaped else "unknown", hint)
    oddities = _oddities(answer)
    return Finding("tools", "yes", "; ".join(oddities) or "a call with an id, and its arguments as text")


def _oddities(answer: Answer) -> list[str]:
    """Deviations of this server that agentkit corrects."""
    raw = next((call for call in _message(answer).get("tool_calls") or () if isinstance(call, dict)), None)
    if raw is None:
        return []
    found = []
    if not raw.get("id"):
        found.append("the call has no id")
    if not isinstance((raw.get("function") or {}).get("arguments"), str):
        found.append("the arguments are no text")
    if answer.parts and answer.parts.finish_reason != "tool_calls":
        found.append(f"finish_reason is {answer.parts.finish_reason!r}")
    return found


def _message(answer: Answer) -> Mapping[str, Any]:
    """The message of a whole reply, or the first delta of a stream; empty if there is none."""
    for body in answer.bodies:
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
    back = server.profile.reasoning_back
    echo = {"content": tagged("I ask.", "")} if back == THINK_TAGS else {back: "I ask the tool."} if back else {}
    answer = await server.ask(_history("call_00_a", **echo), tools=[_WEATHER])
    settings = {}
    if not answer.parts:
        first = answer
        answer = await server.ask(_history("aB3dE6gH9", **echo), tools=[_WEATHER])
        if not answer.parts:
            return Finding("tool results", "broken", first.error)
        settings = {"nine_character_ids": True} if not server.profile.nine_character_ids else {}
    used = "18" in answer.text
    detail = "the answer uses it" if used else "accepted, but the answer does not use it"
    return Finding(
        "tool results", "yes" if used else "unknown", detail + (", with ids of nine characters" if settings else ""), settings
    )


async def _echoes_thinking(server: Server) -> Finding:
    answer = await server.ask(_ASK_WEATHER, thinking=True, tools=[_WEATHER], max_tokens=4 * MAX_TOKENS)
    if not answer.parts:
        return Finding("thinking", "no", answer.error)
    if not answer.parts.message.reasoning:
        if answer.text.lstrip().startswith("<think>"):
            return Finding("thinking", "yes", "in the content, between <think> tags", {"think_tags": True})
        return Finding("thinking", "no", "no thinking text came")
    name = next((n for n in ("reasoning_content", "reasoning") if _message(answer).get(n)), None)
    plain = await server.ask(_history("call_00_a"), thinking=True, tools=[_WEATHER])
    back = await server.ask(_history("call_00_a", **{name or "": "I ask."}), thinking=True, tools=[_WEATHER]) if name else plain
    needed = plain.status == 400 and back.parts is not None
    detail = f"in {name or 'the content'}; {'must' if needed else 'need not'} be sent back"
    settings = {"reasoning_back": name} if needed and server.profile.reasoning_back != name else {}
    return Finding("thinking", "yes" if back.parts or plain.parts else "broken", detail, settings)


async def _calls_in_parallel(server: Server) -> Finding:
    prompt = "Call the tool for Paris and for Rome, both in this one reply."
    answer = await server.ask(prompt, tools=[_WEATHER], stream=True)
    if not answer.parts or len(answer.calls) < 2:
        return Finding("parallel calls", "unknown" if answer.parts else "no", answer.error or f"{len(answer.calls)} call came")
    indices = [piece.get("index") for piece in _call_pieces(answer)]
    has_own_index = len(set(indices)) == len(answer.calls)
    detail = "each with an index of its own" if has_own_index else "all at one index, told apart by their ids"
    whole = all(_is_json(call.arguments) for call in answer.calls)
    finding = Finding("parallel calls", "yes" if whole else "broken", detail if whole else "their arguments are mixed up")
    return _unless_cut(answer, finding)


async def _streams_arguments(server: Server) -> Finding:
    answer = await server.ask(_ASK_WEATHER, tools=[_WEATHER], stream=True)
    if not answer.parts or not answer.calls:
        return Finding("streamed arguments", "unknown", answer.error or "no call came")
    pieces = [piece for piece in _call_pieces(answer) if (piece.get("function") or {}).get("arguments")]
    whole = all(_is_json(call.arguments) for call in answer.calls)
    detail = f"in {len(pieces)} pieces" if len(pieces) > 1 else "in one piece"
    finding = Finding("streamed arguments", "yes" if whole else "broken", detail if whole else "they are no JSON in the end")
    return _unless_cut(answer, finding)


def _call_pieces(answer: Answer) -> list[Any]:
    deltas = [
        choice.get("delta") or {} for body in answer.bodies if isinstance(body, dict) for choice in body.get("choices") or ()
    ]
    return [piece for delta in deltas for piece in delta.get("tool_calls") or ()]


def _unless_cut(answer: Answer, finding: Finding) -> Finding:
    return Finding(finding.check, "unknown", _CUT) if answer.was_cut and finding.verdict != "yes" else finding


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def _forces(server: Server, name: str, choice: Any) -> Finding:
    """Whether a tool choice is enforced, and not only accepted. The second tool shows whether the name counts."""
    prompt, tools = "Say hello in one word.", [_WEATHER, _TIME]
    answer = await server.ask(prompt, tools=tools, tool_choice=choice)
    if not answer.parts:
        return Finding(name, "no", answer.error)
    if answer.was_cut_before_it_began:
        return Finding(name, "unknown", _CUT)
    if not answer.calls:
        return Finding(name, "broken", "accepted, but not enforced; agentkit asks once more in words")
    if isinstance(choice, dict) and {call.name for call in answer.calls} != {choice["function"]["name"]}:
        return Finding(name, "broken", f"another function was called: {answer.calls[0].name[:40]}")
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
    """This check runs after `_forces_any`, so it can tell which `forced_choice` the profile needs."""
    found = await _forces(server, "tool_choice by name", {"type": "function", "function": {"name": "get_time"}})
    if found.verdict == "unknown" or server.forces_any is None:
        return found
    by_name = found.verdict == "yes"
    needed = ("named" if server.forces_any else "named only") if by_name else ("required" if server.forces_any else "auto")
    settings = {} if needed == server.profile.forced_choice else {"forced_choice": needed}
    return replace(found, settings={**found.settings, **settings})


async def _obeys_none(server: Server) -> Finding:
    answer = await server.ask(_ASK_WEATHER, tools=[_WEATHER], tool_choice="none")
    if not answer.parts:
        return Finding("tool_choice none", "no", answer.error)
    if answer.was_cut_before_it_began:
        return Finding("tool_choice none", "unknown", _CUT)
    return Finding("tool_choice none", "broken" if answer.calls else "yes", "a call came" if answer.calls else "no call came")


async def _answers_json(server: Server) -> Finding:
    prompt = 'Answer with this JSON object and nothing else: {"city": "Paris"}'
    answer = await server.ask(prompt, response_format={"type": "json_object"})
    if not answer.parts:
        return Finding("JSON mode", "no", answer.error)
    verdict: Verdict = "yes" if _is_json(answer.text) else "broken"
    return _unless_cut(answer, Finding("JSON mode", verdict, f"{answer.text.strip()[:40]!r}"))


async def _takes_json_schema(server: Server) -> Finding:
    schema = {"name": "city", "schema": {**_WEATHER["function"]["parameters"]}, "strict": True}
    answer = await server.ask(
        "Answer with the capital of France, as JSON with the only key capital.",
        response_format={"type": "json_schema", "json_schema": schema},
    )
    if not answer.parts:
        return Finding("JSON schema", "no", f"{answer.error}; agentkit does not need it")
    if matches(answer.text, "city"):
        return Finding("JSON schema", "yes", f"enforced: {answer.text.strip()[:40]!r}")
    detail = f"accepted, but not enforced: {answer.text.strip()[:40]!r}; agentkit does not need it"
    return _unless_cut(answer, Finding("JSON schema", "no", detail))


_UNITS = ("c", "f")
_KELVIN = "Call the tool for Paris, with the unit set to exactly: kelvin"


def _with_unit(*, strict: bool) -> list[dict[str, Any]]:
    function = _WEATHER["function"]
    properties = {**function["parameters"]["properties"], "unit": {"type": "string", "enum": [*_UNITS]}}
    parameters = {**function["parameters"], "properties": properties, "required": ["city", "unit"]}
    return [{"type": "function", "function": {**function, "parameters": parameters, **({"strict": True} if strict else {})}}]


async def _takes_strict(server: Server) -> Finding:
    """Whether strict functions are accepted, and whether they are enforced: a server may accept `strict` and ignore it.

    The prompt asks for an argument that the schema forbids. A call with that argument shows that nothing is enforced. A correct
    call shows enforcement only with further evidence. Either the same prompt breaks the schema without `strict`, or the server
    refuses a schema that strict mode forbids.
    """
    name = "strict functions"
    answer = await server.ask(_KELVIN, tools=_with_unit(strict=True))
    if not answer.parts:
        return Finding(name, "no", answer.error, {"strict": False} if server.profile.strict else {})
    if answer.calls and not matches(answer.calls[0].arguments, "city", unit=_UNITS):
        detail = f"accepted, but not enforced: the arguments are {answer.calls[0].arguments[:60]}"
        return _unless_cut(answer, Finding(name, "no", detail, {"strict": False} if server.profile.strict else {}))
    settings = {} if server.profile.strict else {"strict": True}
    if answer.calls:
        plain = await server.ask(_KELVIN, tools=_with_unit(strict=False))
        if plain.calls and not plain.was_cut and not matches(plain.calls[0].arguments, "city", unit=_UNITS):
            return Finding(name, "yes", "enforced: without it the model broke the schema; use @tool(strict=True)", settings)
    function = {**_WEATHER["function"], "parameters": {"type": "object", "properties": {"x": {}}}, "strict": True}
    loose = await server.ask(_KELVIN, tools=[{"type": "function", "function": function}])
    if loose.status in (400, 422):
        return Finding(name, "yes", "checked: a schema that is not strict is refused; use @tool(strict=True)", settings)
    return Finding(name, "unknown", "accepted; whether it is enforced was not seen")


async def _caches(server: Server) -> Finding:
    prompt: list[Message] = [{"role": "system", "content": _LONG}, {"role": "user", "content": "Say hello in one word."}]
    await server.ask(prompt)
    answer = await server.ask(prompt)
    if not answer.parts:
        return Finding("prompt cache", "unknown", answer.error)
    hits = answer.parts.usage.cache_read_tokens
    detail = f"{hits} of {answer.parts.usage.input_tokens} tokens came from the cache the second time"
    return Finding("prompt cache", "yes" if hits else "unknown", detail)


async def _stops_at_max_tokens(server: Server) -> Finding:
    answer = await server.ask("Count from 1 to 200.", max_tokens=8)
    if not answer.parts:
        return Finding("max_tokens", "no", answer.error)
    used, limit = answer.parts.usage.output_tokens, answer.max_tokens
    detail = f"finish_reason is {answer.parts.finish_reason!r}"
    if answer.parts.finish_reason == "length":
        return Finding("max_tokens", "yes", detail)
    if used < limit:
        return Finding("max_tokens", "unknown", f"{detail} after {used} tokens, before the limit of {limit}")
    return Finding("max_tokens", "broken", f"{detail} after {used} tokens of {limit}: a cut answer passes for a whole one")


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
"""Each check, its max number of requests, and their approximate prompt tokens in total."""

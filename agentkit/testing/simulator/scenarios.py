"""Scenarios: named behaviours of a simulator. Each simulator gets a fresh one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import AgentError
from ...messages import Assistant, ToolCall
from ...models.scripted import call
from .replies import AnswerFn, Answers, AnyReply, CallStyle, Cut, Failure, Raw, Reply
from .request import SimRequest

__all__ = ["SCENARIOS", "answer_function", "example", "example_call"]

BUSY = Failure(
    503,
    "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.",
    type="service_unavailable_error",
)
RATE_LIMIT = Failure(
    429,
    "Too many requests. Your current concurrency is 40, which exceeds your concurrency limit of 39 based on your "
    "remaining balance. Please top up your balance to restore your concurrency.",
    type="rate_limit_error",
)
"""It has no `Retry-After`, since the server has never been seen to send one."""
NO_BALANCE = Failure(402, "Insufficient Balance", type="unknown_error")


def answer_function(answers: Answers) -> AnswerFn:
    """The answers of a simulator (a scenario's name, a list, or a function) as one function of the request."""
    if isinstance(answers, str):
        if answers not in SCENARIOS:
            known = ", ".join(sorted(SCENARIOS))
            raise AgentError(f"no scenario is named {answers!r}; there are: {known}. For one text, pass a list: [{answers!r}]")
        return SCENARIOS[answers]()
    return answers if callable(answers) else _in_turn(answers)


def _in_turn(answers: Sequence[AnyReply | AnswerFn]) -> AnswerFn:
    left = iter(answers)

    def answer(request: SimRequest) -> AnyReply:
        for reply in left:
            return reply(request) if callable(reply) else reply
        raise AgentError(f"the script has {len(answers)} replies and one more request came; add a reply")

    return answer


def first(*replies: AnyReply | AnswerFn, then: AnswerFn) -> Callable[[], AnswerFn]:
    """A scenario: each of `replies` once, in turn, and then the answers of `then`."""

    def make() -> AnswerFn:
        left: Iterator[AnyReply | AnswerFn] = iter(replies)

        def answer(request: SimRequest) -> AnyReply:
            reply = next(left, then)
            return reply(request) if callable(reply) else reply

        return answer

    return make


def echo(request: SimRequest) -> AnyReply:
    """The text of the last message."""
    content = request.last.get("content")
    return content if isinstance(content, str) else json.dumps(content)


def weather(request: SimRequest) -> AnyReply:
    """A call of the first tool after a user message, then an answer with the tool's result."""
    if request.last["role"] == "tool":
        return Assistant(f"The answer is: {request.last['content']}", "The tool has answered.")
    if not request.tools:
        return Assistant("No tool is offered.", "I cannot look it up.")
    return Assistant("", "I need the tool.", (example_call(request),))


def dsml(request: SimRequest) -> AnyReply:
    """A call of the first tool in DeepSeek's own markup, leaked into the text."""
    if not request.tools:
        return weather(request)
    wanted = example_call(request)
    parameters = [
        f'<｜DSML｜parameter name="{name}" string="{str(isinstance(value, str)).lower()}">'
        f"{value if isinstance(value, str) else json.dumps(value)}</｜DSML｜parameter>\n"
        for name, value in json.loads(wanted.arguments).items()
    ]
    inside = f'<｜DSML｜invoke name="{wanted.name}">\n{"".join(parameters)}</｜DSML｜invoke>\n'
    return f"<｜DSML｜tool_calls>\n{inside}</｜DSML｜tool_calls>"


def length(request: SimRequest) -> AnyReply:
    """A call whose arguments stop in the middle, or half a sentence, with finish_reason "length"."""
    if not request.tools:
        return Reply("The answer is", "length")
    wanted = example_call(request)
    return Reply(ToolCall("", wanted.name, wanted.arguments[: len(wanted.arguments) // 2]), "length")


def cut_call(request: SimRequest) -> AnyReply:
    """The reply of `weather`, cut before its end."""
    return Cut(weather(request), after=2)


def parallel(style: CallStyle) -> AnswerFn:
    """Two calls of the first tool in one reply, streamed in this style, then an answer."""

    def answer(request: SimRequest) -> AnyReply:
        if request.last["role"] == "tool" or not request.tools:
            return weather(request)
        return Reply([example_call(request), example_call(request)], calls=style)

    return answer


def example_call(request: SimRequest, name: str | None = None) -> ToolCall:
    """A call of the function of this name, or of the first one, with arguments that fit a simple schema."""
    function = next(function for function in request.tools if name in (None, function["name"]))
    parameters = function.get("parameters") or {}
    return call(function["name"], **example(parameters, parameters))


def example(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value that fits a simple schema: default, first choice, "Paris", 1 or True. Objects get their required keys."""
    if "$ref" in schema:
        return example(_resolved(schema["$ref"], root), root)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], root)
    given = [schema[key] for key in ("default", "const") if key in schema] + schema.get("enum", [])[:1]
    if given:
        return given[0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: example(properties.get(name, {}), root) for name in schema.get("required", ())}
    if kind == "array":
        return [example(schema.get("items", {}), root)] * int(schema.get("minItems", 1))
    number = schema.get("minimum", 1)
    return {"integer": number, "number": number, "boolean": True, "null": None}.get(kind, "Paris")


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found = root
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


_STREAM_ERROR = Raw(
    'data: {"error":{"message":"The server had an error","type":"server_error","code":"server_error"}}\n\n',
    content_type="text/event-stream",
)

SCENARIOS: Mapping[str, Callable[[], AnswerFn]] = {
    "echo": lambda: echo,
    "weather": lambda: weather,
    "busy": first(BUSY, then=weather),
    "rate_limit": first(RATE_LIMIT, then=weather),
    "no_balance": lambda: lambda _request: NO_BALANCE,
    "cut": first(cut_call, then=weather),
    "empty": first(Assistant(), then=weather),
    "dsml": first(dsml, then=weather),
    "length": first(length, then=weather),
    "content_filter": lambda: lambda _request: Reply("", "content_filter"),
    "out_of_resources": first(Reply("", "insufficient_system_resource"), then=weather),
    "whitespace": first(Reply(" \n" * 50_000, "length"), then=weather),
    "stream_error": first(_STREAM_ERROR, then=weather),
    "parallel": lambda: parallel("in_turn"),
    "parallel_index_zero": lambda: parallel("index_zero"),
    "interleaved": lambda: parallel("interleaved"),
    "empty_ids": lambda: parallel("empty_ids"),
    "object_arguments": lambda: parallel("objects"),
}
"""All scenarios by name. Unless noted otherwise, a scenario misbehaves once, then calls a tool and answers."""

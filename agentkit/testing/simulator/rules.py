"""The rules of the endpoint: from a request to its refusal. Pure. Statuses and texts are the server's.

If a rule is known but not its text, the text is ours, and says what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeAlias

from . import message_rules
from .replies import Failure
from .request import Behaviour, SimRequest
from .shape import shape_errors
from .strict_schema import schema_errors
from .tokens import count_tokens

__all__ = ["refusal"]

MAX_TOKENS = 393_216
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_JSON_TYPE = re.compile(r"application/([^/;]+\+)?json", re.IGNORECASE)
_USER_ID = re.compile(r"[A-Za-z0-9_-]{0,512}")

Rule: TypeAlias = Callable[[SimRequest, Behaviour], Iterator[Failure]]


def refusal(request: SimRequest, behaviour: Behaviour) -> Failure | None:
    """The first refusal of `request`, or None. A later rule may rely on the earlier ones."""
    return next(chain.from_iterable(rule(request, behaviour) for rule in _RULES), None)


def _content_type(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    kind = request.headers.get("content-type")
    if kind is not None and not _JSON_TYPE.fullmatch(kind.partition(";")[0].strip()):
        yield Failure(415, "Expected request with `Content-Type: application/json`")


def _json(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    if request.body:
        return
    try:
        parsed = request.parse()
    except (ValueError, RecursionError) as error:
        yield Failure(400, f"Failed to parse the request body as JSON: {error}")
        return
    if not isinstance(parsed, dict):
        yield _undeserialized("invalid type, expected a map", behaviour)


def _effort_type(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    effort = request.body.get("reasoning_effort")
    if effort is not None and not isinstance(effort, str):
        yield Failure(400, "Failed to parse the request body as JSON: reasoning_effort: expected value")


def _shape(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    yield from (_undeserialized(error, behaviour) for error in shape_errors(request.body, audio="audio" in behaviour.parts))


def _undeserialized(error: str, behaviour: Behaviour) -> Failure:
    text = f"Failed to deserialize the JSON body into the target type: {error}"
    return Failure(behaviour.deserialize_status, text)


def _model(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    if request.body["model"] not in behaviour.models:
        *first, last = behaviour.models
        names = f"{', '.join(first)}, and {last}" if first else last
        text = f"The supported API model names are {names}, but you passed {request.body['model']}."
        yield Failure(400, text)


def _ranges(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    body = request.body
    if (tokens := body.get("max_tokens")) is not None and not 1 <= tokens <= MAX_TOKENS:
        yield Failure(400, f"Invalid max_tokens value, the valid range of max_tokens is [1, {MAX_TOKENS}]")
    if (temperature := body.get("temperature")) is not None and not 0 <= temperature <= 2:
        yield Failure(400, "Invalid temperature value, the valid range of temperature is [0, 2]")
    if (top_p := body.get("top_p")) is not None and not 0 < top_p <= 1:
        yield Failure(400, "Invalid top_p value, the valid range of top_p is (0, 1.0]")
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 16:
        yield Failure(400, f"Stop string array too long: {len(stop)}")
    if not _USER_ID.fullmatch(body.get("user_id") or ""):
        yield Failure(400, "Invalid user_id value, user_id must be at most 512 characters of [a-zA-Z0-9_-]")


def _logprobs(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    top = request.body.get("top_logprobs")
    if top is not None and request.body.get("logprobs") is not True:
        text = "Invalid top_logprobs and logprobs value, logprobs must be set to true if top_logprobs is used."
        yield Failure(400, text)
    if top is not None and top > 20:
        yield Failure(400, "Invalid top_logprobs value, the valid range of top_logprobs is [0, 20].")


def _stream_options(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    if request.body.get("stream_options") is not None and not request.stream:
        yield Failure(400, "stream_options should be set along with stream = true")


def _response_format(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    kind = (request.body.get("response_format") or {}).get("type")
    if kind == "json_schema":
        yield Failure(400, "This response_format type is unavailable now")
    if kind == "json_object" and "json" not in _visible_text(request).lower():
        text = "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'."
        yield Failure(400, text)


def _visible_text(request: SimRequest) -> str:
    contents = [message.get("content") or "" for message in request.messages]
    texts = [content if isinstance(content, str) else json.dumps(content) for content in contents]
    return "\n".join(texts)


def _tools(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    if len(request.tools) > 128:
        yield Failure(400, f"Too many tools: {len(request.tools)}, at most 128 are allowed")
    names = [function["name"] for function in request.tools]
    for index, name in enumerate(names):
        if not _TOOL_NAME.fullmatch(name):
            wanted = "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            long = f"Invalid 'tools[{index}].function.name': string too long. Expected at most 64 characters."
            odd = f"Invalid 'tools[{index}].function.name': string does not match pattern. {wanted}"
            yield Failure(400, long if len(name) > 64 and _TOOL_NAME.fullmatch(name[:64]) else odd)
    if len(set(names)) != len(names):
        yield Failure(400, "Tool names must be unique")


def _strict(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    strict = [function.get("strict") is True for function in request.tools]
    if not any(strict):
        return
    if not request.beta:
        yield Failure(400, "strict is a beta feature, use the base URL https://api.deepseek.com/beta")
    if not all(strict):
        yield Failure(400, "mixed values for 'strict': either all functions of a request are strict or none is")
    for function in request.tools:
        for error in schema_errors(function.get("parameters"), null=not behaviour.refuse_strict_null):
            yield Failure(400, f"Invalid tool parameters schema : {error}")


def _tool_choice(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    choice = request.body.get("tool_choice")
    if choice in (None, "none", "auto"):
        return
    if request.thinking:
        yield Failure(400, "Thinking mode does not support this tool_choice")
    if not request.tools:
        yield Failure(400, "tool_choice is only allowed when tools are specified")
    name = choice["function"]["name"] if isinstance(choice, dict) else None
    if name is not None and name not in [function["name"] for function in request.tools]:
        yield Failure(400, f"Tool '{name}' of tool_choice is not in tools")


def _messages(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    if not request.messages:
        yield Failure(400, "Empty input messages")


def _context(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    asked = request.body.get("max_tokens") or 0
    prompt = count_tokens(request.prompt)
    if prompt + asked > behaviour.context_length:
        yield Failure(
            400,
            f"This model's maximum context length is {behaviour.context_length} tokens. However, you requested "
            f"{prompt + asked} tokens ({prompt} in the messages, {asked} in the completion). Please reduce the length "
            "of the messages or completion.",
        )


_RULES: tuple[Rule, ...] = (
    _content_type,
    _json,
    _effort_type,
    _shape,
    _model,
    _messages,
    _ranges,
    _logprobs,
    _stream_options,
    _response_format,
    _tools,
    _strict,
    _tool_choice,
    message_rules.assistants,
    message_rules.tool_calls,
    message_rules.passback,
    message_rules.parts,
    message_rules.prefix,
    _context,
)

"""Replies whose JSON is odd, short, wrong, or asks for odd calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agentkit import Limits, ModelSettings, OutputInvalid, RunContext, ToolFinished, tool
from agentkit import errors as e
from agentkit.messages import Assistant
from agentkit.models.profiles import DEEPSEEK
from tests.models.raw_server import Step, http

from .rows import (
    Answers,
    Fault,
    Outcome,
    Played,
    Raises,
    Row,
    answer,
    call,
    calls,
    chunks,
    payload,
    ran,
    sse,
    told,
)

__all__ = ["ROWS"]

TWICE = Answers(attempts=2)
PARIS = '{"city": "Paris"}'
LONG = "1" * 5000
BEFORE = {"requests": 1, "input_tokens": 1000, "output_tokens": 200, "cache_read_tokens": 400, "reasoning_tokens": 50}
"""What the first turn counts: `play.USAGE`."""
HUGE = json.dumps({"city": "x" * (20 * 2**20)})


def row(name: str, fault: Fault, must: Outcome | None = None, **more: Any) -> Row:
    return Row(id=name, group="payload", fault=fault, must=must or Answers(), **more)


def body(reply: Any, *stream: Any) -> Callable[[bool], list[Step]]:
    """A whole reply as it is; streamed, these chunks and [DONE]."""
    return lambda watched: sse(*(stream or (reply,)), b"[DONE]") if watched else [http(json.dumps(reply).encode())]


def usage(counts: Any) -> Callable[[bool], list[Step]]:
    return answer(usage=counts)


def counted(**fields: int) -> Callable[[Played], None]:
    """The usage of the turn with the fault, which is added to that of the first."""

    def check(played: Played) -> None:
        assert played.result is not None
        found = {name: getattr(played.result.usage, name) for name in fields}
        assert found == {name: count + BEFORE[name] for name, count in fields.items()}

    return check


def stops(reason: str) -> Callable[[Played], None]:
    def check(played: Played) -> None:
        assert played.result is not None and played.result.stop_reason == reason

    return check


def ids_are_unique(played: Played) -> None:
    assert played.result is not None
    ids = [c.id for m in played.result.messages if isinstance(m, Assistant) for c in m.tool_calls]
    assert len(set(ids)) == len(ids) and all(ids)
    sent = [m["tool_call_id"] for m in played.last["messages"] if m["role"] == "tool"]
    assert sent == ids


def arguments_are_text(played: Played) -> None:
    assert all(isinstance(c["function"]["arguments"], str) for m in played.last["messages"] for c in m.get("tool_calls", ()))


def is_left_out(played: Played) -> None:
    """What was too long to be read goes back as nothing: no server would take it."""
    assert [c["function"]["arguments"] for c in played.last["messages"][-2]["tool_calls"]] == ["{}"]


def thinking_goes_back(played: Played) -> None:
    assert [m["reasoning_content"] for m in played.last["messages"] if m["role"] == "assistant"] == ["I pay first.", "I look."]


def has_its_text(played: Played) -> None:
    assert isinstance(played.error, OutputInvalid) and played.error.text == 'Sure! {"a": 1'


def one_tool_result(played: Played) -> None:
    state = played.result.state if played.result else played.error.state  # type: ignore[union-attr]
    assert sum(isinstance(event, ToolFinished) and not event.result.is_error for event in state.events) == 1


def in_call_order(count: int) -> Callable[[Played], None]:
    def check(played: Played) -> None:
        assert [result.content for result in played.results] == [f"18 degrees in C{n}" for n in range(count)]

    return check


def deltas(*pieces: Any, finish: str = "tool_calls") -> list[Step]:
    """A stream of these pieces of calls, each in a chunk of its own."""
    parts = [{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]
    return sse(*parts, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}, b"[DONE]")


def piece(index: int | None, name: str | None, arguments: str, call_id: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"function": {"arguments": arguments} | ({"name": name} if name is not None else {})}
    return found | ({"index": index} if index is not None else {}) | ({"id": call_id} if call_id else {})


def streamed(name: str, fault: list[Step], *notes: Any, **more: Any) -> Row:
    return row(name, fault, ran(*notes), ways=(True,), **more)


def asks(arguments: Any, name: str = "weather", **more: Any) -> Callable[[bool], list[Step]]:
    return calls(call(name, arguments, **more))


HALVES = ('{"city":', ' "Paris"}')
THREE = [
    *(piece(n, "weather", '{"ci', f"id{n}") for n in range(3)),
    *(piece(n, None, f'ty": "C{n}"}}') for n in (2, 0, 1)),
]
AS_TEXT = f'<tool_call>{{"name": "weather", "arguments": {PARIS}}}</tool_call>'
MARKUP = (
    '<｜DSML｜tool_calls><｜DSML｜invoke name="weather"><｜DSML｜parameter name="city" string="true">Paris'
    "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>"
)
ENDLESS = {"times": None, "agent": {"limits": Limits(steps=4, on_limit="raise")}}
LIMITED = Raises(e.LimitReached, attempts=3, stop_reason="limit:steps", asked_anew=True)
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
CACHED = {
    "prompt_tokens": 15, "completion_tokens": 7, "prompt_cache_hit_tokens": 10, "prompt_cache_miss_tokens": 5,
    "completion_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip
COUNTING = [
    {"choices": [{"index": 0, "delta": {"content": text}}], "usage": {"prompt_tokens": 10, "completion_tokens": n}}
    for n, text in enumerate(("he", "llo"), 1)
]
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@tool(name="hidden")
def hidden(ctx: RunContext[list[Any]]) -> str:
    """Is there, but was not offered."""
    ctx.deps.append("hidden")
    return "ran"


inside: list[int] = []


@tool
async def crowd(ctx: RunContext[list[Any]]) -> int:
    """How many are in here with this one."""
    inside.append(1)
    ctx.deps.append(len(inside) <= 7)
    for _ in range(5):
        await asyncio.sleep(0)
    inside.pop()
    return 0


def the_rest_is_refused(played: Played) -> None:
    refused = [result for result in played.results if result.is_error]
    assert len(refused) == 10_000 - 256 and {r.content for r in refused} == {
        "error: not run: one reply may make at most 256 calls; make the others in the next reply"
    }


def whole_and_chunks(change: Callable[[dict[str, Any]], None]) -> Callable[[bool], list[Step]]:
    """A good reply, changed in its choice."""

    def steps(watched: bool) -> list[Step]:
        if watched:
            parts = [c for c in chunks({"content": "hello"}) if isinstance(c, dict)]
            for part in parts:
                change(part)
            return sse(*parts, b"[DONE]")
        whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
        change(whole)
        return [http(json.dumps(whole).encode())]

    return steps


def several(part: dict[str, Any]) -> None:
    (first,) = part["choices"]
    key = "delta" if "delta" in first else "message"
    part["choices"] = [{**first, "index": n, key: {"content": f"other {n}"}} for n in (2, 1)] + [first]


JSON_MODE = {"settings": ModelSettings(response_format="json_object"), "output_type": dict[str, int]}
BROKEN_STREAMS = Raises(e.StreamBroken, attempts=5)

ROWS = [
    row("choices_empty", body({"choices": []}), BROKEN_STREAMS, times=None),
    row("choices_missing", body({"id": "x"}), BROKEN_STREAMS, times=None),
    Row(
        id="choices_empty_usage_chunk", group="payload", ways=(True,), must=Answers(), checks=[counted(input_tokens=10)],
        fault=sse(*chunks({"content": "hello"})[:-1], {"choices": [], "usage": USAGE}, b"[DONE]"),
    ),
    row(
        "message_null", body({"choices": [{"index": 0, "message": None}]}), Raises(e.EmptyReply, attempts=5), times=None,
        why="no message is an empty one",
    ),
    row("content_null_no_tools", payload({"content": None}), TWICE, why="asked again, as every empty reply"),
    row(
        "content_null_no_tools#always", payload({"content": None}), Raises(e.EmptyReply, attempts=5), times=None,
        why="after the retries it is an error, not an answer of nothing",
    ),
    row(
        "content_null_with_reasoning", payload({"content": None, "reasoning_content": "thinking..."}),
        Raises(e.EmptyReply, attempts=5, says="but thinking text"), times=None, why="asked again, as every empty reply",
    ),
    row("content_parts_list", payload({"content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]})),
    row(
        "extra_unknown_fields", answer(x_new={"deep": [1]}, service_tier=None, system_fingerprint=5),
        why="ignored, and not kept: a message is what it says, whoever served it",
    ),
    row("usage_null", usage(None), checks=[counted(input_tokens=0, output_tokens=0, requests=1)]),
    row("usage_partial", usage({"total_tokens": 5}), checks=[counted(input_tokens=0, output_tokens=0)]),
    row(
        "usage_deepseek_cache", usage(CACHED),
        checks=[counted(input_tokens=15, output_tokens=7, cache_read_tokens=10, reasoning_tokens=3)],
    ),
    Row(
        id="usage_in_every_chunk", group="payload", ways=(True,), must=Answers(), fault=sse(*COUNTING, STOP, b"[DONE]"),
        checks=[counted(input_tokens=10, output_tokens=2)],
    ),
    row(
        "usage_floats_or_strings", usage({"prompt_tokens": "12", "completion_tokens": 3.0}),
        checks=[counted(input_tokens=12, output_tokens=3)],
    ),
    row("finish_length_text", answer(finish="length"), checks=[stops("limit:max_tokens")]),
    row("finish_length_mid_tool_args", calls(call("add", '{"n": '), finish="length"), told("cut off at max_tokens")),
    row("finish_length_valid_args", calls(call("add", '{"n": 1}'), finish="length"), told("cut off at max_tokens")),
    row(
        "finish_content_filter", answer("partly", finish="content_filter"), Raises(e.ContentFiltered), checks=[
            lambda played: _partial(played, "partly")
        ],
    ),
    row("finish_insufficient_system_resource", answer("half", finish="insufficient_system_resource"), TWICE),
    row("finish_unknown", answer(finish="eos_token"), checks=[lambda played: _finish(played, "eos_token")]),
    row("finish_stop_with_tool_calls", calls(call("weather", PARIS), finish="stop"), ran("Paris")),
    row("finish_tool_calls_without_calls", payload({"content": "hello", "tool_calls": []}, "tool_calls")),
    row("finish_tool_calls_without_calls#empty", payload({"content": "", "tool_calls": []}, "tool_calls"), TWICE),
    row("n_gt_1", whole_and_chunks(several)),
    streamed("tool_index_missing", deltas(
        piece(None, "weather", HALVES[0], "a"), piece(None, None, HALVES[1]),
        piece(None, "weather", '{"city": "Rome"}', "b"),
    ), "Paris", "Rome"),
    streamed("tool_index_duplicate", deltas(
        piece(0, "weather", PARIS, "a"), piece(0, "weather", '{"city": "Rome"}', "b"),
    ), "Paris", "Rome"),
    streamed("tool_index_gap", deltas(
        piece(2, "weather", '{"city": "Rome"}', "b"), piece(0, "weather", PARIS, "a"),
    ), "Paris", "Rome"),
    streamed("tool_index_starts_at_1", deltas(piece(1, "weather", PARIS, "a")), "Paris"),
    streamed("tool_interleaved", deltas(*THREE), "C0", "C1", "C2"),
    row("tool_id_missing", asks(PARIS, call_id=None), ran("Paris"), checks=[ids_are_unique]),
    row("tool_id_empty", asks(PARIS, call_id=""), ran("Paris"), checks=[ids_are_unique]),
    row(
        "tool_id_duplicate", calls(call("weather", PARIS, "a"), call("weather", '{"city": "Rome"}', "a")),
        ran("Paris", "Rome"), checks=[ids_are_unique],
    ),
    row("tool_id_duplicate#over_turns", asks(PARIS, call_id="call_1"), ran("Paris"), checks=[ids_are_unique]),
    streamed("tool_id_repeated_every_delta", deltas(
        piece(0, "weather", HALVES[0], "a"), piece(0, None, HALVES[1], "a"),
    ), "Paris", checks=[ids_are_unique]),
    streamed("tool_name_in_pieces", deltas(
        piece(0, "wea", "", "a"), piece(0, "ther", HALVES[0]), piece(0, None, HALVES[1]),
    ), "Paris"),
    streamed("tool_name_repeated_every_delta", deltas(
        piece(0, "weather", HALVES[0], "a"), piece(0, "weather", HALVES[1]),
    ), "Paris"),
    row("tool_name_null", asks("{}", name=None), told("there is no tool ''")),  # type: ignore[arg-type]
    row("tool_name_whitespace_or_prefix", asks(PARIS, name=" functions.weather "), ran("Paris")),
    row("tool_type_missing", calls({"id": "a", "function": {"name": "weather", "arguments": PARIS}}), ran("Paris")),
    row("args_dict", asks({"city": "Paris"}), ran("Paris"), checks=[arguments_are_text]),
    row("args_empty_string", asks("", name="clock"), ran("clock")),
    row("args_null", asks(None, name="clock"), ran("clock")),
    row("args_null#missing", calls({"id": "a", "type": "function", "function": {"name": "clock"}}), ran("clock")),
    row("args_invalid_json", asks("{city: Paris"), told("JSON")),
    row("args_json_in_fence", asks(f"```json\n{PARIS}\n```"), ran("Paris")),
    row("args_double_encoded", asks(json.dumps(PARIS)), ran("Paris")),
    row("args_array", asks("[1, 2]"), told("object")),
    row("args_scalar", asks("5"), told("object")),
    row("args_missing_required", asks("{}"), told("city"), checks=[lambda played: _hides(played, "pydantic", "https://")]),
    row("args_extra", asks('{"city": "P", "x": 1}'), told("x: unknown parameter; known: city")),
    row("args_wrong_type", asks('{"n": "many"}', name="add"), told("n", "many", "integer")),
    row("args_wrong_type#coerced", asks('{"n": "5"}', name="add"), ran((5, 0.0))),
    row(
        "args_duplicate_keys", asks('{"city": "a", "city": "b"}'), told("city"),
        why="refused: one of the two was not meant, and what a policy saw may not be what runs",
    ),
    row("args_duplicate_keys#equal", asks('{"city": "a", "city": "a"}'), ran("a")),
    row("args_nan_infinity", asks('{"n": 1, "m": NaN}', name="add"), told("NaN")),
    row("args_nan_infinity#infinity", asks('{"n": 1, "m": Infinity}', name="add"), told("Infinity")),
    row("args_big_int", asks(f'{{"n": {LONG}}}', name="add"), told("n")),
    row("args_big_int#float", asks('{"n": 1e400}', name="add"), told("1e400")),
    row("args_depth_bomb", asks("[" * 100_000), told("JSON")),
    row("args_depth_bomb#object", asks('{"city":' * 100_000), told("JSON")),
    row("args_huge", asks(HUGE), told("too large: 20,971,532 of"), ways=(False,), checks=[is_left_out]),
    Row(
        id="args_huge#streamed", group="payload", ways=(True,), must=told("too large: 20,971,532 of"), checks=[is_left_out],
        fault=deltas(
            piece(0, "weather", HUGE[:9], "a"),
            *(piece(0, None, HUGE[at : at + 2**20]) for at in range(9, len(HUGE), 2**20)),
        ),
    ),
    row("args_nul_and_surrogates", asks('{"city": "\\u0000\\ud800"}'), told("JSON")),
    row("unknown_tool", asks(PARIS, name="wether"), told("there is no tool 'wether'; the tools are: weather,")),
    row(
        "unknown_tool_forever", asks(PARIS, name="no_such_tool"), LIMITED, **ENDLESS, checks=[one_tool_result],
    ),
    row("disallowed_tool", asks("{}", name="hidden"), told("no tool 'hidden'"), why="what is not offered does not exist"),
    row("private_name", asks("{}", name="__class__"), told("there is no tool '__class__'")),
    row(
        "legacy_function_call", payload({"content": None, "function_call": {"name": "clock", "arguments": "{}"}}), TWICE,
        why="no call in the form that the request asked for: an empty reply, asked again",
    ),
    row("dsml_or_text_tool_call", answer(AS_TEXT), Answers(AS_TEXT), warns=e.EndpointWarning),
    row(
        "dsml_or_text_tool_call#dsml", answer(MARKUP), ran("Paris"),
        why="DeepSeek's servers leave its own markup in the text now and then; the profile says so",
    ),
    row(
        "dsml_or_text_tool_call#dsml_elsewhere", answer(MARKUP), Answers(MARKUP),
        model={"profile": replace(DEEPSEEK, markup_calls=False)},
    ),
    row("dsml_or_text_tool_call#dsml_quoted", answer(f"{MARKUP} is how."), Answers(f"{MARKUP} is how.")),
    row(
        "reasoning_then_tools", calls(call("weather", PARIS), reasoning_content="I look."), ran("Paris"),
        checks=[thinking_goes_back],
    ),
    row(
        "hundred_parallel_calls", calls(*(call("weather", f'{{"city": "C{n}"}}', f"i{n}") for n in range(100))),
        ran(*(f"C{n}" for n in range(100))), checks=[in_call_order(100), ids_are_unique],
    ),
    row(
        "hundred_parallel_calls#at_once", calls(*(call("crowd", "{}", f"i{n}") for n in range(100))),
        ran(*[True] * 100), tools=[crowd], agent={"limits": Limits(concurrent_calls=7)},
    ),
    row(
        "ten_thousand_calls", calls(*(call("weather", f'{{"city": "C{n}"}}', f"i{n}") for n in range(10_000))),
        ran(*(f"C{n}" for n in range(256))), checks=[the_rest_is_refused],
    ),
    row(
        "endless_tool_loop", asks(PARIS), LIMITED, **ENDLESS, checks=[lambda played: _kept(played, 3)],
    ),
    row("role_missing", payload({"content": "hello"})),
    row("model_changes_mid_stream", whole_and_chunks(lambda part: part.update(model=f"m{id(part)}"))),
    row(
        "json_mode_not_json", answer('Sure! {"a": 1'), Raises(OutputInvalid, attempts=3, asked_anew=True), times=None,
        agent=JSON_MODE, checks=[has_its_text],
    ),
    row(
        "json_mode_not_json#then_right", answer('Sure! {"a": 1'), Answers("{'a': 1}", attempts=2, asked_anew=True),
        then=answer('{"a": 1}'), agent=JSON_MODE,
    ),
    row("json_mode_empty", answer(""), Raises(e.EmptyReply, attempts=5), times=None, agent=JSON_MODE),
]  # fmt: skip


def _partial(played: Played, text: str) -> None:
    assert isinstance(played.error, e.ContentFiltered) and played.error.partial == text


def _finish(played: Played, reason: str) -> None:
    assert played.result is not None and played.result.state.finish_reason == reason


def _hides(played: Played, *words: str) -> None:
    assert not [word for word in words if word in played.results[0].content]


def _kept(played: Played, count: int) -> None:
    assert isinstance(played.error, e.LimitReached)
    assert played.ran == ["paid"] + ["Paris"] * count

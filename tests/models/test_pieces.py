"""Arguments, text and opaque fields from pieces: fragments, snapshots, halves of characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import Overloaded, StreamBroken
from agentkit.events import ReasoningDelta, TextDelta, ToolArgsDelta
from agentkit.messages import Assistant, ToolCall, User
from agentkit.models import wire
from agentkit.models.arguments import ArgumentText
from agentkit.models.http.bodies import read_whole
from agentkit.models.opaque import merge
from agentkit.models.profiles import profile_named
from agentkit.models.replies import Parts, ReplyReader


def read(*chunks: Any, **options: Any) -> tuple[Parts, list[Any]]:
    reader = ReplyReader(**options)
    deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
    return reader.parts(), deltas


def delta(finish: Any = None, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def settled(pieces: Sequence[str]) -> str:
    text = ArgumentText()
    for piece in pieces:
        text.add(piece)
    return text.final_text()


def called(arguments: str | None, name: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": index, "function": function, **fields}])


# --- arguments -----------------------------------------------------------------------------------------------------------

WHOLE = '{"q": "abc", "n": {"a": 1}}'
READINGS = {
    "fragments": (['{"q": ', '"abc", "n": ', '{"a": 1}}'], WHOLE),
    "a placeholder first": (["{}", '{"q": "abc"', ', "n": {"a": 1}}'], WHOLE),
    "a placeholder with blanks": (["{ }", WHOLE], WHOLE),
    "a placeholder and all at once": (["{}", WHOLE], WHOLE),
    "all so far each time": (['{"q"', '{"q": "abc"', '{"q": "abc", "n": {"a"', WHOLE], WHOLE),
    "a placeholder, then all so far each time": (["{}", '{"q"', '{"q": "abc"', WHOLE], WHOLE),
    "all so far, and the last one twice": (['{"q"', WHOLE, WHOLE], WHOLE),
    "fragments, then all of them": (['{"q": ', '"abc", "n": {"a": 1}}', WHOLE], WHOLE),
    "all of them three times": ([WHOLE, WHOLE, WHOLE], WHOLE),
    "fragments that break off, then all of them": (['{"q": ', '"abc", ', WHOLE], WHOLE),
    "once more, spaced otherwise": (['{"q":"abc",', '"n":{"a":1}}', WHOLE], WHOLE),
    "once more, keys in another order": ([WHOLE, '{"n":{"a":1},"q":"abc"}'], '{"n":{"a":1},"q":"abc"}'),
    "a fragment that is an object": (['{"q": "x ', "{}", '"}'], '{"q": "x {}"}'),
    "a value that repeats its own beginning": (['{"a":', '{"a":', "1}}"], '{"a":{"a":1}}'),
    "a value that is a snapshot of nothing": (['{"a":', '{"a":1}}'], '{"a":{"a":1}}'),
    "a placeholder that is null": (["null", '{"q": "abc"', ', "n": {"a": 1}}'], WHOLE),
    "a placeholder that is an empty text": (['""', WHOLE], WHOLE),
    "whole objects that grow": (["{}", '{"q": "a"}', '{"q": "abc"}', '{"q": "abc", "n": {}}', WHOLE], WHOLE),
    "whole objects that grow, in pieces": (['{"q": ', '"a"}', '{"q": "abc"', ', "n": {}}', WHOLE], WHOLE),
    "whole objects that grow, spaced otherwise": (['{"q":"ab"}', '{"n":{},"q":"abc"}', WHOLE], WHOLE),
    "a placeholder last": ([WHOLE, "{}"], WHOLE),
    "only placeholders": (["{}", "{}"], "{}"),
    "a list that grows": (['{"q": [1]}', '{"q": [1, "a"]}', '{"q": [1, "ab", 3]}'], '{"q": [1, "ab", 3]}'),
    "an object that shrinks": (['{"q": "a", "n": 2}', '{"q": "a"}'], '{"q": "a", "n": 2}{"q": "a"}'),
    "another number": (['{"q": 1}', '{"q": 12}'], '{"q": 1}{"q": 12}'),
    "another type": (['{"q": 1}', '{"q": true, "n": 2}'], '{"q": 1}{"q": true, "n": 2}'),
    "another beginning": (['{"q": "ab"}', '{"q": "cab"}'], '{"q": "ab"}{"q": "cab"}'),
    "a list with another beginning": (['{"q": [1]}', '{"q": [2, 1]}'], '{"q": [1]}{"q": [2, 1]}'),
    "one that does not contain the first of three": (
        ['{"q": "A"}', '{"q": "B"}', '{"q": "B"}'],
        '{"q": "A"}{"q": "B"}{"q": "B"}',
    ),
    "two objects": (['{"q": "A"}', '{"q": "B"}'], '{"q": "A"}{"q": "B"}'),
    "two objects in one piece": (['{"q": "A"}{"q": "B"}'], '{"q": "A"}{"q": "B"}'),
    "broken fragments": (['{"q": ', "{", "abc"], '{"q": {abc'),
    "broken, then another object": (['{"q": "A', '{"z": 1}'], '{"q": "A{"z": 1}'),
    "only a placeholder": (["{}"], "{}"),
    "nothing": ([], ""),
}


@pytest.mark.parametrize(("pieces", "text"), READINGS.values(), ids=READINGS)
def test_arguments_that_the_pieces_stand_for(pieces: list[str], text: str) -> None:
    assert settled(pieces) == text


VALUES = st.recursive(st.text(max_size=4), lambda v: st.lists(v) | st.dictionaries(st.text(max_size=2), v), max_leaves=6)


@given(st.dictionaries(st.text(max_size=3), VALUES), st.lists(st.integers(0, 60), max_size=6))
def test_fragments_at_any_split_are_joined(value: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps(value)
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert settled(pieces) == text
    parts, deltas = read(*(called(piece, "f", id="a") for piece in pieces[:1]), *map(called, pieces[1:]), delta("stop"))
    assert parts.message.tool_calls[0].arguments == text
    is_plain = not any(piece and piece.startswith(text[:at]) for piece, at in zip(pieces[1:], places[1:], strict=False))
    if value and is_plain:  # else the pieces may be snapshots as well
        assert "".join(d.text for d in deltas if isinstance(d, ToolArgsDelta)) == text


@pytest.mark.parametrize("pieces", [pieces for pieces, text in READINGS.values() if text == WHOLE and len(pieces) > 1])
def test_a_watcher_is_not_shown_a_snapshot_twice(pieces: Sequence[str]) -> None:
    parts, deltas = read(called(pieces[0], "f", id="a"), *map(called, pieces[1:]), delta("tool_calls"))
    assert [call.arguments for call in parts.message.tool_calls] == [WHOLE]
    shown = "".join(d.text for d in deltas if isinstance(d, ToolArgsDelta))
    exact = ["all so far each time", "a placeholder first", "all of them three times", "fragments, then all of them"]
    if pieces in [READINGS[name][0] for name in exact]:
        assert shown == WHOLE


def test_a_watcher_learns_of_a_call_without_arguments() -> None:
    _, deltas = read(called("{}", "f", id="a"), delta("tool_calls"))
    assert deltas == [ToolArgsDelta(0, "f", "")]


def test_cumulative_snapshots_that_name_the_call_each_time_are_one_call() -> None:
    parts, _ = read(*(called(piece, "f") for piece in ('{"q"', '{"q": "abc"', '{"q": "abc"}', '{"q": "abc"}')), delta("stop"))
    assert [(c.name, c.arguments) for c in parts.message.tool_calls] == [("f", '{"q": "abc"}')]


def test_names_that_come_whole_each_time_or_grow_are_one_name() -> None:
    parts, _ = read(called("", "get", id="a"), called("", "get_weather"), called("{}", "get_weather"), delta("stop"))
    assert [c.name for c in parts.message.tool_calls] == ["get_weather"]
    parts, _ = read(called("", "get_", id="a"), called("{}", "weather"), delta("stop"))
    assert [c.name for c in parts.message.tool_calls] == ["get_weather"]


# --- whole messages after their pieces -----------------------------------------------------------------------------------


def message(finish: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}]}


ENTRY = {"id": "a", "type": "function", "function": {"name": "f", "arguments": WHOLE}}


def test_a_message_after_its_pieces_adds_only_what_is_missing() -> None:
    parts, deltas = read(delta(content="Hello "), delta(content="wor"), message(content="Hello world", reasoning_content="why"))
    assert (parts.message.text, parts.message.reasoning) == ("Hello world", "why")
    assert deltas == [TextDelta("Hello "), TextDelta("wor"), ReasoningDelta("why"), TextDelta("ld")]


def test_a_message_that_contradicts_its_pieces_changes_nothing() -> None:
    parts, _ = read(delta(content="Hello world "), message(content="Hello world"))
    assert parts.message.text == "Hello world "


def test_messages_that_grow_are_read_once() -> None:
    parts, deltas = read(message(content="Hel"), message(content="Hello"), message(content="Hello"))
    assert (parts.message.text, "".join(d.text for d in deltas)) == ("Hello", "Hello")


def test_a_message_with_calls_that_came_before_makes_no_second_call() -> None:
    parts, _ = read(called(WHOLE, "f", id="a"), message("tool_calls", tool_calls=[{**ENTRY, "id": "another"}]))
    assert [(c.id, c.arguments) for c in parts.message.tool_calls] == [("a", WHOLE)]
    parts, _ = read(called("", "f", id="a"), message("tool_calls", tool_calls=[ENTRY]))
    assert [(c.id, c.arguments) for c in parts.message.tool_calls] == [("a", WHOLE)]
    parts, _ = read(delta(content="I look."), message("tool_calls", content="I look.", tool_calls=[ENTRY]))
    assert (parts.message.text, [c.arguments for c in parts.message.tool_calls]) == ("I look.", [WHOLE])


def beside(delta: Any, **fields: Any) -> dict[str, Any]:
    """A chunk with a whole message beside a delta."""
    return {"choices": [{"index": 0, "delta": delta, "message": fields, "finish_reason": "tool_calls"}]}


def call(call_id: str | None, arguments: Any, name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}, **fields}


ROLE = [{"role": "assistant"}, {"role": "assistant", "content": ""}, {"content": None}, {"tool_calls": None}, {}, None]


@pytest.mark.parametrize("empty", ROLE)
def test_a_whole_message_beside_a_delta_that_says_nothing_is_read(empty: Any) -> None:
    parts, deltas = read(beside(empty, content="Hello", reasoning_content="why", tool_calls=[ENTRY]))
    assert (parts.message.text, parts.message.reasoning) == ("Hello", "why")
    assert [c.arguments for c in parts.message.tool_calls] == [WHOLE]
    assert deltas == [ReasoningDelta("why"), TextDelta("Hello"), ToolArgsDelta(0, "f", WHOLE)]
    parts, _ = read(delta(content="Hel"), beside(empty, content="Hello"))
    assert parts.message.text == "Hello"


def test_a_message_that_repeats_the_delta_beside_it_adds_nothing() -> None:
    said = [({"content": text}, text) for text in ("Hel", "lo")]
    parts, deltas = read(*(beside(piece, content=text) for piece, text in said))
    assert (parts.message.text, len(deltas)) == ("Hello", 2)
    last = {"tool_calls": [{"index": 0, **ENTRY}]}
    parts, _ = read(beside(last, tool_calls=[ENTRY]))
    assert [c.arguments for c in parts.message.tool_calls] == [WHOLE]


A, B = '{"q":"a"}', '{"q":"b"}'
LAST_MESSAGES: dict[str, tuple[list[Any], list[Any], list[tuple[str, str]]]] = {
    "a call more": ([called(A, "f", id="a")], [call("a", A), call("b", B)], [("a", A), ("b", B)]),
    "a call more before it": ([called(A, "f", id="a")], [call("b", B), call("a", A)], [("a", A), ("b", B)]),
    "a call more under another name": ([called(A, "f", id="a")], [call("x", B, "g")], [("a", A), ("x", B)]),
    "another order": (
        [called("", "f", id="a"), called("", "f", 1, id="b")], [call("b", B), call("a", A)], [("a", A), ("b", B)],
    ),
    "other ids": (
        [called("", "f", id="a"), called("", "f", 1, id="b")], [call("x", A), call("y", B)], [("a", A), ("b", B)],
    ),
    "no ids": (
        [called("", "f", 1, id="b"), called("", "f", 0, id="a")], [call(None, A), call(None, B)], [("a", A), ("b", B)],
    ),
    "fewer calls without ids": ([called(A, "f", id="a"), called(B, "f", 1, id="b")], [call(None, B)], [("a", A), ("b", B)]),
    "the same id twice": ([called(A, "f", id="a")], [call("a", A), call("a", B)], [("a", A), ("", B)]),
    "an id that came late": ([called("", "f")], [call("a", A)], [("a", A)]),
    "cut arguments": ([called('{"q":"', "f", id="a")], [call("a", A)], [("a", A)]),
    "cut arguments, spaced otherwise": ([called('{ "q"', "f", id="a")], [call("a", A)], [("a", A)]),
    "cut arguments on both sides": ([called('{"q":"', "f", id="a")], [call("a", '{"q"')], [("a", '{"q":"')]),
    "a placeholder": ([called("{}", "f", id="a")], [call("a", A)], [("a", A)]),
    "an object": ([called("", "f", id="a")], [call("a", {"q": "a"})], [("a", A)]),
    "other arguments": ([called(A, "f", id="a")], [call("a", B)], [("a", A)]),
    "arguments with more in them": ([called(A, "f", id="a")], [call("a", '{"q":"ab"}')], [("a", '{"q":"ab"}')]),
    "nothing": ([called(A, "f", id="a")], [None, 5, {}], [("a", A)]),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "entries", "made"), LAST_MESSAGES.values(), ids=LAST_MESSAGES)
def test_the_calls_of_a_last_message(pieces: list[Any], entries: list[Any], made: list[tuple[str, str]]) -> None:
    parts, _ = read(*pieces, message("tool_calls", tool_calls=entries))
    found = [(c.id, c.arguments) for c in parts.message.tool_calls]
    assert [arguments for _, arguments in found] == [arguments for _, arguments in made]
    assert all(found_id == call_id for (found_id, _), (call_id, _) in zip(found, made, strict=True) if call_id)
    assert len({call_id for call_id, _ in found}) == len(made)


def test_a_signature_that_only_the_last_message_has_is_kept() -> None:
    last = message("tool_calls", tool_calls=[call("a", A, extra_content=SIGNED)], note="x")
    parts, deltas = read(called(A[:4], "f", id="a"), called(A[4:]), last, origin="generic")
    assert sent(parts.message)["tool_calls"][0]["extra_content"] == SIGNED
    assert sent(parts.message)["note"] == "x"
    assert "".join(d.text for d in deltas) == A


def test_pieces_go_on_after_a_message_that_begins_a_call() -> None:
    parts, _ = read(message("", tool_calls=[call("a", "")]), called(A[:4]), called(A[4:]), delta("tool_calls"))
    assert [(c.id, c.arguments) for c in parts.message.tool_calls] == [("a", A)]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["He", "Hello", "Hello wor", "Hello world"], "Hello world"),
        (["He", "Hello", "Hello wor", "Hello wor", "Hello world", "Hello world"], "Hello world"),
        (["Hel", "Hello", "Hello world", "!"], "Hello world!"),
        (["1", "10", "00"], "11000"),
        (["1", "10"], "110"),
        (["ha", "ha", "ha"], "hahaha"),
        (["-", "--", "---", "-\n"], "-------\n"),
        (["", "\n", "\n\n", "\n\n\n"], "\n" * 6),
        (["a", "b", "ba", "bab"], "abbabab"),
    ],
)
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_a_text_that_comes_whole_with_each_piece_is_read_once(field: str, pieces: list[str], text: str) -> None:
    parts, deltas = read(*(delta(**{field: piece}) for piece in pieces), delta("stop"))
    assert (parts.message.text or parts.message.reasoning, "".join(d.text for d in deltas)) == (text, text)


def test_a_last_piece_that_is_the_whole_text_once_more_is_dropped() -> None:
    """As RAGFlow sends it; a model that says the same twice does not do so in its last chunk with all of it."""
    parts, deltas = read(delta(content="Hel"), delta(content="lo"), delta("stop", content="Hello"))
    assert (parts.message.text, "".join(d.text for d in deltas)) == ("Hello", "Hello")
    parts, _ = read(delta(content="ha"), delta("stop", content="ha"))
    assert parts.message.text == "haha"


def test_thinking_tags_of_a_message_after_its_pieces() -> None:
    chunks = delta(content="<think>I look.</think>"), delta(content="Noon."), message(content="<think>I look.</think>Noon.")
    parts, _ = read(*chunks, think_tags=True)
    assert parts.message == Assistant("Noon.", "I look.")


# --- halves of characters ------------------------------------------------------------------------------------------------

FACE = "\U0001f600"
FIRST, SECOND = "\ud83d", "\ude00"


def halves(make: Any) -> list[Any]:
    return [delta(content="", reasoning_content="."), make("a" + FIRST), make(SECOND + "b"), make("c" + FIRST), delta("stop")]


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning", "arguments"])
def test_halves_of_a_character_are_joined_wherever_they_come(field: str) -> None:
    def make(text: str) -> dict[str, Any]:
        return called(text, None) if field == "arguments" else delta(**{field: text})

    chunks = halves(make)[1:] if field == "reasoning" else halves(make)
    parts, deltas = read(*([called("", "f", id="a")] if field == "arguments" else []), *chunks)
    text = parts.message.text if field == "content" else parts.message.reasoning.removeprefix(".")
    whole = parts.message.tool_calls[0].arguments if field == "arguments" else text
    assert whole.startswith(f"a{FACE}bc")
    shown = "".join(d.text for d in deltas).removeprefix(".")
    assert shown == f"a{FACE}bc"
    (shown + whole).encode()  # no half is left


def test_a_lone_half_is_replaced() -> None:
    parts, _ = read(delta(content=f"x{SECOND}y"), delta("stop", content=FIRST))
    assert parts.message.text == "x\ufffdy\ufffd"


DETAILS = [
    {"type": "reasoning.text", "text": "x" + FIRST},
    {"type": "reasoning.text", "text": SECOND + "y" + SECOND},
]


@pytest.mark.parametrize("name", ["reasoning_details", "blocks"])
def test_halves_of_a_character_in_an_opaque_field_are_joined(name: str) -> None:
    parts, _ = read(*(delta(**{name: [block]}) for block in DETAILS), delta("stop", content="hi"), origin="generic")
    assert sent(parts.message)[name] == [{"type": "reasoning.text", "text": f"x{FACE}y\ufffd"}]
    fields: dict[str, Any] = {name: DETAILS}
    parts, _ = read(message(content="hi", **fields), origin="generic")
    assert [block["text"] for block in sent(parts.message)[name]] == ["x\ufffd", "\ufffdy\ufffd"]


@pytest.mark.parametrize("body", [
    {"model": "m" + FIRST, "choices": [{"message": {"content": "hi"}, "finish_reason": "stop" + FIRST}]},
    {"choices": [{"message": {"content": "hi", "x" + FIRST: {"y": [SECOND]}}}]},
    {"choices": [{"message": {"tool_calls": [{"id": FIRST, "function": {"name": FIRST, "arguments": {"q": FIRST}}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"id": "a", "sign": FIRST, "function": {"name": "f", "arguments": "{}"}}]}}]},
])  # fmt: skip
def test_no_half_of_a_character_is_left_anywhere_in_a_reply(body: Any) -> None:
    parts = read_whole(json.dumps(body).encode())
    message = parts.message
    calls = [text for call in message.tool_calls for text in (call.id, call.name, call.arguments, call.opaque)]
    "".join([message.text, message.opaque, parts.model, parts.finish_reason, *calls]).encode()


def test_an_error_with_half_of_a_character_is_told() -> None:
    for chunk in ({"error": {"message": "no " + FIRST}}, {"choices": [{"error": {"message": "no " + FIRST}}]}):
        with pytest.raises(Overloaded, match="no \ufffd"):
            read(chunk)


def test_a_nesting_that_is_too_deep_is_refused_beside_half_of_a_character_as_well() -> None:
    deep = "[" * 300 + "]" * 300
    with pytest.raises(StreamBroken, match="not whole JSON"):
        read_whole(b'{"choices": [{"message": {"content": "hi", "x": ["\\ud83d", %s]}}]}' % deep.encode())


# --- opaque fields -------------------------------------------------------------------------------------------------------

SIGNED = {"google": {"thought_signature": "AY89+/a18=="}}


def sent(message: Assistant, profile: str = "generic") -> dict[str, Any]:
    found = profile_named(profile)
    data: dict[str, Any] = json.loads(wire.body(b'{"messages":[', [User("hi"), message], found, wire.encoder(found)))[
        "messages"
    ][1]
    return data


def test_unknown_fields_of_a_call_and_of_a_message_go_back_to_the_same_profile_only() -> None:
    made = {"index": 0, "id": "a", "extra_content": SIGNED, "function": {"name": "f", "arguments": "{}", "hint": 7}}
    for chunks in ([delta(tool_calls=[made]), delta("stop", note="x")], [message(tool_calls=[made], note="x")]):
        parts, _ = read(*chunks, origin="generic")
        back = sent(parts.message)
        (call,) = back["tool_calls"]
        assert (call["extra_content"], call["function"]["hint"], back["note"]) == (SIGNED, 7, "x")
        for elsewhere in ("deepseek", "openai"):
            other = sent(parts.message, elsewhere)
            assert "note" not in other
            assert "extra_content" not in other["tool_calls"][0]


@pytest.mark.parametrize("profile", ["mistral", "groq"])
def test_servers_that_refuse_unknown_fields_get_none(profile: str) -> None:
    parts, _ = read(delta("stop", content="x", note="y"), origin=profile)
    assert "note" not in sent(parts.message, profile)


def test_fields_that_servers_write_and_do_not_read_are_not_kept() -> None:
    parts, _ = read(delta("stop", content="x", refusal=None, annotations=[{"url": "u"}], audio=None, prefix=False, empty=[]))
    assert parts.message == Assistant("x")


def test_opaque_fields_survive_pieces_other_ids_and_json() -> None:
    details = [
        [{"type": "reasoning.text", "index": 0, "text": "I ", "format": "anthropic-claude-v1"}],
        [{"type": "reasoning.text", "index": 0, "text": "I ", "format": "anthropic-claude-v1"}],
        [{"type": "reasoning.text", "index": 0, "signature": "sig=="}],
        [{"type": "reasoning.encrypted", "id": "e1", "data": "xx"}],
        [{"type": "reasoning.encrypted", "id": "e2", "data": "xx"}],
    ]
    parts, _ = read(*(delta(reasoning_details=piece) for piece in details), delta("stop", content="hi"), origin="openrouter")
    assert parts.message.reasoning == "I I "
    assert sent(parts.message, "openrouter")["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "I I ", "format": "anthropic-claude-v1", "signature": "sig=="},
        {"type": "reasoning.encrypted", "id": "e1", "data": "xx"},
        {"type": "reasoning.encrypted", "id": "e2", "data": "xx"},
    ]


def test_items_of_one_list_stay_apart() -> None:
    whole: dict[str, Any] = {}
    merge(whole, {"blocks": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    assert whole == {"blocks": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}


def test_signed_blocks_in_the_content_go_back_as_blocks() -> None:
    thinking = {"type": "thinking", "thinking": "I look.", "signature": "sig=="}
    text = {"type": "text", "text": "Noon."}
    for chunks in ([message(content=[thinking, text])], [delta(content=[thinking]), delta("stop", content="Noon.")]):
        parts, _ = read(*chunks, origin="generic")
        assert (parts.message.text, parts.message.reasoning) == ("Noon.", "I look.")
        assert sent(parts.message)["content"] == [thinking, text]
        assert sent(parts.message, "openai")["content"] == "Noon."


def test_text_before_the_first_block_is_not_lost() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    parts, _ = read(
        delta(content="So: "), delta("stop", content=[thinking, {"type": "text", "text": "noon"}]), origin="generic"
    )
    assert sent(parts.message)["content"] == [{"type": "text", "text": "So: "}, thinking, {"type": "text", "text": "noon"}]


def test_a_renamed_call_keeps_what_is_opaque() -> None:
    from agentkit.history import unique_ids

    call = ToolCall("a", "f", "{}", '{"extra_content":1}')
    assert unique_ids(Assistant(tool_calls=(call,)), {"a"}).tool_calls == (ToolCall("a_2", "f", "{}", '{"extra_content":1}'),)


# --- choices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [1, 7, None])
def test_the_only_choice_counts_whatever_its_index(index: int | None) -> None:
    chunks = [{**delta(content=text), "choices": [{"index": index, "delta": {"content": text}}]} for text in ("Hel", "lo")]
    parts, _ = read(*chunks, {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
    assert parts.message.text == "Hello"


def test_a_choice_whose_index_counts_the_chunks_is_the_answer() -> None:
    """As Foundry Local sends it."""
    chunks = [{"choices": [{"index": 197 + n, "delta": {"content": text}}]} for n, text in enumerate(("Hel", "l", "o"))]
    parts, _ = read(*chunks, {"choices": [{"index": 200, "delta": {}, "finish_reason": "stop"}]})
    assert parts.message.text == "Hello"


def test_other_choices_are_passed_over() -> None:
    other = {"index": 1, "delta": {"content": "other", "tool_calls": [ENTRY]}}
    parts, _ = read({"choices": [other, {"index": 0, "delta": {"content": "Hello"}}]}, {"choices": [other]}, delta("stop"))
    assert parts.message == Assistant("Hello")


def test_text_and_calls_in_two_choices_without_index_are_one_answer() -> None:
    """As GitHub Copilot answers for Claude."""
    said = {"message": {"content": "I look."}, "finish_reason": "tool_calls"}
    parts, _ = read({"choices": [said, {"message": {"tool_calls": [ENTRY]}, "finish_reason": "tool_calls"}]})
    assert (parts.message.text, [call.name for call in parts.message.tool_calls]) == ("I look.", ["f"])


# --- calls in other forms ------------------------------------------------------------------------------------------------

ONE = [("f", A)]
FORMS = {
    "an end under another id": [called(A, "f", id="a"), called("", id="b")],
    "a last call that is empty": [called(A, "f", id="a"), called("", "", 1, id="")],
    "an id and the name with each fragment": [
        called('{"q":', "f", id="a"),
        called('"a"', "f", id="b"),
        called("}", "f", id="c"),
    ],
    "no function around them": [delta(tool_calls=[{"index": 0, "id": "a", "name": "f", "arguments": {"q": "a"}}])],
    "a single call": [delta(tool_calls={"id": "a", "function": {"name": "f", "arguments": A}})],
}


@pytest.mark.parametrize("form", FORMS)
def test_one_call_in_other_forms(form: str) -> None:
    parts, _ = read(*FORMS[form], delta("tool_calls"))
    assert [(call.name, call.arguments) for call in parts.message.tool_calls] == ONE
    assert not any(call.opaque for call in parts.message.tool_calls)


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [{"id": "a", "name": "f", "arguments": {"q": "a"}}]},
        {"tool_calls": {"id": "a", "function": {"name": "f", "arguments": A}}},
    ],
)
def test_one_call_of_a_whole_reply_in_other_forms(fields: dict[str, Any]) -> None:
    parts, _ = read(message("tool_calls", **fields))
    assert [(call.name, call.arguments) for call in parts.message.tool_calls] == ONE


def test_two_calls_of_one_name_at_one_index_stay_two() -> None:
    parts, _ = read(called('{"q":', "f", id="a"), called(B, "f", id="b"), delta("tool_calls"))
    assert [call.arguments for call in parts.message.tool_calls] == ['{"q":', B]

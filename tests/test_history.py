"""Histories that a server accepts: `mend`, `unique_ids` and the views, against the server's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Assistant, KeepTurns, SettingsError, System, ToolCall, ToolResult, User
from agentkit.history import NOT_ANSWERED, repaired_history, unique_ids
from agentkit.messages import Message


def refusal(messages: Sequence[Message]) -> str | None:
    """What a server that checks tool calls as DeepSeek does finds wrong with a history."""
    pending: set[str] = set()
    seen: set[str] = set()
    for place, message in enumerate(messages):
        if isinstance(message, ToolResult):
            if message.call_id not in pending:
                return f"{place}: a result for {message.call_id!r}, which is not pending"
            pending.remove(message.call_id)
            continue
        if pending:
            return f"{place}: {sorted(pending)} are not answered"
        if isinstance(message, Assistant):
            ids = [call.id for call in message.tool_calls]
            if "" in ids or len({*ids} | seen) < len(ids) + len(seen):
                return f"{place}: ids {ids} are empty or not unique"
            if not message.text and not ids:
                return f"{place}: neither text nor calls"
            seen |= {*ids}
            pending = {*ids}
    return f"end: {sorted(pending)} are not answered" if pending else None


IDS = st.sampled_from(["", "a", "b", "a_2", "call", "call_0", "call_1", "call_2"])
CALLS = st.lists(st.builds(ToolCall, IDS, st.sampled_from(["f", "g"])), max_size=3).map(tuple)
ANY_MESSAGE: st.SearchStrategy[Message] = st.one_of(
    st.builds(System, st.just("s")),
    st.builds(User, st.sampled_from(["u", ""])),
    st.builds(Assistant, st.sampled_from(["", "t"]), st.just("thought"), CALLS),
    st.builds(ToolResult, IDS, st.sampled_from(["f", "g"]), st.sampled_from(["1", "2"])),
)
ANY_HISTORY = st.lists(ANY_MESSAGE, max_size=12)


@st.composite
def valid_turns(draw: st.DrawFn) -> list[list[Message]]:
    """Turns as an agent makes them: a user's message, replies with their calls answered, perhaps a closing text."""
    turns: list[list[Message]] = []
    number = 0
    for turn in range(draw(st.integers(0, 9))):
        messages: list[Message] = [User(f"u{turn}")]
        for size in draw(st.lists(st.integers(1, 3), max_size=2)):
            calls = tuple(ToolCall(f"c{number + at}", "f") for at in range(size))
            number += size
            messages += [Assistant("", "r", calls), *(ToolResult(call.id, "f", "x") for call in calls)]
        if draw(st.booleans()):
            messages.append(Assistant("done"))
        turns.append(messages)
    return turns


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ANY_HISTORY)
def test_a_mended_history_is_one_that_servers_accept(messages: list[Message]) -> None:
    assert refusal(repaired_history(messages)) is None


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ANY_HISTORY)
def test_mending_twice_is_mending_once(messages: list[Message]) -> None:
    once = repaired_history(messages)
    again = repaired_history(once)
    assert len(again) == len(once) and all(a is b for a, b in zip(again, once, strict=True))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(valid_turns(), st.booleans())
def test_a_valid_history_is_left_as_it_is(turns: list[list[Message]], with_system: bool) -> None:
    messages: list[Message] = [*([System("s")] if with_system else []), *(m for turn in turns for m in turn)]
    assert refusal(messages) is None
    mended = repaired_history(messages)
    assert len(mended) == len(messages) and all(a is b for a, b in zip(mended, messages, strict=True))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(valid_turns(), st.data())
def test_a_history_cut_anywhere_is_mended_and_keeps_every_question(turns: list[list[Message]], data: st.DataObject) -> None:
    messages = [m for turn in turns for m in turn]
    first = data.draw(st.integers(0, len(messages)))
    last = data.draw(st.integers(first, len(messages)))
    cut = messages[first:last]
    mended = repaired_history(cut)
    assert refusal(mended) is None
    assert [m for m in mended if not isinstance(m, ToolResult)] == [m for m in cut if not isinstance(m, ToolResult)]


A, B = ToolCall("a", "f"), ToolCall("b", "g")
ANSWER_A, ANSWER_B = ToolResult("a", "f", "1"), ToolResult("b", "g", "2")


def lost(call_id: str, name: str) -> ToolResult:
    return ToolResult(call_id, name, NOT_ANSWERED, is_error=True)


@pytest.mark.parametrize(
    ("messages", "mended"),
    [
        pytest.param([Assistant("", "", (A,))], [Assistant("", "", (A,)), lost("a", "f")], id="cancelled"),
        pytest.param(
            [Assistant("", "", (A, B)), ANSWER_B, User("u")],
            [Assistant("", "", (A, B)), lost("a", "f"), ANSWER_B, User("u")],
            id="one of two answered",
        ),
        pytest.param(
            [Assistant("", "", (A, B)), ANSWER_B, ANSWER_A], [Assistant("", "", (A, B)), ANSWER_A, ANSWER_B], id="order"
        ),
        pytest.param([ANSWER_A, User("u")], [User("u")], id="an answer without its call"),
        pytest.param([Assistant("", "", (A,)), User("u"), ANSWER_A], [Assistant("", "", (A,)), ANSWER_A, User("u")], id="late"),
        pytest.param([Assistant("", "", (A,)), ANSWER_A, ANSWER_A], [Assistant("", "", (A,)), ANSWER_A], id="answered twice"),
        pytest.param([Assistant("", "r"), User("u")], [User("u")], id="an empty reply"),
        pytest.param(
            [Assistant("", "", (A,)), ANSWER_A, Assistant("", "", (A,)), ToolResult("a", "f", "later")],
            [
                Assistant("", "", (A,)),
                ANSWER_A,
                Assistant("", "", (ToolCall("a_2", "f"),)),
                ToolResult("a_2", "f", "later"),
            ],
            id="an id used again",
        ),
        pytest.param(
            [Assistant("", "", (A, A)), ANSWER_A, ToolResult("a", "f", "second")],
            [Assistant("", "", (A, ToolCall("a_2", "f"))), ANSWER_A, ToolResult("a_2", "f", "second")],
            id="an id twice in one reply",
        ),
        pytest.param(
            [Assistant("", "", (ToolCall("", "f"),)), ToolResult("", "f", "1")],
            [Assistant("", "", (ToolCall("call_0", "f"),)), ToolResult("call_0", "f", "1")],
            id="an empty id",
        ),
    ],
)
def test_what_mend_does(messages: list[Message], mended: list[Message]) -> None:
    assert repaired_history(messages) == mended


def test_unique_ids_keeps_a_message_that_needs_no_change_and_takes_its_ids() -> None:
    taken = {"x"}
    message = Assistant("", "", (A, B))
    assert unique_ids(message, taken) is message
    assert taken == {"x", "a", "b"}


# ---- KeepTurns


def flat(turns: list[list[Message]]) -> list[Message]:
    return [message for turn in turns for message in turn]


SIZES = st.integers(1, 6).flatmap(lambda most: st.tuples(st.just(most), st.none() | st.integers(0, most - 1)))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(valid_turns(), SIZES, st.data())
def test_a_view_is_valid_and_keeps_the_run_under_way(
    turns: list[list[Message]], size: tuple[int, int | None], data: st.DataObject
) -> None:
    messages: list[Message] = [System("s"), *flat(turns)]
    places = [place for place, m in enumerate(messages) if isinstance(m, User)] + [len(messages)]
    new_from = data.draw(st.sampled_from(places))
    view = list(KeepTurns(*size)(messages, new_from))
    assert refusal(view) is None
    kept = messages[new_from:]
    assert view[len(view) - len(kept) :] == kept
    assert view[0] == System("s")
    assert len(view) == 1 or isinstance(view[1], User)
    if new_from == len(messages):
        assert sum(isinstance(m, User) for m in view) <= size[0]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(valid_turns(), SIZES)
def test_a_views_prefix_is_stable_from_one_drop_to_the_next(turns: list[list[Message]], size: tuple[int, int | None]) -> None:
    keep = KeepTurns(*size)
    least = size[0] // 2 if size[1] is None else size[1]
    before: list[Message] = []
    drops = []
    for count in range(1, len(turns) + 1):
        new_from = len(flat(turns[: count - 1]))
        view = list(keep(flat(turns[:count]), new_from))
        if view[: len(before)] != before:
            drops.append(count)
        before = view
    blocks = size[0] - least
    assert drops == [n for n in range(1, len(turns) + 1) if n > size[0] and (n - size[0] - 1) % blocks == 0]


def test_nothing_is_dropped_up_to_the_most() -> None:
    messages: list[Message] = [User("1"), Assistant("a"), User("2")]
    assert KeepTurns(2)(messages, 2) is messages


def test_the_turn_that_the_run_answers_stays_whole_when_the_run_began_after_its_question() -> None:
    messages: list[Message] = [User("old"), Assistant("a"), User("question"), Assistant("wrong"), User("mend it")]
    assert KeepTurns(1, 0)(messages, 3) == [User("question"), Assistant("wrong"), User("mend it")]


def test_messages_before_the_first_turn_that_is_dropped_go_with_it_but_for_the_system_message() -> None:
    messages: list[Message] = [System("s"), Assistant("hello"), User("1"), Assistant("a"), User("2")]
    assert KeepTurns(1, 0)(messages, 4) == [System("s"), User("2")]


@pytest.mark.parametrize(("most", "least"), [(0, None), (-1, None), (3, 3), (3, 4), (3, -1), (2.5, None), (3, 1.5), ("3", 1)])
def test_sizes_that_cannot_be_are_refused(most: Any, least: Any) -> None:
    with pytest.raises(SettingsError, match="allowed: whole numbers, max_turns at least 1, and min_turns from 0, below it"):
        KeepTurns(most, least)

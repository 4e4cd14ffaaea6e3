"""Conversations over several runs against the strict endpoint: what is passed on is accepted, whatever happened before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    KeepTurns,
    Limits,
    Message,
    RunFinished,
    System,
    TextDelta,
    ToolCall,
    ToolResult,
    User,
    tool,
)
from agentkit.testing import DeepSeekSimulator, Reply, call
from tests.kit import How, Simulate


@tool(read_only=True)
def look(text: str) -> str:
    """Look."""
    return text


@tool(approval=True)
def risky(text: str) -> str:
    """Risk."""
    return text


def agent_of(sim: DeepSeekSimulator, **options: Any) -> Agent[Any]:
    return Agent(ChatModel(base_url=sim.base_url), **{"tools": [look, risky], **options})


def roles(messages: Sequence[Message]) -> list[str]:
    return [message.role for message in messages]


def test_messages_go_on_and_new_messages_are_the_new_ones(how: How, simulate: Simulate) -> None:
    sim = simulate([call("look", text="a"), Assistant("One.", "Hm."), call("look", text="b"), "Two."], passback="every")
    agent = agent_of(sim, instructions="Be kind.")
    one = how(agent, "first")
    two = how(agent, "second", messages=one.messages)
    assert roles(one.new_messages) == ["user", "assistant", "tool", "assistant"]
    assert roles(two.new_messages) == ["user", "assistant", "tool", "assistant"]
    assert two.messages == [*one.messages, *two.new_messages]
    assert roles(two.messages).count("system") == 1
    assert two.usage.requests == 2  # of this run alone
    first, later = (sim.requests[n].messages for n in (1, 3))
    assert later[: len(first)] == first  # the prefix stays byte for byte, and cached
    assert two.usage.cache_read_tokens > 0


def test_another_agents_instructions_take_the_place_of_the_old(simulate: Simulate) -> None:
    sim = simulate()
    one = agent_of(sim, instructions="Old.").run_sync("first")
    two = agent_of(sim, instructions="New.").run_sync("second", messages=one.messages)
    assert [m.content for m in two.messages if isinstance(m, System)] == ["New."]
    assert [m.content for m in agent_of(sim).run_sync("x", messages=one.messages).messages if isinstance(m, System)] == ["Old."]


def test_a_conversation_may_go_on_without_a_new_prompt(how: How, simulate: Simulate) -> None:
    sim = simulate()
    result = how(agent_of(sim), messages=[User("Say this.")])
    assert (result.output, result.new_messages) == ("Say this.", [Assistant("Say this.")])


LOOK = ToolCall("c1", "look", '{"text": "a"}')
BROKEN: dict[str, list[Message]] = {
    "unanswered": [User("a"), Assistant("", "", (LOOK,))],
    "half answered": [User("a"), Assistant("", "", (LOOK, ToolCall("c2", "look"))), ToolResult("c2", "look", "x")],
    "out of order": [
        User("a"), Assistant("", "", (LOOK, ToolCall("c2", "look"))),
        ToolResult("c2", "look", "x"), ToolResult("c1", "look", "y"),
    ],
    "begins with a result": [ToolResult("c1", "look", "x"), Assistant("b"), User("c")],
    "answered late": [User("a"), Assistant("", "", (LOOK,)), User("b"), ToolResult("c1", "look", "x")],
    "answered twice": [User("a"), Assistant("", "", (LOOK,)), ToolResult("c1", "look", "x"), ToolResult("c1", "look", "y")],
    "same ids": [User("a"), Assistant("", "", (LOOK, LOOK)), ToolResult("c1", "look", "x"), ToolResult("c1", "look", "y")],
    "no ids": [User("a"), Assistant("", "", (ToolCall("", "look"),)), ToolResult("", "look", "x")],
    "empty reply": [User("a"), Assistant(""), User("b")],
    "foreign, without thinking": [User("a"), Assistant("", "", (LOOK,)), ToolResult("c1", "look", "x"), Assistant("b")],
}  # fmt: skip


@pytest.mark.parametrize("passback", ["probe", "every"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_history_is_mended_before_it_is_sent(how: How, simulate: Simulate, name: str, passback: str) -> None:
    sim = simulate([call("look", text="z"), "Fine."], passback=passback)
    assert how(agent_of(sim), "go on", messages=BROKEN[name]).output == "Fine."


@pytest.mark.parametrize("keep", range(1, 9))
def test_a_history_cut_anywhere_is_accepted(simulate: Simulate, keep: int) -> None:
    script: list[Any] = [[call("look", text="a"), call("look", text="b")], "One.", call("look", text="c"), "Two."]
    sim = simulate([*script, call("look", text="d"), "Three."], passback="every")
    agent = agent_of(sim)
    one = agent.run_sync("first")
    two = agent.run_sync("second", messages=one.messages)
    assert agent.run_sync("third", messages=two.messages[:keep]).output == "Three."


@pytest.mark.parametrize("most", [1, 2, 3])
def test_trimmed_views_are_accepted_and_keep_the_run_under_way_whole(simulate: Simulate, most: int) -> None:
    def reply(request: Any) -> Any:
        return "Done." if request.last["role"] == "tool" else [call("look", text="a"), call("look", text="b")]

    sim = simulate(reply, passback="every")
    agent = agent_of(sim, history=KeepTurns(most), instructions="Be kind.")
    messages: list[Message] = []
    for turn in range(6):
        messages = agent.run_sync(f"turn {turn}", messages=messages).messages
    assert roles(messages).count("user") == 6  # the view is sent, the transcript is kept
    for number, request in enumerate(sim.requests):
        sent = [m["role"] for m in request.messages]
        assert sent[:2] == ["system", "user"]
        assert sent.count("user") <= most
        users = [m["content"] for m in request.messages if m["role"] == "user"]
        assert users[-1] == f"turn {number // 2}"


def test_a_paused_run_can_be_left_and_talked_over(how: How, simulate: Simulate) -> None:
    sim = simulate([[call("look", text="a"), call("risky", text="b")], "As you wish."], passback="every")
    agent = agent_of(sim)
    paused = how(agent, "first")
    assert paused.stop_reason == "pending_approval"
    result = how(agent, "Never mind.", messages=paused.messages)
    assert result.output == "As you wish."
    assert [m["content"] for m in sim.requests[1].messages if m["role"] == "tool"] == [
        "outcome unknown: the conversation was interrupted before this call was answered"
    ] * 2


def test_a_run_at_its_limit_can_be_talked_on_to(how: How, simulate: Simulate) -> None:
    calls = [call("look", text=str(n)) for n in range(3)]
    sim = simulate([calls, "Fine."], passback="every")
    cut = how(agent_of(sim, limits=Limits(tool_calls=1)), "first")
    assert cut.stop_reason == "limit:tool_calls"
    assert how(agent_of(sim), "second", messages=cut.messages).output == "Fine."


def test_a_cut_reply_can_be_talked_on_to(how: How, simulate: Simulate) -> None:
    sim = simulate([Reply(Assistant("", "only thinking"), "length"), "Fine."], passback="every")
    cut = how(agent_of(sim), "first")
    assert (cut.stop_reason, cut.output) == ("limit:max_tokens", "")
    assert how(agent_of(sim), "second", messages=cut.messages).output == "Fine."


def test_a_stream_that_was_left_can_be_talked_on_to(simulate: Simulate) -> None:
    sim = simulate([call("look", text="a"), "A long answer, " * 50, "Fine."], passback="every")
    agent = agent_of(sim)

    async def main() -> str:
        async with agent.stream("first") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
            await stream.cancel()
            *_, last = [event async for event in stream]
        assert isinstance(last, RunFinished)
        assert roles(last.result.messages) == ["user", "assistant", "tool"]
        output: str = (await agent.run("second", messages=last.result.messages)).output
        return output

    assert asyncio.run(main()) == "Fine."


def test_a_typed_conversation_goes_on(how: How, simulate: Simulate) -> None:
    sim = simulate([call("final_answer", answer=1), call("final_answer", answer=2), "three"], passback="every")
    agent = agent_of(sim, output_type=int)
    one = how(agent, "first")
    two = how(agent, "second", messages=one.messages)
    assert (one.output, two.output) == (1, 2)
    assert how(agent_of(sim), "third", messages=two.messages).output == "three"

"""Hand-offs and several runs under one budget."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentkit import (
    Agent,
    Limits,
    Nested,
    RunContext,
    ScriptedModel,
    SettingsError,
    ToolDefinitionError,
    Usage,
    tool,
)
from agentkit.messages import Assistant, System, ToolResult, User
from agentkit.model import ModelReply, ModelRequest
from agentkit.run.journal import MemoryLog
from agentkit.team import gather, handoff
from agentkit.testing import call
from tests.kit import How, tool_texts


@tool
def look() -> str:
    """Look."""
    return "seen"


def refunds(*script: Any, **options: Any) -> Agent[Any]:
    return Agent(
        ScriptedModel(list(script)), name="refunds", description="Gives money back.", instructions="Be kind.", **options
    )


def triage(other: Agent[Any], *script: Any, **options: Any) -> Agent[str]:
    told = list(script) or [call("look"), call("transfer_to_refunds"), "never"]
    return Agent(ScriptedModel(told), name="triage", instructions="Sort.", tools=[look, handoff(other, **options)])


def test_the_other_agent_gets_the_conversation_and_gives_the_answer(how: How) -> None:
    other = refunds("You get it back.")
    agent = triage(other, when="the user wants money back")
    result = how(agent, "I want my money back.")
    assert (result.output, result.stop_reason, result.steps) == ("You get it back.", "answer", 2)
    (request,) = other.model.requests  # type: ignore[attr-defined]
    first, *rest = request.messages
    assert first == System("Be kind.")
    assert [type(message) for message in rest] == [User, Assistant, ToolResult]
    assert agent.tools["transfer_to_refunds"].description == "Hand the conversation over to refunds: the user wants money back"
    assert result.usage.requests == 3, "what the other spends counts"


def test_a_filter_says_what_is_handed_over() -> None:
    other = refunds("ok")
    triage(other, filter=lambda messages: [m for m in messages if isinstance(m, User)]).run_sync("money")
    assert [m.role for m in other.model.requests[0].messages] == ["system", "user"]  # type: ignore[attr-defined]


def test_events_name_the_other_agent() -> None:
    seen: list[Any] = []
    triage(refunds("ok")).run_sync("money", observers=[seen.append])
    assert {event.run.agent for event in seen if isinstance(event, Nested)} == {"refunds"}


def test_an_agent_without_an_answer_leaves_it_to_the_first() -> None:
    other = refunds(call("look"), call("look"), tools=[look], limits=Limits(steps=1))
    result = triage(other, call("transfer_to_refunds"), "I do it myself.").run_sync("money")
    assert result.output == "I do it myself." and "gave no answer: limit:steps" in tool_texts(result)[0]


@pytest.mark.parametrize("logged", [False, True])
def test_a_pause_of_the_other_agent_pauses_the_run_and_goes_on(logged: bool) -> None:
    @tool(approval=True)
    def pay(n: int) -> str:
        """Pay."""
        return f"paid {n}"

    log = MemoryLog() if logged else None
    paused = triage(refunds(call("pay", n=7), tools=[pay])).run_sync("money", log=log)
    (waits,) = paused.pending
    assert json.loads(waits.arguments) == {"n": 7}
    state = None if logged else paused.state
    result = triage(refunds("It is paid.", tools=[pay])).resume_sync(state, {waits.id: True}, log=log)
    assert (result.output, result.stop_reason) == ("It is paid.", "answer")


def test_a_handoff_of_a_handoff() -> None:
    last = Agent(ScriptedModel(["Here it is."]), name="cashier")
    middle = refunds(call("transfer_to_cashier"), tools=[handoff(last)])
    assert triage(middle).run_sync("money").output == "Here it is."


def test_what_cannot_be_handed_over_to_is_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="an agent with a name"):
        handoff(Agent(ScriptedModel([])))
    result = triage(refunds("ok"), call("transfer_to_refunds"), "end", filter=lambda messages: []).run_sync("money")
    assert "left no message" in tool_texts(result)[0]


# --- several runs ------------------------------------------------------------------------------------------------------------


def test_several_runs_give_their_results_in_order() -> None:
    async def main() -> list[Any]:
        agents = [Agent(ScriptedModel([text])) for text in ("a", "b", "c")]
        return [result.output for result in await gather(*((agent, "go") for agent in agents))]

    assert asyncio.run(main()) == ["a", "b", "c"]


def test_they_have_one_budget() -> None:
    class Costly:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            await asyncio.sleep(0)
            return ModelReply(Assistant("", tool_calls=(call("look"),)), Usage(1, 500, 500))

    async def main() -> list[Any]:
        agents = [Agent(Costly(), tools=[look]) for _ in range(3)]
        return await gather(*((agent, "go") for agent in agents), limits=Limits(output_tokens=5_000))

    results = asyncio.run(main())
    assert {result.stop_reason for result in results} == {"limit:output_tokens"}
    assert 3_000 <= sum(result.usage.output_tokens for result in results) <= 6_500


def test_errors_are_kept_or_cancel_the_others() -> None:
    cancelled: list[str] = []
    waiting = asyncio.Event()

    class Broken:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            await waiting.wait()
            raise LookupError("broken")

    @tool
    async def wait(ctx: RunContext[str]) -> str:
        """Wait."""
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(ctx.deps)
        return ""

    async def main(on_error: Any, *, waits: bool) -> list[Any]:
        first = Agent(ScriptedModel([call("wait") if waits else "ok"]), tools=[wait])
        second = Agent(Broken() if waits else ScriptedModel([LookupError("broken")]))
        return await gather((first, "go"), (second, "go"), on_error=on_error, deps="Ann")

    with pytest.raises(LookupError, match="broken"):
        asyncio.run(main("raise", waits=True))
    assert cancelled == ["Ann"]
    kept = asyncio.run(main("keep", waits=False))
    assert kept[0].output == "ok" and isinstance(kept[1], LookupError)
    with pytest.raises(SettingsError, match="on_error is 'skip'"):
        asyncio.run(gather(on_error="skip"))  # type: ignore[arg-type]


def test_the_other_agent_without_instructions_has_not_those_of_the_first() -> None:
    other = Agent(ScriptedModel(["ok"]), name="refunds")
    triage(other).run_sync("money")
    assert "Sort." not in str(other.model.requests[0].messages)  # type: ignore[attr-defined]


def test_the_text_of_a_handoff_is_in_the_text_stream() -> None:
    assert "".join(triage(refunds("You get it back.")).stream_text_sync("money")) == "You get it back."

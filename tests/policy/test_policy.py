"""Policies: which call runs, which is asked about, and what a policy that fails does."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import Agent, CallJudged, Limits, RunState, ScriptedModel, SettingsError, tool
from agentkit.policy import Allow, Ask, AskWrites, Deny, JudgeContext, JudgedCall, Policy, ReadOnly, ToolScope
from agentkit.testing import call
from tests.kit import How, tool_texts

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool(read_only=True)
def look(n: int = 0) -> str:
    """Look."""
    RAN.append("look")
    return "seen"


@tool
def write(text: str, tags: list[str] = []) -> str:  # noqa: B006
    """Write."""
    RAN.append((text, tags))
    return "written"


class Fixed(Policy):
    """Gives one verdict; may be async."""

    def __init__(self, verdict: Any, *, is_async: bool = False) -> None:
        self.verdict, self.is_async = verdict, is_async
        self.seen: list[tuple[JudgedCall, JudgeContext]] = []

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Any:
        self.seen.append((call, ctx))
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self._later() if self.is_async else self.verdict

    async def _later(self) -> Any:
        await asyncio.sleep(0)
        return self.verdict


def agent_of(*policies: Policy, script: Any = None, **options: Any) -> Agent[str]:
    return Agent(ScriptedModel(script or [call("write", text="a"), "Done."]), tools=[look, write], policy=policies, **options)


def test_a_denied_call_does_not_run_and_the_model_reads_the_reason(how: How) -> None:
    result = how(agent_of(ReadOnly()), "go")
    assert tool_texts(result) == [
        "error: not run: the call is not allowed: write may change something, and only tools that read are allowed here"
    ]
    assert (RAN, result.output) == ([], "Done.")
    (judged,) = [event for event in result.events if isinstance(event, CallJudged)]
    assert (judged.verdict, judged.by) == ("deny", "ReadOnly")


@pytest.mark.parametrize("verdict", [ValueError("no"), True, None, "allow", 1.5, Allow], ids=repr)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_policy_that_fails_or_gives_no_verdict_denies(verdict: Any, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agentkit"):
        result = agent_of(Fixed(verdict, is_async=is_async)).run_sync("go")
    assert RAN == []
    assert "the policy Fixed" in tool_texts(result)[0]
    assert "denied" in caplog.text


@pytest.mark.parametrize(
    ("policies", "verdict"),
    [
        ([Fixed(Allow()), Fixed(Allow())], "allow"),
        ([Fixed(Allow()), Fixed(Ask("why"))], "ask"),
        ([Fixed(Ask("why")), Fixed(Deny("no")), Fixed(Allow())], "deny"),
        ([Fixed(Deny("no")) | Fixed(Allow())], "allow"),
        ([Fixed(Deny("no")) | Fixed(Ask("why"))], "ask"),
        ([Fixed(Allow()) & Fixed(Deny("no"))], "deny"),
        ([Fixed(Allow(), is_async=True) & Fixed(Ask("why"), is_async=True)], "ask"),
        ([Fixed(ValueError("x")) | Fixed(Allow())], "allow"),
        ([ReadOnly() | ToolScope("write")], "allow"),
        ([ReadOnly() & ToolScope("write")], "deny"),
        ([ToolScope("look")], "deny"),
        ([ToolScope()], "deny"),
        ([AskWrites()], "ask"),
    ],
)
def test_the_strictest_verdict_counts(policies: list[Policy], verdict: str) -> None:
    result = agent_of(*policies).run_sync("go")
    judged = [event.verdict for event in result.events if isinstance(event, CallJudged)]
    assert judged == [verdict]
    assert bool(RAN) == (verdict == "allow")


def test_a_question_pauses_the_run_and_its_reason_is_shown(how: How) -> None:
    asked: list[Any] = []

    def approve(call: Any, reason: str) -> bool:
        asked.append((call.name, reason))
        return True

    paused = how(agent_of(AskWrites()), "go")
    assert (paused.stop_reason, RAN) == ("pending_approval", [])
    result = agent_of(AskWrites(), script=["Done."]).resume_sync(paused.state, {paused.pending[0].id: True})
    assert (result.output, RAN) == ("Done.", [("a", [])])
    assert how(agent_of(AskWrites(), approve=approve), "go").output == "Done."
    assert asked == [("write", "write may change something")]


def test_a_policy_sees_the_validated_arguments_and_cannot_change_them() -> None:
    class Note(BaseModel):
        words: list[str]

    seen: list[Any] = []

    class Meddles(Policy):
        def judge(self, call: JudgedCall, ctx: JudgeContext) -> Any:
            seen.append((call.args["tags"], call.tool.read_only, ctx.user_messages, ctx.deps, ctx.run.agent))
            with pytest.raises(TypeError):
                call.args["text"] = "evil"  # type: ignore[index]
            return Allow()

    script = [call("write", text="a", tags=["x"]), "Done."]
    agent_of(Meddles(), script=script, name="ann").run_sync("go", deps="d")
    assert seen == [(("x",), False, ["go"], "d", "ann")]
    assert RAN == [("a", ["x"])]


def test_a_call_that_cannot_run_is_not_judged() -> None:
    policy = Fixed(Deny("no"))
    script = [[call("write", text=5, extra=1), call("gone")], "Done."]
    result = agent_of(policy, script=script).run_sync("go")
    assert policy.seen == []
    assert "unknown parameter" in tool_texts(result)[0] and "there is no tool 'gone'" in tool_texts(result)[1]


def test_the_policies_of_a_run_bind_the_runs_inside_it() -> None:
    inner = agent_of(script=[call("write", text="a"), "wrote"]).as_tool("inner", "Ask.", read_only=True)
    outer = Agent(ScriptedModel([call("inner", task="write"), "Done."]), tools=[inner], policy=ReadOnly())
    outer.run_sync("go")
    assert RAN == []


def test_many_denials_of_one_call_end_the_run() -> None:
    result = agent_of(ReadOnly(), script=lambda request: call("write", text="a"), limits=Limits(refusals=3)).run_sync("go")
    assert (result.stop_reason, result.steps) == ("limit:refusals", 3)


def test_a_verdict_stands_after_a_resume() -> None:
    policy = Fixed(Ask("why"))
    paused = agent_of(policy).run_sync("go")
    stored = json.loads(json.dumps(paused.state.to_json()))
    result = agent_of(policy, script=["Done."]).resume_sync(stored, {paused.pending[0].id: False})
    assert (len(policy.seen), tool_texts(result)) == (1, ["error: not run: the call was not approved"])
    assert RunState.from_json(result.state.to_json()).messages == result.messages


@pytest.mark.parametrize("policy", [5, [5], "ReadOnly", ReadOnly, [lambda call, ctx: Allow()]])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(SettingsError, match="policy"):
        Agent(ScriptedModel([]), policy=policy)

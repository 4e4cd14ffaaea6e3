"""What differs from run to run: instructions and tools that depend on the context, and parts that are given for one run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from agentkit import (
    Agent,
    Limits,
    ModelInfo,
    ModelSettings,
    RunContext,
    RunFinished,
    RunResumed,
    RunStarted,
    ScriptedModel,
    SettingsError,
    StopRun,
    System,
    ToolDefinitionError,
    ToolRegistry,
    Toolset,
    tool,
)
from agentkit import User as UserMessage
from agentkit.run.journal import MemoryLog
from agentkit.testing import call
from tests.kit import How, tool_texts


@dataclass
class User:
    name: str
    is_admin: bool = False


@tool
def look() -> str:
    """Look."""
    return "seen"


@tool
def delete() -> str:
    """Delete."""
    return "deleted"


def greeting(ctx: RunContext[User]) -> str:
    return f"You talk to {ctx.deps.name}."


async def rules() -> str:
    return "Be brief."


def system_of(result: Any) -> str:
    first = result.messages[0]
    assert isinstance(first, System)
    return first.content


def names_sent(model: Any) -> list[list[str]]:
    return [[spec.name for spec in request.tools] for request in model.requests]


# --- instructions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instructions", "text"),
    [
        ("Help.", "Help."),
        (greeting, "You talk to Ann."),
        (["Help.", greeting, rules], "Help.\n\nYou talk to Ann.\n\nBe brief."),
        (("Help.", "", lambda: "Now."), "Help.\n\nNow."),
    ],
)
def test_instructions_are_text_functions_or_a_list_of_them(how: How, instructions: Any, text: str) -> None:
    agent = Agent(ScriptedModel(["Hi."]), instructions=instructions)
    result = how(agent, "go", deps=User("Ann"))
    assert system_of(result) == text


def test_instructions_are_rendered_once_in_a_run_and_a_resume_sends_the_same() -> None:
    asked: list[str] = []

    def now(ctx: RunContext[None]) -> str:
        asked.append(ctx.run_id)
        return f"It is {len(asked)} o'clock."

    model = ScriptedModel([call("look"), call("look"), "Done."])
    agent = Agent(model, instructions=now, tools=[look])
    result = agent.run_sync("go", run_id="r1")
    assert asked == ["r1"] and {request.messages[0] for request in model.requests} == {System("It is 1 o'clock.")}
    again = Agent(ScriptedModel(["Done."]), instructions=now, tools=[look]).resume_sync(result.state.fork(until=4))
    assert system_of(again) == "It is 1 o'clock." and len(asked) == 1
    first = agent.run_sync("go on", messages=result.messages, model=ScriptedModel(["Yes."]))
    assert system_of(first) == "It is 2 o'clock."


@pytest.mark.parametrize(
    ("instructions", "text"),
    [(7, "instructions is 7"), (["a", 7], "instructions is 7"), (lambda: 7, "the instructions function .* gave 7")],
)
def test_instructions_of_another_kind_are_refused(instructions: Any, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Agent(ScriptedModel(["Hi."]), instructions=instructions).run_sync("go")


def test_an_error_of_a_function_comes_out_as_it_is() -> None:
    def broken(ctx: RunContext[None]) -> str:
        raise LookupError("no such user")

    with pytest.raises(LookupError, match="no such user"):
        Agent(ScriptedModel(["Hi."]), instructions=broken).run_sync("go")


# --- tools that depend on the run ------------------------------------------------------------------------------------------


def for_user(ctx: RunContext[User]) -> Any:
    return [look, delete] if ctx.deps.is_admin else look


async def for_user_later(ctx: RunContext[User]) -> Any:
    await asyncio.sleep(0)
    return ToolRegistry(for_user(ctx))


@pytest.mark.parametrize("tools", [for_user, for_user_later, lambda ctx: for_user(ctx), [Toolset(for_user)]])
def test_a_toolset_is_asked_once_for_each_run(how: How, tools: Any) -> None:
    model = ScriptedModel([call("look"), "Done.", call("look"), "Done."])
    agent = Agent(model, tools=tools)
    assert how(agent, "go", deps=User("Ann")).output == "Done."
    assert how(agent, "go", deps=User("Bob", is_admin=True)).output == "Done."
    assert names_sent(model) == [["look"], ["look"], ["look", "delete"], ["look", "delete"]]


def test_a_tool_is_enabled_by_a_function_of_the_context(how: How) -> None:
    admin = tool(delete.function, name="delete", enabled=lambda ctx: ctx.deps.is_admin)
    off = tool(look.function, name="off", enabled=False)
    model = ScriptedModel(["Done.", "Done."])
    agent = Agent(model, tools=[off, look, admin])
    how(agent, "go", deps=User("Ann"))
    how(agent, "go", deps=User("Bob", is_admin=True))
    assert names_sent(model) == [["look"], ["look", "delete"]]


def test_a_tool_that_is_not_offered_is_no_tool() -> None:
    model = ScriptedModel([call("delete"), "Done."])
    result = Agent(model, tools=for_user).run_sync("go", deps=User("Ann"))
    assert "there is no tool 'delete'" in tool_texts(result)[0]


def one(ctx: Any) -> Any:
    return 1


@pytest.mark.parametrize(
    ("tools", "text"),
    [
        (lambda ctx: "text", "gave 'text'; allowed: tools"),
        (lambda ctx: None, "gave None"),
        ([tool(look.function, name="x", enabled=one)], "enabled gave 1; allowed: True or False"),
    ],
)
def test_what_gives_no_tools_is_refused_with_the_remedy(tools: Any, text: str) -> None:
    with pytest.raises(ToolDefinitionError, match=text):
        Agent(ScriptedModel(["Done."]), tools=tools).run_sync("go")


def test_a_registry_holds_no_toolset() -> None:
    with pytest.raises(ToolDefinitionError, match="depends on the run: give it to an agent"):
        ToolRegistry([Toolset(for_user)])
    with pytest.raises(ToolDefinitionError, match="enabled is 'yes'"):
        tool(look.function, enabled="yes")  # type: ignore[call-overload]


def test_a_child_has_its_own_tools_and_instructions_and_goes_on_with_them() -> None:
    def clerk(*script: Any) -> Agent[str]:
        pay = tool(delete.function, name="pay", approval=True)
        return Agent(
            ScriptedModel(list(script)), name="clerk", description="Pays.", instructions=greeting, tools=lambda ctx: [pay]
        )

    for log in (None, MemoryLog()):
        top = Agent(ScriptedModel([call("clerk", task="pay"), "Done."]), tools=[clerk(call("pay")).as_tool()])
        paused = top.run_sync("go", deps=User("Ann"), log=log)
        again = Agent(ScriptedModel(["Done."]), tools=[clerk("Paid.").as_tool()])
        approvals = {waiting.id: True for waiting in paused.pending}
        result = again.resume_sync(None if log else paused.state, approvals, deps=User("Ann"), log=log)
        assert (result.output, tool_texts(result)) == ("Done.", ["Paid."])


# --- parts for one run -------------------------------------------------------------------------------------------------------


def test_parts_for_one_run_replace_those_of_the_agent(how: How) -> None:
    own, other = ScriptedModel([]), ScriptedModel([call("delete"), "7"])
    agent = Agent(own, instructions="Help.", tools=[look], limits=Limits(steps=1))
    result = how(
        agent,
        "go",
        model=other,
        instructions="Count.",
        tools=[delete],
        settings=ModelSettings(temperature=0.5),
        limits=Limits(steps=3),
        output_type=str,
        metadata={"ticket": 7},
    )
    assert (result.output, system_of(result), own.requests) == ("7", "Count.", [])
    assert names_sent(other)[0] == ["delete"] and other.requests[0].settings.temperature == 0.5
    assert isinstance(result.events[0], RunStarted) and result.metadata == {"ticket": 7}
    assert agent.tools["look"] is look and agent.spec.limits.steps == 1, "the agent is as it was"


def test_the_type_of_an_output_for_one_run() -> None:
    result = Agent(ScriptedModel([call("final_answer", answer=[1, 2])])).run_sync("go", output_type=list[int])
    assert sum(result.output) == 3


def test_metadata_survives_storing() -> None:
    result = Agent(ScriptedModel(["Hi."])).run_sync("go", metadata={"a": [1, {"b": None}]})
    assert type(result.state).from_json(json.loads(json.dumps(result.state.to_json()))).metadata == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("metadata", [[1], {1: 2}, {"a": {1, 2}}, {"a": object()}, "text"])
def test_metadata_that_json_cannot_hold_is_refused(metadata: Any) -> None:
    with pytest.raises(SettingsError, match="metadata is"):
        Agent(ScriptedModel(["Hi."])).run_sync("go", metadata=metadata)


@pytest.mark.parametrize("options", [{"limits": 3}, {"settings": {}}, {"model": 7}, {"nonsense": 1}])
def test_parts_of_a_wrong_kind_are_refused_before_anything_is_sent(options: Any) -> None:
    model = ScriptedModel(["Hi."])
    with pytest.raises(SettingsError):
        Agent(model).run_sync("go", **options)
    assert model.requests == []


def test_a_resume_takes_parts_as_well() -> None:
    ask = tool(look.function, name="ask", approval=True)
    paused = Agent(ScriptedModel([call("ask")]), tools=[ask]).run_sync("go")
    bare = Agent(ScriptedModel([]))
    result = bare.resume_sync(paused.state, {paused.pending[0].id: True}, tools=[ask], model=ScriptedModel(["Done."]))
    assert result.output == "Done."


# --- the agent itself --------------------------------------------------------------------------------------------------------


def test_a_copy_shares_the_connections_of_the_model_and_keeps_its_class() -> None:
    class Mine(Agent[str]):
        team = "red"

    agent = Mine("any-model")
    agent.team = "blue"
    other = agent.copy(instructions="Help.")
    assert isinstance(other, Mine) and other.team == "blue" and other.model is agent.model


def test_what_an_agent_says_of_itself() -> None:
    agent = Agent(ScriptedModel([]), name="clerk", description="Knows the files.", tools=[look, Toolset(for_user)])
    assert (agent.name, agent.description, [item.name for item in agent.tools]) == ("clerk", "Knows the files.", ["look"])
    made = agent.as_tool()
    assert (made.name, made.description) == ("clerk", "Knows the files.")
    named = agent.as_tool("other", "Else.")
    assert (named.name, named.description) == ("other", "Else.")
    with pytest.raises(ToolDefinitionError, match=r"as_tool needs .*: Agent\(name=\.\.\.\), or agent\.as_tool\(name"):
        Agent(ScriptedModel([])).as_tool()
    with pytest.raises(SettingsError, match="description is 7"):
        Agent(ScriptedModel([]), description=7)  # type: ignore[call-overload]


def test_enabled_holds_for_what_a_toolset_gives_and_toolsets_may_hold_toolsets() -> None:
    admin = tool(delete.function, name="delete", enabled=lambda ctx: ctx.deps.is_admin)
    model = ScriptedModel(["Done.", "Done."])
    agent = Agent(model, tools=[Toolset(lambda ctx: [look, Toolset(lambda ctx: [admin])])])
    agent.run_sync("go", deps=User("Ann"))
    agent.run_sync("go", deps=User("Bob", is_admin=True))
    assert names_sent(model) == [["look"], ["look", "delete"]]


def test_a_forced_choice_may_be_of_a_tool_that_a_toolset_gives() -> None:
    model = ScriptedModel([call("look"), "Done."])
    Agent(model, tools=lambda ctx: [look], tool_choice="look").run_sync("go")
    assert [request.tool_choice for request in model.requests] == ["look", "auto"]
    with pytest.raises(ToolDefinitionError, match="tool_choice 'gone' fits no tool"):
        Agent(model, tools=lambda ctx: [look], tool_choice="gone").run_sync("go")


def test_none_for_one_run_is_nothing_given() -> None:
    agent = Agent(ScriptedModel([call("look"), call("look"), "never"]), tools=[look], limits=Limits(steps=2))
    assert agent.run_sync("go", limits=None, model=None, tools=None, settings=None).stop_reason == "limit:steps"  # type: ignore[call-overload]


def test_instructions_cannot_be_given_to_a_run_that_goes_on() -> None:
    state = Agent(ScriptedModel(["Hi."])).run_sync("go").state
    with pytest.raises(SettingsError, match="they were recorded when it began"):
        Agent(ScriptedModel(["Hi."])).resume_sync(state, instructions="new")


@pytest.mark.parametrize("instructions", ["Help.", lambda: "Help."])
def test_a_resumed_run_has_the_fingerprint_of_its_beginning(instructions: Any) -> None:
    pay = tool(delete.function, name="pay", approval=True)
    agent = Agent(ScriptedModel([call("pay")]), tools=[pay], instructions=instructions, output_type=int)
    paused = agent.run_sync("go")
    other = agent.copy(model=ScriptedModel([call("final_answer", answer=1)]))
    result = other.resume_sync(paused.state, {paused.pending[0].id: True}, allow_changed=False)
    prints = [event.fingerprint for event in result.events if isinstance(event, RunStarted | RunResumed)]
    assert len(prints) == 2 and prints[0] == prints[1]
    assert ("instructions" in prints[0]) == isinstance(instructions, str)


@pytest.mark.parametrize("mode", ["tool", "json_object"])
def test_a_change_of_one_part_is_named_alone(mode: Any) -> None:
    class Model(ScriptedModel):
        info = ModelInfo(output_mode=mode)

    agent = Agent(Model([]), tools=[look], instructions="Help.", output_type=int)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("output", {"output_type": str}),
        ("output", {"output_type": float}),
        ("instructions", {"instructions": "Help!"}),
        ("tools", {"tools": []}),
        ("settings", {"settings": ModelSettings(top_p=0.5)}),
    ]
    for name, change in changes:
        now = agent.copy(**change).fingerprint
        assert [part for part in now if now[part] != agent.fingerprint[part]] == [name], change


def test_instructions_of_one_run_are_not_those_of_the_agent() -> None:
    pay = tool(delete.function, name="pay", approval=True)
    agent = Agent(ScriptedModel(lambda request: call("pay") if len(request.messages) == 2 else "Done."), tools=[pay])
    paused = agent.run_sync("go", instructions="Help.")
    result = agent.resume_sync(paused.state, {paused.pending[0].id: True}, allow_changed=False)
    assert result.output == "Done." and result.messages[0] == System("Help.")


@pytest.mark.parametrize(
    "added",
    [
        lambda agent: agent.tools | [delete],
        lambda agent: agent.tools | delete.function,
        lambda agent: ToolRegistry([delete]) | agent.tools,
        lambda agent: [delete, agent.tools],
        lambda agent: [delete] | agent.tools,
        lambda agent: agent.tools | [Toolset(lambda ctx: [delete])],
    ],
)
def test_a_tool_that_is_added_for_one_run_leaves_the_toolsets_in(added: Any) -> None:
    model = ScriptedModel(["Done."])
    agent = Agent(model, tools=[Toolset(lambda ctx: [look])])
    agent.run_sync("go", tools=added(agent))
    assert {*names_sent(model)[0]} == {"look", "delete"}


def test_a_registry_says_what_it_leaves_to_the_run() -> None:
    by_run = Toolset(for_user)
    tools = Agent(ScriptedModel([]), tools=[look, by_run]).tools
    assert (len(tools), [*tools], tools.toolsets) == (1, [look], (by_run,))
    assert repr(tools) == "ToolRegistry(look, Toolset('for_user'))"
    assert tools.only("look").toolsets == tools.prefixed("x_").toolsets == (), "these are about named tools"
    with pytest.raises(ToolDefinitionError, match="depends on the run: give it to an agent"):
        ToolRegistry(tools)


# --- a run that its instructions or tools stop -------------------------------------------------------------------------------


def closed(ctx: RunContext[Any]) -> Any:
    raise StopRun("shop:closed", "We are closed.", "it is Sunday")


async def closed_too(ctx: RunContext[Any]) -> Any:
    raise StopRun("shop:closed", "We are closed.", "it is Sunday")


only_on_mondays = tool(delete.function, name="only_on_mondays", enabled=closed)


@pytest.mark.parametrize(
    "parts",
    [
        {"instructions": ["Help.", closed]},
        {"instructions": ["Help.", closed_too]},
        {"instructions": "Help.", "tools": closed},
        {"instructions": "Help.", "tools": [look, Toolset(closed_too)], "tool_choice": "only_on_mondays"},
        {"instructions": "Help.", "tools": [look, only_on_mondays], "output_type": int},
    ],
)
def test_instructions_and_tools_may_stop_the_run(how: How, parts: Any) -> None:
    model = ScriptedModel(["never"])
    result = how(Agent(model, **parts), "go")
    assert (result.stop_reason, result.output, model.requests) == ("shop:closed", "We are closed.", [])
    assert system_of(result).startswith("Help.") and result.messages[-1] == UserMessage("go")
    began, ended = result.events
    assert isinstance(began, RunStarted) and isinstance(ended, RunFinished) and ended.error == "it is Sunday"


def test_a_stop_reason_is_text() -> None:
    for reason in (3, "", None):
        with pytest.raises(SettingsError, match="allowed: a stop reason in words"):
            StopRun(reason)  # type: ignore[arg-type]


def test_a_stop_at_the_resume_answers_the_open_calls() -> None:
    open_shop = [True]
    ran: list[str] = []

    @tool(approval=True)
    def pay() -> str:
        """Pay."""
        ran.append("paid")
        return "paid"

    def stock(ctx: RunContext[Any]) -> Any:
        return [look] if open_shop else closed(ctx)

    agent = Agent(ScriptedModel([call("pay"), "never"]), tools=[pay, Toolset(stock)], instructions=rules)
    paused = agent.run_sync("go")
    open_shop.clear()
    result = agent.resume_sync(paused.state, {paused.pending[0].id: True}, allow_changed=False)
    assert (result.stop_reason, result.output, ran) == ("shop:closed", "We are closed.", [])
    assert tool_texts(result) == ["error: not run: the run ended before this call"] and "Be brief." in system_of(result)


def test_an_agent_as_a_tool_whose_instructions_stop_gives_no_answer() -> None:
    shop = Agent(ScriptedModel(["never"]), name="shop", instructions=closed)
    result = Agent(ScriptedModel([call("shop", task="Buy."), "It is closed."]), tools=[shop.as_tool()]).run_sync("go")
    assert result.output == "It is closed." and "gave no answer: shop:closed" in tool_texts(result)[0]

"""The agent, by each of its four ways: equal replies give equal results."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, assert_type

import pytest

from agentkit import (
    Agent,
    Assistant,
    AuthError,
    BadRequest,
    ChatModel,
    EmptyReply,
    Fallback,
    LimitReached,
    Limits,
    Middleware,
    ModelError,
    ModelReplied,
    ModelReply,
    ModelRequest,
    ModelRetry,
    ModelSettings,
    OutputInvalid,
    Overloaded,
    Retry,
    RunContext,
    RunFinished,
    RunState,
    ScriptedModel,
    SettingsError,
    System,
    ToolCall,
    ToolDefinitionError,
    ToolFinished,
    Usage,
    User,
    tool,
)
from agentkit.models.profiles import DEEPSEEK
from agentkit.team import gather
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Raw, Reply, call
from tests.kit import How, Simulate, tool_texts

NO_WAIT = Retry(first=0, longest=0)


@dataclasses.dataclass
class City:
    name: str
    people: int


@tool(read_only=True)
def get_weather(city: str) -> dict[str, Any]:
    """Weather in a city."""
    return {"city": city, "celsius": 21}


@tool
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(approval=True)
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


@tool
def broken() -> None:
    """Fail."""
    raise ValueError("no such table")


def scripted(script: Any, **options: Any) -> Agent[Any]:
    return Agent(ScriptedModel(script), tools=[get_weather, add, delete, broken], retry=None, **options)


# --- answers and tools, over each way -------------------------------------------------------------


def test_a_text_answer(how: How) -> None:
    result = how(scripted(["Hello."], instructions="Be kind."), "Hi", run_id="r1")
    assert result.output == "Hello."
    assert (result.stop_reason, result.steps, result.run_id, result.pending) == ("answer", 1, "r1", ())
    assert result.messages == [System("Be kind."), User("Hi"), Assistant("Hello.")]
    assert result.new_messages == [User("Hi"), Assistant("Hello.")]
    assert result.usage == Usage(requests=1)
    assert [type(event).__name__ for event in result.events] == ["RunStarted", "ModelReplied", "RunFinished"]


def test_tools_sync_and_async_in_one_reply_are_answered_in_call_order(how: How) -> None:
    calls = [call("add", a=1, b=2), call("get_weather", city="Paris"), call("add", a=3, b=4), call("nothing"), call("broken")]
    result = how(scripted([calls, "Done."]), "go")
    assert tool_texts(result)[:3] == ["3", '{"city":"Paris","celsius":21}', "7"]
    assert "there is no tool 'nothing'; the tools are: get_weather, add" in tool_texts(result)[3]
    assert tool_texts(result)[4] == "error: ValueError: no such table"
    assert (result.output, result.steps, result.usage.tool_calls) == ("Done.", 2, 5)


def test_bad_arguments_are_told_to_the_model(how: How) -> None:
    result = how(scripted([ToolCall("c1", "add", '{"a": "x"}'), "Sorry."]), "go")
    (told,) = tool_texts(result)
    assert told.startswith("error: ")
    assert "a" in told
    assert "b" in told
    assert result.output == "Sorry."


def test_the_four_ways_over_real_http_give_equal_results(how: How, simulate: Simulate) -> None:
    thought = Assistant("", "Let me look.", (call("get_weather", city="Paris"), call("add", a=1, b=1)))
    sim = simulate([thought, Assistant("21 degrees.", "I have it.")], passback="every")
    result = how(Agent(ChatModel(base_url=sim.base_url), tools=[get_weather, add]), "Weather?")
    assert result.output == "21 degrees."
    first, last = (m for m in result.messages if isinstance(m, Assistant))
    assert (first.reasoning, last.reasoning) == ("Let me look.", "I have it.")
    assert sim.requests[1].messages[1]["reasoning_content"] == "Let me look."
    assert [m["content"] for m in sim.requests[1].messages if m["role"] == "tool"] == ['{"city":"Paris","celsius":21}', "2"]
    assert (result.usage.requests, result.steps) == (2, 2)
    assert 0 < result.usage.reasoning_tokens < result.usage.output_tokens < result.usage.input_tokens
    assert result.cost is not None
    assert result.cost > 0


# --- typed output ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "stream"), [("tool", None), ("tool", False), ("json_object", None), ("json_object", False)])
@pytest.mark.parametrize("thinking", [True, False])
def test_typed_output_end_to_end_with_tools(how: How, simulate: Simulate, mode: Any, stream: Any, thinking: bool) -> None:
    good = call("final_answer", name="Paris", people=2) if mode == "tool" else '{"name": "Paris", "people": 2}'
    wrong = call("final_answer", name="Paris", people="many") if mode == "tool" else '{"name": "Paris", "people": "many"}'
    sim = simulate([call("get_weather", city="Paris"), wrong, good], passback="every")
    model = ChatModel(base_url=sim.base_url, profile=dataclasses.replace(DEEPSEEK, output_mode=mode))
    settings = ModelSettings(thinking=thinking, stream=stream)
    result = how(Agent(model, tools=[get_weather], output_type=City, settings=settings), "Which city?")
    assert result.output == City("Paris", 2)
    assert (result.stop_reason, result.steps) == ("answer", 3)
    assert "people" in sim.requests[2].last["content"]  # the repair turn says what was wrong
    if mode == "json_object":
        assert all(request.body["response_format"] == {"type": "json_object"} for request in sim.requests)
        assert '"people"' in sim.requests[0].messages[0]["content"]
    else:
        assert {t["name"] for t in sim.requests[0].tools} == {"get_weather", "final_answer"}


@pytest.mark.parametrize(("output_type", "arguments", "value"), [
    (list[int], {"answer": [1, 2]}, [1, 2]),
    (int | None, {"answer": None}, None),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (bool, {"answer": True}, True),
])  # fmt: skip
def test_output_types(how: How, output_type: Any, arguments: dict[str, Any], value: Any) -> None:
    result = how(Agent(ScriptedModel([call("final_answer", **arguments)]), output_type=output_type), "?")
    assert result.output == value
    assert result.stop_reason == "answer"


def test_an_answer_that_never_fits_raises_with_the_state(how: How) -> None:
    agent = Agent(ScriptedModel(["no", "no", "no"]), output_type=City, output_retries=2)
    with pytest.raises(OutputInvalid, match="does not fit output_type") as caught:
        how(agent, "?")
    assert caught.value.text == "no"
    assert caught.value.state.steps == 3
    assert caught.value.state.stop_reason == "error"


# --- errors, retries, limits, approvals over each way ---------------------------------------------


def test_a_model_error_is_raised_with_the_state_so_far(how: How) -> None:
    with pytest.raises(AuthError) as caught:
        how(scripted([call("add", a=1, b=2), AuthError("no key", status=401)]), "go")
    state = caught.value.state
    assert state.stop_reason == "error"
    assert tool_texts(state) == ["3"]
    assert state.usage.tool_calls == 1


def test_a_busy_server_is_asked_again(how: How, simulate: Simulate) -> None:
    sim = simulate([Failure(503, "busy"), "Hello."])
    result = how(Agent(ChatModel(base_url=sim.base_url), retry=NO_WAIT), "Hi")
    assert (result.output, result.steps, len(sim.requests)) == ("Hello.", 1, 2)
    assert sim.requests[0].raw == sim.requests[1].raw


def test_without_retry_the_first_failure_is_raised(how: How, simulate: Simulate) -> None:
    sim = simulate([Failure(503, "busy")])
    with pytest.raises(Overloaded) as caught:
        how(Agent(ChatModel(base_url=sim.base_url), retry=None), "Hi")
    assert caught.value.state.stop_reason == "error"


def test_a_limit_ends_the_run_as_a_result(how: How) -> None:
    loop = scripted(lambda _: Assistant("looking", "", (call("add", a=1, b=2),)), limits=Limits(steps=3))
    result = how(loop, "go")
    assert (result.stop_reason, result.steps, result.output) == ("limit:steps", 3, "looking")
    assert tool_texts(result) == ["3", "3", "3"]


def test_a_limit_raises_only_if_asked_to(how: How) -> None:
    agent = scripted(lambda _: call("add", a=1, b=2), limits=Limits(steps=1, on_limit="raise"))
    with pytest.raises(LimitReached, match="steps") as caught:
        how(agent, "go")
    assert caught.value.stop_reason == "limit:steps"
    assert caught.value.state.steps == 1


def test_a_call_that_needs_an_approval_pauses_and_resumes(how: How) -> None:
    agent = scripted([[call("add", a=1, b=1), call("delete", path="a")], "Done."])
    paused = how(agent, "go")
    assert (paused.stop_reason, paused.output) == ("pending_approval", None)
    (pending,) = paused.pending
    assert (pending.name, paused.usage.tool_calls) == ("delete", 1), "the other call has run"
    result = agent.resume_sync(paused.state.to_json(), {pending.id: True})
    assert tool_texts(result) == ["2", "deleted a"]
    assert (result.stop_reason, result.output) == ("answer", "Done.")
    assert paused.stop_reason == "pending_approval"  # the given state is not changed


@pytest.mark.parametrize(("approval", "told"), [
    (False, "error: not run: the call was not approved"),
    ({"args": {"path": "b"}}, '[run with other arguments, given with the approval: {"path": "b"}]\ndeleted b'),
])  # fmt: skip
def test_answers_to_an_approval(approval: Any, told: str) -> None:
    agent = scripted([call("delete", path="a"), "Done."])
    paused = agent.run_sync("go")
    result = agent.resume_sync(paused.state, {paused.pending[0].id: approval})
    assert (tool_texts(result), result.output) == ([told], "Done.")


def test_partial_approvals_pause_again_and_the_approved_call_runs() -> None:
    agent = scripted([[call("delete", path="a"), call("delete", path="b")], "Done."])
    paused = agent.run_sync("go")
    first, second = paused.pending
    again = agent.resume_sync(paused.state, {first.id: True})
    assert (again.stop_reason, again.pending, again.usage.tool_calls) == ("pending_approval", (second,), 1)
    done = agent.resume_sync(again.state, {second.id: False})
    assert tool_texts(done) == ["deleted a", "error: not run: the call was not approved"]
    assert agent.resume_sync(paused.state).pending == (first, second)


@pytest.mark.parametrize(("approvals", "message"), [
    ({"nope": True}, r"no call nope waits for an approval; waiting: call_01_0 \(delete\)"),
    ({"delete": True}, r"no call delete waits for an approval; waiting: call_01_0 \(delete\)"),
    (True, r"approvals is True; allowed: answers by the ids of calls, such as \{call.id: True for call in result.pending\}"),
    *((nothing, "approvals is .*; allowed: answers by the ids of calls") for nothing in (False, 0, [], "", ["call_01_0"])),
    ({"call_01_0": None}, "allowed: True, False"),
    ({"call_01_0": 1}, "allowed: True, False"),
    ({"call_01_0": {"arguments": {}}}, "allowed: True, False"),
    ({"call_01_0": "yes"}, "allowed: True, False"),
])  # fmt: skip
def test_an_approval_that_means_nothing_is_refused(approvals: Any, message: str) -> None:
    agent = scripted([call("delete", path="a"), "Done."])
    paused = agent.run_sync("go")
    with pytest.raises(SettingsError, match=message):
        agent.resume_sync(paused.state, approvals)


async def approve_later(_: ToolCall) -> bool:
    await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("approve", [lambda _: True, approve_later])
def test_approve_is_asked_instead_of_pausing(how: How, approve: Any) -> None:
    result = how(scripted([call("delete", path="a"), "Done."], approve=approve), "go")
    assert (tool_texts(result), result.stop_reason) == (["deleted a"], "answer")


def test_approve_is_told_which_call_and_may_refuse(how: How) -> None:
    asked: list[str] = []

    def approve(wanted: ToolCall) -> bool:
        asked.append(wanted.arguments)
        return '"b"' in wanted.arguments

    result = how(scripted([[call("delete", path="a"), call("delete", path="b")], "Done."], approve=approve), "go")
    assert asked == ['{"path": "a"}', '{"path": "b"}']
    assert tool_texts(result) == ["error: not run: the call was not approved", "deleted b"]


def test_approve_that_raises_ends_the_run_and_the_tool_does_not_run(how: How) -> None:
    ended: list[RunFinished] = []

    def approve(_: ToolCall) -> bool:
        raise PermissionError("nobody is here")

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            ended.append(event)

    with pytest.raises(PermissionError, match="nobody is here"):
        how(scripted([call("delete", path="a")], approve=approve), "go", observers=[watch])
    (last,) = ended
    assert last.stop_reason == "error"
    assert tool_texts(last.result) == ["error: not run: the run ended before this call"]


# --- deps, options, copy, nesting, middleware -----------------------------------------------------


@tool
def who(ctx: RunContext[str]) -> str:
    """Who is it?"""
    return f"{ctx.deps} {ctx.run_id} {ctx.position} {ctx.idempotency_key}"


def test_tools_get_the_deps_and_know_their_run(how: How) -> None:
    agent = Agent(ScriptedModel([call("who"), call("who"), "Done."]), tools=[who], deps_type=str)
    assert tool_texts(how(agent, "go", deps="ann", run_id="r7")) == ["ann r7 0 r7:0", "ann r7 1 r7:1"]


@pytest.mark.parametrize("deps", [None, 7])
def test_deps_of_another_type_are_refused_before_anything_is_sent(how: How, deps: Any) -> None:
    model = ScriptedModel(["never"])
    with pytest.raises(SettingsError, match="this agent's deps_type is str"):
        how(Agent(model, tools=[who], deps_type=str), "go", deps=deps)
    assert model.requests == []
    with pytest.raises(SettingsError, match="deps_type is str"):
        Agent(model, tools=[who], deps_type=str).resume_sync(scripted(["x"]).run_sync("x").state, deps=deps)


def test_an_unknown_option_is_refused(how: How) -> None:
    with pytest.raises(SettingsError, match="a run has no dep; it has: messages, deps, observers, run_id"):
        how(scripted(["x"]), "go", dep=1)


def test_nothing_to_say_is_refused(how: How) -> None:
    with pytest.raises(SettingsError, match="nothing to say"):
        how(scripted(["x"]))


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"tool_choice": "nope"}, ToolDefinitionError, "'nope' fits no tool; there are: get_weather"),
    ({"model": 7}, SettingsError, "model is an int"),
    ({"output_type": asyncio.Event}, ToolDefinitionError, "output_type"),
    ({"tools": [], "tool_choice": "required"}, ToolDefinitionError, "'required' fits no tool; there are: none"),
])  # fmt: skip
def test_parts_that_cannot_work_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Agent(**{"model": ScriptedModel([]), "tools": [get_weather], **options})


def test_copy_changes_only_what_it_is_told() -> None:
    agent = scripted(["a"], instructions="Be kind.", output_type=City)
    copy = agent.copy(model=ScriptedModel(["x"]), output_type=str)
    assert (copy.run_sync("?").output, copy.spec.instructions) == ("x", "Be kind.")
    assert "final_answer" in agent.spec.tools
    assert "final_answer" not in copy.spec.tools
    with pytest.raises(SettingsError, match="an agent has no modle; it has: model, instructions"):
        agent.copy(modle="x")
    assert repr(copy).endswith("tools=[get_weather, add, delete, broken])")


def test_an_agent_as_a_tool_of_an_agent_of_an_agent(how: How) -> None:
    inner = scripted([call("add", a=2, b=3), "five"]).as_tool("adder", "Adds.")
    middle = Agent(ScriptedModel([call("adder", task="2+3"), "It is five."]), tools=[inner]).as_tool("asker", "Asks.")
    result = how(Agent(ScriptedModel([call("asker", task="sum"), "Five."]), tools=[middle]), "go")
    assert (tool_texts(result), result.output) == (["It is five."], "Five.")


def test_an_agent_as_a_tool_that_pauses_pauses_the_run_around_it(how: How) -> None:
    inner = scripted([call("delete", path="a")]).as_tool("cleaner", "Cleans.")
    result = how(Agent(ScriptedModel([call("cleaner", task="x"), "Sorry."]), tools=[inner]), "go")
    assert (result.stop_reason, tool_texts(result)) == ("pending_approval", [])


def test_an_agent_as_a_tool_that_stops_at_a_limit_gives_its_last_words_as_no_answer(how: How) -> None:
    def outer(**limits: Any) -> Agent[str]:
        step = Assistant("Half of it.", tool_calls=(call("add", a=2, b=3),))
        inner = Agent(ScriptedModel([step, "The rest."]), tools=[add], limits=Limits(steps=1, **limits))
        return Agent(ScriptedModel([call("inner", task="x"), "Ok."]), tools=[inner.as_tool("inner", "Works.")])

    assert tool_texts(how(outer(), "go")) == ["error: the agent inner gave no answer: limit:steps; its last words: Half of it."]
    assert tool_texts(how(outer(on_limit="answer"), "go")) == ["The rest."]


class Traced(Middleware):
    def __init__(self, name: str, trace: list[str]) -> None:
        self.name, self.trace = name, trace

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
        self.trace.append(f"{self.name} > model")
        reply: ModelReply = await next(request)
        self.trace.append(f"{self.name} < model")
        return reply

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: Any) -> Any:
        self.trace.append(f"{self.name} > {call.name} {ctx.position}")
        value = await next(call)
        self.trace.append(f"{self.name} < {value}")
        return value


def test_middleware_stands_round_calls_the_first_outermost(how: How) -> None:
    trace: list[str] = []
    how(scripted([call("add", a=1, b=2), "x"], middleware=[Traced("A", trace), Traced("B", trace)]), "go")
    model = ["A > model", "B > model", "B < model", "A < model"]
    assert trace == [*model, "A > add 0", "B > add 0", "B < 3", "A < 3", *model]


class Short(Middleware):
    def __init__(self, reply: Any = None, value: Any = None, error: Exception | None = None) -> None:
        self.reply, self.value, self.error = reply, value, error

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
        reply: ModelReply = self.reply or await next(request)
        return reply

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: Any) -> Any:
        if self.error:
            raise self.error
        return self.value


def test_middleware_may_answer_itself(how: How) -> None:
    result = how(scripted([call("broken"), "x"], middleware=[Short(value={"cached": True})]), "go")
    assert tool_texts(result) == ['{"cached":true}']
    model = ScriptedModel([])
    cached = Short(reply=ModelReply(Assistant("from the cache"), Usage()))
    assert how(Agent(model, middleware=[cached]), "go").output == "from the cache"
    assert model.requests == []


@pytest.mark.parametrize(("error", "told"), [
    (ModelRetry("not now"), "error: not now"),
    (PermissionError("denied"), "error: PermissionError: denied"),
])  # fmt: skip
def test_an_exception_of_tool_middleware_counts_as_the_tools(how: How, error: Exception, told: str) -> None:
    result = how(scripted([call("add", a=1, b=2), "x"], middleware=[Short(error=error)]), "go")
    assert tool_texts(result) == [told]


def test_an_exception_of_model_middleware_ends_the_run(how: How) -> None:
    class Fails(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
            raise LookupError("no budget")

    with pytest.raises(LookupError, match="no budget"):
        how(scripted(["x"], middleware=[Fails()]), "go")


# --- resume of ended runs, and what a result is made of -------------------------------------------


def test_resuming_a_finished_run_gives_its_answer_again() -> None:
    agent = scripted(["Hello."])
    done = agent.run_sync("Hi")
    again = agent.resume_sync(done.state)
    assert (again.output, again.stop_reason, again.steps, again.messages) == ("Hello.", "answer", 1, done.messages)


def test_a_run_at_its_limit_goes_on_with_a_larger_one() -> None:
    agent = scripted([call("add", a=1, b=2), "Done."], limits=Limits(steps=1))
    cut = agent.run_sync("go")
    assert cut.stop_reason == "limit:steps"
    assert agent.resume_sync(cut.state).stop_reason == "limit:steps"
    result = agent.copy(limits=Limits(steps=5)).resume_sync(cut.state.to_json())
    assert (result.output, result.stop_reason, result.steps) == ("Done.", "answer", 2)


def test_a_failed_run_goes_on_from_the_errors_state() -> None:
    agent = scripted([call("add", a=1, b=2), AuthError("no key"), "Done."])
    with pytest.raises(AuthError) as caught:
        agent.run_sync("go")
    result = agent.resume_sync(caught.value.state)
    assert (result.output, tool_texts(result)) == ("Done.", ["3"])


def test_a_result_survives_json() -> None:
    result = scripted([[call("add", a=1, b=2), call("broken")], priced("Done.")]).run_sync("go")
    state = RunState.from_json(result.state.to_json())
    assert (state.messages, state.usage, state.events) == (result.messages, result.usage, result.events)
    (failed,) = [event for event in result.events if isinstance(event, ToolFinished) and event.error is not None]
    assert failed.error is not None
    assert "Traceback" in failed.error  # the full error is kept, and the model is not told
    assert "Traceback" not in failed.result.content
    assert sum(e.usage.output_tokens for e in result.events if isinstance(e, ModelReplied)) == result.usage.output_tokens == 9


def priced(text: str) -> ModelReply:
    return ModelReply(Assistant(text), Usage(requests=1, input_tokens=5, output_tokens=9), cost=0.5)


def test_cost_is_summed_and_unknown_when_one_part_is() -> None:
    assert scripted([priced("x")]).run_sync("go").cost == 0.5
    assert scripted([call("add", a=1, b=2), priced("x")]).run_sync("go").cost is None


def test_an_agent_closes_its_connections_and_can_be_used_again(simulate: Simulate) -> None:
    sim = simulate()

    async def main() -> list[str]:
        outputs = []
        for text in ("a", "b"):
            async with Agent(ChatModel(base_url=sim.base_url)) as agent:
                outputs += [(await agent.run(text)).output, (await agent.run(text * 2)).output]
        return outputs

    assert asyncio.run(main()) == ["a", "aa", "b", "bb"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("instructions", 5), ("settings", {"temperature": 1}), ("limits", {}), ("retry", 3), ("middleware", [print]),
        ("middleware", print), ("history", 5), ("approve", True), ("output_retries", "x"), ("deps_type", 3),
        ("tool_choice", None),
    ],
)  # fmt: skip
def test_a_part_of_the_wrong_kind_is_refused_at_once(part: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=part):
        Agent(ScriptedModel([]), **{part: value})


@pytest.mark.parametrize("model", [ScriptedModel, 5, object()])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(SettingsError, match="allowed: a model's name"):
        Agent(model)


@pytest.mark.parametrize(
    ("prompt", "options"),
    [(5, {}), (User("hi"), {}), ("hi", {"messages": [{"role": "user", "content": "x"}]}), ("hi", {"observers": print})],
)
def test_a_run_is_not_begun_with_something_else(prompt: Any, options: Any) -> None:
    with pytest.raises(SettingsError, match="allowed:"):
        Agent(ScriptedModel(["x"])).run_sync(prompt, **options)


def test_a_limit_on_money_needs_a_price() -> None:
    with pytest.raises(SettingsError, match="price of m on generic is not known"):
        Agent(ChatModel("m", base_url="https://llm.example/v1", api_key="k"), limits=Limits(cost=1))
    for url in ("https://api.deepseek.com", "https://www.anyfast.ai/v1"):
        Agent(ChatModel(base_url=url, api_key="k"), limits=Limits(cost=1))
    Agent(ChatModel("m", base_url="https://openrouter.ai/api/v1", api_key="k"), limits=Limits(cost=1))  # it tells the cost


def test_arguments_of_an_approval_are_checked_when_they_are_given() -> None:
    agent = scripted([call("delete", path="a"), "Done."])
    paused = agent.run_sync("go")
    with pytest.raises(SettingsError, match="do not fit: pth: unknown parameter"):
        agent.resume_sync(paused.state, {paused.pending[0].id: {"args": {"path": "a", "pth": "b"}}})


@pytest.mark.parametrize("retries", [0, 1])
def test_a_wrong_final_answer_goes_back_a_bounded_number_of_times(how: How, retries: int) -> None:
    model = ScriptedModel(lambda request: call("final_answer", answer="no number"))
    with pytest.raises(OutputInvalid, match="does not fit output_type") as caught:
        how(Agent(model, output_type=int, output_retries=retries), "go")
    assert caught.value.state.steps == retries + 1


def test_types_follow_the_output_type() -> None:
    assert assert_type(Agent(ScriptedModel(["x"])).run_sync("go").output, str) == "x"
    assert assert_type(Agent(ScriptedModel(["3"]), output_type=int).run_sync("go").output, int) == 3
    assert assert_type(Agent(ScriptedModel(["[3]"]), output_type=list[int]).run_sync("go").output, list[int]) == [3]


def test_a_sync_stream_has_a_result_and_can_be_closed() -> None:
    with Agent(ScriptedModel(["Hello."])).stream_sync("go") as stream:
        kinds = [type(event).__name__ for event in stream]
    assert (kinds[-1], stream.result.output) == ("RunFinished", "Hello.")
    left = Agent(ScriptedModel(["Hello."])).stream_sync("go")
    next(left)
    left.close()
    assert next(left, None) is None


@pytest.mark.parametrize(
    "start",
    [
        lambda agent: agent.run("go"),
        lambda agent: agent.resume(RunState()),
        lambda agent: agent.stream("go").__anext__(),
        lambda agent: agent.stream_text("go").__aiter__().__anext__(),
        lambda agent: agent.map(["go"]).__await__(),
        lambda agent: gather((agent, "go")),
        lambda agent: agent.as_tool("helper", "Helps.").call({"task": "go"}),
    ],
)
def test_a_run_without_a_loop_of_asyncio_says_what_to_do(start: Any) -> None:
    """As trio drives a coroutine: without a running loop of asyncio."""
    with pytest.raises(RuntimeError, match=r"under trio call .*to_thread\.run_sync\(agent\.run_sync, prompt\)"):
        start(Agent(ScriptedModel(["Hi."]))).send(None)


def test_an_error_of_a_server_names_what_was_asked() -> None:
    with DeepSeekSimulator([Failure(400)]) as sim:
        with pytest.raises(BadRequest) as caught:
            Agent(ChatModel(base_url=sim.base_url)).run_sync("go")
        (note,) = caught.value.__notes__
        assert note.startswith(f"asked: POST {sim.base_url}/chat/completions, model deepseek-v4-flash, request id ")


@pytest.mark.parametrize("failure", [Failure(503), Cut("text"), Raw(b"<html>hello</html>")])
def test_every_error_of_a_model_call_names_what_was_asked(failure: Any) -> None:
    with DeepSeekSimulator([failure]) as sim:
        with pytest.raises(ModelError) as caught:
            Agent(ChatModel(base_url=sim.base_url), retry=None).run_sync("go")
        asked = [note for note in caught.value.__notes__ if note.startswith("asked: ")]
        assert len(asked) == 1 and "model deepseek-v4-flash" in asked[0]
        assert f"{caught.value} {asked[0]}".count(f"{sim.base_url}/chat/completions") == 1


def test_an_empty_reply_names_the_request() -> None:
    with DeepSeekSimulator([Reply(Assistant(""))]) as sim:
        with pytest.raises(EmptyReply) as caught:
            Agent(ChatModel(base_url=sim.base_url), retry=None).run_sync("go")
        (note,) = caught.value.__notes__
        assert caught.value.request_id and note.endswith(f", request id {caught.value.request_id}")


@pytest.mark.parametrize(
    "wrap", [lambda model: model, Retry().wrap, lambda model: Fallback(ScriptedModel([Overloaded("x")]), model, retry=None)]
)
def test_an_invalid_answer_names_what_was_asked(wrap: Any) -> None:
    with DeepSeekSimulator(["seven"]) as sim:
        agent = Agent(wrap(ChatModel(base_url=sim.base_url)), output_type=int, output_retries=0, retry=None)
        with pytest.raises(OutputInvalid) as caught:
            agent.run_sync("go")
        (note,) = caught.value.__notes__
        assert note.startswith(f"asked: POST {sim.base_url}/chat/completions, model deepseek-v4-flash, request id ")


def refuse_all(_: Any) -> Any:
    raise ModelRetry("too rude")


def book(day: int) -> str:
    """Book a day."""
    raise ModelRetry("that day is taken")


@pytest.mark.parametrize(("reply", "output_type", "why"), [
    ("it is seven", int, "the model wrote text instead of calling the tool final_answer, and the text of the answer is not"),
    ("it is seven", book, "the model wrote text instead of calling the tool final_answer\n"),
    (call("final_answer", day=1), book, "that day is taken\n"),
    (call("final_answer", answer="x"), int, "answer: Input should be a valid integer"),
    ("7", int, "a validator refused it: too rude\n"),
])  # fmt: skip
def test_an_invalid_answer_says_why_to_the_developer(reply: Any, output_type: Any, why: str) -> None:
    agent = Agent(ScriptedModel([reply]), output_type=output_type, output_retries=0)
    agent.output_validator(refuse_all)
    with pytest.raises(OutputInvalid) as caught:
        agent.run_sync("go")
    assert str(caught.value).startswith(f"the answer does not fit output_type: {why}")


def test_an_invalid_answer_is_shown_to_the_developer() -> None:
    agent = Agent(ScriptedModel(["it is seven"] * 3), output_type=int)
    with pytest.raises(OutputInvalid, match="The model wrote: it is seven") as caught:
        agent.run_sync("go")
    assert caught.value.text == "it is seven"

"""Answers: validators of the program, final tools, unions with text, and guardrails."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import (
    Agent,
    Assistant,
    Limits,
    ModelInfo,
    ModelReply,
    ModelRequest,
    ModelRetry,
    OutputInvalid,
    PartialOutput,
    RunContext,
    RunFinished,
    RunState,
    ScriptedModel,
    SettingsError,
    StopRun,
    TextDelta,
    ToolDefinitionError,
    guardrail,
    tool,
)
from agentkit.run.partial import PartialAnswer
from agentkit.testing import call
from tests.kit import How, reloaded, tool_texts


class City(BaseModel):
    name: str
    inhabitants: int


# --- validators --------------------------------------------------------------------------------------------------------------


def test_a_validator_changes_the_answer_or_sends_it_back(how: How) -> None:
    model = ScriptedModel(["short", "long enough"])
    agent = Agent(model)

    @agent.output_validator
    def check(text: str) -> str:
        if len(text) < 8:
            raise ModelRetry("answer with at least 8 characters")
        return text.upper()

    result = how(agent, "go")
    assert (result.output, result.steps) == ("LONG ENOUGH", 2)
    assert "at least 8 characters" in str(model.requests[1].messages[-1])


def test_validators_come_one_after_another_with_the_context(how: How) -> None:
    agent = Agent(ScriptedModel([call("final_answer", name="Rome", inhabitants=1)]), output_type=City)

    @agent.output_validator
    async def real(ctx: RunContext[dict[str, int]], city: City) -> City:
        await asyncio.sleep(0)
        return City(name=city.name, inhabitants=ctx.deps[city.name])

    @agent.output_validator
    def named(city: City) -> str:
        return f"{city.name}: {city.inhabitants}"

    assert how(agent, "go", deps={"Rome": 2749000}).output == "Rome: 2749000"


def test_an_answer_that_is_sent_back_too_often_ends_the_run() -> None:
    agent = Agent(ScriptedModel(["no", "no", "no"]))

    @agent.output_validator
    def never(text: str) -> str:
        raise ModelRetry("not that")

    with pytest.raises(OutputInvalid, match="not that"):
        agent.run_sync("go")


def test_a_copy_keeps_the_validators_and_an_error_of_one_comes_out() -> None:
    agent = Agent(ScriptedModel(["a"]))

    @agent.output_validator
    def broken(text: str) -> str:
        raise LookupError("no table")

    for other in (agent, agent.copy(model=ScriptedModel(["a"]))):
        with pytest.raises(LookupError, match="no table"):
            other.run_sync("go")


# --- final tools -------------------------------------------------------------------------------------------------------------


@tool(final=True)
def report(title: str) -> dict[str, str]:
    """Write the report."""
    if not title:
        raise ModelRetry("a report has a title")
    return {"title": title}


@tool
def look() -> str:
    """Look."""
    return "seen"


def test_the_result_of_a_final_tool_is_the_answer(how: How) -> None:
    model = ScriptedModel([[call("look"), call("report", title="Tea")], "never"])
    result = how(Agent(model, tools=[look, report]), "go")
    assert (result.stop_reason, len(model.requests)) == ("answer", 1)
    assert result.output == {"title": "Tea"}
    assert tool_texts(result) == ["seen", '{"title":"Tea"}']


def test_an_error_of_a_final_tool_goes_to_the_model(how: How) -> None:
    model = ScriptedModel([call("report", title=""), call("report", title="Tea")])
    assert how(Agent(model, tools=[report]), "go").output == {"title": "Tea"}


def test_each_prefix_of_a_run_with_a_final_tool_ends_in_the_same_way() -> None:
    whole = Agent(ScriptedModel([call("report", title="Tea")]), tools=[tool(report.function, final=True, idempotent=True)])
    events = whole.run_sync("go").events
    for until in range(2, len(events) + 1):
        again = whole.copy(model=ScriptedModel([])).resume_sync(reloaded(RunState.replay(events[:until])))
        assert again.stop_reason == "answer" and again.output == {"title": "Tea"}, until  # type: ignore[comparison-overlap]


def test_a_long_result_of_a_final_tool_is_whole() -> None:
    @tool(final=True, max_output=100)
    def long() -> str:
        """Write."""
        return "x" * 1000

    assert Agent(ScriptedModel([call("long")]), tools=[long]).run_sync("go").output == "x" * 1000


# --- several types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_type", [City | str, [City, str]])
@pytest.mark.parametrize("mode", ["tool", "text"])
def test_a_union_with_text_takes_a_plain_text(how: How, output_type: Any, mode: str) -> None:
    script: list[Any] = ["Which country do you mean?"]
    if mode == "tool":
        script = [call("final_answer", answer={"name": "Rome", "inhabitants": 1})]
    result = how(Agent(ScriptedModel(script), output_type=output_type), "go")
    assert result.output == (City(name="Rome", inhabitants=1) if mode == "tool" else script[0])


def test_a_text_that_is_the_value_of_another_type_is_that_value() -> None:
    result = Agent(ScriptedModel(['{"name": "Rome", "inhabitants": 1}']), output_type=City | str).run_sync("go")
    assert result.output == City(name="Rome", inhabitants=1)


@pytest.mark.parametrize("output_type", [[], [City, lambda: 1]])
def test_a_list_of_anything_else_is_refused(output_type: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="allowed: types in a list, or one function"):
        Agent(ScriptedModel([]), output_type=output_type)


# --- guardrails --------------------------------------------------------------------------------------------------------------


@guardrail("input")
def no_cards(text: str) -> str | None:
    return "there is a card number in it" if "4111" in text else None


@guardrail("output", name="polite")
async def no_shouting(text: str, ctx: RunContext[Any]) -> str | None:
    await asyncio.sleep(0)
    return f"{ctx.deps} is shouted at" if text.isupper() else None


def test_a_guardrail_of_the_input_stops_the_run_before_any_tool(how: How) -> None:
    ran: list[int] = []

    @tool
    def act() -> str:
        """Act."""
        ran.append(1)
        return "done"

    agent = Agent(ScriptedModel(lambda _: call("act")), tools=[act], middleware=[no_cards])
    result = how(agent, "My card is 4111 1111")
    assert (result.stop_reason, result.output, ran) == ("guardrail:no_cards", None, [])
    last = result.events[-1]
    assert isinstance(last, RunFinished) and last.error == "there is a card number in it"
    assert how(agent.copy(model=ScriptedModel(["Fine."])), "My card is lost").output == "Fine."


def test_a_guardrail_of_the_output_stops_the_run_with_its_answer(how: How) -> None:
    agent = Agent(ScriptedModel([call("look"), "NO WAY"]), tools=[look], middleware=[no_shouting])
    result = how(agent, "go", deps="Ann")
    assert (result.stop_reason, result.output, result.steps) == ("guardrail:polite", None, 1)
    assert result.usage.requests == 2, "the reply is paid for, and not in the transcript"


def test_the_model_call_beside_a_guardrail_is_cancelled() -> None:
    ended: list[str] = []

    class Slow:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            raise AssertionError

    @guardrail("input")
    async def slow_check(text: str) -> str | None:
        for _ in range(20):
            await asyncio.sleep(0)
        return no_cards(text)  # type: ignore[no-any-return]

    result = Agent(Slow(), middleware=[slow_check]).run_sync("4111")
    assert (result.stop_reason, ended) == ("guardrail:slow_check", ["cancelled"])


def test_the_input_is_checked_once_and_a_run_of_a_conversation_checks_its_new_message() -> None:
    seen: list[str] = []

    @guardrail("input")
    def note(text: str) -> None:
        seen.append(text)

    agent = Agent(ScriptedModel([call("look"), "a", "b"]), tools=[look], middleware=[note])
    first = agent.run_sync("one")
    agent.run_sync("two", messages=first.messages)
    assert seen == ["one", "two"]


def test_an_error_of_a_check_ends_the_run_and_a_wrong_value_is_refused() -> None:
    @guardrail("input")
    def broken(text: str) -> str | None:
        raise LookupError("no list")

    @guardrail("input")
    def yes(text: str) -> Any:
        return True

    with pytest.raises(LookupError, match="no list"):
        Agent(ScriptedModel(["a"]), middleware=[broken]).run_sync("go")
    with pytest.raises(SettingsError, match="the guardrail yes gave True"):
        Agent(ScriptedModel(["a"]), middleware=[yes]).run_sync("go")
    with pytest.raises(SettingsError, match="'input' or 'output'"):
        guardrail("both")(no_cards.check)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r'write @guardrail\("input"\) or'):
        guardrail(no_cards.check)  # type: ignore[arg-type]


@pytest.mark.parametrize("sync", [True, False])
def test_a_tool_may_stop_the_run(how: How, sync: bool) -> None:
    def hang_up(ctx: RunContext[None]) -> str:
        raise StopRun("agent:hung_up", "Goodbye.", "the user is rude")

    async def hang_up_later(ctx: RunContext[None]) -> str:
        raise StopRun("agent:hung_up", "Goodbye.", "the user is rude")

    made = tool(hang_up if sync else hang_up_later, name="hang_up", description="Hang up.")
    result = how(Agent(ScriptedModel([[call("hang_up"), call("look")], "never"]), tools=[made, look]), "go")
    assert (result.stop_reason, result.output) == ("agent:hung_up", "Goodbye.")
    assert len(tool_texts(result)) == 2, "every call has an answer"


def save(title: str) -> str:
    """Save."""
    return f"saved {title}"


def discard(why: str) -> str:
    """Discard."""
    return f"discarded: {why}"


@pytest.mark.parametrize("several", [[save, discard], [save, str], [tool(save), int], [partial(save, "x"), discard], []])
def test_several_functions_are_refused_with_the_way_to_have_them(several: Any) -> None:
    with pytest.raises(ToolDefinitionError, match=r"one function\. For several functions, .*tool\(function, final=True\)"):
        Agent(ScriptedModel([]), output_type=several)


def test_one_function_in_a_list_is_that_function(how: How) -> None:
    assert how(Agent(ScriptedModel([call("final_answer", title="x")]), output_type=[save]), "go").output == "saved x"
    assert how(Agent(ScriptedModel(["x"]), output_type=[str]), "go").output == "x"


def test_several_final_tools_are_several_functions_that_answer(how: How) -> None:
    both: list[Any] = [tool(save, final=True), tool(discard, final=True)]
    script = [call("discard", why="empty")]
    assert how(Agent(ScriptedModel(script), tools=both, tool_choice="required"), "go").output == "discarded: empty"
    agent = Agent(ScriptedModel(["In words.", call("look"), call("save", title="x")]), tools=[*both, look])

    @agent.output_validator
    def by_tool(value: str) -> str:
        if not value.startswith(("saved", "discarded")):
            raise ModelRetry("call save or discard")
        return value

    assert how(agent, "go").output == "saved x"


# --- a refused answer is never the output ------------------------------------------------------------------------------------


def refuse_no(text: str) -> str:
    if "no" in text.lower():
        raise ModelRetry("do not say no")
    return text


@pytest.mark.parametrize(
    ("script", "limits", "output_retries", "expected"),
    [
        ([call("look"), "No."], Limits(steps=1, on_limit="answer"), 2, ("limit:steps", None)),
        ([call("look"), "Yes."], Limits(steps=1, on_limit="answer"), 2, ("limit:steps", "Yes.")),
        (["No."], Limits(steps=1), 2, ("limit:steps", None)),
        (["No.", Assistant("Let me look.", tool_calls=(call("look"),))], Limits(steps=2), 2, ("limit:steps", "Let me look.")),
        (["No.", "Yes."], Limits(steps=1, on_limit="answer"), 2, ("limit:steps", "Yes.")),
        (["No.", "No way."], Limits(steps=1, on_limit="answer"), 2, ("limit:steps", None)),
        ([call("look"), "No."], Limits(steps=1, on_limit="answer"), 0, ("limit:steps", None)),
    ],
)
def test_an_answer_that_a_validator_refuses_is_not_the_output(
    how: How, script: list[Any], limits: Limits, output_retries: int, expected: tuple[str, Any]
) -> None:
    agent = Agent(ScriptedModel(script), tools=[look], limits=limits, output_retries=output_retries)
    agent.output_validator(refuse_no)
    result = how(agent, "go")
    assert (result.stop_reason, result.output) == expected
    last = result.events[-1]
    assert isinstance(last, RunFinished) and (last.output, last.result.output) == (expected[1], expected[1])
    spoken = [message.text for message in result.messages if isinstance(message, Assistant)]
    assert spoken[-1] in ("No.", "No way.", "Yes.", "Let me look."), "what the model said stays in the messages"


def test_an_answer_refused_too_often_is_in_the_error_and_not_in_the_output() -> None:
    seen: list[Any] = []
    agent = Agent(ScriptedModel(["No."]), output_retries=0, observers=[seen.append])
    agent.output_validator(refuse_no)
    with pytest.raises(OutputInvalid) as failed:
        agent.run_sync("go")
    assert failed.value.text == "No." and seen[-1].stop_reason == "error" and seen[-1].result.output is None


# --- the answer while it is written ------------------------------------------------------------------------------------------


class Town(BaseModel):
    name: str
    streets: list[str]


def partials(agent: Agent[Any]) -> list[Any]:
    return [event.value for event in agent.stream_sync("go") if isinstance(event, PartialOutput)]


@pytest.mark.parametrize("mode", ["tool", "json_object"])
def test_the_answer_is_shown_as_it_grows(mode: Any) -> None:
    town = {"name": "Rome", "streets": [f"Via {n}" for n in range(30)]}
    script: list[Any] = [call("final_answer", **town) if mode == "tool" else json.dumps(town)]
    model = ScriptedModel(script)
    model.info = ModelInfo(output_mode=mode)  # type: ignore[attr-defined]
    seen = partials(Agent(model, output_type=Town))
    assert len(seen) > 5 and seen[0] in ({"name": "Rome"}, {"name": "Rome", "streets": []})
    for value in seen:
        assert value["name"] == "Rome" and value.get("streets", []) == town["streets"][: len(value.get("streets", []))]


def test_an_answer_that_is_no_object_is_shown_as_it_is() -> None:
    seen = partials(Agent(ScriptedModel([call("final_answer", answer=[*range(40)])]), output_type=list[int]))
    assert seen and all(value == [*range(len(value))] for value in seen)


def test_a_text_answer_and_who_wants_no_pieces_have_no_partial_outputs() -> None:
    assert partials(Agent(ScriptedModel(["text " * 20]))) == []
    seen: list[Any] = []
    Agent(ScriptedModel([call("final_answer", name="Rome", streets=["a"] * 20)]), output_type=Town).run_sync("go")
    assert seen == []


def test_a_long_answer_is_read_only_when_it_has_grown_by_a_tenth() -> None:
    """So ten times the text is read 24 times more often, and all readings together are of eleven times its length."""

    def readings(items: int) -> int:
        partial = PartialAnswer(None, is_object=True)
        pieces = ['{"a": [', *(f"{n:05}, ".lstrip("0") or "0, " for n in range(1, items))]
        return sum(partial.after(TextDelta(piece)) is not None for piece in pieces)

    assert 10 < readings(300) < 70 and readings(3_000) - readings(300) <= 26


# --- answers that come in other ways -----------------------------------------------------------------------------------------


FINAL: list[Any] = [call("report", title="NO WAY")]
ANSWERS: list[Any] = [call("final_answer", answer="x"), call("final_answer", answer="NO")]


@pytest.mark.parametrize("script", [[FINAL], [ANSWERS]])
def test_a_guardrail_of_the_output_sees_final_tools_and_every_final_answer(script: Any) -> None:
    seen: list[str] = []

    @guardrail("output")
    def refuse(text: str) -> str | None:
        seen.append(text)
        return "shouted" if "NO" in text else None

    typed: dict[str, Any] = {"output_type": list[str]} if script[0][0].name == "final_answer" else {}
    result = Agent(ScriptedModel(script), tools=[report], middleware=[refuse], **typed).run_sync("go")
    assert (result.stop_reason, result.output) == ("guardrail:refuse", None) and seen


def test_a_guardrail_sees_the_text_that_a_limit_would_leave() -> None:
    @guardrail("output")
    def refuse(text: str) -> str | None:
        return "secret" if "secret" in text else None

    script: list[Any] = [ModelReply(Assistant("the secret is 7", "", (call("look"),))), "never"]
    result = Agent(ScriptedModel(script), tools=[look], middleware=[refuse], limits=Limits(steps=1)).run_sync("go")
    assert result.stop_reason == "guardrail:refuse" and result.output is None


def test_the_newest_message_of_the_user_is_checked_wherever_it_stands() -> None:
    first = Agent(ScriptedModel([call("look"), "ok"]), tools=[look]).run_sync("4111")
    result = Agent(ScriptedModel(["ok"]), middleware=[no_cards]).run_sync(messages=first.messages[:3])
    assert result.stop_reason == "guardrail:no_cards"


def test_a_validator_checks_the_result_of_a_final_tool() -> None:
    agent = Agent(ScriptedModel([call("report", title="tea"), call("report", title="Tea")]), tools=[report])

    @agent.output_validator
    def capital(value: dict[str, str]) -> dict[str, str]:
        if value["title"].islower():
            raise ModelRetry("write it with a capital")
        return value

    output: Any = agent.run_sync("go").output
    assert output == {"title": "Tea"}


def test_the_result_of_a_final_tool_has_the_type_of_the_output() -> None:
    @tool(final=True)
    def capital() -> City:
        """Give the capital."""
        return City(name="Rome", inhabitants=1)

    result = Agent(ScriptedModel([call("capital")]), tools=[capital], output_type=City).run_sync("go")
    assert result.output == City(name="Rome", inhabitants=1)


def test_of_two_final_results_the_first_in_call_order_is_the_answer() -> None:
    @tool(final=True)
    async def later(n: int) -> str:
        """Answer."""
        for _ in range(20 - n):
            await asyncio.sleep(0)
        return f"answer {n}"

    assert Agent(ScriptedModel([[call("later", n=1), call("later", n=2)]]), tools=[later]).run_sync("go").output == "answer 1"


def test_an_approval_with_other_arguments_leaves_no_note_in_the_answer() -> None:
    @tool(final=True, approval=True)
    def pay(total: int) -> dict[str, int]:
        """Pay."""
        return {"paid": total}

    paused = Agent(ScriptedModel([call("pay", total=9)]), tools=[pay]).run_sync("go")
    result = Agent(ScriptedModel([]), tools=[pay]).resume_sync(paused.state, {paused.pending[0].id: {"args": {"total": 3}}})
    output: Any = result.output
    assert output == {"paid": 3}
    assert reloaded(result.state).events == result.state.events

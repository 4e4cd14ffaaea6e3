"""Typed answers: how they are asked for, what counts as one, and what a wrong one is told."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import AfterValidator, BaseModel, Field
from typing_extensions import TypedDict

from agentkit import (
    Agent,
    Assistant,
    Middleware,
    ModelInfo,
    ModelReplied,
    ModelRetry,
    OutputInvalid,
    RunContext,
    RunStarted,
    RunState,
    ScriptedModel,
    System,
    ToolCall,
    ToolDefinitionError,
    ToolResult,
    Usage,
    User,
    tool,
)
from agentkit.events import LastingEvent, ToolFinished
from agentkit.messages import message_text
from agentkit.model import ModelReply, ModelRequest
from agentkit.models.scripted import ScriptItem, call
from agentkit.run.output import Answer, JsonOutput, Output, TextOutput, ToolOutput, Wrong, output_of
from tests.kit import tool_texts
from tests.signatures import ONE, Color


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


class Country(BaseModel):
    capital: City
    founded: date


class Node(BaseModel):
    value: int
    children: list[Node] = []


@dataclass
class Size:
    width: int
    height: int = 1


class Options(TypedDict, total=False):
    deep: bool


def positive(value: int) -> int:
    if value <= 0:
        raise ValueError("must be above zero")
    return value


PARIS: dict[str, Any] = {"name": "Paris", "people": 2}
TYPES: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 0.5, 0.5),
    (bool, True, True),
    (list[City], [PARIS], [City(name="Paris", people=2)]),
    (City | Size, PARIS, City(name="Paris", people=2)),
    (City | None, None, None),
    (Size, {"width": 2}, Size(2)),
    (Options, {"deep": True}, {"deep": True}),
    (Literal["yes", "no"], "no", "no"),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[str, int], {"answer": 1}, {"answer": 1}),
    (Node, {"value": 1, "children": [{"value": 2}]}, Node(value=1, children=[Node(value=2)])),
    (City, PARIS, City(name="Paris", people=2)),
    (Country, {"capital": PARIS, "founded": "1958-10-04"}, Country(capital=City(**PARIS), founded=date(1958, 10, 4))),
    (tuple[int, str], [1, "a"], (1, "a")),
    (Annotated[int, AfterValidator(positive)], 3, 3),
    (int | list[int], [1, 2], [1, 2]),
]


def schema_of(output: Output) -> Any:
    if output.tool is not None:
        return output.tool.parameters
    return json.loads(output.instructions.partition("\n")[2])


def as_sent(output: Output, data: Any) -> Any:
    """The value in the form of the schema: under "answer" where that is no object of its own."""
    return {"answer": data} if list(schema_of(output).get("properties", ())) == ["answer"] else data


def after(*events: LastingEvent) -> RunState:
    return RunState.replay([RunStarted("r", (User("hi"),)), *events])


def said(text: str) -> RunState:
    return after(ModelReplied(Assistant(text), Usage()))


def called(arguments: str, *, is_error: bool = False) -> RunState:
    made = ToolCall("a", "final_answer", arguments)
    result = ToolResult("a", "final_answer", "accepted", is_error)
    return after(ModelReplied(Assistant("", "", (made,)), Usage()), ToolFinished(made, result))


@pytest.mark.parametrize(("kind", "data", "value"), TYPES, ids=lambda v: str(v)[:30])
def test_a_value_of_any_type_is_read_in_both_modes(kind: Any, data: Any, value: Any) -> None:
    for output in (ToolOutput(kind), JsonOutput(kind)):
        schema = schema_of(output)
        jsonschema.Draft202012Validator.check_schema(schema)
        sent = as_sent(output, data)
        jsonschema.validate(sent, schema)
        assert schema["type"] == "object"
        text = json.dumps(sent)
        assert output.read(said(text)) == Answer(value)
        assert output.read(said(f"```json\n{text}\n```")) == Answer(value)
        assert output.read(said(json.dumps(data))) == Answer(value)  # a bare value, where no object is wanted
    assert ToolOutput(kind).read(called(text)) == Answer(value)


@pytest.mark.parametrize(("kind", "data", "value"), [case[1:] for case in ONE], ids=[case[0] for case in ONE])
def test_a_type_of_parameters_is_a_type_of_answers(kind: Any, data: Any, value: Any) -> None:
    output = ToolOutput(kind)
    found = output.read(called(json.dumps(as_sent(output, data))))
    assert isinstance(found, Answer) and found.value == value
    assert type(found.value) is type(value) or isinstance(value, list | dict)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Paris", "people": 2}',
        ' \n {"name": "Paris", "people": 2}\n',
        '```json\n{"name": "Paris", "people": 2}\n```',
        '```JSON\n{"name": "Paris",\n "people": 2}\n```\n',
        '```\r\n{"name": "Paris", "people": 2}\r\n```',
        ' ```json \n{"name": "Paris", "people": 2}\n ```',
    ],
)
def test_json_may_stand_in_one_fence(text: str) -> None:
    assert JsonOutput(City).read(said(text)) == Answer(City(name="Paris", people=2))


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (City, "It is Paris.", "the text of the answer is not valid JSON"),
        (City, "", "the text of the answer is empty"),
        (City, '{"name": "Paris"', "the text of the answer is not valid JSON"),
        (City, 'Here: {"name": "Paris", "people": 2}', "the text of the answer is not valid JSON"),
        (City, "{}", "name: required, but missing; people: required, but missing"),
        (City, '{"name": "Paris", "people": -1}', "people: Input should be greater than or equal to 0 (got -1)"),
        (City, "[]", "answer: Input should be an object (got [])"),
        (Country, '{"capital": {}, "founded": "1958-10-04"}', "capital.name: required, but missing"),
        (int, "three", "the answer is not valid JSON"),
        (
            int,
            '{"answer": "three"}',
            'answer: Input should be a valid integer (got "three")',
        ),
        (int, '{"result": 3}', "answer: required, but missing; result: unknown parameter; known: answer"),
        (int, '{"answer": 3, "more": 4}', "more: unknown parameter; known: answer"),
        (int, '1, "answer": 2', "the answer is not valid JSON"),
        (float, '{"answer": NaN}', "the answer is not valid JSON"),
        (Literal["yes", "no"], '"maybe"', "the answer must be one JSON object with these keys: answer"),
        (Annotated[int, AfterValidator(positive)], '{"answer": 0}', "answer: must be above zero (got 0)"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(kind: Any, text: str, says: str) -> None:
    for output in (JsonOutput(kind), ToolOutput(kind)):
        reading = output.read(said(text))
        assert isinstance(reading, Wrong)
        assert says in reading.feedback
        assert "pydantic" not in reading.feedback and "Value error" not in reading.feedback


def test_how_an_answer_is_asked_for() -> None:
    text, tool, as_json = output_of(str, "tool"), output_of(City, "tool"), output_of(City, "json_object")
    assert isinstance(text, TextOutput) and isinstance(output_of(str, "json_object"), TextOutput)
    assert (text.tool, text.instructions, text.response_format) == (None, "", None)
    assert isinstance(tool, ToolOutput) and tool.response_format is None and "final_answer" in tool.instructions
    assert tool.tool is not None and tool.tool is tool.tool
    assert (tool.tool.name, tool.tool.read_only, tool.tool.destructive, tool.tool.open_world) == (
        "final_answer",
        True,
        False,
        False,
    )
    assert isinstance(as_json, JsonOutput) and (as_json.tool, as_json.response_format) == (None, "json_object")
    assert "json" in as_json.instructions.lower()
    assert schema_of(as_json) == schema_of(tool)


def test_the_final_answer_tool_validates() -> None:
    made = ToolOutput(int).tool
    assert asyncio.run(made.call({"answer": 3})) == "accepted"
    with pytest.raises(ValueError, match="answer: Input should be a valid integer"):
        made.parse('{"answer": "x"}')


# ---- what of a state counts as an answer

OUTPUTS: list[Output] = [TextOutput(), JsonOutput(int), ToolOutput(int)]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: type(output).__name__)
def test_nothing_is_an_answer_before_the_model_gave_one(output: Output) -> None:
    open_call = ModelReplied(Assistant("3", "", (ToolCall("a", "f"),)), Usage())
    answered = ToolFinished(ToolCall("a", "f"), ToolResult("a", "f", "3"))
    old = RunState.replay([RunStarted("r", (User("hi"), Assistant("3")), 2)])
    for state in (after(), after(open_call), after(open_call, answered), old, RunState()):
        assert output.read(state) is None


def test_a_call_of_final_answer_counts_once_it_is_accepted() -> None:
    output = ToolOutput(int)
    assert output.read(called('{"answer": 3}')) == Answer(3)
    assert output.read(called('{"answer": 3}', is_error=True)) is None
    made, other = ToolCall("a", "final_answer", '{"answer": 3}'), ToolCall("b", "f")
    state = after(ModelReplied(Assistant("", "", (other, made)), Usage()))
    state.apply(ToolFinished(made, ToolResult("a", "final_answer", "accepted")))
    assert output.read(state) is None  # the other call is open
    state.apply(ToolFinished(other, ToolResult("b", "f", "1")))
    assert output.read(state) == Answer(3)


def test_an_accepted_call_that_does_not_fit_is_wrong_and_no_crash() -> None:
    reading = ToolOutput(int).read(called('{"answer": "x"}'))  # middleware may accept what it has mended
    assert isinstance(reading, Wrong) and "Input should be a valid integer" in reading.feedback


def test_a_final_answer_of_an_earlier_run_does_not_count() -> None:
    history = called('{"answer": 3}').messages
    state = RunState.replay([RunStarted("r", (*history, User("again")), len(history))])
    assert ToolOutput(int).read(state) is None


# ---- in a run


class JsonModel(ScriptedModel):
    """A scripted model of a server that answers in JSON mode."""

    info = ModelInfo(output_mode="json_object")


def run(model: ScriptedModel, kind: Any, **options: Any) -> Any:
    return asyncio.run(Agent(model, output_type=kind, **options).run("hi"))


def test_a_run_in_tool_mode_mends_a_wrong_answer() -> None:
    script: list[ScriptItem] = ["three", call("final_answer", answer="x"), call("final_answer", answer=3)]
    model = ScriptedModel(script)
    result = run(model, int)
    assert (result.output, result.stop_reason, result.steps) == (3, "answer", 3)
    corrected, refused = (request.messages[-1] for request in model.requests[1:])
    assert isinstance(corrected, User) and message_text(corrected).startswith(
        "Give your answer by calling the tool final_answer"
    )
    assert isinstance(refused, ToolResult) and refused.is_error and "answer: Input should be a valid integer" in refused.content
    assert isinstance(model.requests[0].messages[0], System)


def test_a_run_in_json_mode_mends_a_wrong_answer() -> None:
    model = JsonModel(['{"name": "Paris"}', '{"name": "Paris", "people": 2}'])
    result = run(model, City)
    assert result.output == City(name="Paris", people=2)
    assert [request.settings.response_format for request in model.requests] == ["json_object"] * 2
    corrected = model.requests[1].messages[-1]
    assert isinstance(corrected, User) and "people: required, but missing" in corrected.content


def test_answers_that_stay_wrong_end_the_run_with_the_text() -> None:
    with pytest.raises(OutputInvalid, match=r"the answer (of \S+ )?does not fit output_type: .*not valid JSON") as caught:
        run(JsonModel(["one", "two", "three"]), City)
    assert caught.value.text == "three"
    assert caught.value.state.steps == 3


def test_the_answer_may_come_beside_other_calls() -> None:
    async def note(text: str) -> str:
        return "noted"

    model = ScriptedModel([[call("note", text="x"), call("final_answer", name="Paris", people=2)]])
    assert run(model, City, tools=[note]).output == City(name="Paris", people=2)


def test_middleware_that_mends_a_broken_answer_leads_to_a_correction_and_not_to_a_crash() -> None:
    class Mend(Middleware):
        async def tool_call(self, call: ToolCall, ctx: Any, next: Any) -> Any:
            return await next(ToolCall(call.id, call.name, '{"answer": 3}'))

    def answer(request: ModelRequest) -> ScriptItem:
        broken = ToolCall("", "final_answer", '{"answer": ')
        return (
            ModelReply(Assistant("", "", (ToolCall("a", broken.name, broken.arguments),))) if len(request.messages) < 3 else "3"
        )

    assert run(ScriptedModel(answer), int, middleware=[Mend()]).output == 3


def test_a_function_may_give_an_answer_that_is_read_once() -> None:
    def give() -> Iterable[int]:
        return (number for number in (1, 2))

    assert Agent(answers({}), output_type=give).run_sync("go").output == [1, 2]


class Odd: ...


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pydantic.v1 needs an older Python")
def test_a_model_of_the_first_pydantic_is_refused_with_the_remedy() -> None:
    from pydantic import v1

    class Old(v1.BaseModel): ...

    with pytest.raises(ToolDefinitionError, match=r"Old is a model of pydantic\.v1; derive it from pydantic\.BaseModel"):
        output_of(list[Old], "tool")


@pytest.mark.parametrize("kind", [Odd, list[Odd], 3, "NoSuchType"])
def test_a_type_that_cannot_be_described_is_refused(kind: Any) -> None:
    with pytest.raises(ToolDefinitionError, match=r"output_type .* cannot be described to a model") as caught:
        output_of(kind, "tool")
    assert "pydantic.dev" not in str(caught.value)


# ---- functions


class Ticket(BaseModel):
    number: int
    title: str


class Desk:
    """Counts what it did."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def file(self, ctx: RunContext[str], title: str, urgent: bool = False) -> Ticket:
        """File a ticket.

        Args:
            title: What it is about.
        """
        if title == "?":
            raise ModelRetry("say what it is about")
        self.done.append((ctx.deps, title, urgent))
        return Ticket(number=len(self.done), title=title)

    async def later(self, title: str) -> Ticket | None:
        """File it later."""
        self.done.append(title)
        return None


def close(number: int, how: str = "fixed") -> str:
    """Close it."""
    return f"{number} {how}"


def answers(*calls: dict[str, Any]) -> ScriptedModel:
    script: list[ScriptItem] = [call("final_answer", **arguments) for arguments in calls]
    return ScriptedModel([*script, "done"])


def test_a_function_as_output_type_runs_once_and_gives_the_answer() -> None:
    desk = Desk()
    agent = Agent(answers({"title": "?"}, {"title": "broken", "urgent": "yes"}, {"title": "broken"}), output_type=desk.file)
    result = agent.run_sync("go", deps="me")
    assert (result.output, result.stop_reason, desk.done) == (
        Ticket(number=1, title="broken"),
        "answer",
        [("me", "broken", False)],
    )
    offered = agent.spec.offered[0]
    assert offered.name == "final_answer" and offered.description.endswith("complete.\n\nFile a ticket.")
    assert offered.parameters["properties"]["title"]["description"] == "What it is about."
    assert list(offered.parameters["properties"]) == ["title", "urgent"]
    told = tool_texts(result)
    assert told[0] == "error: say what it is about" and "urgent: Input should be a valid boolean" in told[1]
    assert [type(event).__name__ for event in result.events[-3:]] == ["ToolStarted", "ToolFinished", "RunFinished"]


@pytest.mark.parametrize(
    ("make", "arguments", "output"),
    [
        (lambda desk: close, {"number": 5}, "5 fixed"),
        (lambda desk: functools.partial(close, how="not mine"), {"number": "5"}, "5 not mine"),
        (lambda desk: functools.partial(desk.later, "menu"), {}, None),
        (lambda desk: desk.later, {"title": "menu"}, None),
        (lambda desk: tool(close, description="Shut.", timeout=5), {"number": 5}, "5 fixed"),
    ],
)
def test_functions_of_all_kinds_give_the_answer(make: Any, arguments: Any, output: Any) -> None:
    for kind in (ScriptedModel, JsonModel):
        desk = Desk()
        result = run(kind([call("final_answer", **arguments), "x"]), make(desk))
        assert (result.output, result.stop_reason, result.steps) == (output, "answer", 1)
        assert desk.done in ([], ["menu"])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "5"),
        (str | int, "5"),
        (str | int, 5),
        (float, 0.5),
        (list[date], [date(2026, 1, 2)]),
        (Size, Size(1)),
        (None, None),
        (Options, {"deep": True}),
        (Literal[Color.RED], Color.RED),
        (Iterable[int], [1, 2]),
    ],
)
def test_the_answer_has_the_annotated_type_also_after_a_resume(kind: Any, value: Any) -> None:
    def give() -> Any:
        ran.append(1)
        return value

    ran: list[int] = []
    give.__annotations__["return"] = kind
    agent = Agent(answers({}), output_type=give)
    result = agent.run_sync("go")
    stored = RunState.replay(result.events[:-1]).to_json()
    again = agent.resume_sync(json.loads(json.dumps(stored)))
    assert result.output == again.output == value and type(result.output) is type(again.output) is type(value)
    assert ran == [1]


def test_a_crash_while_the_function_ran_is_told_and_nothing_runs_again_by_itself() -> None:
    desk = Desk()
    agent = Agent(answers({"title": "broken"}), output_type=desk.file)
    events = agent.run_sync("go", deps="me").events
    started = next(place for place, event in enumerate(events) if type(event).__name__ == "ToolStarted")
    other = agent.copy(model=ScriptedModel([call("final_answer", title="again"), "x"]))
    result = other.resume_sync(RunState.replay(events[: started + 1]), deps="me")
    told = tool_texts(result)
    assert told[0].startswith("error: outcome unknown")
    assert [title for _, title, _ in desk.done] == ["broken", "again"], "the model was told, and called again"


def test_a_watched_run_calls_the_function_once_as_well() -> None:
    desk = Desk()
    stream = Agent(answers({"title": "a"}), output_type=desk.file).stream_sync("go", deps="me")
    assert len(list(stream)) > 5 and stream.result.output == Ticket(number=1, title="a") and len(desk.done) == 1


def test_of_two_answers_in_one_reply_one_runs() -> None:
    desk = Desk()
    model = ScriptedModel([[call("final_answer", title="a"), call("final_answer", title="b")], "x"])
    result = run(model, desk.file)
    assert result.output == Ticket(number=1, title="a") and len(desk.done) == 1
    assert tool_texts(result)[1] == "error: not run: the answer can be given once"


def test_a_text_is_no_call_of_the_function() -> None:
    desk = Desk()
    model = ScriptedModel(['{"title": "a"}', call("final_answer", title="b")])
    assert run(model, desk.file).output == Ticket(number=1, title="b") and len(desk.done) == 1
    corrected = model.requests[1].messages[-1]
    assert (
        isinstance(corrected, User) and corrected.content == "Give your answer by calling the tool final_answer, not as text."
    )


class Loop:
    """Says that it is a list, and holds itself."""


def test_a_function_that_returns_what_it_does_not_say_is_not_called_again() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value, output in ((b"\xff", None), ("x", "x"), (Loop, None), ("\ud800", None), (endless, None), ({1: 2}, {"1": 2})):
        ran: list[int] = []

        def give(value: Any = value, ran: list[int] = ran) -> int:
            ran.append(1)
            return value  # type: ignore[no-any-return]

        result = run(ScriptedModel([call("final_answer"), call("final_answer"), "x"]), functools.partial(give, value, ran))
        assert ran == [1] and result.stop_reason == "answer"
        assert output is None or result.output == output


def unannotated(x: int):  # type: ignore[no-untyped-def]
    return x


def odd() -> Odd:
    return Odd()


def takes_odd(x: Odd) -> int:
    return 1


def many() -> Iterator[int]:
    yield 1


def unknown() -> Missing: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (unannotated, "unannotated does not say what it returns; annotate it"),
        (lambda x: x, "does not say what it returns"),
        (len, "does not say what it returns"),
        (odd, "odd: its result cannot be described"),
        (takes_odd, "parameter 'x' of type Odd cannot be described"),
        (many, "many yields; a function returns the answer"),
        (unknown, "its result cannot be described"),
        (Desk.file, "a method has no object yet"),
    ],
)
def test_a_function_that_cannot_give_the_answer_is_refused_when_the_agent_is_made(function: Any, says: str) -> None:
    with pytest.raises(ToolDefinitionError, match=says):
        Agent(ScriptedModel([]), output_type=function)

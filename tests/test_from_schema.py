"""Tools without a Python signature: of a JSON Schema, of other libraries, and outside of the program."""

from __future__ import annotations

import json
import pickle
import re
from types import SimpleNamespace
from typing import Any, ClassVar

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import (
    Agent,
    RunContext,
    RunState,
    ScriptedModel,
    SettingsError,
    Tool,
    ToolArgumentsInvalid,
    ToolDefinitionError,
    ToolReturn,
    as_tool,
    tool,
)
from agentkit.run.journal import MemoryLog
from agentkit.schema.foreign import foreign_validator
from agentkit.testing import call
from tests.kit import How, reloaded, tool_texts

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 2}, "days": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["city"],
    "additionalProperties": False,
}

# --- a JSON Schema --------------------------------------------------------------------------------------------------------


def test_a_tool_of_a_schema_gets_its_arguments_as_a_dict(how: How) -> None:
    seen: list[Any] = []

    def forecast(arguments: dict[str, Any]) -> str:
        seen.append(arguments)
        return "sun"

    made = Tool.from_schema("forecast", "The forecast.", CITY, forecast, read_only=True)
    assert made.schema()["function"] == {"name": "forecast", "description": "The forecast.", "parameters": CITY}
    script: list[Any] = [call("forecast", city="Paris", days=2), call("forecast", city="P", days=20), call("forecast"), "Done."]
    result = how(Agent(ScriptedModel(script), tools=[made]), "go")
    assert seen == [{"city": "Paris", "days": 2}]
    first, second, third = tool_texts(result)
    assert first == "sun"
    assert "city: 1 characters, at least 2 are needed" in second and "days: 20 is greater than 10" in second
    assert "city: required, but missing" in third


def test_the_function_may_take_the_context_and_may_be_async() -> None:
    async def who(arguments: dict[str, Any], ctx: RunContext[str]) -> dict[str, Any]:
        return {"deps": ctx.deps, **arguments}

    made = Tool.from_schema("who", "Who.", {"type": "object"}, who)
    result = Agent(ScriptedModel([call("who", a=[1]), "Done."]), tools=[made]).run_sync("go", deps="Ann")
    assert json.loads(tool_texts(result)[0]) == {"deps": "Ann", "a": [1]}


def test_what_a_model_gets_nearly_right_is_repaired() -> None:
    made = Tool.from_schema("forecast", "The forecast.", CITY, lambda arguments: arguments["days"] + 1)
    script: list[Any] = [call("forecast", city="Paris", days="2"), "Done."]
    assert tool_texts(Agent(ScriptedModel(script), tools=[made]).run_sync("go")) == ["3"]


def test_a_function_that_changes_its_arguments_changes_nothing_else() -> None:
    made = Tool.from_schema("pop", "Pop.", {"type": "object"}, lambda arguments: arguments.pop("a"))
    result = Agent(ScriptedModel([call("pop", a=1), "Done."]), tools=[made]).run_sync("go")
    assert json.loads(result.messages[1].tool_calls[0].arguments) == {"a": 1}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ([], "allowed: the JSON Schema of an object"),
        ({"type": "string"}, "allowed: the JSON Schema of an object"),
        ({"properties": {"a": 7}}, "the schema at properties.a is 7"),
        ({"properties": []}, "properties is"),
        ({"anyOf": {}}, "anyOf is {}; allowed: a list of schemas"),
        ({"properties": {"a": {"$ref": "#/$defs/City"}}}, "'#/$defs/City' leads nowhere"),
        ({"properties": {"a": {"$ref": "https://example.com/city.json"}}}, "allowed: a place in the schema itself"),
        ({"$defs": {"a": {"$anchor": "x"}}, "properties": {"a": {"$ref": "#x"}}}, "allowed: a place in the schema itself"),
        ({"properties": {"a": {"pattern": "("}}}, "cannot be compiled"),
        ({"properties": {"a": {"pattern": None}}}, "cannot be compiled"),
        ({"properties": {"a": {"patternProperties": 5}}}, "patternProperties is 5; allowed: an object of schemas"),
        ({"properties": {"a": {"enum": {1, 2}}}}, "is no JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_at_once(schema: Any, text: str) -> None:
    with pytest.raises(ToolDefinitionError) as caught:
        Tool.from_schema("f", "F.", schema, print)
    assert text in str(caught.value) and "'f'" in str(caught.value)


MALFORMED: list[dict[str, Any]] = [
    {"type": "strin"}, {"type": ["string", "strin"]}, {"type": []}, {"type": None}, {"type": {"string": 1}},
    {"enum": "ab"}, {"enum": None}, {"required": True}, {"required": "a"}, {"required": [1]}, {"required": None},
    {"dependentRequired": {"a": "b"}}, {"dependentRequired": ["a"]}, {"uniqueItems": "yes"}, {"multipleOf": 0},
    {"multipleOf": "2"}, {"minimum": "1"}, {"maximum": True}, {"exclusiveMinimum": "1"}, {"exclusiveMaximum": None},
    {"anyOf": []}, {"oneOf": None},
    {"minLength": -1}, {"maxLength": 1.5}, {"minItems": "1"}, {"maxItems": None}, {"minProperties": True}, {"maxContains": []},
]  # fmt: skip


@pytest.mark.parametrize("part", MALFORMED)
def test_a_keyword_with_a_value_that_means_nothing_is_refused_at_once(part: dict[str, Any]) -> None:
    (keyword,) = part
    with pytest.raises(jsonschema.SchemaError):
        jsonschema.Draft202012Validator.check_schema(part)
    for schema, where in (
        ({"properties": {"a": part}}, "properties.a"),
        ({"properties": {"a": {"items": {"anyOf": [part]}}}}, "properties.a.items.anyOf[0]"),
        ({"$defs": {"type": part}}, "$defs.type"),
    ):
        with pytest.raises(ToolDefinitionError, match=f"the schema at {re.escape(where)}: {keyword} is .*; allowed: "):
            Tool.from_schema("f", "F.", schema, print)


def test_names_and_values_are_no_keywords() -> None:
    odd = {"type": "strin", "enum": 1, "required": True}
    schema = {"properties": {"type": {"const": odd}, "enum": {"enum": [odd], "default": odd}, "required": {"examples": [odd]}}}
    draft_4 = {"minimum": 1, "exclusiveMinimum": True, "minLength": 2.0}
    Tool.from_schema("f", "F.", {**schema, "additionalProperties": draft_4}, print)


def test_an_unknown_option_and_no_function_are_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="tool 'f' has no option retry"):
        Tool.from_schema("f", "F.", {}, print, retry=3)
    with pytest.raises(ToolDefinitionError, match="call is 7"):
        Tool.from_schema("f", "F.", {}, 7)  # type: ignore[arg-type]


SCHEMAS: list[dict[str, Any]] = [
    {"properties": {"a": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]}}},
    {"properties": {"a": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]}}},
    {"properties": {"a": {"allOf": [{"type": "integer"}, {"multipleOf": 2}], "not": {"const": 4}}}},
    {"properties": {"a": {"if": {"type": "integer"}, "then": {"minimum": 2}, "else": {"type": "string"}}}},
    {"properties": {"a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}}},
    {"properties": {"a": {"type": "array", "prefixItems": [{"type": "string"}], "items": False}}},
    {"properties": {"a": {"type": "array", "contains": {"type": "string"}, "maxContains": 1}}},
    {"properties": {"a": {"type": "string", "pattern": "^b+$", "maxLength": 3}}},
    {"properties": {"a": {"enum": [1, "b", None, [1], {"c": True}]}, "b": {"const": False}}},
    {"properties": {"a": {"exclusiveMinimum": 1, "exclusiveMaximum": 3}}},
    {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
    {"required": ["a"], "minProperties": 1, "maxProperties": 2, "propertyNames": {"maxLength": 1}},
    {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"properties": {"a": {"type": "integer"}}}}},
    {
        "$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}, "type": "object"}},
        "properties": {"a": {"$ref": "#/$defs/n"}},
    },
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.sampled_from([1.5, 2.0, "", "b", "bbbb", "c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "ab"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(SCHEMAS), st.dictionaries(st.sampled_from(["a", "b", "ab"]), VALUES, max_size=3))
@settings(max_examples=600, deadline=None)
def test_a_value_is_valid_where_the_reference_says_so(schema: dict[str, Any], value: dict[str, Any]) -> None:
    """`jsonschema` is the reference. `1.0` is an integer in JSON Schema; a model's `2.0` for a count is converted first."""
    full = {"type": "object", "properties": {}, **schema}
    valid = jsonschema.Draft202012Validator(full).is_valid(value)
    check = foreign_validator(schema, "f").validate_json
    try:
        check(json.dumps(value))
        found = True
    except ToolArgumentsInvalid:
        found = False
    assert found == valid


def test_a_hostile_value_takes_bounded_time() -> None:
    tree: dict[str, Any] = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/t"}] * 8}}}
    schema = {"$defs": {"t": tree}, **tree}
    value: dict[str, Any] = {"a": 1}
    for _ in range(30):
        value = {"a": value}
    with pytest.raises(ToolArgumentsInvalid, match="nested too deeply"):
        foreign_validator(schema, "f").validate_json(json.dumps(value))


# --- other libraries ------------------------------------------------------------------------------------------------------


class LangChainShape:
    """What `langchain_core.tools.BaseTool` has."""

    name, description = "search", "Search the web."
    args_schema = None
    tool_call_schema: ClassVar = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}

    async def ainvoke(self, arguments: dict[str, Any], config: Any = None) -> str:
        return f"found {arguments['q']}"


async def on_invoke_tool(ctx: Any, text: str) -> str:
    return f"{ctx.tool_name} of {ctx.context.deps}: {json.loads(text)['q']}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (LangChainShape(), "found tea"),
        (
            SimpleNamespace(
                name="search",
                description="Search.",
                params_json_schema=LangChainShape.tool_call_schema,
                on_invoke_tool=on_invoke_tool,
            ),
            "search of Ann: tea",
        ),
    ],
)
def test_a_tool_of_another_library(source: Any, text: str) -> None:
    made = as_tool(source, read_only=True)
    assert (made.name, made.read_only, made.parameters["required"]) == ("search", True, ["q"])
    assert as_tool(source, name="web").name == "web"
    script: list[Any] = [call("search", q="tea"), call("search", q=1), "Done."]
    right, wrong = tool_texts(Agent(ScriptedModel(script), tools=[made]).run_sync("go", deps="Ann"))
    assert right == text and "q" in wrong


@pytest.mark.parametrize("source", [7, print, SimpleNamespace(name="x")])
def test_what_is_no_such_tool_is_refused_with_the_remedy(source: Any) -> None:
    with pytest.raises(ToolDefinitionError, match=r"make it with Tool\.from_schema"):
        as_tool(source)


# --- outside tools --------------------------------------------------------------------------------------------------------

BROWSER = Tool.outside("click", "Click in the user's browser.", {"type": "object", "properties": {"on": {"type": "string"}}})


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def clicker(*script: Any, **options: Any) -> Agent[str]:
    return Agent(ScriptedModel(list(script)), tools=[BROWSER, add], **options)


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_waits_for_the_result_of_an_outside_tool(how: How, stored: bool) -> None:
    paused = how(clicker([call("click", on="buy"), call("add", a=1, b=2)]), "go")
    assert (paused.stop_reason, [waits.name for waits in paused.pending]) == ("pending_result", ["click"])
    state = reloaded(paused.state) if stored else paused.state
    result = clicker("Done.").resume_sync(state, results={paused.pending[0].id: {"clicked": True}})
    assert (result.output, tool_texts(result)) == ("Done.", ['{"clicked":true}', "3"])
    assert result.usage.tool_calls == 2


def test_an_error_of_the_outside_is_told_to_the_model() -> None:
    paused = clicker(call("click", on="buy")).run_sync("go")
    result = clicker("Done.").resume_sync(paused.state, results={paused.pending[0].id: TimeoutError("the tab is closed")})
    assert tool_texts(result) == ["error: TimeoutError: the tab is closed"]


def test_a_resume_without_the_result_waits_again_and_several_come_one_by_one() -> None:
    paused = clicker([call("click", on="a"), call("click", on="b")]).run_sync("go")
    first, second = (waits.id for waits in paused.pending)
    again = clicker().resume_sync(paused.state)
    assert [waits.id for waits in again.pending] == [first, second]
    half = clicker().resume_sync(again.state, results={second: "B"})
    assert (half.stop_reason, [waits.id for waits in half.pending]) == ("pending_result", [first])
    result = clicker("Done.").resume_sync(reloaded(half.state), results={first: "A"})
    assert (result.output, tool_texts(result)) == ("Done.", ["A", "B"])


def test_arguments_of_an_outside_tool_are_validated() -> None:
    result = clicker(call("click", on=7), "Done.").run_sync("go")
    assert result.output == "Done." and "on" in tool_texts(result)[0]


def test_an_outside_tool_may_need_an_approval_first() -> None:
    careful = Tool.outside("pay", "Pay.", {"type": "object"}, approval=True)

    def agent(*script: Any) -> Agent[str]:
        return Agent(ScriptedModel(list(script)), tools=[careful])

    asked = agent(call("pay")).run_sync("go")
    assert asked.stop_reason == "pending_approval"
    waits = asked.pending[0].id
    with pytest.raises(SettingsError, match="waits for a result"):
        agent().resume_sync(asked.state, results={waits: "paid"})
    paused = agent().resume_sync(asked.state, {waits: True})
    assert paused.stop_reason == "pending_result"
    with pytest.raises(SettingsError, match="waits for an approval"):
        agent().resume_sync(paused.state, {waits: True})
    result = agent("Done.").resume_sync(paused.state, results={waits: "paid"})
    assert tool_texts(result) == ["paid"]


@pytest.mark.parametrize("logged", [False, True])
def test_an_outside_call_of_a_child_waits_in_its_parent(logged: bool) -> None:
    def tree(*script: Any) -> Agent[str]:
        top: list[Any] = [call("clicker", task="buy"), "never"] if not script or not isinstance(script[0], str) else ["Done."]
        inner = Agent(ScriptedModel(list(script)), tools=[BROWSER], name="clicker", description="Clicks.")
        return Agent(ScriptedModel(top), tools=[inner.as_tool()], approve=lambda call: False)

    log = MemoryLog() if logged else None
    paused = tree(call("click", on="buy")).run_sync("go", log=log)
    assert paused.stop_reason == "pending_result", "nobody is asked to approve it"
    (waits,) = paused.pending
    state = None if logged else reloaded(paused.state)
    result = tree("It is clicked.").resume_sync(state, results={waits.id: "ok"}, log=log)
    assert (result.output, tool_texts(result)) == ("Done.", ["It is clicked."])


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({"x": 1}, "no call x waits"),
        ({"call_01_0": object()}, "which JSON cannot hold"),
        *((nothing, "results is .*; allowed: a mapping") for nothing in ([1], [], "", 0, False)),
    ],
)
def test_results_that_do_not_fit_are_refused(results: Any, text: str) -> None:
    paused = clicker(call("click", on="buy")).run_sync("go")
    with pytest.raises(SettingsError, match=text):
        clicker().resume_sync(paused.state, results=results)


def test_every_prefix_of_the_events_goes_on() -> None:
    paused = clicker([call("click", on="buy"), call("add", a=1, b=2)]).run_sync("go")
    whole = clicker("Done.").resume_sync(paused.state, results={paused.pending[0].id: "ok"})
    for until in range(2, len(whole.events)):
        state = RunState.replay(whole.events[:until])
        agent = Agent(ScriptedModel(lambda request: "Done."), tools=[BROWSER, tool(add.function, name="add", read_only=True)])
        result = agent.resume_sync(state)
        if result.pending:
            result = agent.resume_sync(result.state, results={waits.id: "ok" for waits in result.pending})
        assert result.output == "Done.", until


def forecast(arguments: dict[str, Any]) -> str:
    return f"sun in {arguments['city']}"


def test_a_tool_of_a_schema_is_pickled_with_its_schema() -> None:
    made = Tool.from_schema("forecast", "The forecast.", CITY, forecast, read_only=True)
    other = pickle.loads(pickle.dumps(made))
    assert other.schema() == made.schema() and other.read_only
    assert tool_texts(Agent(ScriptedModel([call("forecast", city="Rome"), "end"]), tools=[other]).run_sync("go")) == [
        "sun in Rome"
    ]


def test_the_flags_of_another_librarys_tool_are_kept() -> None:
    shape = {"name": "x", "description": "X.", "params_json_schema": {"type": "object"}, "on_invoke_tool": on_invoke_tool}
    made = as_tool(SimpleNamespace(**shape, needs_approval=True, is_enabled=False))
    assert (made.approval, made.enabled, made.final) == (True, False, False)
    assert as_tool(SimpleNamespace(**shape, return_direct=True)).final
    with pytest.raises(ToolDefinitionError, match="enabled by a function of its own library"):
        as_tool(SimpleNamespace(**shape, is_enabled=lambda ctx, agent: True))
    assert as_tool(SimpleNamespace(**shape, is_enabled=print), enabled=True).enabled is True


def test_a_part_is_no_result_of_an_outside_tool() -> None:
    paused = clicker(call("click", on="buy")).run_sync("go")
    with pytest.raises(SettingsError, match="holds a part"):
        clicker().resume_sync(paused.state, results={paused.pending[0].id: ToolReturn("x")})


def test_a_reference_is_a_pointer_in_an_address() -> None:
    schema = {"$defs": {"a b/c": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/a%20b~1c"}}}
    made = Tool.from_schema("f", "F.", schema, str)
    result = Agent(ScriptedModel([[call("f", n=1), call("f", n="x")], "Done."]), tools=[made]).run_sync("go")
    assert tool_texts(result) == ["{'n': 1}", 'error: n: "x" is not of type integer']

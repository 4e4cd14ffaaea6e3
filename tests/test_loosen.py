"""Schemas as servers take them: no server's refusal is left, right calls are still admitted, validation stays exact."""

from __future__ import annotations

import datetime as dt
import enum
import json
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

from agentkit import ToolArgumentsInvalid, tool
from agentkit.model import ModelRequest, ToolSpec
from agentkit.models.profiles import DEEPSEEK, GENERIC, GROQ, LLAMA_CPP, MOONSHOT, OPENAI, PROFILES, VLLM, Profile
from agentkit.models.wire import head
from agentkit.schema.loosen import CAREFUL, is_plain_pattern, loosened
from agentkit.schema.strict import NotStrict, strict_schema
from tests.signatures import KINDS, Kind


def sent(made: ToolSpec, profile: Profile) -> dict[str, Any]:
    """The function as it stands in a request's body."""
    data = head(ModelRequest((), (made,)), profile, "m", stream=False)
    function: dict[str, Any] = json.loads(data + b"]}")["tools"][0]["function"]
    return function


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    yield schema
    for key in ("properties", "$defs", "patternProperties"):
        for inner in schema.get(key, {}).values():
            yield from nodes(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key, ()):
            yield from nodes(inner)


def refused_by_openai(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("type") != "object" or schema.keys() & {"anyOf", "oneOf", "allOf", "not", "enum"}:
        yield "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level"
    for node in nodes(schema):
        if node.get("type") == "array" and "items" not in node:
            yield "array schema missing items"
        if "(?" in node.get("pattern", "").replace("(?:", ""):
            yield "is not a 'regex'"


def refused_by_moonshot(schema: dict[str, Any]) -> Iterator[str]:
    for node in nodes(schema):
        if "$ref" in node and len(node) > 1:
            yield "conflicting keywords found after $ref expansion"
        elif "anyOf" in node and node.keys() - {"anyOf", "description"}:
            yield "when using anyOf, type should be defined in anyOf items instead of the parent schema"
        elif not node.keys() & {"anyOf", "$ref"} and not isinstance(node.get("type"), str):
            yield "type is not defined"
        if len({type(value) for value in node.get("enum", ())} | {str}) > 1:
            yield "enum values must be of the same type"


def refused_by_gemini(schema: dict[str, Any]) -> Iterator[str]:
    for node in nodes(schema):
        if "anyOf" in node and len(node) > 1:
            yield "When using any_of, it must be the only field set"
        if "anyOf" not in node and not isinstance(node.get("type"), str):
            yield "type: must be specified when not using one_of, any_of or all_of fields"
        if node.get("type") == "array" and "items" not in node:
            yield "items: missing field"
        if unknown := node.keys() & {
            "$ref",
            "const",
            "oneOf",
            "allOf",
            "exclusiveMinimum",
            "propertyNames",
            "default",
            "format",
        }:
            yield f"Unknown name {min(unknown)!r}"
        yield from (
            f"required: {name}: property is not defined" for name in node.get("required", ()) if name not in node["properties"]
        )


def refused_by_grammars(schema: dict[str, Any]) -> Iterator[str]:
    """What llama.cpp, xgrammar and guidance do not make a grammar of."""
    for node in nodes(schema):
        if not node.keys() & {"type", "anyOf", "$ref"}:
            yield f"Unrecognized schema: {node}"
        if unknown := node.keys() & {"pattern", "format", "uniqueItems", "multipleOf", "patternProperties", "propertyNames"}:
            yield f"JSON schema conversion failed: {min(unknown)}"
        if max(node.get(key, 0) for key in ("maxLength", "maxItems", "minLength", "minItems")) >= 1_000:
            yield "number of repetitions exceeds sane defaults"


SERVERS: dict[str, tuple[Profile, list[Callable[[dict[str, Any]], Iterator[str]]]]] = {
    "openai": (OPENAI, [refused_by_openai]),
    "groq": (GROQ, [refused_by_openai]),
    "moonshot": (MOONSHOT, [refused_by_moonshot, refused_by_openai]),
    "vllm": (VLLM, [refused_by_grammars]),
    "llama.cpp": (LLAMA_CPP, [refused_by_grammars]),
    "generic": (GENERIC, [refused_by_openai, refused_by_moonshot, refused_by_gemini, refused_by_grammars]),
}


def made_of(kind: Kind) -> ToolSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tool(kind.fn).spec


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_signature_is_refused_and_a_right_call_is_admitted(kind: Kind, name: str) -> None:
    profile, refusals = SERVERS[name]
    spec = made_of(kind)
    schema = sent(spec, profile)["parameters"]
    assert [text for refused in refusals for text in refused(schema)] == []
    jsonschema.Draft202012Validator.check_schema(schema)
    given = {
        key: value for key, value in kind.arguments.items() if value is not None or key in spec.parameters.get("required", ())
    }
    jsonschema.Draft202012Validator(schema).validate(given)


class Address(BaseModel):
    """A postal address."""

    street: str = Field(pattern=r"^\w+$")
    zip: str | None = None


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Point(NamedTuple):
    lat: float
    lon: float = 0.0


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


def one(kind: Any, **options: Any) -> dict[str, Any]:
    """The schema of a parameter of this type, by all rules."""

    def take(x: Any) -> None: ...

    take.__annotations__["x"] = kind
    if "default" in options:
        take.__defaults__ = (options["default"],)
    found: dict[str, Any] = loosened(tool(take).parameters, CAREFUL)["properties"]["x"]
    return found


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (Literal[1, 2], {"type": "integer", "description": "one of: [1, 2]"}),
        (Literal["", "a"], {"type": "string", "description": 'one of: ["", "a"]'}),
        (Level, {"type": "integer", "description": "one of: [1, 2]"}),
        (Literal[True], {"type": "boolean", "description": "always true"}),
        (dt.date, {"type": "string", "description": "format: date"}),
        (Annotated[int, Field(gt=0, description="How many.")], {"type": "integer", "description": "How many. (above 0)"}),
        (Annotated[int, Field(ge=0, le=9)], {"type": "integer", "minimum": 0, "maximum": 9}),
        (Annotated[str, Field(description="")], {"type": "string"}),
        (Annotated[str, Field(max_length=65_536)], {"type": "string", "description": "at most 65536 characters"}),
        (Annotated[str, Field(min_length=1, max_length=80)], {"type": "string", "minLength": 1, "maxLength": 80}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "description": "no item twice"}),
        (Point, {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "number"}}),
        (
            tuple[int, str],
            {"type": "array", "minItems": 2, "maxItems": 2, "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}},
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (
            Annotated[int | str, Field(description="An id.")],
            {"anyOf": [{"type": "integer", "description": "An id."}, {"type": "string"}]},
        ),
    ],
    ids=str,
)
def test_what_a_schema_becomes_by_all_rules(kind: Any, schema: dict[str, Any]) -> None:
    assert one(kind) == schema


def test_null_stays_only_where_it_differs_from_leaving_out() -> None:
    assert one(int | None, default=None) == {"type": "integer"}
    assert one(int | str | None, default=None) == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert one(int | None, default=5) == {"anyOf": [{"type": "integer", "description": "default: 5"}, {"type": "null"}]}
    assert one(bool, default=False) == {"type": "boolean", "description": "default: false"}


def test_references_are_written_out_and_one_that_holds_itself_ends() -> None:
    def ship(to: Address, tree: Tree) -> None:
        """Ship.

        Args:
            to: Where it goes.
        """

    properties = loosened(tool(ship).parameters, CAREFUL)["properties"]
    assert properties["to"]["description"] == "Where it goes."
    assert properties["to"]["properties"] == {
        "street": {"type": "string", "description": r"pattern: ^\w+$"},
        "zip": {"type": "string"},
    }
    children = properties["tree"]["properties"]["children"]
    assert children == {"type": "array", "items": {"type": "object", "description": "the same as the Tree that holds it"}}


ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]}


@pytest.mark.parametrize(
    "written",
    [
        {"$ref": "#/definitions/Address"},
        {"allOf": [{"$ref": "#/definitions/Address"}]},
        {"anyOf": [{"$ref": "#/definitions/Address"}]},
        {"$ref": "#/definitions/Alias"},
        {"$ref": "#/properties/old/anyOf/0"},
    ],
)
def test_a_reference_is_written_out_wherever_it_is_and_points(written: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"to": written, "old": {"anyOf": [ADDRESS]}},
        "definitions": {"Address": ADDRESS, "Alias": {"$ref": "#/definitions/Address"}},
    }
    for rules in (CAREFUL, ("references", "keywords")):
        made = loosened(schema, rules)
        assert made["properties"]["to"] == ADDRESS
        assert "definitions" not in made


@pytest.mark.parametrize("written", [{"$ref": "#/definitions/Address"}, {"allOf": [{"$ref": "#/definitions/Address"}]}])
def test_a_root_that_is_a_reference_keeps_the_keys_of_its_target(written: dict[str, Any]) -> None:
    assert loosened({**written, "definitions": {"Address": ADDRESS}}, CAREFUL) == ADDRESS


def test_a_choice_of_references_at_the_root_keeps_the_keys_of_all() -> None:
    other = {"type": "object", "properties": {"box": {"type": "integer"}}, "required": ["box"]}
    branches = [{"$ref": "#/$defs/Address"}, {"$ref": "#/$defs/Box"}]
    made = loosened({"anyOf": branches, "$defs": {"Address": ADDRESS, "Box": other}}, CAREFUL)
    assert made == {"type": "object", "properties": {"street": {"type": "string"}, "box": {"type": "integer"}}}


def test_all_of_a_type_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"allOf": [{"$ref": "#/$defs/Node"}]}}}
    made = loosened({"type": "object", "properties": {"node": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}, CAREFUL)
    following = {"type": "object", "description": "the same as the Node that holds it"}
    assert made["properties"]["node"] == {"type": "object", "properties": {"next": following}}


def test_a_reference_to_nothing_admits_anything_and_has_no_strict_form() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/Missing"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert loosened(schema, ("references",))["properties"] == {"a": {}}
    with pytest.raises(NotStrict, match="a: any value is allowed"):
        strict_schema(schema)


def test_the_arguments_are_validated_against_the_whole_schema() -> None:
    @tool
    def place(at: tuple[int, str], street: Annotated[str, Field(pattern=r"^\w+$")], level: Level) -> None: ...

    for wrong in ('"at": ["a", 1]', '"at": [1]', '"street": "a b"', '"level": 3'):
        right = {"at": [1, "a"], "street": "a", "level": 1} | json.loads(f"{{{wrong}}}")
        jsonschema.validate({**right, "at": [1, "a"]}, sent(place.spec, GENERIC)["parameters"])
        with pytest.raises(ToolArgumentsInvalid):
            place.parse(json.dumps(right))


class PythonPattern(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    word: str = Field(pattern=r"^(?!admin)\w+$")


def test_a_pattern_of_one_engine_is_said_in_words() -> None:
    def take(x: PythonPattern) -> None: ...

    for profile in (OPENAI, GROQ, GENERIC):
        schema = json.dumps(sent(tool(take).spec, profile)["parameters"])
        assert '"pattern"' not in schema and r"pattern: ^(?!admin)\\w+$" in schema
    assert "pattern" not in json.dumps(strict_schema(tool(take).parameters))
    assert '"pattern"' in json.dumps(sent(tool(take).spec, DEEPSEEK)["parameters"])

    def plain(x: Annotated[str, Field(pattern=r"^\w+$")]) -> None: ...

    assert sent(tool(plain).spec, OPENAI)["parameters"]["properties"]["x"] == {"type": "string", "pattern": r"^\w+$"}


@pytest.mark.parametrize("pattern", [r"^a$", r"[a-z]+\d{2,3}(?:x|y)\.", r"\\A", r"a\b", ""])
def test_a_pattern_of_all_engines_is_plain(pattern: str) -> None:
    assert is_plain_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", [r"(?=a)", r"(?<!a)b", r"(?i)a", r"(?P<x>a)", r"a\Z", r"(a)\1", r"a++", r"\p{L}", r"(?>a)", 5]
)
def test_a_pattern_of_some_engines_is_not(pattern: Any) -> None:
    assert not is_plain_pattern(pattern)


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def an_object(**more: Any) -> dict[str, Any]:
    return {"type": "object", **more}


def with_key(a: Any, **more: Any) -> dict[str, Any]:
    return an_object(properties={"a": a}, **more)


FOREIGN: list[dict[str, Any]] = [
    with_key({"type": "array", "items": {"type": "string", "maxLength": 2_000}, "maxItems": 5_000}),
    with_key({"type": ["string", "null"], "minLength": 1, "description": "A."}),
    with_key({"type": ["string", "array"], "items": TEXT}),
    an_object(properties={"a": True, "b": {}, "c": {"description": "C."}}, required=["a", "z"]),
    with_key({"$ref": "#/definitions/A"}, definitions={"A": TEXT}),
    an_object(properties={"a": {"$ref": "#/properties/b"}, "b": NUMBER}),
    an_object(properties={"a": {"$ref": "http://elsewhere/schema"}, "b": {"$ref": "#"}, "c": {"$ref": "#/$defs/No"}}),
    with_key({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
    an_object(anyOf=[{"required": ["a"]}, {"required": ["b"]}], properties={"a": TEXT, "b": {}}),
    {"oneOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}}]},
    {"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"$ref": "#/$defs/B"}], "$defs": {"B": {}}},
    with_key({"allOf": [an_object(properties={"x": TEXT}), {"required": ["x"]}]}),
    with_key(an_object(anyOf=[{"required": ["x"]}], properties={"x": TEXT})),
    with_key({"items": [TEXT, NUMBER], "type": "array"}),
    an_object(properties={"a": {"enum": ["x", 1, None]}, "b": {"enum": []}, "c": {"const": None}}),
    an_object(properties={"a": {"minimum": 1}, "b": {"pattern": "a"}, "c": {"prefixItems": []}, "d": {"items": {}}}),
    an_object(properties=None, required=None),
    an_object(properties=[], required={}),
    with_key({"type": "object", "properties": [], "required": "x", "anyOf": None, "allOf": None, "enum": None, "oneOf": {}}),
    with_key({"$ref": 5}),
    with_key({"if": {}, "then": {}, "x-order": 1, "$comment": "x", "title": "A", "type": "string"}),
    {},
]
"""Schemas that pydantic does not write, and others do."""


@pytest.mark.parametrize("schema", FOREIGN, ids=str)
@pytest.mark.parametrize("name", ["generic", "moonshot"])
def test_schemas_of_others_are_loosened_as_well(schema: dict[str, Any], name: str) -> None:
    before = json.dumps(schema)
    made = loosened(schema, CAREFUL)
    assert [text for refused in SERVERS[name][1] for text in refused(made)] == []
    jsonschema.Draft202012Validator.check_schema(made)
    assert json.dumps(schema) == before, "the tool's own schema is not changed"
    assert json.dumps(made) == json.dumps(loosened(schema, CAREFUL))


def test_classes_that_share_classes_do_not_grow_without_a_bound() -> None:
    definitions: dict[str, Any] = {"C0": {"type": "string"}}
    for level in range(1, 60):
        inner = {"$ref": f"#/$defs/C{level - 1}"}
        definitions[f"C{level}"] = {
            "type": "object",
            "properties": {"a": inner, "b": inner, "c": inner},
            "additionalProperties": False,
        }
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/C59"}},
        "$defs": definitions,
        "additionalProperties": False,
    }
    assert len(json.dumps(loosened(schema, CAREFUL))) < 1_000_000
    with pytest.raises(NotStrict, match="too large with its references inline"):
        strict_schema({**schema, "required": ["x"]})


def test_a_very_deep_schema_is_sent_as_it_is() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(2_000):
        deep = {"type": "array", "items": deep}
    schema = {"type": "object", "properties": {"x": deep}}
    assert loosened(schema, CAREFUL) == schema


def test_a_tool_without_a_description_is_described_by_its_name() -> None:
    for text in ("", " \n"):
        for profile in (DEEPSEEK, OPENAI, GENERIC):
            assert sent(ToolSpec("get.time", text, {"type": "object", "properties": {}}), profile)["description"].startswith(
                "get_time"
            )


def test_the_form_of_a_tool_is_made_once_for_a_profile() -> None:
    @tool
    def pay(amount: Decimal, to: Address) -> None: ...

    spec = pay.spec
    forms = [spec.form(GENERIC, lambda it: {"made of": it.name}) for _ in range(2)]
    assert forms[0] is forms[1] and spec.form(GENERIC, lambda it: {}) is forms[0]
    assert spec.form(OPENAI, lambda it: {"other": 1}) == {"other": 1}
    bodies = {head(ModelRequest((), (tool(pay, name="pay").spec,)), GENERIC, "m", stream=False) for _ in range(3)}
    assert len(bodies) == 1


def test_deepseek_gets_the_schemas_as_they_are() -> None:
    for kind in KINDS:
        spec = made_of(kind)
        assert sent(spec, DEEPSEEK)["parameters"] == json.loads(json.dumps(spec.parameters))


def test_every_rule_of_a_profile_is_one() -> None:
    assert all({*profile.schema_rules} <= {*CAREFUL} for profile in (*PROFILES, GENERIC))
    assert GENERIC.schema_rules == CAREFUL

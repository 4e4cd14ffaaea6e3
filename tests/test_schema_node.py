"""The view of a JSON Schema that all of `agentkit.schema` shares: references, child schemas, branches."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.schema.node import Inliner, Nodes, follow, map_children, resolve, subschemas

TEXT = {"type": "string"}
ROOT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "plain": TEXT,
        "a/b": {"type": "integer"},
        "c~d": {"type": "number"},
        "either": {"anyOf": [TEXT, {"type": "null"}]},
    },
    "$defs": {"Tree": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/Tree"}}}}},
    "definitions": {"Old": {"type": "boolean"}, "Old Box[int]": {"type": "null"}},
}


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("#/$defs/Tree", ROOT["$defs"]["Tree"]),
        ("#/definitions/Old", {"type": "boolean"}),
        ("#/definitions/Old%20Box%5Bint%5D", {"type": "null"}),
        ("#/properties/plain", TEXT),
        ("#/properties/a~1b", {"type": "integer"}),
        ("#/properties/c~0d", {"type": "number"}),
        ("#/properties/either/anyOf/1", {"type": "null"}),
        ("#", ROOT),
        ("#/properties/either/anyOf/2", {}),
        ("#/properties/either/anyOf/-1", {}),
        ("#/properties/plain/type", {}),
        ("#/properties/plain/type/x", {}),
        ("#/$defs/Missing", {}),
        ("#Tree", {}),
        ("Tree", {}),
        ("https://example.com/schema.json", {}),
        (None, {}),
        (["#"], {}),
    ],
)
def test_a_reference_is_a_json_pointer_and_one_that_leads_nowhere_admits_anything(ref: Any, expected: Any) -> None:
    assert resolve(ROOT, ref) == expected


def test_keywords_beside_a_reference_win() -> None:
    assert follow(ROOT, {"$ref": "#/properties/plain", "description": "A name."}) == {**TEXT, "description": "A name."}


def test_references_in_a_circle_end() -> None:
    circle = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A", "type": "string"}}}
    assert Nodes(circle).of({"$ref": "#/$defs/A"}).types == ("string",)
    made, parents = Inliner(circle).inline({"$ref": "#/$defs/A"}, (), lambda ref: {"description": ref})
    assert made == {"type": "string", "description": "#/$defs/A"}
    assert parents == ("#/$defs/A", "#/$defs/B")


def test_inlining_ends_at_its_bound() -> None:
    inliner = Inliner(ROOT)
    made = [inliner.inline({"$ref": "#/properties/plain"}, (), lambda ref: {"description": ref})[0] for _ in range(2_001)]
    assert made[1_999] == TEXT and made[2_000] == {"description": "#/properties/plain"}


def test_the_children_are_changed_in_a_copy() -> None:
    schema: dict[str, Any] = {
        "properties": {"a": {}, "title": {}, "b": True},
        "patternProperties": {"^x": {}},
        "$defs": {"D": {}},
        "additionalProperties": {},
        "items": False,
        "prefixItems": [{}],
        "anyOf": [{}],
        "not": {},
        "enum": [{}],
        "default": {},
    }
    made = map_children(schema, lambda child: {"seen": child})
    assert made == {
        "properties": {"a": {"seen": {}}, "title": {"seen": {}}, "b": {"seen": True}},
        "patternProperties": {"^x": {"seen": {}}},
        "$defs": {"D": {"seen": {}}},
        "additionalProperties": {"seen": {}},
        "items": False,
        "prefixItems": [{"seen": {}}],
        "anyOf": [{"seen": {}}],
        "not": {},
        "enum": [{}],
        "default": {},
    }
    assert schema["properties"] == {"a": {}, "title": {}, "b": True}


def test_subschemas_come_in_order_and_references_are_not_followed() -> None:
    assert [part.get("type") for part in subschemas(ROOT)] == [
        "object", "string", "integer", "number", None, "string", "null", "object", None, None, "boolean", "null",
    ]  # fmt: skip


def test_a_keyword_of_a_wrong_type_counts_as_left_out() -> None:
    broken: dict[str, Any] = {
        "type": None,
        "properties": [],
        "required": None,
        "enum": {},
        "anyOf": None,
        "discriminator": 1,
        "$ref": 1,
    }
    node = Nodes({}).of(broken)
    assert (node.types, node.properties, node.required, node.enum, node.branches) == ((), {}, frozenset(), None, ())


def test_a_node_is_recursive_if_it_is_inside_itself() -> None:
    assert Nodes({"properties": {"tree": {"$ref": "#/$defs/Tree"}}, "$defs": ROOT["$defs"]}).is_recursive
    twice = {"anyOf": [{"$ref": "#/$defs/Text"}, {"items": {"$ref": "#/$defs/Text"}}], "$defs": {"Text": TEXT}}
    assert not Nodes(twice).is_recursive


def test_the_discriminator_chooses_the_branch() -> None:
    branches = [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    mapping = {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}
    schema = {"oneOf": branches, "discriminator": {"propertyName": "kind", "mapping": mapping}}
    node = Nodes(schema).of(schema)
    assert node.branches_for({"kind": "dog"}) == ({"$ref": "#/$defs/Dog"},)
    assert node.branches_for({"kind": "cow"}) == node.branches_for({}) == node.branches_for("dog") == tuple(branches)

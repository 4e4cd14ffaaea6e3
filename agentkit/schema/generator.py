"""Pydantic's JSON Schema of a type, adapted for tools. This module imports pydantic, so import it late.

The schema refuses unknown keys unless a class has its own rule for them. It has no titles, and is the same in every process.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal

from pydantic import AliasPath, ConfigDict, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .annotations import caller_names
from .node import Converted, Nodes, map_children
from .parse import Validator
from .validate import Rules

__all__ = ["adapter_of", "json_schema", "validator_of"]


def adapter_of(kind: Any, config: ConfigDict | None = None) -> TypeAdapter[Any]:
    """Pydantic's adapter of the type, whose classes may name local names of the functions that led to this call."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind, config=config)
    if not adapter.pydantic_complete:
        adapter.rebuild(_types_namespace=caller_names())
    return adapter


def validator_of(adapter: TypeAdapter[Any]) -> Validator:
    """A strict validator of the adapter's type. It refuses unknown keys unless a class has its own rule for them."""
    used: list[_Generator] = []

    def generator(**options: Any) -> _Generator:
        used.append(_Generator(**options))
        return used[0]

    schema, parts = _generated(adapter, generator, "validation")
    rules = Rules(used[0].forbids_extra, used[0].drops_extra, used[0].is_exact, all(map(_is_plain, parts)))
    validate = functools.partial(adapter.validate_json, strict=True, extra="forbid" if rules.forbids_extra else None)
    return Validator(schema, validate, rules)


def json_schema(adapter: TypeAdapter[Any], *, mode: Literal["validation", "serialization"] = "validation") -> dict[str, Any]:
    """The JSON Schema of the values that the adapter validates or serializes."""
    return _generated(adapter, _Generator, mode)[0]


def _generated(adapter: TypeAdapter[Any], generator: Any, mode: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The schema, and a list of the schema itself and every schema inside it."""
    parts: list[dict[str, Any]] = []
    schema = _without_titles(adapter.json_schema(schema_generator=generator, mode=mode), parts)
    nodes = Nodes(schema)
    for part in parts:
        if part.get("default") and isinstance(part["default"], list | dict):
            part["default"] = _with_sorted_sets(part["default"], part, nodes)
    return schema, parts


def _without_titles(schema: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema without titles, which only cost tokens. The schema and its children are appended to `parts`."""
    kept = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    is_converted = kept.pop(_CONVERTED, False)
    made = map_children(kept, lambda inner: _without_titles(inner, parts) if isinstance(inner, dict) else inner)
    made = Converted(made) if is_converted else made
    parts.append(made)
    return made


def _with_sorted_sets(value: Any, part: Any, nodes: Nodes) -> Any:
    """A default with the items of its sets sorted, since their order differs between processes."""
    node = nodes.of(part)
    if isinstance(value, list):
        items = [_with_sorted_sets(item, node.for_item(at), nodes) for at, item in enumerate(value)]
        return sorted(items, key=json.dumps) if node.is_set else items
    if isinstance(value, dict):
        return {key: _with_sorted_sets(item, node.for_key(key), nodes) for key, item in value.items()}
    return value


_CONVERTED = "x-converted"
"""Marks, until the titles are removed, the schema of a value that the program's own validator reads first."""
_PLAIN_KEYS = {
    "type", "properties", "required", "additionalProperties", "items", "description", "default", "examples",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems",
}  # fmt: skip


def _is_plain(part: dict[str, Any]) -> bool:
    """Whether pydantic's strict validation is enough for this part: it is no union, enum, set, date or open object."""
    is_open = part.get("type") == "object" and part.get("additionalProperties") is not False
    return part.keys() <= _PLAIN_KEYS and isinstance(part.get("type"), str) and not is_open


class _Generator(GenerateJsonSchema):
    """Generates schemas that refuse unknown keys if the class has no rule for them: a model that writes one means something.

    A default that JSON cannot represent is omitted without a warning. A type with such values or keys is refused.
    """

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012
    forbids_extra = True
    drops_extra = False
    is_exact = False
    """After generation, these three have the values for `Rules`."""

    def function_before_schema(self, schema: Any) -> dict[str, Any]:
        return _marked(super().function_before_schema(schema), schema)

    def function_wrap_schema(self, schema: Any) -> dict[str, Any]:
        return _marked(super().function_wrap_schema(schema), schema)

    def model_schema(self, schema: Any) -> dict[str, Any]:
        for name, field in schema["cls"].model_fields.items():
            first = getattr(field.validation_alias, "choices", [field.validation_alias])[0]
            if isinstance(first, AliasPath):
                raise PydanticInvalidForJsonSchema(f"the field {name} of {schema['cls'].__name__} is taken from inside others")
        return self._forbidding(super().model_schema(schema), schema["cls"].model_config.get("extra"))

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        made = self._forbidding(super().dataclass_schema(schema), _own_rule(schema))
        for field in dataclasses.fields(schema["cls"]):
            if not field.init:
                made.get("properties", {}).pop(field.name, None)
        return made

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        rule = "allow" if "extras_schema" in schema else _own_rule(schema)
        self.drops_extra |= rule == "ignore"
        return self._forbidding(super().typed_dict_schema(schema), rule)

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        self.is_exact = True
        return super().decimal_schema(schema)

    def fraction_schema(self, schema: Any) -> dict[str, Any]:
        self.is_exact = True
        return super().fraction_schema(schema)

    def enum_schema(self, schema: Any) -> dict[str, Any]:
        made = self._checked(super().enum_schema(schema), [member.value for member in schema["members"]])
        if issubclass(schema["cls"], enum.Flag):
            return _with_sums(made, [*schema["cls"]])
        finds_more = getattr(schema["cls"]._missing_, "__func__", None) is not enum.Enum._missing_.__func__  # type: ignore[attr-defined]
        return {**made, _CONVERTED: True} if finds_more else made

    def literal_schema(self, schema: Any) -> dict[str, Any]:
        options = [getattr(option, "value", option) for option in schema["expected"]]
        return self._checked(super().literal_schema(schema), options)

    def _checked(self, made: dict[str, Any], options: list[Any]) -> dict[str, Any]:
        wrong = [option for option in options if not isinstance(option, str | int | float | None)]
        if wrong and self.mode == "validation":
            raise PydanticInvalidForJsonSchema(f"{wrong[0]!r} is an allowed value that JSON does not have")
        return made

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        keys = schema.get("keys_schema", {})
        if self.mode == "validation" and not _is_key(keys):
            raise PydanticInvalidForJsonSchema("JSON's keys are texts, and this type of key is not written as one")
        made = super().dict_schema(schema)
        if keys.get("type") == "enum" and "propertyNames" in made:  # JSON keys are texts, also for numbers
            made["propertyNames"] = {"enum": [str(to_jsonable_python(member.value)) for member in keys["members"]]}
        if "patternProperties" in made:
            made.setdefault("additionalProperties", False)
        return made

    def encode_default(self, dft: Any) -> Any:
        if type(dft) in (str, int, bool, NoneType):  # faster: pydantic would make an adapter for each default
            return dft
        return _encoded(super().encode_default(dft), dft)

    def _forbidding(self, made: dict[str, Any], rule: str | None) -> dict[str, Any]:
        """The schema of an object; `rule` is its class's setting for unknown keys."""
        if rule in ("allow", "ignore"):
            self.forbids_extra = False
        elif made.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made


_MAX_FLAGS = 6
"""Max flags whose sums are all listed. Of more flags, a call gives one."""


def _with_sums(made: dict[str, Any], flags: list[enum.Flag]) -> dict[str, Any]:
    """The schema of flags, which admits every sum of them, and says what each number means."""
    if len(flags) > _MAX_FLAGS:
        return made
    sums = functools.reduce(lambda found, flag: found | {number | flag.value for number in found}, flags, {0})
    names = ", ".join(f"{flag.value} = {flag.name}" for flag in flags)
    return {**made, "enum": sorted(sums), "description": f"The sum of any of: {names}"}


def _marked(made: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The schema, marked if the validator is the program's own and does not say what it reads."""
    module = getattr(schema["function"]["function"], "__module__", None) or ""
    is_own = not module.startswith("pydantic") and not schema.get("json_schema_input_schema")
    return {**made, _CONVERTED: True} if is_own else made


def _own_rule(schema: Any) -> Any:
    return getattr(schema.get("cls"), "__pydantic_config__", {}).get("extra")


_NOT_KEYS = ("tuple", "list", "set", "frozenset", "dict", "model", "dataclass", "typed-dict", "none")


def _is_key(schema: Mapping[str, Any]) -> bool:
    """Whether a value of this core schema can be the key of a JSON object."""
    match schema.get("type"):
        case "nullable" | "default":
            return _is_key(schema["schema"])
        case "union":
            return any(_is_key(choice[0] if isinstance(choice, tuple) else choice) for choice in schema["choices"])
        case "literal":
            return all(isinstance(option, str) for option in schema["expected"])
        case "enum":
            return all(isinstance(option.value, str) or isinstance(option, int) for option in schema["members"])
        case kind:
            return kind not in _NOT_KEYS


def _encoded(encoded: Any, default: Any) -> Any:
    """A default as JSON. Sets are sorted even if the schema does not call them sets. Raises for values that JSON lacks."""
    if isinstance(default, float) and not math.isfinite(default):
        raise PydanticSerializationError(f"JSON has no {default}")
    if isinstance(encoded, list):
        if isinstance(default, set | frozenset):
            return sorted(encoded, key=json.dumps)
        items = default if isinstance(default, list | tuple) and len(default) == len(encoded) else encoded
        return [_encoded(item, old) for item, old in zip(encoded, items, strict=True)]
    if isinstance(encoded, dict):
        inner = default.get if isinstance(default, Mapping) else functools.partial(getattr, default)
        return {key: _encoded(item, inner(key, None)) for key, item in encoded.items()}
    return encoded

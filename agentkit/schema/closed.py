"""How pydantic writes JSON Schema, with what a tool needs otherwise. This module imports pydantic: import it late."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import partial
from types import NoneType
from typing import Any

from pydantic import AliasPath
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

__all__ = ["ClosedJsonSchema"]


class ClosedJsonSchema(GenerateJsonSchema):
    """Closes the objects whose classes do not say what happens to other keys: a key that is ignored is no call that was meant.

    It leaves out, without a warning, a default that JSON cannot hold, and puts sets in order. What JSON cannot hold as a
    value, or as a key, is refused.
    """

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012
    is_closed = True
    drops = False
    is_exact = False
    """Afterwards: see `losses.Rules`."""

    def model_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        for name, field in schema["cls"].model_fields.items():
            first = getattr(field.validation_alias, "choices", [field.validation_alias])[0]
            if isinstance(first, AliasPath):
                raise PydanticInvalidForJsonSchema(f"the field {name} of {schema['cls'].__name__} is taken from inside others")
        return self._closing(super().model_schema(schema), schema["cls"].model_config.get("extra"))

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        made = self._closing(super().dataclass_schema(schema), _own_rule(schema))
        for field in dataclasses.fields(schema["cls"]):
            if not field.init:
                made.get("properties", {}).pop(field.name, None)
        return made

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        rule = "allow" if "extras_schema" in schema else _own_rule(schema)
        self.drops |= rule == "ignore"
        return self._closing(super().typed_dict_schema(schema), rule)

    def decimal_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        self.is_exact = True
        return super().decimal_schema(schema)

    def fraction_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        self.is_exact = True
        return super().fraction_schema(schema)

    def enum_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        return self._of_options(super().enum_schema(schema), [member.value for member in schema["members"]])

    def literal_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        options = [getattr(option, "value", option) for option in schema["expected"]]
        return self._of_options(super().literal_schema(schema), options)

    def _of_options(self, made: dict[str, Any], options: list[Any]) -> dict[str, Any]:
        wrong = [option for option in options if not isinstance(option, str | int | float | None)]
        if wrong and self.mode == "validation":
            raise PydanticInvalidForJsonSchema(f"{wrong[0]!r} is an allowed value that JSON does not have")
        return made

    def dict_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102
        keys = schema.get("keys_schema", {})
        if self.mode == "validation" and not _is_written_as_text(keys):
            raise PydanticInvalidForJsonSchema("JSON's keys are texts, and this type of key is not written as one")
        made = super().dict_schema(schema)
        if keys.get("type") == "enum" and "propertyNames" in made:  # its numbers are written as texts
            made["propertyNames"] = {"enum": [str(to_jsonable_python(member.value)) for member in keys["members"]]}
        if "patternProperties" in made:
            made.setdefault("additionalProperties", False)
        return made

    def encode_default(self, dft: Any) -> Any:  # noqa: D102
        if type(dft) in (str, int, bool, NoneType):  # pydantic would make an adapter for each
            return dft
        return _in_order(super().encode_default(dft), dft)

    def _closing(self, made: dict[str, Any], rule: str | None) -> dict[str, Any]:
        """`rule` is what the class says of other keys."""
        if rule in ("allow", "ignore"):
            self.is_closed = False
        elif made.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made


def _own_rule(schema: Any) -> Any:
    return getattr(schema.get("cls"), "__pydantic_config__", {}).get("extra")


_NO_TEXT = ("tuple", "list", "set", "frozenset", "dict", "model", "dataclass", "typed-dict", "none")


def _is_written_as_text(schema: Mapping[str, Any]) -> bool:
    """Whether a value of this core schema can be the key of a JSON object."""
    match schema.get("type"):
        case "nullable" | "default":
            return _is_written_as_text(schema["schema"])
        case "union":
            return any(_is_written_as_text(choice[0] if isinstance(choice, tuple) else choice) for choice in schema["choices"])
        case "literal":
            return all(isinstance(option, str) for option in schema["expected"])
        case "enum":
            return all(isinstance(option.value, str) or isinstance(option, int) for option in schema["members"])
        case kind:
            return kind not in _NO_TEXT


def _in_order(encoded: Any, default: Any) -> Any:
    """A default with its sets in one order; Python's differs from process to process. Raises for what JSON does not have."""
    if isinstance(default, float) and not math.isfinite(default):
        raise PydanticSerializationError(f"JSON has no {default}")
    if isinstance(encoded, list):
        if isinstance(default, set | frozenset):
            return sorted(encoded, key=json.dumps)
        items = default if isinstance(default, list | tuple) and len(default) == len(encoded) else encoded
        return [_in_order(item, old) for item, old in zip(encoded, items, strict=True)]
    if isinstance(encoded, dict):
        inside = default.get if isinstance(default, Mapping) else partial(getattr, default)
        return {key: _in_order(item, inside(key, None)) for key, item in encoded.items()}
    return encoded

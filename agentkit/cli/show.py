"""Shows tools: the schema as the model sees it, and the labels in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..tools.tool import AnyTool
from .text import clean

__all__ = ["labels", "show_tools", "type_name"]

_LIMITS = {
    "minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<", "multipleOf": "multiple of",
    "minLength": "length >=", "maxLength": "length <=", "pattern": "pattern", "format": "format",
    "minItems": "items >=", "maxItems": "items <=",
}  # fmt: skip


def show_tools(tools: Iterable[AnyTool], console: Console) -> None:
    """Print each tool as the model sees it: name, description and parameters. Then its labels, which the model does not see."""
    for tool in tools:
        function = tool.schema()["function"]
        console.print(Text(clean(function["name"]), "bold"))
        for line in clean(function["description"]).splitlines():
            console.print(Text(f"  {line}"))
        schema = function["parameters"]
        if schema.get("properties"):
            console.print(_parameter_table(schema, schema, "parameter"))
        else:
            console.print(Text("  no parameters", "dim"))
        for name, part in schema.get("$defs", {}).items():
            if part.get("properties"):
                console.print(_parameter_table(part, schema, clean(name)))
        console.print(Text(f"  {labels(tool)}\n", "dim"))


def _parameter_table(schema: Mapping[str, Any], root: Mapping[str, Any], first_heading: str) -> Padding:
    table = Table(box=None, pad_edge=False, padding=(0, 4, 0, 0), show_edge=False)
    for heading in (first_heading, "type", "required", "description"):
        table.add_column(heading, header_style="dim", overflow="fold")
    required = schema.get("required", ())
    for name, part in schema["properties"].items():
        needed = "yes" if name in required else f"no: {part['default']!r}" if "default" in part else "no"
        kind = ", ".join([type_name(part, root.get("$defs", {})), *_limits(part)])
        cells = (name, kind, needed, str(part.get("description", "")))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return Padding.indent(table, 2)


def _limits(part: Mapping[str, Any]) -> list[str]:
    return [f"{words} {part[key]}" for key, words in _LIMITS.items() if key in part]


def type_name(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in the notation of a type: `list[string]`, `"c" | "f"`, `integer or null`."""
    if "$ref" in part:
        name = str(part["$ref"]).rpartition("/")[2]
        return type_name(definitions[name], {}) if "enum" in definitions.get(name, {}) else name
    if "enum" in part:
        return " | ".join(repr(value) for value in part["enum"])
    if "const" in part:
        return repr(part["const"])
    for key in ("anyOf", "oneOf"):
        if key in part:
            return " or ".join(type_name(option, definitions) for option in part[key])
    if part.get("type") == "array":
        return f"list[{type_name(part.get('items', {}), definitions)}]"
    return str(part.get("type", "any"))


def labels(tool: AnyTool) -> str:
    """The labels of a tool in plain words: what a call does, and how it is run."""
    parts = [*_effects(tool)]
    if tool.approval:
        parts.append("needs an approval" if tool.approval is True else "may need an approval")
    if tool.sensitive:
        parts.append(f"chooses a destination with {', '.join(tool.sensitive)}")
    parts.append("its result is trusted" if tool.output == "trusted" else "its result is not trusted")
    if tool.output != "trusted" and tool.trusted_fields:
        parts.append(f"but trusted are {', '.join(tool.trusted_fields)}")
    if tool.sequential:
        parts.append("runs alone")
    elif tool.parallel:
        parts.append("runs beside other calls")
    if tool.strict:
        parts.append("the server enforces the schema")
    if tool.timeout is not None:
        parts.append(f"given up after {tool.timeout:g} s")
    return " · ".join(parts)


def _effects(tool: AnyTool) -> Iterable[str]:
    """What a call does to the world. A tool with the defaults of all four labels counts as not labelled."""
    if tool.read_only:
        yield "only reads"
    elif tool.destructive and not tool.idempotent and tool.open_world:
        yield "may write (not labelled)"
        return
    else:
        yield "may write and destroy" if tool.destructive else "writes, destroys nothing"
        if tool.idempotent:
            yield "may be repeated"
    yield "reaches outside systems" if tool.open_world else "reaches nothing outside"

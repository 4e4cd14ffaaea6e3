"""Shows tools as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..tools.tool import AnyTool
from .text import clean

__all__ = ["labels", "show_tools", "type_name"]


def show_tools(tools: Iterable[AnyTool], console: Console) -> None:
    """Print the name, description, parameters and labels of each tool."""
    for tool in tools:
        console.print(Text(tool.name, "bold"))
        for line in clean(tool.description).splitlines():
            console.print(Text(f"  {line}"))
        parameters = tool.parameters.get("properties", {})
        if parameters:
            console.print(_parameter_table(tool.parameters))
        else:
            console.print(Text("  no parameters", "dim"))
        console.print(Text(f"  {labels(tool)}\n", "dim"))


def _parameter_table(schema: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_edge=False)
    for heading in ("parameter", "type", "required", "description"):
        table.add_column(heading, header_style="dim", overflow="fold")
    required = schema.get("required", ())
    for name, part in schema["properties"].items():
        needed = "yes" if name in required else f"no: {part['default']!r}" if "default" in part else "no"
        cells = (name, type_name(part, schema.get("$defs", {})), needed, str(part.get("description", "")))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


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
    """The labels of a tool: its effects, and how it is run."""
    effects = "read_only" if tool.read_only else "destructive" if tool.destructive else "changes things, destroys nothing"
    flags = [name for name in ("idempotent", "open_world", "parallel", "sequential", "strict") if getattr(tool, name)]
    parts = [effects, *flags, f"output={tool.output}"]
    if tool.approval:
        parts.append("needs an approval" if tool.approval is True else "may need an approval")
    if tool.timeout is not None:
        parts.append(f"timeout {tool.timeout:g} s")
    if tool.sensitive:
        parts.append(f"sensitive: {', '.join(tool.sensitive)}")
    return " · ".join(parts)

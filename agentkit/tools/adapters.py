"""Tools of other libraries, told apart by their shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..errors import ToolDefinitionError
from .context import RunContext
from .tool import AnyTool, Tool

__all__ = ["as_tool"]


def as_tool(source: Any, **options: Any) -> AnyTool:
    """A tool of LangChain (`BaseTool`, from `@langchain_core.tools.tool`) or of the OpenAI Agents SDK (`FunctionTool`).

    It is told apart by its shape; neither library is imported. The name, the description and the JSON Schema are those of the
    source, unless `options` name others. A LangChain tool is called with `ainvoke(arguments)`; what it finds in its `config`
    is its own default. A `FunctionTool` is called with `on_invoke_tool(context, text)`, and a context that has the
    `RunContext` as `.context`. Raises `ToolDefinitionError` for anything else.
    """
    name = options.pop("name", getattr(source, "name", None))
    description = options.pop("description", None) or getattr(source, "description", "") or ""
    if getattr(source, "return_direct", False):
        options.setdefault("final", True)
    if getattr(source, "needs_approval", False):  # a function of its own is asked nothing: every call waits
        options.setdefault("approval", True)
    if (enabled := getattr(source, "is_enabled", True)) is not True and "enabled" not in options:
        if enabled is not False:
            raise ToolDefinitionError(f"the tool {name!r} is enabled by a function of its own library; give enabled= instead")
        options["enabled"] = False
    if callable(getattr(source, "on_invoke_tool", None)) and hasattr(source, "params_json_schema"):
        return Tool.from_schema(str(name), description, source.params_json_schema, partial(_call_openai, source), **options)
    if callable(getattr(source, "ainvoke", None)) and hasattr(source, "args_schema"):
        return Tool.from_schema(str(name), description, _langchain_schema(source), partial(_call_langchain, source), **options)
    raise ToolDefinitionError(
        f"{source!r:.80} is no LangChain tool (ainvoke, args_schema) and no FunctionTool of the OpenAI Agents SDK "
        "(on_invoke_tool, params_json_schema); make it with Tool.from_schema(name, description, parameters, call)"
    )


async def _call_openai(source: Any, arguments: dict[str, Any], ctx: RunContext[Any]) -> Any:
    return await source.on_invoke_tool(_context_of(source, ctx), json.dumps(arguments, ensure_ascii=False))


def _context_of(source: Any, ctx: RunContext[Any]) -> Any:
    """The context that the Agents SDK's tools take. Its own class, if that is imported, as its function tools look into it."""
    import sys

    module = sys.modules.get("agents.tool_context")
    kind = getattr(module, "ToolContext", None)
    if kind is None:
        from types import SimpleNamespace

        return SimpleNamespace(context=ctx, tool_name=source.name, tool_call_id=ctx.call.id, usage=None)
    return kind(context=ctx, tool_name=source.name, tool_call_id=ctx.call.id, tool_arguments=ctx.call.arguments)


def _langchain_schema(source: Any) -> Any:
    schema = getattr(source, "tool_call_schema", None) or source.args_schema
    if isinstance(schema, Mapping):
        return schema
    for method in ("model_json_schema", "schema"):
        if callable(getattr(schema, method, None)):
            return getattr(schema, method)()
    return {"type": "object", "properties": getattr(source, "args", {})}


async def _call_langchain(source: Any, arguments: dict[str, Any]) -> Any:
    return await source.ainvoke(arguments)

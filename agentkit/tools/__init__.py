"""What a model can call: the decorator, tools, registries, and the context, progress and timeout of a running tool."""

from .context import CallScope, RunContext
from .options import ToolOptions
from .registry import ToolLike, ToolRegistry, as_tools
from .tool import AnyTool, Tool, tool

__all__ = ["AnyTool", "CallScope", "RunContext", "Tool", "ToolLike", "ToolOptions", "ToolRegistry", "as_tools", "tool"]

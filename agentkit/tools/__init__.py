"""What a model can call: the decorator, tools and registries, what a running tool is told, and how long it may take."""

from .context import CallScope, RunContext
from .options import ToolOptions
from .registry import ToolLike, ToolRegistry, as_tools
from .tool import AnyTool, Tool, tool

__all__ = ["AnyTool", "CallScope", "RunContext", "Tool", "ToolLike", "ToolOptions", "ToolRegistry", "as_tools", "tool"]

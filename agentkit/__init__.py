"""agentkit: agents built on function calling."""

from .errors import ModelRetry
from .tool import RunContext, Tool, ToolRegistry, tool

__all__ = ["ModelRetry", "RunContext", "Tool", "ToolRegistry", "tool"]

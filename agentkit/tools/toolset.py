"""Tools that depend on the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ToolDefinitionError
from ..names import reduced

__all__ = ["Toolset", "is_asked_once", "is_enabled"]


class Toolset:
    """Tools that a function of the run's context gives: `Agent(tools=[fixed, Toolset(function)])`, also as a decorator.

    The function is asked once for each run and each resume, with the `RunContext` of the run. It may be async, and gives what
    `tools=` takes. Tools that change within a conversation break the prefix of its prompt, which a server's cache keeps.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if not callable(function):
            raise ToolDefinitionError(f"a Toolset is made of a function of the context, not of {function!r:.80}")
        self.function = function

    def __repr__(self) -> str:
        return f"Toolset({getattr(self.function, '__qualname__', self.function)!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by its place in its module, if it was made there by the decorator."""
        return reduced(self, self.function) or super().__reduce_ex__(protocol)

    async def tools(self, ctx: Any) -> Any:
        """The tools for this run. Raises `ToolDefinitionError` where the function gives no tools."""
        found = self.function(ctx)
        if inspect.isawaitable(found):
            found = await found
        if found is None or isinstance(found, str | bytes) or not (callable(found) or isinstance(found, Iterable)):
            raise ToolDefinitionError(
                f"{self!r} gave {found!r:.80}; allowed: tools, functions, registries, or a list of these. "
                "A function that is itself a tool stands in a list: tools=[function]"
            )
        return found


def is_asked_once(function: Any) -> bool:
    """Whether what was given as `tools=` is no tool, but a function of the context that gives them.

    It is a plain function whose only parameter is the context: annotated `RunContext`, or not at all.
    """
    from .context import RunContext

    if not inspect.isroutine(function):
        return False
    try:
        parameters = [*inspect.signature(function, eval_str=True).parameters.values()]
    except (TypeError, ValueError, NameError):
        return False
    if len(parameters) != 1:
        return False
    kind = parameters[0].annotation
    origin = getattr(kind, "__origin__", kind)
    return origin is inspect.Parameter.empty or (isinstance(origin, type) and issubclass(origin, RunContext))


async def is_enabled(enabled: bool | Callable[[Any], Any], ctx: Any) -> bool:
    """Whether a tool with this option is offered in this run. A function's answer counts only if it is True or False."""
    if isinstance(enabled, bool):
        return enabled
    found = enabled(ctx)
    if inspect.isawaitable(found):
        found = await found
    if not isinstance(found, bool):
        raise ToolDefinitionError(f"enabled gave {found!r:.80}; allowed: True or False")
    return found

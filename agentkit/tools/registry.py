"""Registries: tools by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, TypeAlias, TypeVar, Unpack, cast, overload

from ..errors import ToolDefinitionError
from ..names import wire_name
from .options import ToolOptions
from .tool import AnyTool, Tool, tool
from .toolset import Toolset

__all__ = ["ToolLike", "ToolRegistry", "as_tools"]

P = ParamSpec("P")
R = TypeVar("R")

ToolLike: TypeAlias = "AnyTool | Callable[..., Any] | Toolset | Iterable[ToolLike]"


def as_tools(source: ToolLike) -> Iterator[AnyTool]:
    """The tools in a tool, a function, or a nested iterable of these, in order."""
    if isinstance(source, Tool | Toolset):
        yield cast("AnyTool", source)  # a Toolset is for an agent, and refused by a registry
    elif isinstance(source, str | bytes) or (isinstance(source, Mapping) and any(isinstance(key, str) for key in source)):
        raise ToolDefinitionError(f"tools hold {source!r:.60}; give functions, tools or registries, not names or a mapping")
    elif isinstance(source, Iterable):
        for item in source:
            yield from as_tools(item)
        if isinstance(source, ToolRegistry):
            yield from cast("tuple[AnyTool, ...]", source.toolsets)
    else:
        yield tool(source)


class ToolRegistry:
    """Tools by name. Iteration yields them in the order in which they were added. Names are unique.

    `toolsets` are the toolsets of an agent whose `tools` this is, or of what was added to them with `|`. Their tools are known
    in a run only, so iteration and names leave them out. `Agent(tools=registry)` has them.
    """

    toolsets: tuple[Toolset, ...] = ()

    def __init__(self, tools: ToolLike = ()) -> None:
        self._tools: dict[str, AnyTool] = {}
        self._sent_as: dict[str, str] = {}
        self.add(tools)

    def add(self, tools: ToolLike) -> None:
        """Add tools or functions.

        Raises `ToolDefinitionError` if another tool has the same name, or the same name in requests (`wire_name`): the model
        could not distinguish them.
        """
        for item in as_tools(tools):
            if isinstance(item, Toolset):
                raise ToolDefinitionError(f"{item!r} depends on the run: give it to an agent, in tools=[...]")
            if self._tools.get(item.name, item) is not item:
                raise ToolDefinitionError(f"two tools are called {item.name!r}; rename one with tool(fn, name=...)")
            sent = wire_name(item.name)
            if (other := self._sent_as.setdefault(sent, item.name)) != item.name:
                raise ToolDefinitionError(
                    f"the tools {other!r} and {item.name!r} would both be sent as {sent!r}; rename one with tool(fn, name=...)"
                )
            self._tools[item.name] = item

    @overload
    def tool(self, fn: Callable[P, R], /, **options: Unpack[ToolOptions]) -> Tool[P, R]: ...
    @overload
    def tool(self, **options: Unpack[ToolOptions]) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
    def tool(self, fn: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]  # mypy takes the keyword options for fn
        """`@registry.tool`: like `@tool`, and adds the tool."""
        if fn is None:
            return lambda function: self.tool(function, **options)
        self.add(added := tool(fn, **options))
        return added

    def schemas(self) -> list[dict[str, Any]]:
        """The tools in the form of the chat-completions API."""
        return [item.schema() for item in self]

    def only(self, *names: str) -> ToolRegistry:
        """A registry with only these tools. Raises KeyError for a name that is not in this registry."""
        return ToolRegistry([self[name] for name in names])

    def filtered(self, keep: Callable[[AnyTool], object]) -> ToolRegistry:
        """A registry of the tools for which `keep(tool)` is true: `registry.filtered(lambda tool: tool.read_only)`."""
        return ToolRegistry([item for item in self if keep(item)])

    def renamed(self, names: Mapping[str, str]) -> ToolRegistry:
        """A registry with some tools under other names: `registry.renamed({"search": "web_search"})`.

        Raises KeyError for a name that is not here.
        """
        for name in names:
            _ = self[name]
        return ToolRegistry([replace(item, name=names.get(item.name, item.name)) for item in self])

    def prefixed(self, prefix: str) -> ToolRegistry:
        """A registry of the same tools under longer names: `registry.prefixed("w_")`."""
        return ToolRegistry([replace(item, name=prefix + item.name) for item in self])

    def prefix(self, prefix: str) -> ToolRegistry:
        """The earlier name of `prefixed`."""
        return self.prefixed(prefix)

    @classmethod
    def of_agent(cls, tools: ToolLike) -> ToolRegistry:
        """A registry of these tools, which may be toolsets as well."""
        items: list[object] = [*as_tools(tools)]
        made = cls([item for item in items if isinstance(item, Tool)])
        made.toolsets = tuple(item for item in items if isinstance(item, Toolset))
        return made

    def __or__(self, other: ToolLike) -> ToolRegistry:
        """The tools and the toolsets of both."""
        return ToolRegistry.of_agent([self, other])

    def __ror__(self, other: ToolLike) -> ToolRegistry:
        """The tools and the toolsets of both: `[extra] | agent.tools`."""
        return ToolRegistry.of_agent([other, self])

    def __getitem__(self, name: str) -> AnyTool:
        """The tool with this name. The KeyError lists the existing names."""
        try:
            return self._tools[name]
        except KeyError:
            raise KeyError(f"no tool {name!r}; there are: {', '.join(self._tools) or 'none'}") from None

    def get(self, name: str) -> AnyTool | None:
        """The tool with this name, or None."""
        return self._tools.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[AnyTool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join([*self._tools, *map(repr, self.toolsets)])})"

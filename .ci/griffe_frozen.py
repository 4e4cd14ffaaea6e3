"""An extension of Griffe, which reads the code for the API reference: `@frozen_dataclass` makes a dataclass.

Without it the reference would have no signatures of the classes that agentkit's own decorator makes.
"""

from __future__ import annotations

import ast
from typing import Any

from griffe import Extension

DATACLASS = ast.Attribute(ast.Name("dataclasses", ast.Load()), "dataclass", ast.Load())


class FrozenDataclasses(Extension):
    """Shows `@frozen_dataclass` to Griffe as `@dataclasses.dataclass`."""

    def on_node(self, *, node: ast.AST | Any, **_: Any) -> None:
        """Replace the decorator of a class before the class is read."""
        if isinstance(node, ast.ClassDef):
            node.decorator_list = [_shown(decorator) for decorator in node.decorator_list]


def _shown(decorator: ast.expr) -> ast.expr:
    if isinstance(decorator, ast.Name) and decorator.id == "frozen_dataclass":
        return ast.copy_location(DATACLASS, decorator)
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "frozen_dataclass":
        decorator.func = ast.copy_location(DATACLASS, decorator.func)
    return decorator

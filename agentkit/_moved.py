"""Modules under their earlier names: `import agentkit.limits` gives `agentkit.run.limits`, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "install"]

MOVED = {
    "approvals": "run.approvals",
    "budget": "run.ledger",
    "cache_report": "middleware.cache_report",
    "cassette": "testing.cassette",
    "coerce": "schema.coerce",
    "compaction": "middleware.compaction",
    "conformance": "models.endpoint_check",
    "docstrings": "schema.docstrings",
    "fallback": "models.fallback",
    "keys": "redact.keys",
    "limiter": "models.rate_limit",
    "limits": "run.limits",
    "loop": "run.loop",
    "loosen": "schema.loosen",
    "output": "run.output",
    "portal": "_sync",
    "repair": "schema.repair",
    "result": "run.result",
    "retry": "models.retry",
    "simulator": "testing.simulator",
    "spec": "run.spec",
    "sse": "models.http.sse",
    "state": "run.state",
    "stream": "run.stream",
    "threads": "_threads",
    "tool": "tools",
    "validate": "schema.parse",
}
"""Earlier names and present ones, both within the package."""


class _Moved:
    """Finds and loads a module under its earlier name."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Where a module is that has moved."""
        package, _, old = name.partition(".")
        return ModuleSpec(name, self) if package == "agentkit" and old in MOVED else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """The usual module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that it is now in its place."""
        new = "agentkit." + MOVED[module.__name__.partition(".")[2]]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def install() -> None:
    """Let imports find them; done once, when agentkit is imported.

    An import sets the module as an attribute of the package. `agentkit.tool` is the decorator, and has to stay it, so that
    module is known at once, without a warning.
    """
    package = sys.modules["agentkit"]
    for old, new in MOVED.items():
        if hasattr(package, old):
            sys.modules[f"agentkit.{old}"] = importlib.import_module(f"agentkit.{new}")
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())

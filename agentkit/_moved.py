"""Modules under their old names: `import agentkit.limits` gives `agentkit.run.limits`, with a DeprecationWarning."""

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
"""Old module names and their new names, relative to the package."""


class _Moved:
    """Finds and loads a module by its old name."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """The spec of a module that has moved, or None."""
        package, _, old = name.partition(".")
        return ModuleSpec(name, self) if package == "agentkit" and old in MOVED else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """Let Python create a module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Replace the module with the one under its new name."""
        new = "agentkit." + MOVED[module.__name__.partition(".")[2]]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def install() -> None:
    """Make the old names importable. Called once, when agentkit is imported.

    Importing a submodule sets it as an attribute of the package. But `agentkit.tool` must remain the decorator, so that module
    is registered immediately, without a warning.
    """
    package = sys.modules["agentkit"]
    for old, new in MOVED.items():
        if hasattr(package, old):
            sys.modules[f"agentkit.{old}"] = importlib.import_module(f"agentkit.{new}")
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())

"""The program `agentkit`. It needs the extra `cli`."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["main"]

NOT_INSTALLED = (
    "agentkit: the command line needs typer and rich, which are not installed. "
    'In a checkout of agentkit: pip install -e ".[cli]"'
)


def main() -> None:
    """The program `agentkit`. It exits with one of the codes in `agentkit.cli.exits`."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # shows "?" for a character that the terminal cannot show
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        print(NOT_INSTALLED, file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        from .app import app

        app()
    except KeyboardInterrupt:  # before or after a command; a command reports its own
        sys.exit(130)

"""`python -m agentkit` is the program `agentkit`."""

from __future__ import annotations

from .cli import main

main()

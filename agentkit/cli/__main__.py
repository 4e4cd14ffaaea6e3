"""`python -m agentkit.cli` is the program `agentkit`."""

from . import main

main()

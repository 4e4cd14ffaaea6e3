"""Faults of servers, networks, replies and tools, one row each: `pytest -m faults` runs them and prints the table."""

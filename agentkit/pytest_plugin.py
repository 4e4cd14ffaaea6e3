"""The pytest plugin under its old name, for `-p agentkit.pytest_plugin`. pytest itself loads `agentkit_pytest`."""

from agentkit_pytest import cassette, deepseek, pytest_exception_interact, pytest_load_initial_conftests

__all__ = ["cassette", "deepseek", "pytest_exception_interact", "pytest_load_initial_conftests"]

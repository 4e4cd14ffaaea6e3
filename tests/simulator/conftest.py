from agentkit.pytest_plugin import deepseek

__all__ = ["deepseek"]
